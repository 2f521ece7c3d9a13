"""Splits: no speaker in two of them, for any sizes of speakers."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.corpus.splits import SplitRule, divide
from asr.errors import ManifestError


def cut(id, speaker, duration=1.0):
    return SimpleNamespace(id=id, duration=duration, supervisions=[SimpleNamespace(speaker=speaker)])


def corpus(sizes):
    return [cut(f"s{s}-{u}", f"s{s}") for s, size in enumerate(sizes) for u in range(size)]


def speakers(cuts):
    return {c.supervisions[0].speaker for c in cuts}


@given(st.lists(st.integers(1, 30), min_size=3, max_size=20), st.integers(0, 2**31 - 1))
def test_speakers_are_whole_and_no_split_is_empty(sizes, seed):
    cuts = corpus(sizes)
    splits = divide(cuts, SplitRule(dev_share=0.1, test_share=0.2, seed=seed))
    assert list(splits) == ["train", "dev", "test"]
    assert all(splits.values())
    assert sorted(c.id for split in splits.values() for c in split) == sorted(c.id for c in cuts)
    assert sum(len(speakers(split)) for split in splits.values()) == len(sizes)


def test_shares_are_met_when_speakers_are_many():
    splits = divide(corpus([10] * 100), SplitRule(dev_share=0.1, test_share=0.2, seed=3))
    assert {name: len(split) for name, split in splits.items()} == {"train": 700, "dev": 100, "test": 200}


def test_the_seed_alone_decides():
    cuts = corpus(range(5, 25))
    draw = {
        seed: speakers(divide(cuts, SplitRule(dev_share=0.2, test_share=0.2, seed=seed))["dev"]) for seed in range(5)
    }
    again = divide(reversed(cuts), SplitRule(dev_share=0.2, test_share=0.2, seed=0))
    assert speakers(again["dev"]) == draw[0]
    assert len({frozenset(names) for names in draw.values()}) > 1


def test_a_share_of_zero_gives_an_empty_split():
    splits = divide(corpus([2, 2]), SplitRule(dev_share=0.5, test_share=0, seed=0))
    assert {name: len(split) for name, split in splits.items()} == {"train": 2, "dev": 2, "test": 0}


def test_too_few_speakers_are_an_error_that_says_what_to_do():
    with pytest.raises(ManifestError, match=r"2 speakers cannot be divided .* --split-by utterance"):
        divide(corpus([50, 50]), SplitRule(dev_share=0.1, test_share=0.1, seed=0))


def test_shares_that_leave_nothing_for_training_are_an_error():
    with pytest.raises(ManifestError, match="leave nothing for training"):
        divide(corpus([1, 1, 1]), SplitRule(dev_share=0.5, test_share=0.5, seed=0))


def test_one_speaker_can_be_divided_by_utterance():
    splits = divide(corpus([50]), SplitRule(by="utterance", dev_share=0.1, test_share=0.2, seed=0))
    assert {name: len(split) for name, split in splits.items()} == {"train": 35, "dev": 5, "test": 10}
