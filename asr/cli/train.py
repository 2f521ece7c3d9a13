"""`asr settings`: every setting and what it means. `asr train`: manifests → a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from asr.cli.options import ConfigFile, ConfigSet


def settings(
    config: ConfigFile = None,
    overrides: ConfigSet = None,
) -> None:
    """Print every setting and what it means.

    Each has its range of values. The page is a settings file: asr settings > conf/mine.yaml writes one to start from,
    which asr train --config reads.

    --set of asr train takes a setting with its section: model.layers=4. --set of asr decode, transcribe and tune takes
    those of the section decode, --set of asr lm rnn those of the section rnnlm, with or without the section:
    lm_weight=0.5 or decode.lm_weight=0.5.
    """
    from asr.settings_file import describe, load_config

    for line in describe(load_config(config, overrides or ())):
        typer.echo(line)


def train(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder with train.jsonl.gz and dev.jsonl.gz.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The model folder to write, e.g. exp/mine.")],
    config: ConfigFile = None,
    overrides: ConfigSet = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out where it stopped.")] = False,
    init_from: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A model folder to start from: its weights are taken over where they fit."),
    ] = None,
    with_dev: Annotated[
        bool,
        typer.Option("--with-dev", help="Train on dev too, after all choices are made; the last weights are kept."),
    ] = False,
    hours: Annotated[
        float | None,
        typer.Option(metavar="H", help="Train on H hours drawn from the data, as --set training.hours. Default: all."),
    ] = None,
    accelerator: Annotated[
        Literal["auto", "cpu", "cuda"] | None,
        typer.Option(help="Device to compute on, as --set training.accelerator. Default: auto, a GPU if there is one."),
    ] = None,
) -> None:
    """Train an acoustic model.

    The weights that do best on dev are kept: those with the lowest WER. Where WERs differ by no more than chance, or
    are above 90 %, the CER decides, and while that is above 90 % too, the loss. In scripts without spaces the CER takes
    the place of the WER.

    SIGTERM or Ctrl-C finishes the step, writes a checkpoint and ends with status 75. --resume then continues the run.

    Several processes: torchrun --nproc-per-node 2 -m asr train … or srun python -m asr train …
    """
    import asr
    from asr.cli.console import out as console
    from asr.cli.training_display import TrainingDisplay
    from asr.errors import ExitStatus

    given = list(overrides or [])
    if strange := [override for override in given if override.startswith("rnnlm.")]:
        raise asr.ConfigError(
            f"{strange[0]:.80}: asr train has no recurrent language model; asr lm rnn takes the settings of rnnlm"
        )
    if accelerator is not None:
        given.append(f"training.accelerator={accelerator}")
    if hours is not None:
        given.append(f"training.hours={hours}")
    settings = asr.load_config(config, given)
    with TrainingDisplay(console, settings) as display:
        result = asr.train(
            settings, data, out, resume=resume, init_from=init_from, with_dev=with_dev, on_report=display.show
        )
    display.finish(result)
    if result.stopped_by is not None:
        raise typer.Exit(ExitStatus.STOPPED)
