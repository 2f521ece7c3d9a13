"""Several trained networks → one that learnt from them: it has the size and the speed of one.

The student is trained as ever, by CTC and what the settings add to it. Besides, each frame of each masked view is
pulled towards the mean of the teachers' posteriors. They hear the same audio at the same speed, in the same noise and
at the same tempo, but without masks, and they learn nothing. So the student learns what they hear where its own view is
masked, and how unsure they are. `training.teacher_weight` weighs it.

Untranscribed utterances may be learnt from besides, as in `asr.train`: with what the student's average recognises in
them as their transcripts, and with the posteriors of the teachers.

A step costs one pass forwards through each teacher more. The teachers' posteriors are computed anew in each epoch,
because the audio is another one in each.

Frames and tokens of all networks must agree. The kind, the width and the number of layers may differ.

Sources: Hinton et al. 2015, arXiv:1503.02531; Takashima et al. 2018, "An investigation of a knowledge distillation
method for CTC acoustic models"; Kurata & Audhkhasi 2019, arXiv:1904.08311 (whose spikes must stand at the same frames).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from asr.bundle.bundle import ModelBundle
from asr.bundle.files import CONFIG
from asr.bundle.tensors import tensors_checksum
from asr.config import Config
from asr.errors import AudioError, ModelError, UtteranceAudioError
from asr.features.batch import Batch
from asr.settings_file import load_config
from asr.sharing.names import model_folder
from asr.text.tokens import TokenTable
from asr.training.loop import TrainingResult, run_to_end
from asr.training.reports import Report
from asr.training.trainer import AnyPath, training_reports


def distill(
    teachers: Sequence[AnyPath],
    data: AnyPath,
    out: AnyPath,
    *,
    config: Config | AnyPath | None = None,
    resume: bool = False,
    unlabelled: AnyPath | Iterable[AnyPath] | None = None,
    on_report: Callable[[Report], object] | None = None,
) -> TrainingResult:
    """Train one network on transcripts and on the posteriors of several trained ones.

    It is trained, stopped, resumed and chosen as by `asr.train`, and has the size and the speed of one. It takes no
    language model over: `asr.estimate_ngram` and `asr.tune` come after it.

    Args:
        teachers: model folders. Their tokens are those of the transcripts of `data`, their frames are the student's.
        data: the folder with the splits `train` and `dev`, usually those that the teachers were trained on.
        out: the model folder to write; the run's state is in `out/checkpoints`.
        config: all settings, or a YAML file with some of them; None takes those of the first teacher.
        resume: continue the run in `out` if there is one.
        unlabelled: audio without transcripts to learn from besides, as for `asr.train`.
        on_report: called with each report, as by `asr.train`.

    Raises:
        ModelError: a teacher cannot be used, or has other frames or tokens than the student; no checkpoint can be read.
        ConfigError: a setting is not acceptable; the run is resumed with other settings, data or teachers.
        AudioError, DeviceError, ManifestError, TokenError, TrainingError: as `asr.train`.
    """
    taught_by = DistillTeachers.load(teachers)
    if config is None:
        config = taught_by.bundles[0].config
    settings = config if isinstance(config, Config) else load_config(config)
    reports = training_reports(
        settings, Path(data), Path(out), resume=resume, unlabelled=unlabelled, teachers=taught_by
    )
    try:
        return run_to_end(reports, on_report)
    except UtteranceAudioError as error:
        raise AudioError(f"{error}; `asr check {data} --out DIR` writes manifests without such recordings") from None


@dataclass(frozen=True)
class DistillTeachers:
    """Trained networks in evaluation mode, and the mean of their posteriors; they are `Teachers` of a training step."""

    bundles: tuple[ModelBundle, ...]

    @classmethod
    def load(cls, folders: Sequence[AnyPath]) -> DistillTeachers:
        """Load model folders.

        Raises:
            ModelError: there is none, or one cannot be used.
        """
        if not folders:
            raise ModelError("no model folder is given to learn from")
        return cls(tuple(ModelBundle.load(model_folder(folder)) for folder in folders))

    @property
    def names(self) -> list[str]:
        """Their folders."""
        return [str(bundle.folder) for bundle in self.bundles]

    @property
    def checksums(self) -> list[str]:
        """Of the weights of each: a run is resumed only with the same."""
        return [
            tensors_checksum({name: tensor.detach().cpu() for name, tensor in bundle.model.state_dict().items()})
            for bundle in self.bundles
        ]

    def require_fit(self, config: Config, tokens: TokenTable) -> None:
        """Refuse to teach a network of these settings and tokens if frames or tokens differ.

        Raises:
            ModelError: they do; the message names the folder and both values.
        """
        for bundle in self.bundles:
            for name in _settings_in_common(bundle.config, config):
                theirs, ours = (_value(settings, name) for settings in (bundle.config, config))
                if theirs != ours:
                    raise ModelError(
                        f"{bundle.folder}: {name} is {theirs!r}, that of the network to be trained {ours!r}; the "
                        f"frames of both must agree (--config {bundle.folder}/{CONFIG} takes that model's settings)"
                    )
            if bundle.tokens.symbols != tokens.symbols:
                raise ModelError(
                    f"{bundle.folder}: its {len(bundle.tokens)} tokens are not the {len(tokens)} of the transcripts of "
                    "train; take the data that it was trained on, with the same settings of the section text"
                )

    def to(self, device: torch.device) -> DistillTeachers:
        """Return them on a device."""
        return DistillTeachers(tuple(replace(bundle, model=bundle.model.to(device)) for bundle in self.bundles))

    @torch.no_grad()
    def log_posteriors(self, batch: Batch) -> Tensor:
        """Return `(batch, frame, token)`, the natural log of the mean of the posteriors, of a training batch.

        The audio is perturbed as the batch says, but not masked.
        """
        perturbation = batch.perturbation
        assert perturbation is not None, "a batch that is trained on has a perturbation"
        heard = [
            bundle.model(
                batch.waveforms,
                batch.lengths,
                perturbation.play,
                moments=batch.moments,
                known_frames=list(perturbation.frames),
            )[0]
            for bundle in self.bundles
        ]
        return torch.stack(heard).logsumexp(0) - math.log(len(heard))


def _settings_in_common(one: Config, other: Config) -> list[str]:
    """Return the settings by which the frames of two networks are where they are, and hear what they hear.

    With a pretrained encoder, or moments of speakers, a batch holds what one kind of features needs.
    """
    both = (one.features, other.features)
    of_one_kind = any(features.encoder or features.cmvn == "speaker" for features in both)
    names = type(one.features).model_fields if of_one_kind else ("sample_rate_hz", "hop_ms")
    return ["model.subsampling", *(f"features.{name}" for name in names)]


def _value(config: Config, name: str) -> object:
    section, key = name.split(".")
    return getattr(getattr(config, section), key)
