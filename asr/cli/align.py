"""`asr align`: when each word of a text was spoken, and which words fit badly."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Accelerator
from asr.files import printable

_MANIFEST_SUFFIXES = (".jsonl", ".jsonl.gz")


def align(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, e.g. exp/an4.")],
    audio: Annotated[Path, typer.Argument(metavar="AUDIO", help="An audio file, or a manifest with transcripts.")],
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What is said in the audio file.")] = None,
    text_file: Annotated[Path | None, typer.Option(metavar="FILE", help="A file that holds the text.")] = None,
    accelerator: Accelerator = "auto",
) -> None:
    """Show when each word of a text was spoken, and which fit badly.

    This finds wrong transcripts.

    For an audio file, print a line for each word: its start and end in seconds, its fit from 0 to 1, the word, and
    "fits badly" if something else was probably said. For a manifest, print a JSON object for each utterance, the worst
    fit first. The fit of the whole also falls if words are heard that the text lacks.
    """
    if audio.name.endswith(_MANIFEST_SUFFIXES):
        if text is not None or text_file is not None:
            raise typer.BadParameter("a manifest holds its own texts; leave it out", param_hint="TEXT")
        _align_manifest(model, audio, accelerator)
    else:
        _align_file(model, audio, _given_text(text, text_file), accelerator)


def _given_text(text: str | None, text_file: Path | None) -> str:
    from asr.errors import AsrError
    from asr.reading import read_text

    if (text is None) == (text_file is None):
        raise typer.BadParameter("give either a text or --text-file", param_hint="TEXT")
    given = text if text_file is None else read_text(text_file, AsrError, "the text")
    if not given or not given.strip():
        if text_file is not None:
            raise AsrError(f"{text_file}: the text is empty")
        raise typer.BadParameter("the text is empty", param_hint="TEXT")
    return given


def _align_file(model: Path, audio: Path, text: str, accelerator: Accelerator) -> None:
    import asr
    from asr.cli.console import err, out

    aligned = asr.load(model, accelerator=accelerator).align(audio, text)
    err.print(f"{'start_s':>8} {'end_s':>8}  {'fit':5}  word")  # stdout has the lines alone
    for word in aligned.words:
        note = "  fits badly" if word.fits_badly else ""
        out.print(f"{word.start_s:8.2f} {word.end_s:8.2f}  {word.fit:.3f}  {printable(word.text)}{note}")
    bad = sum(word.fits_badly for word in aligned.words)
    err.print(f"fit of the whole {aligned.fit:.3f}; {bad} of {len(aligned.words)} words fit badly")


def _align_manifest(model: Path, manifest: Path, accelerator: Accelerator) -> None:
    import asr
    from asr.cli.console import progress
    from asr.files import to_json

    for aligned in asr.align_manifest(model, manifest, accelerator=accelerator, progress=progress):
        typer.echo(to_json(aligned.to_json()))
