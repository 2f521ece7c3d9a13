"""Recordings without transcripts → a manifest of those that a model transcribes well enough to train on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from lhotse import SupervisionSegment
from lhotse.cut import MixedCut
from lhotse.utils import fastcopy

from asr.corpus.manifest import read_manifest, write_manifest
from asr.corpus.untranscribed import AnyPath
from asr.errors import ConfigError, ManifestError
from asr.labelling.guess import Guess, Guesser, untranscribed_cuts
from asr.machine import Accelerator, Progress, silent
from asr.scoring.expected_errors import ExpectedErrors

if TYPE_CHECKING:
    from lhotse.cut import Cut

KEPT, REST = "train.jsonl.gz", "rest.jsonl.gz"


@dataclass(frozen=True)
class Part:
    """Some of the utterances: how many, how long they are, and the word errors and words that are expected in them."""

    utterances: int
    audio_s: float
    errors: float
    words: float

    @classmethod
    def of(cls, guesses: Iterable[Guess]) -> Part:
        """Return that of some guesses."""
        some = list(guesses)
        return cls(
            len(some),
            sum(guess.cut.duration for guess in some),
            sum(guess.errors for guess in some),
            sum(guess.reference_words for guess in some),
        )

    @property
    def wer(self) -> float:
        """The expected word error rate; 0 without an utterance."""
        return self.errors / self.words if self.words else 0.0


@dataclass(frozen=True)
class LabelReport:
    """What `label` found and kept.

    Attributes:
        heard: the utterances in which something was recognised.
        kept: those of them that were kept.
        silent: number of utterances in which nothing was recognised; they are not kept.
        lowest_wer: the lowest word error rate that is expected of any utterance; None if nothing was recognised.
        expected: how errors are expected, and how many errors of dev taught that.
        left_out: recordings that gave no utterance, each with the reason.
        manifest: of the kept utterances, with transcripts; None if none was kept.
        rest: of the others, as they were; None if all were kept.
    """

    heard: Part
    kept: Part
    silent: int
    lowest_wer: float | None
    expected: ExpectedErrors
    left_out: dict[str, str]
    manifest: Path | None
    rest: Path | None


def label(
    model: AnyPath,
    data: AnyPath | Sequence[AnyPath],
    out: AnyPath,
    *,
    wer: float = 0.05,
    dev: AnyPath | None = None,
    accelerator: Accelerator = "auto",
    progress: Progress = silent,
) -> LabelReport:
    """Transcribe recordings, and keep as many as have at most the wanted word error rate together, by expectation.

    Errors are expected from what the search found in each utterance: `asr/scoring/expected_errors.py`. What is expected
    holds for recordings that are like those of dev. The utterances with the lowest expected rates are kept.

    Args:
        model: a model folder.
        data: what is to be transcribed: data folders (their split train), manifests, audio files, folders of them or
            patterns. Recordings are cut at pauses. Transcripts in manifests are not read.
        out: the folder for train.jsonl.gz, which holds what was kept with transcripts and confidences, and
            rest.jsonl.gz with the other utterances as they were.
        wer: the wanted word error rate, as a share: 0.05 is 5 %.
        dev: a manifest with transcripts, which the model was not trained on, to learn from which errors to expect; the
            result is kept in the model folder. None: as `asr tune` or an earlier call has learnt it.
        accelerator: auto takes a GPU if there is one.
        progress: shows how far it is.

    Raises:
        AudioError: no recording can be used, or an utterance of a manifest cannot be read.
        ConfigError: `wer` is not above 0.
        ManifestError: a manifest is missing, malformed or packed, or `out` has a train.jsonl.gz of somebody else.
        ModelError: the model folder cannot be used, or nothing is known of its errors and there is no `dev`.
        ScoringError: nothing was recognised in `dev`.
    """
    if not wer > 0:
        raise ConfigError(f"wer={wer!r}: the wanted word error rate is a share above 0, e.g. 0.05 for 5 %")
    folder = Path(out)
    _require_own(folder / KEPT)
    guesser = Guesser.load(model, dev, accelerator, progress)
    cuts, left_out = untranscribed_cuts(data, folder, progress)
    guesses = guesser.guess(cuts, progress)
    heard = [guess for guess in guesses if guess.words]
    kept = best_within(heard, wer)
    names = {guess.cut.id for guess in kept}
    rest = [guess.cut for guess in guesses if guess.cut.id not in names]
    return LabelReport(
        heard=Part.of(heard),
        kept=Part.of(kept),
        silent=len(guesses) - len(heard),
        lowest_wer=min((guess.wer for guess in heard), default=None),
        expected=guesser.expected,
        left_out=left_out,
        manifest=_write(map(labelled_cut, kept), folder / KEPT, len(kept)),
        rest=_write(rest, folder / REST, len(rest)),
    )


def best_within(guesses: Sequence[Guess], wer: float) -> list[Guess]:
    """Return as many guesses as have at most this expected word error rate together, the best ones, in their order.

    They are taken by their expected rate, the lowest first. The rate of those taken so far never falls, so a higher
    wanted rate keeps all that a lower one keeps, and more.
    """
    ranked = sorted(range(len(guesses)), key=lambda place: guesses[place].wer)
    errors = accumulate(guesses[place].errors for place in ranked)
    words = accumulate(guesses[place].reference_words for place in ranked)
    fitting = [count for count, (wrong, said) in enumerate(zip(errors, words, strict=True), 1) if wrong <= wer * said]
    return [guesses[place] for place in sorted(ranked[: max(fitting, default=0)])]


def labelled_cut(guess: Guess) -> Cut:
    """Return the utterance with what was recognised as its transcript.

    Its supervision also holds `expected_wer`, and the confidence of each word.

    Raises:
        ManifestError: the utterance is a mix of several recordings.
    """
    cut = guess.cut
    if isinstance(cut, MixedCut):
        raise ManifestError(f"utterance {cut.id}: it is a mix of recordings; write its audio to a file first")
    before = cut.supervisions[0] if cut.supervisions else None
    supervision = SupervisionSegment(
        id=cut.id,
        recording_id=cut.recording.id,
        start=0.0,
        duration=cut.duration,
        channel=cut.channel,
        text=guess.text,
        speaker=before.speaker if before else None,
        gender=before.gender if before else None,
        language=before.language if before else None,
        custom={
            "expected_wer": round(guess.wer, 4),
            "confidences": [round(word.confidence, 3) for word in guess.words],
        },
    )
    return fastcopy(cut, supervisions=[supervision])


def _require_own(manifest: Path) -> None:
    """Refuse to replace transcripts that were not written by an earlier call."""
    if manifest.exists():
        first = next(iter(read_manifest(manifest)))
        if not first.supervisions or "expected_wer" not in (first.supervisions[0].custom or {}):
            raise ManifestError(f"{manifest}: has transcripts that asr label did not write; choose another --out")


def _write(cuts: Iterable[Cut], path: Path, count: int) -> Path | None:
    """Write a manifest; without utterances, remove that of an earlier call."""
    if not count:
        path.unlink(missing_ok=True)
        return None
    write_manifest(cuts, path)
    return path
