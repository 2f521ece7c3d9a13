"""`asr transcribe`: audio files → transcripts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Accelerator, Method
from asr.inference.formats import FORMATS

# Formats of which several may follow each other on stdout; a subtitle file stands alone.
_STREAMS = ("txt", "json")

_SOME_SKIPPED = 2


def _known_format(name: str) -> str:
    if name not in FORMATS:
        raise typer.BadParameter(f"{name!r} is not one of {', '.join(FORMATS)}")
    return name


def transcribe(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, e.g. exp/an4.")],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="Audio files, and folders to search for them."),
    ],
    format: Annotated[str, typer.Option(help=", ".join(FORMATS) + ".", callback=_known_format)] = "txt",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write one file for each here instead of to stdout.")
    ] = None,
    method: Method = None,
    accelerator: Accelerator = "auto",
) -> None:
    """Turn audio files into text.

    One file's transcript is printed as it is. Of several files, or of a folder, txt prints a line
    "path<TAB>text" for each, json prints one object a line, and the others need --out. With --out, each file's
    transcript goes to DIR/<name>.<format>, below the sub-folders of the folder it was found in.

    A file that cannot be read is skipped and named on stderr. Exit status: 0 all files done, 2 some skipped.
    """
    import sys
    from contextlib import nullcontext

    import asr
    from asr.cli.audio_files import find_audio, output_paths, printable
    from asr.cli.console import err, progress
    from asr.data.files import write_text

    several = len(files) > 1 or files[0].is_dir()
    if several and out is None and format not in _STREAMS:
        raise typer.BadParameter(f"needed when several files become {format}", param_hint="--out")
    found, skipped = find_audio(files)
    targets = {} if out is None else output_paths(found, out, f".{format}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)  # now, since failing after an hour of work would be late

    for problem in skipped:
        err.print(f"skipped: {problem}")
    if found:
        recognizer = asr.load(model, accelerator=accelerator)
        shown = len(found) > 1 and (out is not None or not sys.stdout.isatty())
        with progress("transcribe", len(found)) if shown else nullcontext(lambda _: None) as advance:
            for path, result in recognizer.transcribe_files([file.path for file in found], method=method):
                if isinstance(result, asr.AudioError):
                    skipped.append(result)
                    err.print(f"skipped: {result}")
                elif out is not None:
                    write_text(targets[path], FORMATS[format](result))
                else:
                    prefix = f"{printable(path)}\t" if several and format == "txt" else ""
                    typer.echo(prefix + FORMATS[format](result), nl=False)
                advance(1)
    if skipped:
        if several:
            err.print(f"\n{len(skipped)} skipped:")
            for problem in skipped:
                err.print(f"  {problem}")
        raise typer.Exit(_SOME_SKIPPED)
