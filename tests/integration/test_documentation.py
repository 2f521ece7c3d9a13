"""The documentation does what it says: the site builds, its blocks run, its messages, names and options exist."""

from __future__ import annotations

import ast
import itertools
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pysubs2
import pytest
import typer
from conftest import LEARNS_FAST, TINY
from small_encoder import write_encoder
from tone_recognizer import ToneDecoder, draw_phrases, record

import asr
from asr.bundle.bundle import ModelBundle
from asr.cli.main import app
from asr.corpus.manifest import cut_speaker, cut_text, read_manifest
from asr.model.acoustic import AcousticModel
from asr.reviewing.corrections import Review
from asr.reviewing.journal import State
from asr.serving.app import Service
from asr.serving.serve import named_models
from asr.text.tokens import TokenTable
from asr.training.pretrain import WITHOUT_EFFECT
from asr.tuning.trials import Outcome
from tests.unit.serving.running_server import running

REPOSITORY = Path(asr.__file__).parents[1]
DOCS = REPOSITORY / "docs"
text_of = runpy.run_path(str(DOCS / "hooks.py"))["text_of"]
PAGES = sorted(DOCS.glob("*.md"))
READMES = [REPOSITORY / "README.md", *sorted(REPOSITORY.glob("recipes/*/README.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMANDS = typer.main.get_command(app)
TRAINS = {"pretrain", "train", "distill", "run", "--rounds"}
# A small network and few epochs, for the commands that train; everything else is run as it is written.
QUICKLY = [*TINY, *LEARNS_FAST, "training.epochs=2"]


def quickly(command: str, page: Path) -> list[str]:
    """Return the options with which a command of a page trains quickly."""
    chosen = QUICKLY
    if command == "pretrain":
        chosen = [item for item in QUICKLY if item.partition("=")[0] not in WITHOUT_EFFECT] + ["pretraining.epochs=2"]
    elif page.stem == "pretrained_encoder":  # stored features take no noise
        chosen = [item.replace("noise_share=0.5", "noise_share=0") for item in QUICKLY]
    return [part for item in chosen for part in ("--set", item)]


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the language and the text of each block of a page."""
    return BLOCK.findall(page.read_text(encoding="utf-8"))


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of this package in a block; lines that a backslash joins are one."""
    for line in text.replace("\\\n", " ").replace(" && ", "\n").splitlines():
        line = re.sub(r"^(\$ )?\./run\.sh(?! test)", "asr run", line.strip())
        line = re.sub(r"  +[^-\s].*$", "", line)  # what follows in a second column explains
        try:
            words = shlex.split(re.sub(r" \[.*", "", line), comments=True)
        except ValueError:  # prose with an apostrophe
            continue
        if words[:1] == ["$"]:
            words = words[1:]
        if words[:1] == ["asr"] and len(words) > 1:
            yield words[1:]


def test_the_site_builds_and_no_link_in_it_is_broken(tmp_path: Path) -> None:
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for page in PAGES:
        folder = "" if page.stem == "index" else page.stem
        assert (tmp_path / "site" / folder / "index.html").is_file()
    asks = re.compile(r"<(?:script|link|img)[^>]+(?:src|href)=\"?(https?:[^\">]+)")
    for html in (tmp_path / "site").rglob("*.html"):
        assert asks.findall(html.read_text(encoding="utf-8")) == [], "the site asks no other host for anything"


def test_every_public_name_is_in_the_reference() -> None:
    listed = re.findall(r"^::: asr\.(\w+)$", (DOCS / "reference.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(set(asr.__all__) - {"__version__"})


def messages() -> list[str]:
    """Return all texts of the package; `…` stands for a value in them."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in sorted(Path(asr.__file__).parent.rglob("*.py"))]
    strings = [node for tree in trees for node in ast.walk(tree) if isinstance(node, (ast.JoinedStr, ast.Constant))]
    return [text_of(node) for node in strings]


def test_each_message_that_is_explained_exists() -> None:
    page = (DOCS / "what_can_go_wrong.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### `(.*)`$", page, re.MULTILINE)
    assert len(headings) > 20
    known = messages()
    for heading in headings:
        pattern = re.compile(".*".join(re.escape(part) for part in heading.strip("…").split("…")), re.DOTALL)
        assert any(map(pattern.search, known)), f"no message of the package is {heading!r}"


@pytest.mark.parametrize("page", [*PAGES, *READMES], ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_each_command_that_is_shown_exists_with_its_options(page: Path) -> None:
    for _, text in blocks(page):
        for words in commands(text):
            command, rest = COMMANDS, words
            while hasattr(command, "commands") and rest and rest[0] in command.commands:
                command, rest = command.commands[rest[0]], rest[1:]
            if rest and hasattr(command, "default"):  # `asr review DATA` is short for `asr review open DATA`
                command = command.commands[command.default]
            assert command is not COMMANDS, f"no command {words[0]!r}"
            options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
            used = {word.split("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
            assert used - {"-h", "--help"} <= options, f"asr {shlex.join(words)}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_block_says_its_language(page: Path) -> None:
    for language, text in blocks(page):
        assert language, text
        assert language == "sh" or not any(commands(text)), "a command that is not in a block `sh` is never run"


def lay_out_a_phone_s_recordings(folder: Path, tones: Path) -> None:
    """Write `phone/SPEAKER/NAME.wav` and `.txt`, and `new.wav`, of the tone corpus; each text once."""
    texts = set()
    for cut in itertools.chain(*(read_manifest(tones / f"{split}.jsonl.gz") for split in ("train", "dev", "test"))):
        if cut_text(cut) not in texts:
            texts.add(cut_text(cut))
            place = folder / "phone" / cut_speaker(cut) / cut.id
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(cut.recording.sources[0].source, place.with_suffix(".wav"))
            place.with_suffix(".txt").write_text(cut_text(cut), encoding="utf-8")
            shutil.copy(place.with_suffix(".wav"), folder / "new.wav")


def lay_out_an_interview(folder: Path, tones: Path) -> None:
    """Write `interview.wav` and its text, and `timed/beginning.wav` with subtitles."""
    rng = np.random.default_rng(5)
    (folder / "timed").mkdir()
    for name, count in (("interview", 60), ("timed/beginning", 24)):
        phrases = draw_phrases(count, rng)
        extents = record(folder / f"{name}.wav", phrases, rng)
        (folder / f"{name}.txt").write_text("\n\n".join(phrases), encoding="utf-8")
    events = [
        pysubs2.SSAEvent(start=round(1000 * start_s), end=round(1000 * end_s), text=phrase)
        for phrase, (start_s, end_s) in zip(phrases, extents, strict=True)
    ]
    subtitles = pysubs2.SSAFile()
    subtitles.events = events
    subtitles.save(str(folder / "timed" / "beginning.srt"))


def lay_out_an4(folder: Path, tones: Path) -> None:
    """Write `conf/an4.yaml`, and the tone corpus as `data/an4`."""
    shutil.copytree(tones, folder / "data" / "an4")
    shutil.copytree(REPOSITORY / "conf", folder / "conf")


def lay_out_a_model(folder: Path, tones: Path) -> None:
    """Write a model that was never trained as `exp/an4`."""
    config, tokens = asr.load_config(None, TINY), TokenTable.from_texts(["abcd "])
    ModelBundle(config, tokens, AcousticModel(config, len(tokens))).save(folder / "exp" / "an4")


def lay_out_commands(folder: Path, tones: Path) -> None:
    """Write the tone corpus as `data/mine`, a model that was never trained, `new.wav`, and half of dev's texts."""
    lay_out_mine_and_a_recording(folder, tones)
    lay_out_a_model(folder, tones)
    (folder / "exp" / "an4").rename(folder / "exp" / "mine")
    texts = sorted(cut_text(cut) for cut in read_manifest(tones / "dev.jsonl.gz"))
    (folder / "commands.txt").write_text("\n".join(texts[::2]), encoding="utf-8")


def lay_out_a_served_model(folder: Path, tones: Path) -> None:
    """Write a model that was never trained as `exp/mine`, `call.wav`, and a token."""
    lay_out_a_model(folder, tones)
    (folder / "exp" / "an4").rename(folder / "exp" / "mine")
    shutil.copy(next((tones / "audio").glob("test-*.wav")), folder / "call.wav")
    (folder / "token.txt").write_text("a-token-of-this-test\n", encoding="utf-8")


class Aside:
    """Serves in a thread what `asr serve` would serve until it is stopped; the first server is asked."""

    def __init__(self) -> None:
        self.servers = ExitStack()
        self.host = ""

    def serve(self, models: list[str], *, token: str | None, limits: asr.ServeLimits, **_: object) -> None:
        service = Service(tuple(named_models(models)), limits=limits, token=token)
        url = self.servers.enter_context(running(service)).url
        self.host = self.host or url.removeprefix("http://")


def lay_out_mine(folder: Path, tones: Path) -> None:
    """Write the tone corpus as `data/mine`."""
    shutil.copytree(tones, folder / "data" / "mine")


def lay_out_mine_and_a_recording(folder: Path, tones: Path) -> None:
    """Write the tone corpus as `data/mine`, and `new.wav`."""
    lay_out_mine(folder, tones)
    shutil.copy(next(iter(read_manifest(tones / "test.jsonl.gz"))).recording.sources[0].source, folder / "new.wav")


def lay_out_an_encoder(folder: Path, tones: Path) -> None:
    """Write the tone corpus as `data/mine`, and a small random encoder."""
    lay_out_mine(folder, tones)
    write_encoder(folder / "encoders" / "base")


def lay_out_a_model_and_texts(folder: Path, tones: Path) -> None:
    """Write the tone corpus as `data/mine`, its recordings as `recordings`, a model, `new.wav`, and `texts.txt`."""
    lay_out_commands(folder, tones)
    lay_out_recordings(folder / "more", tones)
    (folder / "more" / "recordings").rename(folder / "recordings")
    texts = [cut_text(cut) for cut in read_manifest(tones / "train.jsonl.gz")]
    (folder / "texts.txt").write_text("\n".join(texts), encoding="utf-8")


def lay_out_a_search(folder: Path, tones: Path) -> None:
    """Write the tone corpus as `data/mine`, and settings for it beside those that the package has."""
    lay_out_mine(folder, tones)
    shutil.copytree(REPOSITORY / "conf", folder / "conf")
    (folder / "conf" / "mine.yaml").write_text("training:\n  epochs: 9\n", encoding="utf-8")


def trained_in_no_time(config: asr.Config, data: Path, folder: Path) -> Outcome:
    """Return what a training gives, without one: fewer errors with more units."""
    errors = 100 - config.model.hidden_size // 8
    return Outcome(errors / 500, errors / 1000, 1.0, False, [errors // 5] * 5, [100] * 5, 12, 1.0)


def lay_out_recordings(folder: Path, tones: Path) -> None:
    """Write the tone corpus as `data/mine`, and the audio of its test split as `recordings`."""
    lay_out_mine(folder, tones)
    (folder / "recordings").mkdir()
    for path in (tones / "audio").glob("test-*.wav"):
        shutil.copy(path, folder / "recordings")


def lay_out_calls(folder: Path, tones: Path) -> None:
    """Write the tone corpus as `data/mine`, and recordings of phrases as `calls`."""
    lay_out_mine(folder, tones)
    rng = np.random.default_rng(6)
    (folder / "calls").mkdir()
    for number in range(3):
        record(folder / "calls" / f"{number}.wav", draw_phrases(4, rng), rng)


def corrected_by_somebody(found: Review, title: str, port: int, on_ready: object) -> None:
    """Say that the first text is another one, without a page."""
    state = State(**{**found.shown(0)["now"], "text": "ab", "confirmed": True})
    assert found.correct(0, 0, state).kept


LAY_OUT = {
    "browser": lay_out_a_model,
    "check": lay_out_mine,
    "choosing_settings": lay_out_mine,
    "comparing": lay_out_mine,
    "grammars": lay_out_commands,
    "first_hour": lay_out_a_phone_s_recordings,
    "interview": lay_out_an_interview,
    "language_models": lay_out_a_model_and_texts,
    "pretrained_encoder": lay_out_an_encoder,
    "pretraining": lay_out_recordings,
    "recurrent_networks": lay_out_an4,
    "report": lay_out_mine,
    "reviewing": lay_out_calls,
    "untranscribed": lay_out_calls,
    "speakers": lay_out_an4,
    "serving": lay_out_a_served_model,
    "several_models": lay_out_mine_and_a_recording,
    "searching_settings": lay_out_a_search,
    "texts": lay_out_mine,
    "training": lay_out_mine,
    "transcribing": lay_out_a_model_and_texts,
    "watching": lay_out_mine,
}


@pytest.fixture
def aside() -> Iterator[Aside]:
    aside = Aside()
    with aside.servers:
        yield aside


@pytest.mark.usefixtures("loud_is_speech")  # tones are no speech to the detector
@pytest.mark.parametrize("page", [page for page in PAGES if any(map(any, blocks(page)))], ids=lambda page: page.name)
def test_the_blocks_of_a_page_run_one_after_another(
    page: Path,
    succeed: Callable[..., str],
    tone_corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    aside: Aside,
) -> None:
    monkeypatch.chdir(tmp_path)
    # Two epochs teach too little to find a text by. What `asr segment` hears with, hears perfectly.
    monkeypatch.setattr("asr.segmenting.segment.Decoder", SimpleNamespace(load=lambda folder, **_: ToneDecoder()))
    monkeypatch.setattr("asr.segmenting.rounds.with_enough_epochs", lambda config, _: config)
    monkeypatch.setattr("asr.tuning.search.train_candidate", trained_in_no_time)  # a search trains dozens of models
    monkeypatch.setattr("asr.labelling.label.best_within", lambda guesses, _: list(guesses))  # all have many errors
    runnable = [(language, text) for language, text in blocks(page) if language in ("sh", "python")]
    if runnable:
        LAY_OUT[page.stem](tmp_path, tone_corpus)
    monkeypatch.setattr("asr.reviewing.review._serve", corrected_by_somebody)  # it would wait for a person
    monkeypatch.setattr("asr.serving.serve.serve", aside.serve)
    names: dict[str, object] = {}
    for language, text in runnable:
        if language == "python":
            exec(compile(text.replace("127.0.0.1:8000", aside.host), str(page), "exec"), names)
            continue
        for words in commands(text):
            succeed(*words, *(quickly(words[0], page) if TRAINS.intersection(words) else ()))
