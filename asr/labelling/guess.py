"""Utterances without transcripts → what a model recognises in them, and how many errors that probably has.

`asr.label` keeps the best of these guesses, `asr.choose` names the worst.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from asr.bundle.files import CALIBRATION
from asr.bundle.settings import save_calibration
from asr.corpus.manifest import load_manifest
from asr.corpus.untranscribed import AnyPath, find_untranscribed
from asr.errors import ManifestError, ModelError
from asr.features.batching import evaluation_batches
from asr.inference.decoder import Decoder, Search
from asr.machine import Accelerator, Progress
from asr.model.speaker_moments import speaker_moments
from asr.scoring.expected_errors import ExpectedErrors, Signs, fit_expected_errors, rivalry
from asr.sharing.names import model_folder, own_folder
from asr.text.normalise import normalised_hypothesis
from asr.transcript.words import Decoded, Word
from asr.tuning.dev_search import Task, run_network, utterance_evidence
from asr.tuning.tune import fit_calibration

if TYPE_CHECKING:
    from lhotse.cut import Cut

_BEAM = Search("beam")  # greedy search has no rivals


@dataclass(frozen=True)
class Guess:
    """What a model recognises in an utterance.

    Attributes:
        cut: the utterance.
        text: what is recognised.
        words: its words, with calibrated confidences; times are seconds from the start of the utterance.
        errors: word errors that are expected in it.
        reference_words: words that were probably said; 0 where nothing was recognised.
    """

    cut: Cut
    text: str
    words: tuple[Word, ...]
    errors: float
    reference_words: float

    @property
    def wer(self) -> float:
        """The expected word error rate; infinite where nothing was recognised."""
        return self.errors / self.reference_words if self.reference_words else float("inf")


@dataclass(frozen=True)
class Guesser:
    """A model that knows how many errors it makes."""

    decoder: Decoder
    expected: ExpectedErrors

    @classmethod
    def load(cls, model: AnyPath, dev: AnyPath | None, accelerator: Accelerator, progress: Progress) -> Guesser:
        """Load a model folder, and fit its expected errors on `dev` if that is given.

        Raises:
            ManifestError: dev is missing, malformed or empty.
            ModelError: the model folder cannot be used, or no errors were ever fitted and there is no `dev`.
            ScoringError: nothing was recognised in dev.
        """
        own = None if dev is None else own_folder(model)  # before the work
        decoder = Decoder.load(model, accelerator=accelerator, precision="fp32")  # small posteriors count
        if dev is not None and own is not None:
            return _fit(decoder, own, Path(dev), progress)
        expected = ExpectedErrors.load(model_folder(model))
        if expected is None:
            raise ModelError(
                f"{model}: it is not known how many errors this model makes; give --dev with a transcribed manifest "
                "that it was not trained on, or run `asr tune`"
            )
        return cls(decoder, expected)

    def guess(self, cuts: Sequence[Cut], progress: Progress) -> list[Guess]:
        """Return a guess for each utterance, in order.

        Raises:
            AudioError: a recording cannot be read.
        """
        found: dict[str, Guess] = {}
        with progress("label", len(cuts)) as advance:
            for guess in self._each(sorted(cuts, key=lambda cut: cut.duration)):  # neighbours need little padding
                found[guess.cut.id] = guess
                advance(1)
        return [found[cut.id] for cut in cuts]

    def _each(self, cuts: Sequence[Cut]) -> Iterator[Guess]:
        rest = iter(cuts)
        config = self.decoder.bundle.config
        for batch in evaluation_batches(cuts, config, speaker_moments(cuts, config)):
            for decoded in self.decoder.decode(batch, _BEAM):
                yield self._of(next(rest), decoded)

    def _of(self, cut: Cut, decoded: Decoded) -> Guess:
        tokens, settings = self.decoder.bundle.tokens, self.decoder.bundle.config.text
        spelled = [tokens.decode(hypothesis.tokens) for hypothesis in decoded.hypotheses]
        words = tuple(self.decoder.words(decoded))
        texts = [normalised_hypothesis(text, settings) for text in spelled]
        doubt = sum(1 - word.confidence for word in words)
        signs = Signs(len(words), doubt, rivalry(texts, [hypothesis.score for hypothesis in decoded.hypotheses]))
        errors = self.expected.errors(signs, cut.duration)
        return Guess(cut, spelled[0], words, errors, self.expected.reference_words(signs))


def _fit(decoder: Decoder, model: Path, dev: Path, progress: Progress) -> Guesser:
    """Fit the expected errors on dev, and the confidences if they never were; keep both in the model folder."""
    cuts = load_manifest(dev)
    heard = []
    with progress("dev", len(cuts)) as advance:
        for batch in run_network(decoder, cuts):
            heard += utterance_evidence(decoder, batch, Task(decoder.bundle.config.decode))
            advance(len(batch.ids))
    calibration = decoder.bundle.calibration
    if not (model / CALIBRATION).is_file():
        calibration = fit_calibration(
            [item for one in heard for item in one.evidence], [item for one in heard for item in one.right]
        )
        save_calibration(calibration, model)
        decoder = Decoder.load(model, accelerator=decoder.device.type, precision="fp32")  # type: ignore[arg-type]
    expected = fit_expected_errors([one.seen_by(calibration) for one in heard])
    expected.save(model)
    return Guesser(decoder, expected)


def untranscribed_cuts(
    data: AnyPath | Sequence[AnyPath], out: Path, progress: Progress
) -> tuple[list[Cut], dict[str, str]]:
    """Return the utterances of data without transcripts, and the recordings that were left out, each with the reason.

    Recordings are cut; `out` gets a manifest of the parts.

    Raises:
        AudioError: no recording can be used.
        ManifestError: a manifest is malformed or packed.
    """
    found = find_untranscribed(data, out, progress=progress)
    for path in found.manifests:
        if path.is_dir():
            raise ManifestError(f"{path}: its audio is packed; name the manifest that it was packed from")
    return list(load_manifest(*found.manifests)), found.left_out
