"""`asr align`: a text along its audio, and which words fit badly."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Accelerator

_MANIFEST_SUFFIXES = (".jsonl", ".jsonl.gz")


def align(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, e.g. exp/an4.")],
    audio: Annotated[Path, typer.Argument(metavar="AUDIO", help="An audio file, or a manifest with transcripts.")],
    text: Annotated[str | None, typer.Argument(metavar="TEXT", help="What is said in the audio file.")] = None,
    text_file: Annotated[Path | None, typer.Option(help="A file that holds the text.")] = None,
    accelerator: Accelerator = "auto",
) -> None:
    """Show when each word of a text was spoken and how well it fits, to find wrong transcripts.

    Of an audio file, one line a word: start and end in seconds, fit from 0 to 1, the word, and "fits badly" where it is
    likely not what was said. Of a manifest, one JSON object a line for each utterance, the worst fit first. The fit of
    the whole compares the text with the best that the model hears: low too where words are heard that the text lacks.
    """
    import asr
    from asr.files import read_text

    if audio.name.endswith(_MANIFEST_SUFFIXES):
        if text is not None or text_file is not None:
            raise typer.BadParameter("a manifest holds its texts itself; leave the text away", param_hint="TEXT")
        _align_manifest(model, audio, accelerator)
        return
    if (text is None) == (text_file is None):
        raise typer.BadParameter("give either a text or --text-file", param_hint="TEXT")
    if text_file is not None:
        text = read_text(text_file, asr.AsrError, "the text")
    if not (text or "").strip():
        raise typer.BadParameter("the text is empty", param_hint="TEXT")
    aligned = asr.load(model, accelerator=accelerator).align(audio, text or "")
    typer.echo(f"{'start_s':>8} {'end_s':>8}  {'fit':5}  word", err=True)  # stdout is the lines alone
    for word in aligned.words:
        note = "  fits badly" if word.fits_badly else ""
        typer.echo(f"{word.start_s:8.2f} {word.end_s:8.2f}  {word.fit:.3f}  {word.text}{note}")
    bad = [word.text for word in aligned.words if word.fits_badly]
    typer.echo(f"fit of the whole {aligned.fit:.3f}; {len(bad)} of {len(aligned.words)} words fit badly", err=True)


def _align_manifest(model: Path, manifest: Path, accelerator: Accelerator) -> None:
    import json

    import asr
    from asr.cli.console import progress
    from asr.corpus.manifest import load_manifest
    from asr.inference.text_alignment import align_cuts

    cuts = load_manifest(manifest)
    utterances = []
    with progress("align", len(cuts)) as advance:
        for aligned in align_cuts(asr.load(model, accelerator=accelerator).decoder, cuts):
            utterances.append(aligned)
            advance(1)
    for aligned in sorted(utterances, key=lambda aligned: (aligned.worst_fit, aligned.fit)):
        record = {
            "id": aligned.id,
            "worst_fit": round(aligned.worst_fit, 4),
            "fit": round(aligned.fit, 4),
            "fits_badly": [word.text for word in aligned.words if word.fits_badly],
            "text": aligned.text,
            **({"reason": aligned.reason} if aligned.reason else {}),
            "words": [
                {
                    "text": word.text,
                    "start_s": round(word.start_s, 3),
                    "end_s": round(word.end_s, 3),
                    "fit": round(word.fit, 4),
                }
                for word in aligned.words
            ],
        }
        typer.echo(json.dumps(record, ensure_ascii=False))
