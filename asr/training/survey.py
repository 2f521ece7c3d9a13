"""A first pass over the training manifest: its characters, its size, and the utterances that cannot be trained on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from asr.config import Config
from asr.data.check import frames_and_need
from asr.data.manifest import cut_text
from asr.data.text import normalise
from asr.data.tokens import TokenTable
from asr.errors import TrainingError

if TYPE_CHECKING:
    from lhotse.cut import Cut


@dataclass(frozen=True)
class Survey:
    """What a training manifest holds once unusable utterances are left out."""

    tokens: TokenTable
    utterances: int
    audio_s: float
    skipped: dict[str, str]  # utterance id → reason


def is_usable(survey: Survey, cut: Cut) -> bool:
    """Return whether the survey kept the utterance."""
    return cut.id not in survey.skipped


def survey_training_cuts(cuts: Iterable[Cut], config: Config) -> Survey:
    """Read a manifest once, without its audio.

    An utterance is left out when its transcript is empty, when it is longer than `training.max_utterance_s`, or when
    it has fewer output frames than CTC needs for its transcript (tokens plus one blank between equal neighbours), even
    at the fastest speed perturbation: the loss would be infinite and its gradient not a number.

    Raises:
        TrainingError: nothing usable is left.
    """
    frame_shift_s = config.model.subsampling * config.features.hop_ms / 1000
    fastest = max(config.augment.speeds)
    characters: set[str] = set()
    skipped: dict[str, str] = {}
    utterances, audio_s = 0, 0.0
    for cut in cuts:
        text = normalise(cut_text(cut), config.text)
        frames, needed = frames_and_need(cut.duration / fastest, text, frame_shift_s)
        if not text:
            skipped[cut.id] = "its transcript is empty"
        elif cut.duration > config.training.max_utterance_s:
            skipped[cut.id] = f"{cut.duration:.1f} s is over training.max_utterance_s"
        elif frames < needed:
            skipped[cut.id] = f"{frames} output frames are too few for its transcript, which needs {needed}"
        else:
            characters.update(text)
            utterances += 1
            audio_s += cut.duration
    if not utterances:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(skipped.items())[:3])
        raise TrainingError(f"no usable training utterance ({reasons or 'the manifest is empty'}); try `asr check`")
    return Survey(TokenTable.from_texts(["".join(characters)]), utterances, audio_s, skipped)
