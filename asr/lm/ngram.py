"""Back-off n-gram language models over units, which are strings: words, or the symbols of tokens."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

SENTENCE_START, SENTENCE_END, UNKNOWN = "<s>", "</s>", "<unk>"

# How ARPA files write the logarithm of zero, as for `<s>`, which is never predicted.
LOG10_ZERO = -99.0

LN_10 = math.log(10.0)

Ngram = tuple[str, ...]


class NgramEntry(NamedTuple):
    """An n-gram's numbers as ARPA files give them; a missing back-off weight is 0, i.e. a factor of 1."""

    log10_probability: float
    log10_backoff: float = 0.0


class Perplexity(NamedTuple):
    """How well a model predicts a text: `exp(−mean log-probability)` of its units and sentence ends.

    Units outside the vocabulary (`oovs`) are counted and left out of the mean.
    """

    perplexity: float
    units: int  # predicted, sentence ends included
    oovs: int


@dataclass(frozen=True)
class NgramLm:
    """A back-off n-gram model.

    Attributes:
        ngrams: `ngrams[n - 1]` holds the n-grams of `n` units, the last unit being the predicted one.
    """

    ngrams: tuple[Mapping[Ngram, NgramEntry], ...]

    @property
    def order(self) -> int:
        """The longest n-gram's units."""
        return len(self.ngrams)

    def log_prob(self, history: Sequence[str], unit: str) -> float:
        """Return the natural-log probability that `unit` follows `history`.

        Units outside the vocabulary count as `<unk>`; if the model has none, their probability is 0, returned
        as −inf.

        Args:
            history: the units before, beginning with `<s>` where the sentence does; only the last ones
                matter.
            unit: the predicted unit; `</s>` for the sentence's end.

        Source: Katz 1987, in the form of the ARPA format: p(w | h) is what the model lists for h w, else
        backoff(h) · p(w | h without its first unit).
        """
        unit = self._known(unit)
        context = tuple(self._known(past) for past in history[max(0, len(history) - self.order + 1) :])
        log10_backoff = 0.0
        for start in range(len(context) + 1):
            past = context[start:]
            entry = self.ngrams[len(past)].get((*past, unit))
            if entry is not None:
                return LN_10 * (log10_backoff + entry.log10_probability)
            if past and past in self.ngrams[len(past) - 1]:
                log10_backoff += self.ngrams[len(past) - 1][past].log10_backoff
        return -math.inf

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> Perplexity:
        """Return the perplexity on sentences given without `<s>` and `</s>`; NaN if nothing is predicted."""
        total, units, oovs = 0.0, 0, 0
        for sentence in sentences:
            units_and_end = [SENTENCE_START, *sentence, SENTENCE_END]
            for position in range(1, len(units_and_end)):
                unit = units_and_end[position]
                if (unit,) not in self.ngrams[0]:
                    oovs += 1
                    continue
                total += self.log_prob(units_and_end[max(0, position - self.order + 1) : position], unit)
                units += 1
        return Perplexity(math.exp(-total / units) if units else math.nan, units, oovs)

    def _known(self, unit: str) -> str:
        return unit if (unit,) in self.ngrams[0] else UNKNOWN
