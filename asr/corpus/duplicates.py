"""Fingerprints of utterances → pairs that are the same recording, also at another level, rate or encoding.

Fingerprints propose pairs, and the samples decide. Two recordings of one sentence by one speaker may have similar
fingerprints, but their samples do not agree at any shift.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.audio.resample import resample
from asr.errors import AudioError

# Copies of AN4's utterances at half the level, at another rate, with noise around them have 0.65 or more, and 95 of 100
# have 0.87. Of its different recordings, seven of 356,000 pairs have more than 0.9.
_SIMILAR = 0.65
_SPREAD_RATIO, _SPREAD_S = 1.08, 0.02  # by which the times of sound of two copies may differ
_SAME = 0.7  # correlation of the samples of two copies at the best shift; other recordings have less than 0.4
_MOST_COMPARED = 3000  # pairs whose samples are compared, the most similar first
_ROWS = 512
_COMPARED_HZ, _COMPARED_S = 8000, 30.0

Samples = NDArray[np.float32]


class Pair(NamedTuple):
    """Two utterances with the same recording, by their places."""

    first: int
    second: int
    correlation: float


def same_recordings(pairs: Sequence[tuple[int, int]], load: Callable[[int], tuple[Samples, int]]) -> list[Pair]:
    """Return which pairs of utterances do hold the same recording.

    Args:
        pairs: of `similar_recordings`.
        load: returns the `(sample,)` of an utterance, by its place, and their rate in Hz.
    """
    found = []
    for first, second in pairs:
        try:
            correlation = highest_correlation(_reduced(*load(first)), _reduced(*load(second)))
        except AudioError:
            continue  # it was readable before
        if correlation >= _SAME:
            found.append(Pair(first, second, correlation))
    return sorted(found)


def similar_recordings(fingerprints: Sequence[bytes], spreads_s: Sequence[float]) -> list[tuple[int, int]]:
    """Return the pairs of utterances with the most similar fingerprints, by their places, the earlier one first.

    Args:
        fingerprints: of `asr.corpus.audio_faults`; an empty one is compared with none.
        spreads_s: of the same utterances, in the same order.
    """
    spread_s = np.asarray(spreads_s, np.float64)
    places = np.array([place for place, fingerprint in enumerate(fingerprints) if fingerprint], np.int64)
    if len(places) < 2:
        return []
    places = places[np.argsort(spread_s[places], kind="stable")]  # so that similar spreads are neighbours
    joined = b"".join(fingerprints[place] for place in places.tolist())
    vectors = np.frombuffer(joined, np.int8).reshape(len(places), -1).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    sorted_s = spread_s[places]
    ends = np.searchsorted(sorted_s, sorted_s * _SPREAD_RATIO + _SPREAD_S, side="right")
    best = _MostSimilar()
    for start in range(0, len(places), _ROWS):
        stop = min(start + _ROWS, len(places))
        for column in range(start, int(ends[stop - 1]), 8 * _ROWS):
            block = vectors[start:stop] @ vectors[column : min(column + 8 * _ROWS, int(ends[stop - 1]))].T
            rows, columns = np.nonzero(block >= best.least)
            later = columns + column > rows + start
            rows, columns = rows[later], columns[later]
            best.add(block[rows, columns], places[rows + start], places[columns + column])
    return best.pairs()


class _MostSimilar:
    """The most similar pairs of those that were added, and only these: noise can be similar to all other noise."""

    def __init__(self) -> None:
        self.least = np.float32(_SIMILAR)  # what a pair needs, to be kept
        self._similarities = np.zeros(0, np.float32)
        self._places = np.zeros((0, 2), np.int64)

    def add(self, similarities: Samples, first: NDArray[np.int64], second: NDArray[np.int64]) -> None:
        """Add pairs: their similarities and the places of each."""
        if not len(similarities):
            return
        self._similarities = np.concatenate([self._similarities, similarities])
        pairs = np.stack([np.minimum(first, second), np.maximum(first, second)], axis=1)
        self._places = np.concatenate([self._places, pairs])
        if len(self._similarities) > 4 * _MOST_COMPARED:
            self._keep_most_similar()
            self.least = self._similarities[-1]

    def pairs(self) -> list[tuple[int, int]]:
        """Return the pairs, the most similar first, the earlier place first in each."""
        self._keep_most_similar()
        return [(first, second) for first, second in self._places.tolist()]

    def _keep_most_similar(self) -> None:
        enough = np.flatnonzero(self._similarities >= _kth_largest(self._similarities, _MOST_COMPARED))
        order = np.lexsort((*self._places[enough].T[::-1], -self._similarities[enough]))[:_MOST_COMPARED]
        self._similarities, self._places = self._similarities[enough[order]], self._places[enough[order]]


def _kth_largest(values: Samples, count: int) -> float:
    """Return the value that `count` values reach, or the smallest of fewer."""
    return float(np.partition(values, -min(count, len(values)))[-min(count, len(values))]) if len(values) else 0.0


def _reduced(samples: Samples, rate_hz: int) -> Samples:
    """Return the differences of neighbouring samples at 8 kHz: without hum, which many recordings have in common."""
    reduced = resample(samples[: round(_COMPARED_S * rate_hz)], rate_hz, _COMPARED_HZ)
    differences: Samples = np.diff(reduced)
    return differences


def highest_correlation(first: Samples, second: Samples) -> float:
    """Return the correlation of two recordings `(sample,)` at the shift where it is highest, of either sign.

    Shifts are multiples of half a sample: copies at another rate are seldom shifted by whole ones.
    """
    length = 1 << (len(first) + len(second) - 1).bit_length()
    product = np.fft.rfft(first, length) * np.conj(np.fft.rfft(second, length))
    norms = float(np.linalg.norm(first)) * float(np.linalg.norm(second))
    return 2 * float(np.abs(np.fft.irfft(product, 2 * length)).max()) / norms if norms else 0.0
