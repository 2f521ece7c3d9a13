"""`asr adapt`: minutes of a speaker's speech → what the model knows of him."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Accelerator


def adapt(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, e.g. exp/an4.")],
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="A manifest with his utterances, or an audio file or folder, all of it his."
        ),
    ],
    speaker: Annotated[str, typer.Option(metavar="NAME", help="The speaker's name, as --speaker will choose him.")],
    transcripts: Annotated[
        bool,
        typer.Option(
            "--transcripts/--no-transcripts",
            help="Take the transcripts of the manifest, or what the model itself recognises, as for audio.",
        ),
    ] = True,
    accelerator: Accelerator = "auto",
) -> None:
    """Fit a model to a speaker from minutes of his speech.

    A scale for each unit of the recurrent layers and the norms are fitted; all other weights stay. The result is kept
    only if it gains on utterances that it was not fitted to. It is a file of some ten kilobytes in the model folder.
    asr transcribe and asr decode take it with --speaker NAME, and nothing else changes.
    """
    import asr
    from asr.cli.console import progress
    from asr.files import printable

    report = asr.adapt(model, data, speaker, transcripts=transcripts, accelerator=accelerator, progress=progress)
    typer.echo(
        f"{printable(speaker)}: {report.utterances} utterances, {report.audio_s / 60:.1f} min, "
        f"{report.transcribed} with transcripts"
    )
    before, after = report.loss
    typer.echo(f"held out    loss {before:.3f} → {after:.3f} nats a token after {report.steps} steps")
    if report.reference_length:
        typer.echo(f"            errors {report.errors[0]} → {report.errors[1]} of {report.reference_length}")
    if not report.steps:
        typer.echo("no gain     the model stays as it is for this speaker")
    if report.path is not None:
        typer.echo(f"written to  {printable(report.path)}, {report.path.stat().st_size / 1000:.0f} kB")
