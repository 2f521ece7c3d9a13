"""Splits: no speaker in two of them, for any sizes of speakers."""

import os
from types import SimpleNamespace

import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from asr.corpus.manifest import SPLITS, make_cut, read_manifest
from asr.corpus.splits import SplitRule, divide, require_others, write_manifests
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


def ids_in(folder):
    """Return the ids in each manifest of a folder."""
    paths = {split: folder / f"{split}.jsonl.gz" for split in SPLITS}
    return {split: [cut.id for cut in read_manifest(path)] for split, path in paths.items() if path.exists()}


@pytest.fixture
def cut_of(tmp_path):
    soundfile.write(tmp_path / "a.wav", [0.1] * 1600, 16000)
    return lambda name: make_cut(name, tmp_path / "a.wav", "one", name)


@pytest.mark.parametrize("step", range(4))
def test_manifests_of_two_runs_never_train_together(tmp_path, monkeypatch, cut_of, step):
    old, new = ({tmp_path / f"{s}.jsonl.gz": [cut_of(f"{run}-{s}")] for s in SPLITS} for run in ("old", "new"))
    assert write_manifests(old) == list(old)
    before, rename, renamed = ids_in(tmp_path), os.replace, []

    def killed(source, target):
        nonlocal renamed
        renamed += [target] if target in new else []
        if len(renamed) > step:
            raise KeyboardInterrupt
        rename(source, target)

    def unwritable():
        yield cut_of("new-test")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_manifests({**new, tmp_path / "test.jsonl.gz": unwritable()})
    assert ids_in(tmp_path) == before
    monkeypatch.setattr(os, "replace", killed)
    if step < 3:
        with pytest.raises(KeyboardInterrupt):
            write_manifests(new)
        assert "train" not in ids_in(tmp_path)
    monkeypatch.undo()
    write_manifests(new)
    assert ids_in(tmp_path) == {split: [f"new-{split}"] for split in SPLITS}
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_former_manifest_that_would_hold_nothing_is_removed(tmp_path, cut_of):
    paths = [tmp_path / f"{split}.jsonl.gz" for split in SPLITS]
    write_manifests({path: [cut_of("a")] for path in paths})
    assert write_manifests({paths[0]: [cut_of("b")], paths[1]: [], paths[2]: iter([])}) == paths[:1]
    assert ids_in(tmp_path) == {"train": ["b"]}


def test_what_something_is_made_of_is_not_replaced(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with pytest.raises(ManifestError, match=r"train\.jsonl\.gz: the original stays as it is; choose another folder"):
        require_others([str(tmp_path / "train.jsonl.gz")], [link / "train.jsonl.gz"])
    require_others([tmp_path / "all.jsonl"], [tmp_path / "train.jsonl.gz"])
