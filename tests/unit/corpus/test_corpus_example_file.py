"""A file with one utterance of a manifest, to listen to and to transcribe."""

import numpy as np
import pytest
import soundfile

from asr.corpus.cut_audio import example_file
from asr.corpus.manifest import make_cut, write_manifest
from asr.corpus.pack import write_shar

RATE_HZ = 8000


@pytest.fixture
def recordings(tmp_path, rng):
    """Two recordings of two seconds, and their samples."""
    samples = {}
    for name in ("a", "b"):
        samples[name] = np.round(rng.uniform(-0.5, 0.5, 2 * RATE_HZ) * 2**15) / 2**15
        soundfile.write(tmp_path / f"{name}.wav", samples[name], RATE_HZ, subtype="PCM_16")
    return samples


def test_a_file_that_is_one_utterance_is_taken_as_it_is(recordings, tmp_path):
    part = make_cut("part", tmp_path / "a.wav", "a part", "anna", start_s=0.5)
    whole = make_cut("whole", tmp_path / "b.wav", "all of it", "ben")
    write_manifest([part, whole], tmp_path / "test.jsonl")
    assert example_file(tmp_path / "test.jsonl", tmp_path / "x.flac") == (tmp_path / "b.wav", "all of it")
    assert not (tmp_path / "x.flac").exists()


def test_where_all_are_parts_the_first_is_cut_out(recordings, tmp_path):
    cuts = [
        make_cut(f"{name}-{start_s}", tmp_path / f"{name}.wav", f"{name} {start_s}", "anna", start_s=start_s)
        for name, start_s in (("a", 0.5), ("b", 1.0))
    ]
    write_manifest(cuts, tmp_path / "test.jsonl")
    spare = tmp_path / "model" / "x.flac"
    assert example_file(tmp_path / "test.jsonl", spare) == (spare, "a 0.5")
    heard, rate_hz = soundfile.read(spare)
    assert rate_hz == RATE_HZ
    np.testing.assert_allclose(heard, recordings["a"][RATE_HZ // 2 :], atol=2**-15)


def test_what_is_packed_is_unpacked(recordings, tmp_path):
    write_shar([make_cut("b", tmp_path / "b.wav", "two", "ben")], tmp_path / "test")
    assert example_file(tmp_path / "test", tmp_path / "x.flac") == (tmp_path / "x.flac", "two")
    np.testing.assert_allclose(soundfile.read(tmp_path / "x.flac")[0], recordings["b"], atol=2**-15)
