"""A long text and what was heard of it → the stretches of both that are surely the same.

Both are strings. What was heard is full of errors, and the text need not be what was said: words are missing or were
exchanged, a page was not read, two paragraphs stand in another order. So nothing is counted from the beginning. Equal
substrings are looked up, and those that fit each other support each other:

    seeds      equal substrings of a few characters, the rarest ones if there are too many
    matches    seeds that follow each other are one equal substring
    runs       matches that are near each other, with nearly the same distance in text and in speech
    chain      runs that are too long to be chance; the heaviest ones of which text and speech have the same order

A run that is certain by itself need not fit into the chain: it is a paragraph that was moved. Runs that are hardly
certain count only between two neighbours.

Sources: Li 2018, arXiv:1708.01492 (minimap2: seeds and chains, for genomes); Karlin and Altschul 1990, "Methods for
assessing the statistical significance of molecular sequence features" (how long a match by chance is); Moreno et al.
1998, "A recursive algorithm for the forced alignment of very long audio segments" (islands of confidence).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

_MOST_SEEDS = 200_000
_SHORTEST_SEED, _LONGEST_SEED = 2, 12
_FARTHEST = 40  # characters between two matches of a run
_DRIFT = 8  # characters; between two matches a run's distance may change by twice that, and at most three times
_DRIFT_COST = 0.25  # characters of a match that one character of drift costs
_MOST_BY_CHANCE = 8  # characters that may be equal by chance beyond the end of a run
_CHANCE_NATS = 5.0  # a run by chance is to be expected once in e⁵ texts
_MOST_MOVES = 4  # how many times what is left over is searched for moved parts
_LEAST_MOVED = 30  # characters of what is left over in one piece
_NOT_HEARD, _NOT_WRITTEN = "\ue000", "\ue001"  # between what is left over; no text has them
_CERTAIN_TIMES = 1.5  # a run of this many times the weight that chance gives need not fit the others' order
_HASH = np.uint64(0x9E3779B97F4A7C15)


class Match(NamedTuple):
    """An equal substring: where it begins in the text and in what was heard, and its characters."""

    text: int
    heard: int
    length: int


class Run(NamedTuple):
    """Matches that follow each other in the text and in what was heard, and what they are worth in characters."""

    matches: tuple[Match, ...]
    weight: float

    @property
    def text_start(self) -> int:
        """Where it begins in the text."""
        return self.matches[0].text

    @property
    def text_end(self) -> int:
        """Where it ends in the text."""
        return self.matches[-1].text + self.matches[-1].length

    @property
    def heard_start(self) -> int:
        """Where it begins in what was heard."""
        return self.matches[0].heard

    @property
    def heard_end(self) -> int:
        """Where it ends in what was heard."""
        return self.matches[-1].heard + self.matches[-1].length


def anchor_runs(text: str, heard: str) -> list[Run]:
    """Return the runs that text and speech surely have in common, in the order of speech; no two of them overlap.

    Args:
        text: what was written.
        heard: what was recognised, in the same spelling.
    """
    if not text or not heard:
        return []
    certain, others = _chained(text, heard)
    for _ in range(_MOST_MOVES):
        rest = _rest(text, [(run.text_start, run.text_end) for run in certain], _NOT_HEARD)
        rest_heard = _rest(heard, [(run.heard_start, run.heard_end) for run in certain], _NOT_WRITTEN)
        moved, _ = _chained(rest.text, rest_heard.text) if rest.text and rest_heard.text else ([], [])
        if not moved:
            break
        certain += [_put_back(run, rest, rest_heard) for run in moved]
    certain.sort(key=lambda run: run.heard_start)
    return sorted([*certain, *_between(certain, others)], key=lambda run: run.heard_start)


def _chained(text: str, heard: str) -> tuple[list[Run], list[Run]]:
    """Return the heaviest chain of the runs that cannot be chance, and the runs that are not certain."""
    nats = _nats_per_character(_codes(text))
    size = min(max(1 + math.ceil(math.log(len(text) + 1) / nats), _SHORTEST_SEED), _LONGEST_SEED)
    least = max(size + 1.0, (math.log(len(text)) + math.log(len(heard)) + _CHANCE_NATS) / nats)
    runs = [_core(run) for run in _runs(_linked(text, heard, size), least)]
    # Read backwards, word by word, a speech has the same words, and fits the text by chance alone.
    backwards = _linked(text, " ".join(reversed(heard.split(" "))), size)
    certain = _CERTAIN_TIMES * max([least, *backwards.worth])
    chain = heaviest_chain([run for run in runs if run.matches and run.weight >= certain])
    return chain, [run for run in runs if run.matches and run.weight < certain]


class _Rest(NamedTuple):
    """What is left of a text: its parts, with a sign between them, and where each character was."""

    text: str
    places: Numbers


def _rest(text: str, taken: Sequence[tuple[int, int]], sign: str) -> _Rest:
    """Return a text without the places that are taken; `sign` is no character of the other text."""
    edges = [(0, 0), *sorted(taken), (len(text), len(text))]
    parts = [(one[1], other[0]) for one, other in pairwise(edges) if other[0] - one[1] >= _LEAST_MOVED]
    places = [np.append(np.arange(start, end), -1) for start, end in parts]
    return _Rest(
        "".join(text[start:end] + sign for start, end in parts), np.concatenate([np.zeros(0, np.int64), *places])
    )


def _put_back(run: Run, text: _Rest, heard: _Rest) -> Run:
    """Return a run of two rests at its place in the whole texts; of one that goes on in another part, the longer."""
    parts: list[list[Match]] = []
    before = run.matches[0]
    for match in run.matches:
        moved = Match(int(text.places[match.text]), int(heard.places[match.heard]), match.length)
        if parts and not any(
            (rest.places[last : place + 1] < 0).any()
            for rest, last, place in ((text, before.text, match.text), (heard, before.heard, match.heard))
        ):
            parts[-1].append(moved)
        else:
            parts.append([moved])
        before = match
    longest = max(parts, key=lambda part: sum(match.length for match in part))
    return Run(tuple(longest), min(run.weight, float(sum(match.length for match in longest))))


def heaviest_chain(runs: Sequence[Run]) -> list[Run]:
    """Return the runs of the greatest total weight that have the same order in text and speech.

    Two neighbours may overlap. What they share counts once, and the lighter one of them loses it.
    """
    runs = sorted(runs, key=lambda run: (run.heard_start, run.text_start))
    if not runs:
        return []
    starts = np.array([(run.text_start, run.heard_start) for run in runs])
    ends = np.array([(run.text_end, run.heard_end) for run in runs])
    best = np.array([run.weight for run in runs])
    before = np.full(len(runs), -1)
    for place in range(1, len(runs)):
        allowed = (ends[:place] < ends[place]).all(axis=1) & (starts[:place] < starts[place]).all(axis=1)
        shared = np.maximum((ends[:place] - starts[place]).max(axis=1), 0)
        gain = np.where(allowed & (shared < best[place]), best[:place] - shared, -np.inf)
        candidate = int(gain.argmax())
        if gain[candidate] > 0:
            best[place] += gain[candidate]
            before[place] = candidate
    chain: list[Run] = []
    place = int(best.argmax())
    while place >= 0:
        chain.append(runs[place])
        place = int(before[place])
    return _without_overlaps(chain)


def _without_overlaps(runs: Iterable[Run]) -> list[Run]:
    """Return the runs without what a heavier one has, too, in the order of speech."""
    taken: list[Run] = []
    for run in sorted(runs, key=lambda run: -run.weight):
        rest: Run | None = run
        for other in taken:
            rest = rest and _outside(rest, other)
        if rest is not None:
            taken.append(rest)
    return sorted(taken, key=lambda run: run.heard_start)


def _outside(run: Run, other: Run) -> Run | None:
    """Return the part of a run before or after another one, in text and speech alike: the longer of both."""
    if _apart(run, other):
        return run
    sides = (
        [m for m in run.matches if m.text + m.length <= other.text_start and m.heard + m.length <= other.heard_start],
        [m for m in run.matches if m.text >= other.text_end and m.heard >= other.heard_end],
    )
    kept = max(sides, key=lambda matches: sum(match.length for match in matches))
    return Run(tuple(kept), min(run.weight, float(sum(match.length for match in kept)))) if kept else None


def _between(found: Sequence[Run], others: Sequence[Run]) -> Iterator[Run]:
    """Yield chains of shorter runs: each between two neighbours in speech that are neighbours in the text as well."""
    in_text = sorted(found, key=lambda run: run.text_start)
    place_of = {id(run): place for place, run in enumerate(in_text)}
    for before, after in pairwise([None, *found, None]):
        first = -1 if before is None else place_of[id(before)]
        if (len(found) if after is None else place_of[id(after)]) != first + 1:
            continue
        inside = [
            run
            for run in others
            if (before is None or (run.text_start >= before.text_end and run.heard_start >= before.heard_end))
            and (after is None or (run.text_end <= after.text_start and run.heard_end <= after.heard_start))
        ]
        yield from heaviest_chain(inside)


def _apart(one: Run, other: Run) -> bool:
    in_text = one.text_end <= other.text_start or other.text_end <= one.text_start
    return in_text and (one.heard_end <= other.heard_start or other.heard_end <= one.heard_start)


def _codes(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


def _nats_per_character(codes: NDArray[np.uint32]) -> float:
    """Return the entropy of a character."""
    shares = np.unique(codes, return_counts=True)[1] / len(codes)
    return max(float(-(shares * np.log(shares)).sum()), 0.5)


def _seeds(text: NDArray[np.uint32], heard: NDArray[np.uint32], size: int) -> Numbers:
    """Return `(seed, 2)`, where equal substrings of `size` characters begin in text and speech."""
    if min(len(text), len(heard)) < size:
        return np.zeros((0, 2), np.int64)
    written, spoken = _hashes(text, size), _hashes(heard, size)
    order = np.argsort(written, kind="stable")
    ordered = written[order]
    first, beyond = np.searchsorted(ordered, spoken, "left"), np.searchsorted(ordered, spoken, "right")
    counts = beyond - first
    # The rarest ones are taken first: a substring that is everywhere says nothing.
    rarest = np.argsort(counts, kind="stable")
    taken = np.zeros(len(counts), bool)
    taken[rarest[np.cumsum(counts[rarest]) <= _MOST_SEEDS]] = True
    counts = np.where(taken, counts, 0)
    places = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
    found: Numbers = np.stack([order[places], np.repeat(np.arange(len(spoken)), counts)], axis=1)
    return found


def _hashes(codes: NDArray[np.uint32], size: int) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each substring of `size` characters."""
    hashes = np.zeros(len(codes) - size + 1, np.uint64)
    for place in range(size):
        hashes = (hashes + codes[place : place + len(hashes)] + np.uint64(1)) * _HASH
        hashes ^= hashes >> np.uint64(29)
    return hashes


def _matches(seeds: Numbers, size: int) -> list[Match]:
    """Return the longest equal substrings that seeds make up, in the order of speech."""
    if len(seeds) == 0:
        return []
    text, heard = seeds.T
    order = np.lexsort((heard, heard - text))
    text, heard = text[order], heard[order]
    begins = np.ones(len(text), bool)
    begins[1:] = (np.diff(heard) != 1) | (np.diff(text) != 1)
    (first,) = begins.nonzero()
    lengths = np.diff([*first, len(text)]) + size - 1
    found = np.stack([text[first], heard[first], lengths], axis=1)
    return [Match(*row) for row in found[np.lexsort((found[:, 0], found[:, 1]))].tolist()]


class _Linked(NamedTuple):
    """Matches, what the best run that ends with each is worth, and the match before it there; −1: there is none."""

    matches: list[Match]
    worth: list[float]
    before: list[int]


def _linked(text: str, heard: str, size: int) -> _Linked:
    """Return the matches of two texts, each linked with the best run that ends close before it.

    A run goes on where text and speech have nearly the same distance from each other.
    """
    matches = _matches(_seeds(_codes(text), _codes(heard), size), size)
    worth = [float(match.length) for match in matches]
    before = [-1] * len(matches)
    recent: defaultdict[int, list[int]] = defaultdict(list)  # matches by their distance in steps of `_DRIFT`
    for place, (start, at, length) in enumerate(matches):
        distance = start - at
        step = distance // _DRIFT
        for near in [recent[beside] for beside in range(step - 2, step + 3)]:
            while near and at - matches[near[0]][1] - matches[near[0]][2] > _FARTHEST + size:
                del near[0]
            for other in near:
                start_before, at_before, length_before = matches[other]
                overlap = max(0, start_before + length_before - start, at_before + length_before - at)
                if start_before >= start or at_before >= at or overlap >= length:
                    continue
                if start - start_before - length_before > _FARTHEST:
                    continue
                drift = abs(distance - start_before + at_before)
                value = worth[other] + length - overlap - _DRIFT_COST * drift
                if value > worth[place]:
                    worth[place], before[place] = value, other
        recent[step].append(place)
    return _Linked(matches, worth, before)


def _runs(linked: _Linked, least: float) -> list[Run]:
    """Return each run that is worth at least `least`, from its most valuable end back to its start.

    Each match is in one run at most; a run begins where a better one has taken the match before.
    """
    runs = []
    used = [False] * len(linked.matches)
    ends = [place for place, worth in enumerate(linked.worth) if worth >= least]
    for end in sorted(ends, key=lambda place: -linked.worth[place]):
        place, run = end, []
        while place >= 0 and not used[place]:
            used[place] = True
            run.append(linked.matches[place])
            place = linked.before[place]
        weight = linked.worth[end] - (linked.worth[place] if place >= 0 else 0.0)
        if run and weight >= least:
            runs.append(Run(tuple(_trimmed(run[::-1])), weight))
    return runs


def _core(run: Run) -> Run:
    """Return a run without its ends: where a run ends, the next characters may be equal by chance."""
    shorter = min(run.text_end - run.text_start, run.heard_end - run.heard_start)
    margin = min(_MOST_BY_CHANCE, shorter // 4)
    kept = []
    for text, heard, length in run.matches:
        first = max(0, run.text_start + margin - text, run.heard_start + margin - heard)
        end = min(length, run.text_end - margin - text, run.heard_end - margin - heard)
        if first < end:
            kept.append(Match(text + first, heard + first, end - first))
    return Run(tuple(kept), run.weight)


def _trimmed(run: Sequence[Match]) -> list[Match]:
    """Return the matches of a run without their overlaps."""
    text_end, heard_end = run[0].text, run[0].heard
    kept = []
    for text, heard, length in run:
        overlap = max(0, text_end - text, heard_end - heard)
        kept.append(Match(text + overlap, heard + overlap, length - overlap))
        text_end, heard_end = text + length, heard + length
    return kept
