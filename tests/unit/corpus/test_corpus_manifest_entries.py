"""Entries say of every kind of cut what lhotse's cut itself says, and find_split finds what is there."""

import gzip
import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from lhotse import CutSet
from lhotse.cut import Cut

from asr.corpus import manifest
from asr.corpus.manifest import (
    Entry,
    cut_text,
    entries,
    find_split,
    known_speakers,
    make_cut,
    read_manifest,
    write_manifest,
)
from asr.errors import ManifestError


@pytest.fixture
def cuts(tmp_path):
    """One cut of each kind that lhotse writes, with none, one and two supervisions."""
    mono, stereo = tmp_path / "mono.wav", tmp_path / "stereo.wav"
    soundfile.write(mono, np.zeros(16000), 8000)
    soundfile.write(stereo, np.zeros((16000, 2)), 8000)
    plain = make_cut("plain", mono, 'größe "quoted" \\', "s1")
    part = make_cut("part", mono, "part", "s1", start_s=0.25, duration_s=1.125)
    channels = make_cut("channels", stereo, "channels", "s1")
    silent = make_cut("silent", mono, "", "s1")
    silent.supervisions = []
    untold = make_cut("untold", mono, "", "s1")
    untold.supervisions[0].text = None
    talk = make_cut("talk", mono, "second", "s1")
    talk.supervisions[0].start = 1.0
    talk.supervisions.append(replace(talk.supervisions[0], id="talk-0", start=0.0, text="first"))
    mixed = plain.append(part)
    mixed.id = "mixed"
    padded = part.pad(duration=3.0)
    padded.id = "padded"
    return [plain, part, channels, silent, untold, talk, mixed, padded]


def is_cut(cut):
    return isinstance(cut, Cut)


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz"])
def test_entries_say_what_lhotses_own_cuts_say(cuts, tmp_path, name):
    CutSet.from_cuts(cuts).to_file(tmp_path / name)
    expected = [
        Entry(
            cut.id,
            cut.duration,
            cut_text(cut),
            cut.sampling_rate if cut.has_recording else 0,
            speaker=known_speakers([cut]).get(cut.id, ""),
        )
        for cut in CutSet.from_file(tmp_path / name)
    ]
    assert [entry.speaker for entry in expected[:5]] == ["s1", "s1", "s1", "", "s1"]
    assert [entry.text for entry in expected[:3]] == ['größe "quoted" \\', "part", "channels"]
    assert [entry.text for entry in expected[3:]] == ["", "", "first second", 'größe "quoted" \\ part', "part"]
    read = read_manifest(tmp_path / name)
    assert list(entries(read)) == list(entries(read)) == expected
    assert list(entries(cuts)) == list(entries(read.filter(is_cut))) == expected


def test_entries_of_common_cuts_are_read_without_making_the_cuts(cuts, tmp_path, monkeypatch):
    write_manifest(cuts[:3], tmp_path / "train.jsonl")
    read = read_manifest(tmp_path / "train.jsonl")
    monkeypatch.setattr(manifest, "cut_of_line", lambda line: pytest.fail("made a cut"))
    assert len(list(entries(read))) == 3


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[]",
        "{}",
        '{"type": "MonoCut"}',
        '{"type": "PaddingCut", "id": "p", "duration": 1.0}',
        '{"type": "MonoCut", "supervisions": [{"text": "a"}]}',
        '{"type": "MonoCut", "supervisions": ["a"], "id": "u", "duration": 1.0}',
        '{"type": "MonoCut", "supervisions": null, "id": "u", "duration": 1.0}',
    ],
)
def test_a_line_that_is_no_cut_is_named_by_its_number_in_entries_too(cuts, tmp_path, line):
    path = tmp_path / "train.jsonl"
    write_manifest(cuts[:1], path)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ManifestError, match=r"train\.jsonl:2: not a lhotse cut"):
        list(entries(read_manifest(path)))


def test_only_the_lines_asked_for_are_read(cuts, tmp_path):
    lines = "".join(json.dumps(cuts[0].to_dict()) + "\n" for _ in range(3))
    path = tmp_path / "train.jsonl.gz"
    path.write_bytes(gzip.compress((lines + "broken\n").encode()))
    read = read_manifest(path)
    assert next(iter(entries(read))).id == "plain"
    assert isinstance(next(iter(read)), Cut)
    with pytest.raises(ManifestError, match=":4: "):
        list(read)


def test_a_split_is_its_manifest_or_else_its_folder(tmp_path):
    with pytest.raises(
        ManifestError, match=r"train\.jsonl\.gz: no such manifest, nor is there a Shar folder .*/train;"
    ):
        find_split(tmp_path, "train")
    (tmp_path / "train").mkdir()
    assert find_split(tmp_path, "train") == tmp_path / "train"
    (tmp_path / "train.jsonl.gz").touch()
    assert find_split(tmp_path, "train") == tmp_path / "train.jsonl.gz"
