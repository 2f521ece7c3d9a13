"""The training data: which utterances can be trained on, their tokens and size, the mean and deviation of features.

The survey reads only metadata, a line at a time. Its memory does not grow with the number of lines; if tokens are
sub-word pieces or words, it grows with the number of different words. Models that normalise globally need a second pass
over some audio, for the mean and deviation of its features.
"""

from __future__ import annotations

import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from asr.audio.sound_file import audio_info
from asr.bundle.card import TrainingFacts
from asr.bundle.stored_features import StoredFeatures
from asr.config import Config
from asr.corpus.limits import Limits, training_limits
from asr.corpus.manifest import (
    Entry,
    cut_text,
    entries,
    entry_of,
    find_split,
    load_manifest,
    read_manifest,
    shuffle_shards,
)
from asr.errors import AudioError, TrainingError
from asr.features.augment import Draw
from asr.features.batch import Batch
from asr.features.batching import Stored
from asr.features.conditions import conditions_checksum
from asr.machine import processor_name
from asr.model.acoustic import AcousticModel
from asr.model.logmel import moments_of
from asr.text.normalise import normalise
from asr.text.tokens import TokenTable, WordTable, train_pieces
from asr.training.dev_score import DevScore
from asr.training.run_state import RunState

if TYPE_CHECKING:
    from lhotse import CutSet
    from lhotse.cut import Cut

MOST_NAMED = 1000  # of the utterances that are left out
_MOMENTS_S = 3600  # audio over which the mean and deviation of features are measured
_PROBED = 200  # about as many recordings of dev are opened before the first epoch
_LEAVE_OUT = "`asr check --out DIR` writes manifests without them"


@dataclass(frozen=True)
class Survey:
    """What a training manifest holds without the utterances that cannot be trained on.

    `skipped` gives the reason for each of those, by utterance id, up to `MOST_NAMED` of them. `checksum` is that of
    all lines in their order. With `training.hours`, only utterances with a draw below `drawn_below` are used, see
    `draw_of`. `sample_rates_hz` and `languages` are those that occur, in order.
    """

    tokens: TokenTable
    utterances: int
    audio_s: float
    skipped: dict[str, str]
    skipped_utterances: int
    limits: Limits
    checksum: int
    sample_rates_hz: tuple[int, ...]
    languages: tuple[str, ...]
    drawn_below: int | None = None


@dataclass(frozen=True)
class TrainingData:
    """What a run reads: the cuts to train on, as lazily as the manifest allows, and those of dev.

    With `with_dev`, dev is part of the training cuts and `dev` is empty. `stored` are their features, if those are
    computed already.
    """

    cuts: CutSet
    dev: list[Cut]
    survey: Survey
    with_dev: bool
    stored: StoredFeatures | None = None

    @property
    def load_stored(self) -> Stored | None:
        """What loads stored features, if there are some."""
        return None if self.stored is None else self.stored.of

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
            "dev_checksum": reduce(checksum_with, map(entry_of, self.dev), 0),
            "checksum": self.survey.checksum,
            "noise_checksum": conditions_checksum(config),
        }


def training_facts(
    data: TrainingData, dev: DevScore | None, state: RunState, teachers: Sequence[str] = ()
) -> TrainingFacts:
    """Return what the model card says of a training run after its current epoch, which has the score `dev`."""
    survey = data.survey
    return TrainingFacts(
        train_utterances=survey.utterances,
        train_s=survey.audio_s,
        dev_utterances=len(data.dev),
        dev_s=sum(cut.duration for cut in data.dev),
        dev_words=dev.words.reference_length if dev else 0,
        dev_wer=dev.words.rate if dev else None,
        dev_cer=dev.characters.rate if dev else None,
        dev_loss=dev.loss if dev else None,
        main="cer" if dev and dev.by_characters else "wer",
        epochs=state.epoch + 1,
        languages=survey.languages,
        init_from=state.init_from,
        teachers=teachers,
        precision=state.precision,
        threads=state.threads,
        processor=processor_name(),
    )


def read_training_data(
    config: Config, folder: Path, *, with_dev: bool, stored: StoredFeatures | None = None
) -> TrainingData:
    """Find the splits `train` and `dev` of a data folder and survey what is to be trained on.

    Args:
        config: all settings.
        folder: the data folder.
        with_dev: train on dev as well.
        stored: the features in the folder, if there are some; then no audio is needed.

    Raises:
        ManifestError: a split is missing or malformed.
        TrainingError: nothing usable is left, no transcript of dev holds a word, or a recording of dev is missing.
        ConfigError, TokenError: see `train_pieces`.
    """
    splits = [find_split(folder, split) for split in ("train", "dev")]
    cuts = read_manifest(*(splits if with_dev else splits[:1]))
    dev = [] if with_dev else list(load_manifest(splits[1]))
    if not with_dev:
        _require_usable_dev(dev, splits[1], config, audio=stored is None)
    return TrainingData(cuts, dev, survey_training_cuts(cuts, config), with_dev, stored)


def _require_usable_dev(dev: list[Cut], where: Path, config: Config, *, audio: bool) -> None:
    """Refuse a dev set that could choose no model, before the first epoch is spent; `audio` says whether it is read."""
    if not any(normalise(cut_text(cut), config.text) for cut in dev):
        raise TrainingError(
            f"{where}: no transcript holds a word, so there is no dev WER to choose the model by; "
            "give dev transcripts, or train --with-dev"
        )
    if not audio:
        return
    missing = [cut.id for cut in dev if not all(map(os.path.exists, _files_of(cut)))]
    if missing:
        raise TrainingError(
            f"{where}: the recordings of {len(missing)} of {len(dev)} utterances are missing, the first is that of "
            f"{missing[0]}; {_LEAVE_OUT}"
        )
    for cut in dev[:: max(1, len(dev) // _PROBED)]:
        for path in _files_of(cut):
            try:
                audio_info(path)
            except AudioError as error:
                raise TrainingError(
                    f"{where}: the recording of {cut.id} cannot be read: {error}; {_LEAVE_OUT}"
                ) from None


def _files_of(cut: Cut) -> list[str]:
    """Return the audio files that a plain cut names."""
    recording = getattr(cut, "recording", None)
    sources = recording.sources if recording is not None else ()
    return [source.source for source in sources if source.type == "file"]


def draw_of(utterance_id: str) -> int:
    """Return a number drawn for an utterance, from 0 to 2⁶⁴; it is the same in every run, whatever the seed."""
    return int.from_bytes(blake2b(utterance_id.encode(errors="surrogatepass"), digest_size=8).digest(), "big")


def _draws_below(cuts: Iterable[Cut], limits: Limits, hours: float) -> int | None:
    """Return below which draw the utterances that can be trained on hold about `hours`; None if all are needed.

    At least one utterance is below. Memory grows by some 100 bytes an utterance.
    """
    drawn = sorted(
        (draw_of(entry.id), entry.duration_s)
        for entry in entries(cuts)
        if limits.fault(entry.duration_s, normalise(entry.text, limits.text)) is None
    )
    total_s = 0.0
    for place, (draw, duration_s) in enumerate(drawn):
        total_s += duration_s
        if place > 0 and total_s > 3600 * hours:
            return draw
    return None


def is_usable(survey: Survey, cut: Cut) -> bool:
    """Return whether the survey kept the utterance."""
    entry = entry_of(cut)
    if survey.drawn_below is not None and draw_of(entry.id) >= survey.drawn_below:
        return False
    return survey.limits.fault(entry.duration_s, normalise(entry.text, survey.limits.text)) is None


def survey_training_cuts(cuts: Iterable[Cut], config: Config) -> Survey:
    """Read a manifest, but not its audio.

    It is read once. With sub-word pieces it is read twice: the pieces are learnt in between. With `training.hours` it
    is read once more before, to draw the utterances.

    Raises:
        TrainingError: nothing usable is left.
        ConfigError, TokenError: see `train_pieces`.
    """
    limits, hours = training_limits(config), config.training.hours
    below = None if hours is None else _draws_below(cuts, limits, hours)
    if config.text.tokens == "characters":
        characters = _Characters()
        count = _count(cuts, limits, below, characters.learn)
        tokens = TokenTable.from_texts(characters.seen)
    elif config.text.tokens == "words":
        vocabulary: set[str] = set()
        count = _count(cuts, limits, below, lambda transcript: vocabulary.update(transcript.split()))
        tokens = WordTable.from_texts(vocabulary)
    else:
        words: Counter[str] = Counter()
        _count(cuts, limits, below, lambda transcript: words.update(transcript.split()))
        tokens = train_pieces(words, config.text)
        limits = replace(limits, pieces=tokens)
        count = _count(cuts, limits, below, lambda _: None)
    return Survey(
        tokens,
        count.utterances,
        count.audio_s,
        count.skipped,
        count.skipped_utterances,
        limits,
        count.checksum,
        tuple(sorted(count.rates_hz - {0})),
        tuple(sorted(count.languages - {""})),
        below,
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


def checksum_with(before: int, entry: Entry) -> int:
    """Return the checksum of the entries before, and of one more."""
    line = f"{entry.id}\t{entry.duration_s}\t{entry.text}\n".encode(errors="surrogatepass")
    return zlib.crc32(line, before)


@dataclass
class Count:
    """What has been found so far in manifests; `skipped` has the reason for each of the first that cannot be used."""

    utterances: int = 0
    audio_s: float = 0.0
    skipped: dict[str, str] = field(default_factory=dict)
    skipped_utterances: int = 0
    checksum: int = 0
    rates_hz: set[int] = field(default_factory=set)
    languages: set[str] = field(default_factory=set)

    def take(self, entry: Entry) -> None:
        """Count an utterance that is learnt from."""
        self.utterances += 1
        self.audio_s += entry.duration_s
        self.rates_hz.add(entry.sample_rate_hz)
        self.languages.add(entry.language)

    def leave_out(self, entry: Entry, fault: str) -> None:
        """Count an utterance that cannot be used."""
        self.skipped_utterances += 1
        if len(self.skipped) < MOST_NAMED:
            self.skipped[entry.id] = fault

    @property
    def first_reasons(self) -> str:
        """The reasons for the first three that cannot be used, as one text."""
        return "; ".join(f"{name}: {reason}" for name, reason in list(self.skipped.items())[:3])


def _count(cuts: Iterable[Cut], limits: Limits, below: int | None, learn: Callable[[str], object]) -> Count:
    """Count the utterances within the limits and with a draw below `below`; call `learn` with their transcripts."""
    count = Count()
    for entry in entries(cuts):
        count.checksum = checksum_with(count.checksum, entry)
        if below is not None and draw_of(entry.id) >= below:
            continue
        transcript = normalise(entry.text, limits.text)
        fault = limits.fault(entry.duration_s, transcript)
        if fault is None:
            learn(transcript)
            count.take(entry)
        else:
            count.leave_out(entry, fault)
    if not count.utterances:
        raise TrainingError(
            f"no usable training utterance ({count.first_reasons or 'the manifest is empty'}); try `asr check`"
        )
    return count


def feature_moments(model: AcousticModel, batches: Iterable[Batch]) -> Tensor:
    """Return mean and deviation of each mel band, `(2, mel)` float32, over an hour of audio, or all if it is less."""
    return moments_of(model.logmel, _an_hour(batches, model.sample_rate_hz))


def _an_hour(batches: Iterable[Batch], rate_hz: int) -> Iterator[Tensor]:
    """Yield the waveforms of batches without padding, `(sample,)` each."""
    heard = 0
    for batch in batches:
        for waveform, length in zip(batch.waveforms, batch.lengths.tolist(), strict=True):
            yield waveform[:length]
            heard += length
        if heard > _MOMENTS_S * rate_hz:
            return
