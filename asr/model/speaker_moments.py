"""All that a speaker says in a manifest → mean and deviation of each mel band, for `features.cmvn=speaker`.

They are computed before anything is batched, from the manifest alone: an utterance's result depends on what its speaker
says elsewhere in the manifest, as a stated property of the input, and on no neighbour in its batch. An utterance
without a speaker is all that is known of its speaker.

Speed perturbation moves a voice's spectrum up or down, so a speaker at another speed counts as another speaker. Noise
and rooms do not: the moments are those of the recordings as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from asr.config import Config
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import entry_of
from asr.features.augment import perturb_speed
from asr.model.logmel import LogMel, moments_of

if TYPE_CHECKING:
    from lhotse.cut import Cut

_Speaker = tuple[str, str]  # a name, or else the id of the only utterance that is known


@dataclass(frozen=True)
class SpeakerMoments:
    """The moments of each speaker at each speed, `(2, mel)` float32 on the CPU."""

    known: Mapping[tuple[_Speaker, float], Tensor]

    def __call__(self, cut: Cut, speed: float) -> Tensor:
        """Return the moments of a cut's speaker, played `speed` times as fast."""
        return self.known[_speaker_of(cut), speed]


def speaker_moments(cuts: Iterable[Cut], config: Config, speeds: Sequence[float] = (1.0,)) -> SpeakerMoments | None:
    """Return the moments of all speakers of a manifest; None if the model does not normalise by the speaker.

    All audio is read once for each speaker and speed.

    Args:
        cuts: the utterances, all of them; lazy ones are passed over once.
        config: feature settings.
        speeds: at which the utterances are played.

    Raises:
        AudioError: a recording cannot be read.
    """
    if config.features.cmvn != "speaker":
        return None
    by_speaker: dict[_Speaker, list[Cut]] = {}
    for cut in cuts:
        by_speaker.setdefault(_speaker_of(cut), []).append(cut)
    logmel = LogMel(config.features)
    return SpeakerMoments(
        {
            (speaker, speed): moments_of(logmel, _waveforms(said, config, speed))
            for speaker, said in by_speaker.items()
            for speed in dict.fromkeys(speeds)
        }
    )


def _waveforms(cuts: Iterable[Cut], config: Config, speed: float) -> Iterator[Tensor]:
    for cut in cuts:
        yield torch.from_numpy(perturb_speed(load_cut(cut, config.features.sample_rate_hz), speed))


def _speaker_of(cut: Cut) -> _Speaker:
    speaker = entry_of(cut).speaker
    return (speaker, "") if speaker else ("", cut.id)
