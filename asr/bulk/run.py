"""Any number of recordings → transcripts: found, shared out among processes or machines, written or handed over.

An interrupted run resumes: finished transcripts are kept (`asr/bulk/journal.py`).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from asr.audio.audio_files import AudioFile, find_audio, output_paths
from asr.audio.blocks import open_audio
from asr.audio.segment import Segmentation
from asr.audio.sources import STDIN, is_read_once
from asr.bulk import journal
from asr.bulk.transcriber import Channels, OnProgress, Options, load_transcriber
from asr.bulk.workers import Result, in_order, one_by_one
from asr.bundle.speaker_names import find_speaker
from asr.decoding.hotwords import hotword_bonuses
from asr.errors import AudioError, ConfigError
from asr.inference.decoder import Method, Search
from asr.inference.ensemble import Models, common_precision, model_folders
from asr.inference.precision import WantedPrecision
from asr.lm.grammar import GrammarSource, load_grammar
from asr.machine import Progress, cores, silent
from asr.paths import ReadablePath
from asr.transcript.transcript import FORMATS, Transcript, format_names

PathLike: TypeAlias = "str | os.PathLike[str]"
Accelerator: TypeAlias = Literal["auto", "cpu", "cuda"]
OnResult: TypeAlias = Callable[[Path, Result], object]
_Put: TypeAlias = Callable[[Path, Sequence[Transcript]], object]

_MOST_NAMED = 5  # suffixes or folders in one line


@dataclass(frozen=True)
class TranscribeReport:
    """What `transcribe_files` found and did.

    Attributes:
        files: number of audio files that were found.
        done_before: number of those that an earlier run had finished.
        done: number of those that this run finished.
        skipped: an error for each file that has no transcript, and for each folder or pattern without audio.
        passed_over: how many files of other kinds the folders hold, by suffix.
        unfollowed: links to folders, which were not searched.
        transcripts: in the order of the files; empty if they were written to files or handed to `on_result`.
    """

    files: int
    done_before: int
    done: int
    skipped: tuple[AudioError, ...]
    passed_over: Mapping[str, int]
    unfollowed: tuple[Path, ...]
    transcripts: tuple[Transcript, ...] = ()

    @property
    def notes(self) -> list[str]:
        """What was left out although it may have been meant, in a sentence each."""
        notes = []
        if self.passed_over:
            count = sum(self.passed_over.values())
            kinds = sorted(self.passed_over, key=lambda suffix: (-self.passed_over[suffix], suffix))
            were = "file with another suffix was" if count == 1 else "files with other suffixes were"
            notes.append(f"{count} {were} passed over: {_listed([kind or 'no suffix' for kind in kinds], ' ')}")
        if self.unfollowed:
            count = len(self.unfollowed)
            were = "link to a folder was" if count == 1 else "links to folders were"
            notes.append(f"{count} {were} not followed: {_listed(list(map(str, self.unfollowed)), ', ')}")
        return notes


def transcribe_files(
    model: Models,
    files: PathLike | Iterable[PathLike],
    *,
    out: PathLike | None = None,
    beside: bool = False,
    format: str | Iterable[str] = "txt",
    jobs: int | None = None,
    ray: str | None = None,
    segment: Segmentation = "vad",
    channels: Channels = "mix",
    method: Method | None = None,
    hotwords: Mapping[str, float] | Iterable[str] = (),
    n_best: int = 0,
    grammar: GrammarSource | None = None,
    decode: Mapping[str, Any] | None = None,
    precision: WantedPrecision = "auto",
    speaker: str | None = None,
    accelerator: Accelerator = "auto",
    overwrite: bool = False,
    on_start: Callable[[TranscribeReport], object] = lambda _: None,
    on_result: OnResult | None = None,
    progress: Progress = silent,
) -> TranscribeReport:
    """Transcribe any number of audio files; write the transcripts to files, or hand them over.

    With `out` or `beside` an interrupted run resumes: finished transcripts that were made from the same audio with the
    same model and options are kept. Without either, transcripts are handed over in the order of the files: to
    `on_result`, or in the report if there is none. A file that cannot be read is skipped.

    Args:
        model: the model folder, or several that work as one, as for `asr.load`.
        files: audio and video files, folders to search for them, patterns such as `calls/**/*.wav`, and `-` for
            standard input.
        out: the folder to write to; each transcript goes to `<name>.<format>`, below the sub-folders of the folder or
            pattern in which its audio was found.
        beside: write each transcript beside its audio file.
        format: format of the files to write: `txt`, `json`, `jsonl`, `srt`, `vtt`, `tsv`, `ctm` or `TextGrid`, in upper
            or lower case, or several of them: `"srt,json"` or `["srt", "json"]`.
        jobs: number of worker processes; each loads its own copy of the model. None transcribes in this process. With
            `ray`, the number of actors. In a script, call it below `if __name__ == "__main__":`, because each worker
            process imports the script.
        ray: transcribe on a ray cluster: `HOST:PORT`, `auto` for the one of this machine, or `local` to start one here.
        segment: as for `Recognizer.transcribe`.
        channels: `mix` mixes them down; `separate` gives each its own transcript, in `<name>.ch0.<format>` and so on.
        method, hotwords, n_best, grammar: as for `Recognizer.transcribe`; only `json` and `jsonl` hold an n-best list
            and say what was rejected.
        decode, precision, accelerator: as for `asr.load`; on a ray cluster, whose machines may differ, `auto` is fp32.
        speaker: as for `asr.load`.
        overwrite: transcribe all files anew and replace whatever is in the way.
        on_start: is called once before the first file, with what is known by then.
        on_result: is called for each file that is not done already, with its path and its transcripts (one, or one of
            each channel), or with the error for which it was skipped.
        progress: shows two stages: `look through` counts files, and `transcribe` counts seconds of audio.

    Returns:
        What was found, done and skipped, and the transcripts if they were handed over nowhere else.

    Raises:
        AsrError: a transcript would replace a file that it should not, another run is at work in the same folder, the
            disk is full, all workers died, or there is no such cluster.
        ConfigError: arguments contradict each other or have a value that they cannot have.
        DependencyError: ray is asked for and not installed.
        DeviceError: `cuda` is asked for and there is none.
        ModelError, LanguageModelError: the model folder is missing, incomplete or damaged.
        TokenError: a hotword or a grammar holds a character that is in none of the model's tokens.
    """
    names = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    for argument, reason in contradictions(names, out=out, beside=beside, jobs=jobs, ray=ray, channels=channels):
        raise ConfigError(f"{argument}: {reason}")
    search = Search(method, hotword_bonuses(hotwords), grammar=None if grammar is None else load_grammar(grammar))
    # One format for all workers and for a run that resumes this one.
    if ray is not None and precision == "auto":
        precision = "fp32"
    models = model_folders(model)
    settled = common_precision(models, accelerator, precision)
    options = Options(search, segment, channels, settled, dict(decode or {}), n_best, speaker)
    work = _Work(models, accelerator, options, jobs, ray)
    formats, to_files = format_names(format), beside or out is not None
    found = find_audio(map(Path, names))
    skipped, transcripts, done = list(found.problems), list[Transcript](), 0
    with (
        _written(found.files, None if out is None else Path(out), formats, work, overwrite=overwrite)
        if to_files
        else nullcontext(([file.path for file in found.files], _keep))
    ) as (paths, put):
        report = TranscribeReport(
            files=len(found.files),
            done_before=len(found.files) - len(paths),
            done=0,
            skipped=found.problems,
            passed_over=_without_transcripts(found.passed_over) if to_files else found.passed_over,
            unfollowed=found.unfollowed,
        )
        on_start(report)
        with closing(_results(work, paths, progress, ordered=not to_files)) as results:
            for path, result in results:
                delivered = _delivered(path, result, put)
                if isinstance(delivered, AudioError):
                    skipped.append(delivered)
                else:
                    done += 1
                if on_result is not None:
                    on_result(path, delivered)
                elif not to_files and not isinstance(delivered, AudioError):
                    transcripts += delivered
    return replace(report, done=done, skipped=tuple(skipped), transcripts=tuple(transcripts))


def contradictions(
    files: Sequence[PathLike],
    *,
    out: PathLike | None,
    beside: bool,
    jobs: int | None,
    ray: str | None,
    channels: str,
) -> Iterator[tuple[str, str]]:
    """Yield the name of each argument of `transcribe_files` that does not fit the others, with the reason."""
    if out is not None and not os.fspath(out):
        yield "out", "the name of the folder is empty"
    if out is not None and os.fspath(out) == STDIN:
        yield "out", "- is no folder; without it, transcripts go to standard output (./- is a folder of this name)"
    if out is not None and beside:
        yield "beside", "transcripts are written to one folder or beside their audio, not both"
    if jobs is not None and jobs < 1:
        yield "jobs", f"{jobs} processes cannot transcribe; at least 1 is needed"
    if channels not in get_args(Channels):
        yield "channels", f"{channels!r} is neither mix nor separate"
    names = [os.fspath(file) for file in files]
    if "" in names:
        yield "files", "the name of a file is empty"
    read_once = next(filter(is_read_once, names), None)
    if read_once and (beside or jobs is not None or ray is not None or channels == "separate"):
        what = "standard input" if read_once == STDIN else "a pipe"
        yield "files", f"{what} ({read_once}) goes with none of beside, jobs, ray and separate channels"


@dataclass(frozen=True)
class _Work:
    """Who transcribes, and how: this process, several, or a cluster."""

    models: Sequence[ReadablePath]
    accelerator: Accelerator
    options: Options
    jobs: int | None
    ray: str | None

    def results(self, paths: Sequence[Path], on_progress: OnProgress) -> Iterator[tuple[Path, Result]]:
        """Yield each file with its result, as soon as it is done."""
        load = partial(load_transcriber, self.models, self.accelerator, self.options)
        if self.ray is not None:
            from asr.bulk.cluster import on_ray

            return on_ray(partial(load, threads=1), paths, self.ray, self.jobs, gpu=self.accelerator == "cuda")
        if self.jobs is not None and self.jobs > 1:
            from asr.bulk.workers import in_processes

            return in_processes(partial(load, threads=max(1, cores() // self.jobs)), paths, self.jobs)
        return one_by_one(partial(load, on_progress=on_progress), paths)


@contextmanager
def _written(
    found: Sequence[AudioFile], out: Path | None, formats: Sequence[str], work: _Work, *, overwrite: bool
) -> Iterator[tuple[list[Path], _Put]]:
    """Yield the files that are not done yet and a function that writes the transcripts of one.

    Meanwhile no other run can write there.
    """
    from asr import __version__

    outputs = {name: output_paths(found, out, f".{name}") for name in formats}
    folders = [file.root for file in found] if out is None else [out]
    with journal.hold(folders, [path for targets in outputs.values() for path in targets.values()]):
        speaker = work.options.speaker
        files = [] if speaker is None else [find_speaker(model, speaker) for model in work.models]
        made_by = journal.fingerprint(work.models, {"asr": __version__, **asdict(work.options)}, files)
        separate = work.options.channels == "separate"
        tasks = [task for targets in outputs.values() for task in journal.tasks_of(targets, made_by, separate=separate)]
        left: dict[Path, list[journal.Task]] = defaultdict(list)
        for task in journal.unfinished(tasks, overwrite=overwrite):
            left[task.audio].append(task)

        def write(path: Path, transcripts: Sequence[Transcript]) -> None:
            for task in left[path]:
                as_text, contents = FORMATS[task.output.suffix[1:]], {}
                for transcript in transcripts:
                    channel = "" if transcript.channel is None else f".ch{transcript.channel}"
                    contents[task.output.with_suffix(channel + task.output.suffix)] = as_text(transcript)
                journal.finish(task, contents)

        yield [file.path for file in found if file.path in left], write


def _results(
    work: _Work, paths: Sequence[Path], progress: Progress, *, ordered: bool
) -> Generator[tuple[Path, Result], None, None]:
    """Yield each file with its result, and show how much of the audio is done."""
    if not paths:  # then no model is needed
        return
    seconds = {} if progress is silent else _durations_s(paths, progress)
    total_s, heard_s = sum(seconds.values()), 0.0
    with (progress if total_s else silent)("transcribe", total_s) as advance:

        def on_progress(more_s: float) -> None:
            nonlocal heard_s
            heard_s += more_s
            advance(more_s)

        results = work.results(paths, on_progress)
        for path, result in in_order(paths, results) if ordered else results:
            yield path, result
            advance(seconds.get(path, 0.0) - heard_s)  # the rest; negative if more was heard than declared
            heard_s = 0.0


def _durations_s(paths: Sequence[Path], progress: Progress) -> dict[Path, float]:
    """Return the length of each file that declares it."""
    seconds = {}
    with progress("look through", len(paths)) as advance:
        for path in paths:
            with suppress(AudioError):  # transcribing it will say what is wrong
                if not is_read_once(path):
                    with open_audio(path) as recording:
                        seconds[path] = recording.duration_s or 0.0
            advance(1)
    return seconds


def _delivered(path: Path, result: Result, put: _Put) -> Result:
    """Put the transcripts of a file where they belong; return them, or the error for which there are none."""
    if not isinstance(result, AudioError):
        try:
            put(path, result)
        except AudioError as error:
            return error
    return result


def _keep(path: Path, transcripts: Sequence[Transcript]) -> None:
    """Write nothing: the transcripts are handed over."""


def _without_transcripts(passed_over: Mapping[str, int]) -> dict[str, int]:
    """Return the counts without the suffixes of transcripts, which this and earlier runs may have written."""
    written = {f".{name.lower()}" for name in FORMATS}
    return {suffix: count for suffix, count in passed_over.items() if suffix not in written}


def _listed(names: Sequence[str], separator: str) -> str:
    return separator.join([*names[:_MOST_NAMED], *["…"] * (len(names) > _MOST_NAMED)])
