"""`asr features`: manifests → a data folder with the features of a pretrained encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Accelerator
from asr.errors import ExitStatus
from asr.files import printable


def features(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A folder with {train,dev,test}.jsonl.gz.")],
    encoder: Annotated[
        str,
        typer.Option(metavar="ENCODER", help="A pretrained encoder: a folder, or a name on the Hugging Face hub."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The data folder to write, e.g. data/mine-features.")],
    speed: Annotated[
        list[float] | None,
        typer.Option(metavar="FACTOR", help="Speed at which utterances are played; repeatable. Default: 1."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(metavar="N", help="Number of processes, each with its own copy of the encoder.")
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Share the work among a ray cluster: HOST:PORT, auto or local."),
    ] = None,
    accelerator: Accelerator = "auto",
) -> None:
    """Compute a pretrained encoder's features once, for training.

    Those of train and dev are stored. asr train takes the new folder as its --data, and does not need the encoder. It
    draws its speeds from those given here (augment.speeds), and changes neither noise nor rooms. What an interrupted
    call finished is used again. The features of an hour take some gigabytes: docs/pretrained_encoder.md has a table.
    """
    import asr
    from asr.cli.console import err, progress
    from asr.cli.console import out as console

    report = asr.compute_features(
        data,
        out,
        encoder=encoder,
        speeds=speed or (1.0,),
        jobs=jobs,
        ray=ray,
        accelerator=accelerator,
        progress=progress,
    )
    for split, count in report.utterances.items():
        console.print(f"{split:<6}{count:>9} utterances")
    hours, gigabytes = report.audio_s / 3600, report.size_bytes / 1e9
    console.print(f"{hours:.2f} hours, {gigabytes:.2f} GB in {printable(str(report.folder))}")
    left_out = [(split, *item) for split, reasons in report.skipped.items() for item in reasons.items()]
    if left_out:
        err.print(f"{len(left_out)} utterances were left out:")
        for split, name, reason in left_out:
            err.print(f"  {split}  {printable(name)}: {printable(reason)}")
        raise typer.Exit(ExitStatus.SKIPPED)
