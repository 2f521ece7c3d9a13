"""A recipe and a corpus → a scored model, in stages; an interrupted run resumes, and finished stages are kept.

Every stage runs commands in processes of their own, `python -m asr train …`, instead of calling functions:

- Nothing leaks from one stage into the next: neither memory nor the state of torch, CUDA or a speech engine.
- Ctrl-C reaches the command that runs, which knows how to stop in good order: `asr train` writes a checkpoint.
- A stage is exactly what a user would type. Its command line is shown, so that readers learn the commands.
- All that a command prints, warnings of native libraries included, is in one log for each stage.

A command prints into a pipe and not into a pseudo-terminal, since pipes exist everywhere and need no care for window
sizes and line ends. `FORCE_COLOR` makes rich draw progress bars into the pipe if the run is shown on a terminal.

A stage is done if its output exists and its marker `OUT/.done-N` holds the fingerprint of all that the stage depends
on, taken before it started. Fingerprints hash values and contents, as DVC's lock files do, and not times of change, as
make does: copied files and edited comments redo nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

from asr.bundle.files import CHECKPOINTS, HYPOTHESES, LANGUAGE_MODEL, TUNE_TRIALS, WEIGHTS, WORD_LANGUAGE_MODEL
from asr.errors import ExitStatus, ManifestError, RecipeError, StageError
from asr.files import printable, shown_path, write_text
from asr.machine import LoggedCommands, duration
from asr.preparing.download import file_digest
from asr.preparing.find_recipe import FoundRecipe, find_recipe
from asr.preparing.recipes import CorpusOptions, recipes_folder

AnyPath: TypeAlias = str | os.PathLike[str]

_ASR = (sys.executable, "-m", "asr")
_SPLITS = ("train", "dev", "test")
_SYNTHETIC = "\nThis is synthetic speech: the chain works, but the figures say nothing about the speech of people.\n"
_GO_ON = """
asr check {data} --out DIR writes manifests without the faulty utterances. Training leaves out utterances of unfit
length by itself, but stops at a recording that cannot be read. {then}
"""


class Event(NamedTuple):
    """Something to show: a piece of what a command printed (`output`), or a line."""

    kind: Literal["stage", "exists", "command", "output", "note", "done"]
    text: str


@dataclass(frozen=True)
class _Run:
    """Which recipe is run, on what, into which model folder."""

    recipe: str
    found: FoundRecipe
    corpus: CorpusOptions
    out: Path
    config: Path
    overrides: tuple[str, ...]
    on_event: Callable[[Event], object]
    terminal: bool

    @property
    def data(self) -> Path:
        return self.found.data

    @property
    def settings_options(self) -> list[object]:
        return ["--config", shown_path(self.config), *(word for item in self.overrides for word in ("--set", item))]

    @property
    def is_resumed(self) -> bool:
        """Whether the model folder holds a training run that can be continued."""
        return any((self.out / CHECKPOINTS).glob("*.safetensors"))

    def split(self, name: str) -> Path:
        """Return where the data folder keeps a split."""
        from asr.corpus.manifest import find_split  # not at the top, since it loads torch

        return find_split(self.data, name)

    def marker(self, stage: int, kind: str = "done") -> Path:
        return self.out / f".{kind}-{stage}"


@dataclass(frozen=True)
class RecipeRun:
    """How a run ended: its model folder, its time, and the stage that was stopped and can be continued, if any."""

    model: Path
    seconds: float
    stopped: str | None = None


class _Command(NamedTuple):
    """The arguments of `asr`, and what to show before its output, after it, and if the command fails."""

    arguments: Sequence[object]
    before: str = ""
    after: str = ""
    failed: str = ""
    may_find_faults: bool = False  # it says so by the exit status FAILED, and the run goes on


@dataclass(frozen=True)
class _Stage:
    """The commands of a stage, the splits that it reads, and the files of the model folder that it writes."""

    commands: Callable[[_Run], Iterable[_Command]]
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


def _prepare(run: _Run) -> Iterator[_Command]:
    if run.found.has_manifests:
        goes_on = run.found.goes_on
        then = "The run goes on." if goes_on else "To train all the same, add --stage train."
        failed = _GO_ON.format(data=run.data, then=then)
        yield _Command(["check", run.data, *run.settings_options], failed=failed, may_find_faults=goes_on)
    else:
        yield _Command(["prepare", run.recipe, "--out", run.data, *run.corpus.words()])


def _train(run: _Run) -> Iterator[_Command]:
    resume = ["--resume"] if run.is_resumed else []
    yield _Command(["train", *run.settings_options, "--data", run.data, "--out", run.out, *resume])


def _lm(run: _Run) -> Iterator[_Command]:
    yield _Command(["lm", "ngram", run.split("train"), "--model", run.out])
    if _settings(run).get("decode", {}).get("lm") == "words":
        given = run.data / WORD_LANGUAGE_MODEL  # a published one, from the recipe
        yield _Command(["lm", "ngram", given if given.exists() else run.split("train"), "--model", run.out, "--words"])


def _tune(run: _Run) -> Iterator[_Command]:
    yield _Command(["tune", run.out, run.split("dev")])


def _decode(run: _Run) -> Iterator[_Command]:
    from asr.corpus.manifest import find_tests

    for name, test in find_tests(run.data).items():
        for method, suffix in _METHODS.items():
            out = run.out / f"decode_{name}{suffix}"
            yield _Command(["decode", run.out, test, "--method", method, "--out", out])


def _score(run: _Run) -> Iterator[_Command]:
    from asr.corpus.manifest import find_tests

    remark = _SYNTHETIC if run.recipe == "quickstart" else ""
    folders = [run.out / f"decode_{name}{suffix}" for name in find_tests(run.data) for suffix in _METHODS.values()]
    for folder in folders:
        yield _Command(["score", folder], after=remark if folder == folders[-1] else "\n")


def _transcribe(run: _Run) -> Iterator[_Command]:
    from asr.corpus.cut_audio import example_file

    audio, text = example_file(run.split("test"), run.out / "example.flac")
    audio, text = shown_path(audio), printable(text)
    yield _Command(["transcribe", run.out, audio], before=f"file        {audio}\nreference   {text}\ntranscript  ")


_METHODS = {"greedy": "_greedy", "beam": ""}  # of the search, and how the names of their decode folders end
STAGES = {
    "install": _Stage(lambda _: ()),  # ./run.sh did it, or pip
    "prepare": _Stage(_prepare),
    "train": _Stage(_train, ("train", "dev"), (WEIGHTS,)),
    "lm": _Stage(_lm, ("train",), (LANGUAGE_MODEL,)),
    "tune": _Stage(_tune, ("dev",), (TUNE_TRIALS,)),
    "decode": _Stage(_decode, ("test",), tuple(f"decode_test{suffix}/{HYPOTHESES}" for suffix in _METHODS.values())),
    "score": _Stage(_score),  # this and the next only show results, so they always run
    "transcribe": _Stage(_transcribe),
}
_NAMES = tuple(STAGES)
_PREPARE, _TRAIN = _NAMES.index("prepare"), _NAMES.index("train")


def run_recipe(
    recipe: str = "quickstart",
    *,
    corpus_dir: AnyPath | None = None,
    part: str = "",
    language: str = "",
    download: bool = False,
    mirror: str | None = None,
    data: AnyPath | None = None,
    out: AnyPath | None = None,
    home: AnyPath = ".",
    seed: int | None = None,
    config: AnyPath | None = None,
    overrides: Sequence[str] = (),
    first_stage: int | str = "install",
    last_stage: int | str = "transcribe",
    on_event: Callable[[Event], object] = lambda _: None,
    terminal: bool = False,
) -> RecipeRun:
    """Run the stages of a recipe: corpus → manifests → model → language model → error rates → a transcript.

    A stage whose output exists is not repeated, unless its data, its settings or an earlier stage changed. A training
    that was interrupted continues. A model of other settings or data is moved aside, never overwritten. What commands
    print goes to `on_event` and to `OUT/log/N-NAME.log`.

    Args:
        recipe: its name; "custom" takes any `data`, one that `asr.init` made has its own.
        corpus_dir: the published corpus; without it, `$ASR_CORPORA/RECIPE`, or else `corpora/RECIPE` beside `data`.
        part, language, download, mirror: as `asr.prepare` takes them.
        data: the folder of the manifests; by default `data/RECIPE`, of a part or language `data/RECIPE-PART`.
        out: the model folder; by default `exp/RECIPE` likewise, with a seed `exp/RECIPE-seedN`.
        home: the folder that holds the default `data` and `exp`, and what `asr.init` wrote.
        seed: the seed of training.
        config: a settings file; by default the recipe's own, `conf/RECIPE.yaml`.
        overrides: settings such as "model.hidden_size=320"; later ones win.
        first_stage, last_stage: the numbers or names of the first and the last stage to run, see `STAGES`.
        on_event: called with all there is to show, while it happens.
        terminal: whether that is shown on a terminal, so that commands draw progress bars.

    Returns:
        The model folder. `stopped` is set if SIGTERM or Ctrl-C stopped the training; the same call continues it.

    Raises:
        RecipeError: there is no such recipe or stage, or the options contradict each other.
        ConfigError: the settings file or an override is not acceptable.
        ManifestError: manifests that a stage needs are missing.
        StageError: a command of a stage failed.
        KeyboardInterrupt: Ctrl-C ended another stage than training.
    """
    first, last = _number(first_stage), _number(last_stage)
    if first > last:
        raise RecipeError(f"the first stage, {_titled(first)}, is after the last, {_titled(last)}")
    corpus = CorpusOptions(corpus_dir, part, language, download, mirror)
    found = find_recipe(recipe, Path(home), data, corpus)
    given = [*([f"--config {config}"] if config is not None else []), *overrides]
    if given and first > _TRAIN:
        raise RecipeError(f"{given[0]} is a setting of training, but the first stage is {_titled(first)}")
    began = time.monotonic()
    run = _Run(
        recipe,
        found,
        corpus,
        Path(home, "exp", found.name if seed is None else f"{found.name}-seed{seed}") if out is None else Path(out),
        found.settings if config is None else Path(config),
        (*([] if seed is None else [f"training.seed={seed}"]), *overrides),
        on_event,
        terminal,
    )
    if first <= _TRAIN:
        _settings(run)  # a mistake in them is found before the corpus is prepared
    for number in range(first, last + 1):
        if not _run_stage(run, number):
            return RecipeRun(run.out, time.monotonic() - began, stopped=_NAMES[number])
    return RecipeRun(run.out, time.monotonic() - began)


def _number(stage: int | str) -> int:
    """Return the number of a stage that is given by its number or name."""
    for number, name in enumerate(_NAMES):
        if str(stage) in (name, str(number)):
            return number
    stages = ", ".join(f"{number} {name}" for number, name in enumerate(_NAMES))
    raise RecipeError(f"no stage {stage!r}; the stages are {stages}")


def _titled(stage: int) -> str:
    return f"{stage} ({_NAMES[stage]})"


def _is_done(run: _Run, stage: int, fingerprint: str) -> bool:
    try:
        splits = [run.split(name) for name in _SPLITS] if stage == _PREPARE else []
    except ManifestError:
        return False
    marker, output = run.marker(stage), [*splits, *(run.out / name for name in STAGES[_NAMES[stage]].writes)]
    made = bool(output) and all(path.exists() for path in output)
    return made and marker.exists() and marker.read_text(encoding="utf-8") == fingerprint


def _fingerprint(run: _Run, stage: int) -> str:
    """Return a short name for all that a stage depends on."""
    name = _NAMES[stage]
    if name == "prepare":
        facts = _corpus_facts(run)
    else:
        facts = [_settings(run) if name == "train" else None, _contents(run, STAGES[name].reads)]
        further = {"lm": WORD_LANGUAGE_MODEL, "decode": "test-*/test.jsonl.gz"}.get(name, "")
        facts += [_digest(path) for path in sorted(run.data.glob(further))] if further else []
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def _corpus_facts(run: _Run) -> list[object]:
    if run.found.has_manifests:
        return [_settings(run), _contents(run, _SPLITS)]
    code = {path.name: _digest(path) for path in (recipes_folder() / run.recipe).glob("*.py")}
    return [run.recipe, os.path.abspath(run.data), run.corpus.facts(), code]


def _settings(run: _Run) -> dict[str, Any]:
    """Return the settings that differ from the defaults. Comments and the order of lines in the file do not count."""
    from asr.settings_file import load_config

    return load_config(run.config, run.overrides).model_dump(mode="json", exclude_unset=True)


def _contents(run: _Run, splits: Iterable[str]) -> dict[str, dict[str, object]]:
    """Return the digests of manifests, by split and file. In a Shar folder, only the sizes of audio files count."""
    contents: dict[str, dict[str, object]] = {}
    for split in splits:
        path = run.split(split)
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        contents[split] = {file.name: _digest(file) for file in files}
    return contents


def _digest(path: Path) -> str:
    return f"{path.stat().st_size} bytes" if path.suffix == ".tar" else file_digest(path)


def _set_aside(run: _Run, fingerprint: str) -> None:
    """Move a model folder of other settings or data out of the way; training into it would overwrite the model."""
    from asr.training.loop import only_run_in

    began = run.marker(_TRAIN, "began")
    if not began.exists() or began.read_text(encoding="utf-8") == fingerprint:
        return
    if not run.is_resumed and not (run.out / WEIGHTS).exists():
        return
    with only_run_in(run.out):  # it raises an error if a training is at work there
        pass
    elsewhere = Path(f"{os.path.abspath(run.out)}.{time.strftime('%Y%m%d-%H%M%S')}")
    run.out.rename(elsewhere)
    run.out.mkdir()
    prepared = elsewhere / run.marker(_PREPARE).name
    if prepared.exists():
        shutil.copy(prepared, run.out)
    run.on_event(Event("note", f"{run.out} held a model of other settings or data; it is now {shown_path(elsewhere)}"))


def _run_stage(run: _Run, stage: int) -> bool:
    """Run a stage, unless its output exists; return False if it was stopped and can be continued."""
    name = _NAMES[stage]
    run.on_event(Event("stage", f"{stage} {name}"))
    if name == "install":
        run.on_event(Event("exists", f"  exists: {shown_path(Path(sys.prefix))}"))
        return True
    began = time.monotonic()
    fingerprint = _fingerprint(run, stage)
    if _is_done(run, stage, fingerprint):
        run.on_event(Event("exists", "  exists"))
        return True
    if name == "train":
        _set_aside(run, fingerprint)
        write_text(run.marker(stage, "began"), fingerprint)
    # Later stages notice new data by themselves, but not a new model.
    for outdated in range(stage, len(STAGES) if stage >= _TRAIN else stage + 1):
        run.marker(outdated).unlink(missing_ok=True)
    if not _run_commands(run, stage):
        return False
    if STAGES[name].writes or name == "prepare":
        write_text(run.marker(stage), fingerprint)
    run.on_event(Event("done", f"  {name}: {duration(time.monotonic() - began)}"))
    return True


def _run_commands(run: _Run, stage: int) -> bool:
    """Run the commands of a stage; return False if one was stopped and can be continued."""
    name = _NAMES[stage]
    path = run.out / "log" / f"{stage}-{name}.log"
    append = name == "train" and run.is_resumed

    def show(text: str) -> None:
        run.on_event(Event("output", text))

    with LoggedCommands(path, show, append=append, terminal=run.terminal) as commands:
        for command in STAGES[name].commands(run):
            arguments = [str(argument) for argument in command.arguments]
            line = f"$ asr {shlex.join(arguments)}"
            run.on_event(Event("command", line))
            commands.log(f"{line}\n")
            commands.print(command.before)
            status = commands.run([*_ASR, *arguments])
            if status == ExitStatus.STOPPED:
                return False
            if status:
                commands.print(command.failed)
            if status and not (command.may_find_faults and status == ExitStatus.FAILED):
                raise StageError(f"stage {_titled(stage)} failed with status {status}; its log: {path}", status)
            commands.print(command.after)
    return True
