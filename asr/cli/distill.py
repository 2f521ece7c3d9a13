"""`asr distill`: several model folders and manifests → one model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from asr.cli.options import ConfigFile, ConfigSet


def distill(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL...", help="Model folders to learn from.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder with train.jsonl.gz and dev.jsonl.gz.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The model folder to write, e.g. exp/mine.")],
    config: ConfigFile = None,
    overrides: ConfigSet = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out where it stopped.")] = False,
    accelerator: Annotated[
        Literal["auto", "cpu", "cuda"] | None,
        typer.Option(help="Device to compute on, as --set training.accelerator. Default: auto, a GPU if there is one."),
    ] = None,
) -> None:
    """Train one model on what several have learnt.

    It learns from the transcripts, as in asr train, and from the mean of the models' posteriors. Then it is as large
    and as fast as one. Without --config it has the settings of the first model. The models need the same tokens and
    frames.

    --set training.teacher_weight=1 lets the models count more. Each of them makes a step longer by one pass forwards.
    """
    import asr
    from asr.bundle.files import CONFIG
    from asr.cli.console import out as console
    from asr.cli.training_display import TrainingDisplay
    from asr.errors import ExitStatus

    given = list(overrides or [])
    if accelerator is not None:
        given.append(f"training.accelerator={accelerator}")
    settings = asr.load_config(config or models[0] / CONFIG, given)
    with TrainingDisplay(console, settings) as display:
        result = asr.distill(models, data, out, config=settings, resume=resume, on_report=display.show)
    display.finish(result)
    if result.stopped_by is not None:
        raise typer.Exit(ExitStatus.STOPPED)
