"""`asr transcribe`: audio files → transcripts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import Accelerator, DecodeSet, Hotword, Method
from asr.inference.formats import FORMATS

if TYPE_CHECKING:
    from asr.inference.bulk import Options, Result

# Formats of which several may follow each other on stdout; a subtitle file stands alone.
_STREAMS = ("txt", "jsonl")

_SOME_SKIPPED = 2


def _known_format(name: str) -> str:
    if name not in FORMATS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(FORMATS)}")
    return name


def transcribe(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, e.g. exp/an4.")],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Audio files, folders to search for them, or patterns in quotes."),
    ],
    format: Annotated[str, typer.Option(help=", ".join(FORMATS) + ".", callback=_known_format)] = "txt",
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write a file for each here, not to stdout.")] = None,
    beside: Annotated[bool, typer.Option("--beside", help="Write each beside its audio file, not to stdout.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do again, and replace, what is there.")] = False,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="So many processes, each with its own copy of the model.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Use a ray cluster: HOST:PORT, auto for this machine's, or local."),
    ] = None,
    method: Method = None,
    hotword: Hotword = None,
    overrides: DecodeSet = None,
    accelerator: Accelerator = "auto",
) -> None:
    """Turn audio files into text.

    One file's transcript is printed as it is. Of several files, or of a folder, txt prints a line
    "path<TAB>text" for each, jsonl prints one object a line, and the others need --out or --beside. With --out, each
    file's transcript goes to DIR/<name>.<format>, below the sub-folders of the folder or pattern it was found in.

    With --out or --beside a run that was cut off goes on where it was: what is there, made from the same audio by the
    same model with the same options, is not done again. A file .asr-transcribe.jsonl beside the transcripts records
    that; what it does not know is never replaced without --overwrite.

    A file that cannot be read is skipped and named on stderr. Exit status: 0 all files done, 2 some skipped.
    """
    import sys
    from contextlib import nullcontext

    from asr.cli.audio_files import find_audio, is_one_file, output_paths, printable
    from asr.cli.console import clock, err, progress
    from asr.cli.options import decode_settings, hotword_bonuses
    from asr.errors import AudioError
    from asr.inference import journal
    from asr.inference.bulk import Options, in_order

    several = len(files) > 1 or not is_one_file(files[0])
    in_files = out is not None or beside
    if out is not None and beside:
        raise typer.BadParameter("it excludes --out", param_hint="--beside")
    if several and not in_files and format not in _STREAMS:
        raise typer.BadParameter(f"needed when several files become {format}", param_hint="--out or --beside")
    options = Options(method, hotword_bonuses(hotword), decode_settings(overrides))
    found, skipped = find_audio(files)
    paths = [file.path for file in found]
    tasks: dict[Path, journal.Task] = {}
    if in_files:
        outputs = output_paths(found, out, f".{format}")
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)  # now, since failing after an hour of work would be late
        left = journal.unfinished(journal.tasks_of(outputs, journal.fingerprint(model, options)), overwrite=overwrite)
        if len(left) < len(paths):
            err.print(f"{len(paths) - len(left)} of {len(paths)} files are done already")
        tasks = {task.audio: task for task in left}
        paths = list(tasks)

    for problem in skipped:
        err.print(f"skipped: {problem}")
    if paths:
        results = _results(model, accelerator, options, paths, jobs, ray)
        shown = len(paths) > 1 and (in_files or not sys.stdout.isatty())
        seconds = _durations_s(paths) if shown else {}
        with progress("transcribe", sum(seconds.values()), clock) if shown else nullcontext(lambda _: None) as advance:
            for path, result in results if in_files else in_order(paths, results):
                if isinstance(result, AudioError):
                    skipped.append(result)
                    err.print(f"skipped: {result}")
                elif in_files:
                    journal.finish(tasks[path], {tasks[path].output: FORMATS[format](result[0])})
                else:
                    prefix = f"{printable(path)}\t" if several and format == "txt" else ""
                    typer.echo(prefix + FORMATS[format](result[0]), nl=False)
                advance(seconds.get(path, 0.0))
    if skipped:
        if several:
            err.print(f"\n{len(skipped)} skipped:")
            for problem in skipped:
                err.print(f"  {problem}")
        raise typer.Exit(_SOME_SKIPPED)


def _results(
    model: Path, accelerator: Accelerator, options: Options, paths: Sequence[Path], jobs: int | None, ray: str | None
) -> Iterator[tuple[Path, Result]]:
    """Yield each file with its result: of this process, of several, or of a cluster."""
    from asr.inference.bulk import load_transcriber, one_by_one

    load = partial(load_transcriber, model, accelerator, options)
    if ray is not None:
        from asr.inference.cluster import on_ray

        return on_ray(partial(load, threads=1), paths, ray, jobs, gpu=accelerator == "cuda")
    if jobs is not None and jobs > 1:
        from asr.inference.processes import cores, in_processes

        return in_processes(partial(load, threads=max(1, cores() // jobs)), paths, jobs)
    return one_by_one(load, paths)


def _durations_s(paths: Sequence[Path]) -> dict[Path, float]:
    """Return how long the files last whose headers say so."""
    from contextlib import suppress

    from asr.cli.console import progress
    from asr.data.audio import audio_info
    from asr.errors import AudioError

    seconds = {}
    with progress("look through", len(paths)) as advance:
        for path in paths:
            with suppress(AudioError):  # what is wrong, transcribing it will tell
                seconds[path] = audio_info(path).duration_s
            advance(1)
    return seconds
