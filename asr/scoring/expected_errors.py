"""What a search found in utterances → how many word errors it probably made in them; fitted on dev.

A word's confidence says nothing of words that are missing. So three signs are taken of each utterance, all of them
numbers of words:

* *words*: how many were recognised. It stands for the errors that nothing shows.
* *doubt*: the sum over these words of 1 - confidence. It rises where words are probably wrong or too many.
* *rivalry*: how many words the hypotheses of the beam differ from the best one, each weighted by its probability. A
  rival with one word more counts too, so this rises where words are missing.

The expected errors are a sum of the three, with weights that are not negative. Sums over utterances are therefore
expected errors of the whole. The weights are those under which the errors on dev are most probable, if each utterance
has a Poisson number of them. That likelihood is concave. The multiplications that maximise it keep weights positive.
A little is believed before dev is seen, so no weight is 0, and a weight of which dev says nothing is 1.

Sources: Lucy 1974, "An iterative technique for the rectification of observed distributions", and Shepp & Vardi 1982,
"Maximum likelihood reconstruction for emission tomography" (the fit); Mangu et al. 2000, arXiv:cs/0010012 (word errors
expected from hypotheses).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
from pydantic import Field

from asr.bundle.files import EXPECTED_ERRORS
from asr.errors import ModelError, ScoringError
from asr.files import write_text
from asr.paths import ReadablePath
from asr.reading import read_json
from asr.records import Record, checked
from asr.scoring.error_counts import count_errors

_STEPS = 1000
_LEAST_ERRORS = 1e-9  # expected in an utterance without any sign; the logarithm of 0 is not finite
_PRIOR_ERRORS = 0.5  # Jeffreys' prior of a rate: dev without an error does not prove that there are none
_PRIOR_SIGNS = np.array([0.0, 1.0, 1.0]) * _PRIOR_ERRORS / 3  # words of each sign in which these errors were seen
WAY_OUT = "run `asr tune` again, or give --dev"


class Signs(NamedTuple):
    """What points to errors in one utterance; all three are numbers of words, see above."""

    words: float
    doubt: float
    rivalry: float


class DevUtterance(NamedTuple):
    """An utterance of dev: its signs, its word errors, the words of its reference, and its length."""

    signs: Signs
    errors: int
    reference_words: int
    duration_s: float


@dataclass(frozen=True)
class ExpectedErrors:
    """How signs become expected word errors.

    Attributes:
        words: errors for each recognised word.
        doubt: errors for each word of doubt.
        rivalry: errors for each word of rivalry.
        length_ratio: words of the references for each recognised word.
        words_per_s: words of the references in a second of audio.
        dev_errors: word errors that it was fitted to.
        dev_words: words of the references that it was fitted to.
    """

    words: float
    doubt: float
    rivalry: float
    length_ratio: float
    words_per_s: float
    dev_errors: int
    dev_words: int

    def errors(self, signs: Signs, duration_s: float) -> float:
        """Return the expected word errors of an utterance; where nothing was recognised, all words are missing."""
        if signs.words == 0:
            return self.words_per_s * duration_s
        return float(np.dot(signs, [self.words, self.doubt, self.rivalry]))

    def reference_words(self, signs: Signs) -> float:
        """Return how many words were probably said in an utterance."""
        return self.length_ratio * signs.words

    @property
    def uncertainty(self) -> float:
        """The standard deviation of an expected error rate, as a share of it: few errors on dev say little."""
        return float(1 / np.sqrt(self.dev_errors + _PRIOR_ERRORS))

    def save(self, folder: Path) -> None:
        """Write it into a model folder."""
        write_text(folder / EXPECTED_ERRORS, json.dumps(asdict(self), indent=2, allow_nan=False) + "\n")

    @classmethod
    def load(cls, folder: ReadablePath) -> ExpectedErrors | None:
        """Return that of a model folder; None if there is none.

        Raises:
            ModelError: the file is not what `save` writes.
        """
        path = folder / EXPECTED_ERRORS
        if not path.is_file():
            return None
        content = read_json(path, ModelError, "the expected errors", way_out=WAY_OUT)
        found = checked(_Figures, content, f"{path}: no expected errors", ModelError, WAY_OUT)
        return cls(**found.model_dump())


_Weight = Annotated[float, Field(ge=0, le=1e6)]
_Count = Annotated[int, Field(ge=0, le=2**53)]


class _Figures(Record):
    """What the file holds."""

    words: _Weight
    doubt: _Weight
    rivalry: _Weight
    length_ratio: _Weight
    words_per_s: _Weight
    dev_errors: _Count
    dev_words: _Count


def rivalry(texts: Sequence[str], scores: Sequence[float]) -> float:
    """Return by how many words the hypotheses differ from the first one, each weighted by its probability.

    Args:
        texts: of the hypotheses, best first, at least one.
        scores: their natural-log scores; the probabilities are taken to sum up to 1.
    """
    weights = np.exp(np.asarray(scores, np.float64) - max(scores))
    distances = [0, *(count_errors(texts[0], text, unit="word").errors for text in texts[1:])]
    return float(weights @ distances / weights.sum())


def fit_expected_errors(dev: Sequence[DevUtterance]) -> ExpectedErrors:
    """Return the weights under which the errors of a dev set are most probable.

    Utterances in which nothing was recognised are left out of the weights.

    Raises:
        ScoringError: nothing was recognised in any utterance.
    """
    heard = [utterance for utterance in dev if utterance.signs.words > 0]
    if not heard:
        raise ScoringError("nothing was recognised in dev, so nothing can be said about errors; train the model longer")
    signs = np.array([utterance.signs for utterance in heard], np.float64)
    errors = np.array([utterance.errors for utterance in heard], np.float64)
    totals = signs.sum(axis=0)
    weights = np.full(signs.shape[1], (errors.sum() + _PRIOR_ERRORS) / totals.sum())
    for _ in range(_STEPS):
        expected = np.maximum(signs @ weights, _LEAST_ERRORS)
        seen = weights * ((errors / expected) @ signs) + _PRIOR_ERRORS / 3
        weights = seen / (totals + _PRIOR_SIGNS)
    reference_words = sum(utterance.reference_words for utterance in dev)
    of_words, of_doubt, of_rivalry = weights.tolist()
    return ExpectedErrors(
        words=of_words,
        doubt=of_doubt,
        rivalry=of_rivalry,
        length_ratio=sum(utterance.reference_words for utterance in heard) / float(totals[0]),
        words_per_s=reference_words / sum(utterance.duration_s for utterance in dev),
        dev_errors=int(errors.sum()),
        dev_words=reference_words,
    )
