"""The training data: which utterances can be trained on, their tokens and size, the mean and deviation of features.

The survey reads only metadata, a line at a time. Its memory does not grow with the number of lines; if sub-word pieces
are learnt, it grows with the number of different words. Models that normalise globally need a second pass over some
audio, for the mean and deviation of its features.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from asr.config import Config
from asr.corpus.limits import Limits, training_limits
from asr.corpus.manifest import cut_text, entries, entry_of, find_split, load_manifest, read_manifest, shuffle_shards
from asr.errors import TrainingError
from asr.features.augment import Draw
from asr.features.batch import Batch
from asr.features.conditions import conditions_checksum
from asr.model.acoustic import AcousticModel
from asr.text.normalise import normalise
from asr.text.tokens import TokenTable, train_pieces

if TYPE_CHECKING:
    from lhotse import CutSet
    from lhotse.cut import Cut

MOST_NAMED = 1000  # of the utterances that are left out


@dataclass(frozen=True)
class Survey:
    """What a training manifest holds without the utterances that cannot be trained on.

    `skipped` gives the reason for each of those, by utterance id, up to `MOST_NAMED` of them. `checksum` is that of
    all lines in their order.
    """

    tokens: TokenTable
    utterances: int
    audio_s: float
    skipped: dict[str, str]
    skipped_utterances: int
    limits: Limits
    checksum: int


@dataclass(frozen=True)
class TrainingData:
    """What a run reads: the cuts to train on, as lazily as the manifest allows, and those of dev.

    With `with_dev`, dev is part of the training cuts and `dev` is empty.
    """

    cuts: CutSet
    dev: list[Cut]
    survey: Survey
    with_dev: bool

    @property
    def usable(self) -> CutSet:
        """The cuts that can be trained on, in the manifest's order."""
        return self.cuts.filter(partial(is_usable, self.survey))

    def shuffled(self, draw: Draw) -> CutSet:
        """Return the cuts that can be trained on, with the shards of a packed corpus in another order each epoch."""
        cuts = shuffle_shards(self.cuts, draw.rng("shards"))
        return cuts.filter(partial(is_usable, self.survey))

    def facts(self, config: Config) -> dict[str, Any]:
        """Return what distinguishes the data from other data, as JSON values: a run is resumed only with the same."""
        return {
            "utterances": self.survey.utterances,
            "audio_s": self.survey.audio_s,
            "with_dev": self.with_dev,
            "dev_utterances": len(self.dev),
            "checksum": self.survey.checksum,
            "noise_checksum": conditions_checksum(config),
        }


def read_training_data(config: Config, folder: Path, *, with_dev: bool) -> TrainingData:
    """Find the splits `train` and `dev` of a data folder and survey what is to be trained on.

    Raises:
        ManifestError: a split is missing or malformed.
        TrainingError: nothing usable is left, or no transcript of dev holds a word.
        ConfigError, TokenError: see `train_pieces`.
    """
    splits = [find_split(folder, split) for split in ("train", "dev")]
    cuts = read_manifest(*(splits if with_dev else splits[:1]))
    dev = [] if with_dev else list(load_manifest(splits[1]))
    if dev and not any(normalise(cut_text(cut), config.text) for cut in dev):
        raise TrainingError(
            f"{splits[1]}: no transcript holds a word, so there is no dev WER to choose the model by; "
            "give dev transcripts, or train --with-dev"
        )
    return TrainingData(cuts, dev, survey_training_cuts(cuts, config), with_dev)


def is_usable(survey: Survey, cut: Cut) -> bool:
    """Return whether the survey kept the utterance."""
    entry = entry_of(cut)
    return survey.limits.fault(entry.duration_s, normalise(entry.text, survey.limits.text)) is None


def survey_training_cuts(cuts: Iterable[Cut], config: Config) -> Survey:
    """Read a manifest, but not its audio.

    It is read once. With sub-word pieces it is read twice: the pieces are learnt in between.

    Raises:
        TrainingError: nothing usable is left.
        ConfigError, TokenError: see `train_pieces`.
    """
    limits = training_limits(config)
    if config.text.tokens == "characters":
        characters = _Characters()
        count = _count(cuts, limits, characters.learn)
        tokens = TokenTable.from_texts(characters.seen)
    else:
        words: Counter[str] = Counter()
        _count(cuts, limits, lambda transcript: words.update(transcript.split()))
        tokens = train_pieces(words, config.text)
        limits = replace(limits, pieces=tokens)
        count = _count(cuts, limits, lambda _: None)
    return Survey(
        tokens, count.utterances, count.audio_s, count.skipped, count.skipped_utterances, limits, count.checksum
    )


class _Characters:
    """The characters of many texts. Most texts have no new one, which is quickly seen for those in ASCII."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self._ascii = b""

    def learn(self, text: str) -> None:
        if text.encode(errors="surrogatepass").translate(None, self._ascii):
            known = len(self.seen)
            self.seen.update(text)
            if len(self.seen) > known:
                self._ascii = "".join(filter(str.isascii, self.seen)).encode()


@dataclass
class _Count:
    utterances: int = 0
    audio_s: float = 0.0
    skipped: dict[str, str] = field(default_factory=dict)
    skipped_utterances: int = 0
    checksum: int = 0


def _count(cuts: Iterable[Cut], limits: Limits, learn: Callable[[str], object]) -> _Count:
    """Count the utterances within the limits, and call `learn` with the transcript of each."""
    count = _Count()
    for utterance_id, duration_s, text in entries(cuts):
        line = f"{utterance_id}\t{duration_s}\t{text}\n".encode(errors="surrogatepass")
        count.checksum = zlib.crc32(line, count.checksum)
        transcript = normalise(text, limits.text)
        fault = limits.fault(duration_s, transcript)
        if fault is None:
            learn(transcript)
            count.utterances += 1
            count.audio_s += duration_s
        else:
            count.skipped_utterances += 1
            if len(count.skipped) < MOST_NAMED:
                count.skipped[utterance_id] = fault
    if not count.utterances:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(count.skipped.items())[:3])
        raise TrainingError(f"no usable training utterance ({reasons or 'the manifest is empty'}); try `asr check`")
    return count


@torch.inference_mode()
def feature_moments(
    model: AcousticModel, batches: Iterator[Batch], *, at_most_s: float = 3600
) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each mel band, `(mel,)` float32, over at most `at_most_s` seconds of audio."""
    count, total, squares = 0, torch.zeros(()), torch.zeros(())
    for batch in batches:
        features, lengths = model.logmel(batch.waveforms, batch.lengths)
        frames = torch.cat([utterance[:n] for utterance, n in zip(features, lengths.tolist(), strict=True)]).double()
        count += len(frames)
        total, squares = total + frames.sum(0), squares + frames.square().sum(0)
        if count * model.logmel.hop_samples / model.sample_rate_hz > at_most_s:
            break
    mean = total / count
    return mean.float(), (squares / count - mean.square()).clamp_min(0).sqrt().float()
