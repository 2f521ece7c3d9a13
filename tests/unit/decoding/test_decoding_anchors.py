"""What a long text and its speech surely have in common, against brute force and texts whose faults are known."""

from __future__ import annotations

import random
from itertools import combinations, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decoding.anchors import Match, Run, anchor_runs, heaviest_chain


def single(text: int, heard: int, length: int) -> Run:
    return Run((Match(text, heard, length),), float(length))


@settings(max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(1, 6)), min_size=1, max_size=8))
def test_no_chain_of_runs_that_do_not_overlap_is_heavier(places: list[tuple[int, int, int]]) -> None:
    runs = [single(*place) for place in places]
    heaviest = 0.0
    for size in range(1, len(runs) + 1):
        for chosen in combinations(sorted(runs, key=lambda run: run.heard_start), size):
            if all(a.text_end <= b.text_start and a.heard_end <= b.heard_start for a, b in pairwise(chosen)):
                heaviest = max(heaviest, sum(run.weight for run in chosen))
    chain = heaviest_chain(runs)
    assert sum(run.weight for run in chain) > 0
    for before, after in pairwise(chain):
        assert before.text_end <= after.text_start
        assert before.heard_end <= after.heard_start
    if all(a == b or apart(a, b) for a in runs for b in runs):  # overlaps are cut away, which costs the lighter one
        assert sum(run.weight for run in chain) == heaviest


def apart(one: Run, other: Run) -> bool:
    return (one.text_end <= other.text_start or other.text_end <= one.text_start) and (
        one.heard_end <= other.heard_start or other.heard_end <= one.heard_start
    )


def text_of(seed: int, words: int = 400) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choice("abcdefghijklmnoprstuvwz") for _ in range(rng.randint(2, 8))) for _ in range(words)]


def misheard(text: str, share: float, seed: int = 1) -> tuple[str, list[int]]:
    """Exchange, drop and add characters; return also where each character that is left comes from."""
    rng = random.Random(seed)
    heard, origin = [], []
    for place, character in enumerate(text):
        kind = rng.random() / share
        if kind >= 1 or kind < 1 / 3:
            heard.append(character if kind >= 1 else rng.choice("aeiou "))
            origin.append(place if kind >= 1 else -1)
        elif kind < 2 / 3:
            heard += [character, rng.choice("aeiou ")]
            origin += [place, -1]
    return "".join(heard), origin


def pairs_of(runs: list[Run]) -> set[tuple[int, int]]:
    """Return which character of the text each character of the speech is, as the runs say."""
    return {(m.text + k, m.heard + k) for run in runs for m in run.matches for k in range(m.length)}


@pytest.mark.parametrize("share", [0.0001, 0.1, 0.25])
def test_what_is_paired_is_the_same_character_and_most_are_paired(share: float) -> None:
    text = " ".join(text_of(3))
    heard, origin = misheard(text, share)
    pairs = pairs_of(anchor_runs(text, heard))
    right = {(place, at) for at, place in enumerate(origin) if place >= 0}
    place_of = {at: place for place, at in right}
    assert len(pairs - right) <= 0.02 * len(pairs)
    assert all(abs(place - place_of.get(at, place)) < 8 for place, at in pairs)  # near an error, there are several ways
    assert len(pairs & right) >= (0.95 if share < 0.01 else 0.2) * len(right)


def test_two_parts_that_change_places_are_both_found_where_they_are() -> None:
    words = text_of(4, 600)
    text = " ".join(words)
    heard = " ".join(words[:200] + words[300:400] + words[200:300] + words[400:])
    runs = anchor_runs(text, heard)
    assert all(text[t] == heard[h] for t, h in pairs_of(runs))
    assert len(pairs_of(runs)) >= 0.95 * len(text)
    for one, other in combinations(runs, 2):
        assert apart(one, other)
    assert [run.text_start for run in runs] != sorted(run.text_start for run in runs)
    assert [run.heard_start for run in runs] == sorted(run.heard_start for run in runs)


@pytest.mark.parametrize("missing", ["heard", "text"])
def test_a_part_that_only_one_of_both_has_moves_nothing_after_it(missing: str) -> None:
    words = text_of(5, 500)
    whole, shorter = " ".join(words), " ".join(words[:150] + words[250:])
    text, heard = (whole, shorter) if missing == "heard" else (shorter, whole)
    pairs = pairs_of(anchor_runs(text, heard))
    assert all(text[t] == heard[h] for t, h in pairs)
    assert len(pairs) >= 0.95 * len(shorter)


def test_texts_that_have_nothing_to_do_with_each_other_have_hardly_anything_in_common() -> None:
    text, heard = " ".join(text_of(6)), " ".join(text_of(7))
    assert len(pairs_of(anchor_runs(text, heard))) < 0.05 * len(text)


def test_words_that_recur_are_paired_in_their_order_although_faults_before_and_after_them_differ_in_length() -> None:
    before, after = " ".join(text_of(8, 40)), " ".join(text_of(9, 40))
    recurring = "enter forty seven forty seven rubout"
    text = " ".join([before, "q", recurring, "eight eighteenth", after])
    heard = " ".join([before, "three", recurring, "l d", after])
    pairs = pairs_of(anchor_runs(text, heard))
    begin, begin_heard = text.index(recurring), heard.index(recurring)
    assert {(begin + place, begin_heard + place) for place in range(len(recurring))} <= pairs


@pytest.mark.parametrize(("text", "heard"), [("", "abc"), ("abc", ""), ("a", "a"), ("x" * 50, "y" * 50)])
def test_texts_without_anything_to_go_by_have_no_runs(text: str, heard: str) -> None:
    assert anchor_runs(text, heard) == []
