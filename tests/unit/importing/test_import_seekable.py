"""Recordings that can only be decoded from their start are copied once, and utterances are read from the copies."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

import asr
from asr.audio.sound_file import read_audio
from asr.corpus.cut_audio import load_cut, seekable_copies
from asr.corpus.manifest import load_manifest

ALL_TEST = asr.SplitRule(test_share=1)


@pytest.fixture
def sound(tmp_path, rng):
    """Write five seconds of two channels of noise."""

    def write(name):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, rng.uniform(-0.3, 0.3, (80000, 2)), 16000)
        return path

    return write


def import_parts(path, parts):
    """Import parts of a recording, given by start and duration, and return the cuts and the notes."""
    lines = [{"audio": path.name, "text": "x", "offset": offset, "duration": duration} for offset, duration in parts]
    (path.parent / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    report = asr.import_jsonl(path.parent / "m.jsonl", path.parent / "data", split=ALL_TEST)
    cuts = list(load_manifest(report.manifests["test"]))
    return cuts, [note for note in report.notes if "decoded from the start" in note]


def test_parts_of_an_mp3_are_read_from_a_copy_and_are_the_same(sound, tmp_path):
    path = sound("a b/talk (1).mp3")
    cuts, notes = import_parts(path, [(0.5, 1.0), (3.0, 1.25)])
    (copy,) = (path.parent / "data/audio").iterdir()
    assert copy.name.startswith("talk_1_-")
    note = "1 recording that can only be decoded from the start: copied to FLAC in"
    assert notes == [f"{note} {path.parent}/data/audio (0 MB)"]
    whole, _ = read_audio(path)
    for cut, (start_s, duration_s) in zip(cuts, [(0.5, 1.0), (3.0, 1.25)], strict=True):
        assert cut.recording.sources[0].source == str(copy)
        expected = whole.mean(0)[round(16000 * start_s) :][: round(16000 * duration_s)]
        assert np.allclose(load_cut(cut), expected, atol=1e-4)


def test_other_recordings_are_used_where_they_are(sound, tmp_path):
    for name, parts in (("a.wav", [(0, 1), (1, 1)]), ("b.flac", [(0, 1), (1, 1)]), ("c.mp3", [(1, 1)])):
        cuts, notes = import_parts(sound(name), parts)
        assert {cut.recording.sources[0].source for cut in cuts} == {str(tmp_path / name)}
        assert notes == []
    assert not (tmp_path / "data/audio").exists()


def test_a_copy_is_used_again_until_the_recording_changes(sound, tmp_path):
    path, folder = sound("a.mp3"), tmp_path / "copies"
    first = seekable_copies([path, path, path.with_name("none.mp3")], folder)
    assert list(first) == [path]
    written = first[path].stat().st_mtime_ns
    assert seekable_copies([path], folder) == first
    assert first[path].stat().st_mtime_ns == written
    os.utime(path, (1, 1))
    assert seekable_copies([path], folder)[path] != first[path]


def test_a_copy_of_a_recording_with_the_longest_name_can_be_written(sound, tmp_path):
    path = sound(f"{'é' * 125}.mp3")  # 254 bytes
    (copy,) = seekable_copies([path], tmp_path / "copies").values()
    assert copy.exists()


def test_recordings_of_one_name_have_copies_of_their_own(sound, tmp_path):
    paths = [sound("x/a.mp3"), sound("y/a.mp3")]
    copies = seekable_copies(paths, tmp_path / "copies")
    assert len({Path(copy) for copy in copies.values()}) == 2


def test_a_recording_that_cannot_be_read_is_left_out_with_its_reason(sound, tmp_path):
    good, bad = sound("good.mp3"), sound("bad.mp3")
    bad.write_bytes(b"x" * 1000)
    lines = [{"audio": path.name, "text": "x", "offset": o, "duration": 1} for path in (good, bad) for o in (0, 2)]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    report = asr.import_jsonl(tmp_path / "m.jsonl", tmp_path / "data", split=ALL_TEST)
    assert report.utterances == {"test": 2}
    assert len(report.skipped) == 2
    assert all("bad.mp3: " in line for line in report.skipped)
    assert len(list((tmp_path / "data/audio").iterdir())) == 1
