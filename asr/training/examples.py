"""Three utterances of dev, by which people see and hear what the network has learnt: a short, a middle and a long one.

They are the same in each epoch and in each run on the same dev set.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from asr.bundle.training_log import DevText
from asr.config import Config, TextSettings
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import transcripts
from asr.errors import AudioError
from asr.model.acoustic import AcousticModel
from asr.training.dev_score import Evaluation

if TYPE_CHECKING:
    from lhotse.cut import Cut


@dataclass(frozen=True)
class ExampleAudio:
    """The sound of an utterance: `samples` `(sample,)` between -1 and 1, and what is said in it."""

    id: str
    reference: str
    samples: NDArray[np.float32]
    rate_hz: int


def example_cuts(cuts: Sequence[Cut], settings: TextSettings) -> list[Cut]:
    """Return the middle one of the shortest third of the cuts with a text, of the middle third and of the longest.

    All, if there are no more than three.
    """
    texts = transcripts(cuts, settings)
    ranked = sorted((cut for cut in cuts if texts[cut.id]), key=lambda cut: (cut.duration, cut.id))
    count = len(ranked)
    return ranked if count <= 3 else [ranked[count * sixths // 6] for sixths in (1, 3, 5)]


def example_audio(cuts: Sequence[Cut], config: Config) -> list[ExampleAudio]:
    """Return the sound of the cuts at the model's rate, without those that cannot be read."""
    texts, rate_hz = transcripts(cuts, config.text), config.features.sample_rate_hz
    found: list[ExampleAudio] = []
    for cut in cuts:
        with suppress(AudioError):  # training says so, unless the features are stored and it needs no audio
            found.append(ExampleAudio(cut.id, texts[cut.id], load_cut(cut, rate_hz), rate_hz))
    return found


@torch.inference_mode()
def recognise_examples(model: AcousticModel, cuts: Sequence[Cut], evaluation: Evaluation) -> tuple[DevText, ...]:
    """Return what greedy search finds in each cut, as `score_dev` counts its errors. No other process takes part."""
    references = transcripts(cuts, evaluation.config.text)
    found: dict[str, str] = {}
    for ids, log_posteriors, lengths in evaluation.outputs(model, cuts):
        found |= zip(ids, evaluation.texts(log_posteriors, lengths), strict=True)
    return tuple(DevText(name, reference, found[name]) for name, reference in references.items())
