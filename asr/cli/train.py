"""`asr settings`: every setting and what it means. `asr pretrain`, `asr train`, `asr distill`: manifests → weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from asr.cli.options import ConfigFile, ConfigSet

Unlabelled = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="DATA",
        help="Untranscribed audio, which the model transcribes for itself during the run: a data folder, a manifest, "
        "recordings or a folder of them; repeatable.",
    ),
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --out where it stopped.")]
TrainingAccelerator = Annotated[
    Literal["auto", "cpu", "cuda"] | None,
    typer.Option(help="Device to compute on, as --set training.accelerator. Default: auto, a GPU if there is one."),
]


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
    from asr.cli.console import out as console
    from asr.settings_file import describe, load_config

    for line in describe(load_config(config, overrides or ())):
        console.print(line)


def pretrain(
    data: Annotated[
        list[Path],
        typer.Argument(metavar="DATA", help="A data folder, manifests, audio files, or folders or patterns of them."),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write, e.g. exp/pretrained.")],
    config: ConfigFile = None,
    overrides: ConfigSet = None,
    resume: Resume = False,
    accelerator: TrainingAccelerator = None,
) -> None:
    """Train a network on audio without transcripts.

    asr train --init-from DIR then starts from its weights, all but those of the output layer. It takes the same
    settings of features and model.

    A network that reads both directions learns to predict spans that are hidden from it (BEST-RQ), one that reads
    forwards what comes next (APC). Recordings are cut at pauses. Transcripts are not read. The section pretraining of
    asr settings has the settings. Without a split dev, a twentieth of the audio is kept apart, at most an hour, and the
    weights with the lowest loss on it are kept.

    SIGTERM or Ctrl-C finishes the step, writes a checkpoint and ends with status 75. --resume then continues the run.

    Several processes: torchrun --nproc-per-node 2 -m asr pretrain … or srun python -m asr pretrain …
    """
    import asr
    from asr.cli.console import out as console
    from asr.cli.console import progress
    from asr.cli.training_display import PretrainingDisplay
    from asr.errors import ExitStatus
    from asr.training.pretrain import WITHOUT_EFFECT

    given = _with_accelerator(overrides, accelerator)
    _require_effect(given, WITHOUT_EFFECT | _NO_RNNLM)
    settings = asr.load_config(config, given)
    with PretrainingDisplay(console, settings) as display:
        result = asr.pretrain(settings, data, out, resume=resume, on_report=display.show, progress=progress)
    display.finish(result)
    if result.stopped_by is not None:
        raise typer.Exit(ExitStatus.STOPPED)


# Settings that training has no use for, by section.
_NO_RNNLM = {"rnnlm": "it trains no recurrent language model; asr lm rnn takes the settings of rnnlm"}
_WITHOUT_EFFECT = {
    **_NO_RNNLM,
    "pretraining": "it trains with transcripts; asr pretrain takes the settings of pretraining",
}


def _require_effect(overrides: Sequence[str], without: Mapping[str, str]) -> None:
    """Refuse a setting of --set that would change nothing.

    Args:
        overrides: such as `model.layers=4`.
        without: why a setting has no effect, by its section or its dotted name.

    Raises:
        ConfigError: with the reason, and the setting to take if there is one.
    """
    from asr.errors import ConfigError
    from asr.reading import shown

    for override in overrides:
        key = override.partition("=")[0].strip()
        reason = without.get(key) or without.get(key.partition(".")[0])
        if reason is not None:
            raise ConfigError(f"--set {shown(override)}: has no effect here: {reason}")


def _with_accelerator(overrides: list[str] | None, accelerator: str | None) -> list[str]:
    return [*(overrides or []), *([f"training.accelerator={accelerator}"] if accelerator else [])]


def train(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder with train.jsonl.gz and dev.jsonl.gz.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The model folder to write, e.g. exp/mine.")],
    config: ConfigFile = None,
    overrides: ConfigSet = None,
    resume: Resume = False,
    init_from: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="A model folder, or one of asr pretrain, to start from: its weights are taken over where they fit.",
        ),
    ] = None,
    unlabelled: Unlabelled = None,
    with_dev: Annotated[
        bool,
        typer.Option("--with-dev", help="Train on dev too, after all choices are made; the last weights are kept."),
    ] = False,
    hours: Annotated[
        float | None,
        typer.Option(metavar="H", help="Train on H hours drawn from the data, as --set training.hours. Default: all."),
    ] = None,
    accelerator: TrainingAccelerator = None,
) -> None:
    """Train an acoustic model.

    The weights that do best on dev are kept: those with the lowest WER. Where WERs differ by no more than chance, or
    are above 90 %, the CER decides, and while that is above 90 % too, the loss. In scripts without spaces the CER takes
    the place of the WER.

    Each epoch has a line. A terminal also shows three utterances of dev below: what was said, and what the network
    recognises, with the errors in brackets. A log file has them after some epochs, log.jsonl after each.

    SIGTERM or Ctrl-C finishes the step, writes a checkpoint and ends with status 75. --resume then continues the run.

    Several processes: torchrun --nproc-per-node 2 -m asr train … or srun python -m asr train …
    """
    import asr
    from asr.cli.console import out as console
    from asr.cli.training_display import TrainingDisplay
    from asr.errors import ExitStatus

    given = _with_accelerator(overrides, accelerator)
    _require_effect(given, _WITHOUT_EFFECT)
    if hours is not None:
        given.append(f"training.hours={hours}")
    settings = asr.load_config(config, given)
    with TrainingDisplay(console, settings) as display:
        result = asr.train(
            settings,
            data,
            out,
            resume=resume,
            init_from=init_from,
            unlabelled=unlabelled or None,
            with_dev=with_dev,
            on_report=display.show,
        )
    display.finish(result)
    if result.stopped_by is not None:
        raise typer.Exit(ExitStatus.STOPPED)


def distill(
    models: Annotated[list[Path], typer.Argument(metavar="MODEL", help="Model folders to learn from.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder with train.jsonl.gz and dev.jsonl.gz.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The model folder to write, e.g. exp/mine.")],
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings file; without it, the first model's.")
    ] = None,
    overrides: ConfigSet = None,
    resume: Resume = False,
    unlabelled: Unlabelled = None,
    accelerator: TrainingAccelerator = None,
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
    from asr.sharing.names import model_folder

    given = _with_accelerator(overrides, accelerator)
    _require_effect(given, _WITHOUT_EFFECT)
    settings = asr.load_config(config or model_folder(models[0]) / CONFIG, given)
    with TrainingDisplay(console, settings) as display:
        result = asr.distill(
            models, data, out, config=settings, resume=resume, unlabelled=unlabelled or None, on_report=display.show
        )
    display.finish(result)
    if result.stopped_by is not None:
        raise typer.Exit(ExitStatus.STOPPED)
