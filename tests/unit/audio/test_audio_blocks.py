"""Recordings read in blocks: the same samples as read whole, every kind of damage named, little held."""

import io
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from asr.audio import blocks as module
from asr.audio.blocks import (
    audio_blocks,
    checked_rate_hz,
    checked_waveform,
    equal_blocks,
    load_audio,
    open_audio,
    waveform_blocks,
)
from asr.audio.channels import mix_down
from asr.audio.libsndfile import bounded
from asr.audio.resample import resample
from asr.audio.sound_file import read_audio
from asr.errors import AudioError, UnknownFormatError

RATE_HZ = 16000
FORMATS = [
    (".wav", "WAV", "PCM_16"),
    (".wav", "WAV", "FLOAT"),
    (".flac", "FLAC", "PCM_24"),
    (".sph", "NIST", "PCM_16"),
    (".aiff", "AIFF", "PCM_16"),
    (".mp3", "MP3", "MPEG_LAYER_III"),
    (".ogg", "OGG", "VORBIS"),
    (".opus", "OGG", "OPUS"),
]


@pytest.fixture(autouse=True)
def _short_blocks(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_S", 0.3)


@pytest.fixture
def no_ffmpeg(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))


def stereo(rng, seconds=1.0):
    return rng.uniform(-0.5, 0.5, (round(seconds * RATE_HZ), 2))


def written(path, samples, kind="WAV", subtype="PCM_16", rate=RATE_HZ):
    soundfile.write(path, samples, rate, format=kind, subtype=subtype)
    return path


@pytest.mark.parametrize(("suffix", "kind", "subtype"), FORMATS)
def test_blocks_are_the_whole_file_to_the_bit(tmp_path, rng, suffix, kind, subtype):
    path = written(tmp_path / f"a{suffix}", stereo(rng), kind, subtype)
    whole, rate_hz = read_audio(path)
    read = list(audio_blocks(path, rate_hz))
    assert len(read) >= 3
    last_bit = 2**-23 if kind == "MP3" else 0  # libsndfile's decoder rounds otherwise after each read
    np.testing.assert_allclose(np.concatenate(read), mix_down(whole), rtol=0, atol=last_bit)


@pytest.mark.parametrize("rate_hz", [8000, 44100, 48000])
def test_blocks_at_another_rate_are_the_whole_resampled(tmp_path, rng, rate_hz):
    path = written(tmp_path / "a.wav", stereo(rng), rate=rate_hz)
    whole, _ = read_audio(path)
    np.testing.assert_array_equal(load_audio(path, RATE_HZ), resample(mix_down(whole), rate_hz, RATE_HZ))


def test_a_waveform_in_blocks_is_the_whole_resampled(rng):
    waveform = stereo(rng).T.astype(np.float32)
    read = list(waveform_blocks(waveform, RATE_HZ, 8000, channel=1))
    assert len(read) >= 3
    np.testing.assert_array_equal(np.concatenate(read), resample(waveform[1], RATE_HZ, 8000))


def test_a_block_is_read_when_it_is_asked_for(tmp_path, rng):
    samples = stereo(rng)
    samples[12_000] = np.nan
    read = audio_blocks(written(tmp_path / "a.wav", samples, subtype="FLOAT"), RATE_HZ)
    assert len(next(read)) == len(next(read)) == 4800
    with pytest.raises(AudioError, match=r"a\.wav: 1 of 4800 samples are NaN"):
        next(read)


def test_a_header_with_many_channels_does_not_make_a_block_large():
    assert bounded(10 * 16_000, 1) == 160_000
    assert bounded(10 * 192_000, 1000) == 4000


def test_a_channel_is_taken_by_its_number_and_a_wrong_one_is_named_with_their_count(tmp_path, rng):
    path = written(tmp_path / "a.wav", stereo(rng), subtype="FLOAT")
    whole, _ = read_audio(path)
    for channel in (0, 1):
        np.testing.assert_array_equal(load_audio(path, RATE_HZ, channel=channel), whole[channel])
    for channel in (2, -1):
        with pytest.raises(AudioError, match=rf"a\.wav: channel {channel} was asked for, but its 2 are counted from 0"):
            load_audio(path, RATE_HZ, channel=channel)


def test_an_open_recording_knows_its_channels_and_duration(tmp_path, rng):
    with open_audio(written(tmp_path / "a.flac", stereo(rng, 1.5), "FLAC")) as stream:
        assert (stream.sample_rate_hz, stream.channels, stream.duration_s) == (RATE_HZ, 2, 1.5)


@pytest.mark.parametrize(("suffix", "kind", "subtype"), FORMATS)
def test_a_truncated_file_is_refused_by_name(tmp_path, rng, suffix, kind, subtype):
    path = written(tmp_path / f"a{suffix}", stereo(rng, 5.0), kind, subtype)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(AudioError, match=rf"a\{suffix}: .*truncated"):
        load_audio(path, RATE_HZ)


@pytest.mark.usefixtures("no_ffmpeg")
def test_bad_files_are_told_apart(tmp_path, rng):
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("this is not audio " * 50)
    (tmp_path / "video.MP4").write_bytes(b"\0\0\0\x18ftypmp42" * 10)
    (tmp_path / "phone.raw").write_bytes(b"\0\0" * 500)
    written(tmp_path / "silent.wav", np.zeros(0))
    header = bytearray(written(tmp_path / "slow.wav", stereo(rng)).read_bytes())
    header[24:28] = (3).to_bytes(4, "little")
    (tmp_path / "slow.wav").write_bytes(header)
    reasons = {
        "missing.wav": "no such file",
        "empty.wav": "the file is empty",
        "text.wav": "not audio in a known format .*; or install ffmpeg, .* none is on the PATH",
        "video.MP4": r"\.MP4 files cannot be decoded; .*; or install ffmpeg, .* none is on the PATH",
        "phone.raw": "do not say their rate and format; .* -i phone.raw phone.wav",
        "silent.wav": "holds no samples",
        "slow.wav": "declares a sample rate of 3 Hz",
    }
    for name, reason in reasons.items():
        with pytest.raises(AudioError, match=f"{name}: .*{reason}") as raised:
            load_audio(tmp_path / name, RATE_HZ)
        assert isinstance(raised.value, UnknownFormatError) == ("ffmpeg, which" in str(raised.value))


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("FLAC", "PCM_16"), ("MP3", "MPEG_LAYER_III")])
def test_standard_input_is_read_like_a_file_and_leaves_none_behind(tmp_path, rng, monkeypatch, kind, subtype):
    path = written(tmp_path / "a", stereo(rng), kind, subtype)
    piped = io.BytesIO(path.read_bytes())
    piped.seekable = lambda: False
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(piped))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    np.testing.assert_allclose(load_audio("-", RATE_HZ), mix_down(read_audio(path)[0]), rtol=0, atol=2**-23)
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.usefixtures("no_ffmpeg")
def test_standard_input_that_is_no_audio_is_named(monkeypatch):
    for content, reason in ((b"", "the file is empty"), (b"words " * 99, "not audio in a known format")):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        with pytest.raises(AudioError, match=f"^standard input: {reason}"):
            load_audio(Path("-"), RATE_HZ)


@given(st.lists(st.integers(0, 50), max_size=20), st.integers(1, 60))
def test_equal_blocks_hold_the_samples_in_order_and_each_comes_once_it_is_full(sizes, samples):
    waveform = np.arange(sum(sizes), dtype=np.float32)
    heard = 0

    def blocks():
        nonlocal heard
        for block in np.split(waveform, np.cumsum(sizes))[:-1]:
            heard += len(block)
            yield block

    found = []
    for block in equal_blocks(blocks(), samples):
        found.append(block)
        assert len(block) == samples or heard == len(waveform)
        assert heard < sum(map(len, found)) + max(sizes)  # it did not wait for another block
    assert [len(block) for block in found[:-1]] == [samples] * (len(found) - 1)
    assert len(found) == -(-len(waveform) // samples)
    np.testing.assert_array_equal(np.concatenate([waveform[:0], *found]), waveform)


@pytest.mark.parametrize("channels", [1, 2, 3, 9, 12])
@pytest.mark.parametrize("samples", [1, 2, 700])
def test_a_sample_mixed_down_does_not_depend_on_its_block(rng, channels, samples):
    waveform = rng.standard_normal((channels, 1400)).astype(np.float32)
    expected = waveform.astype(np.float64).mean(0)
    whole = mix_down(waveform)
    np.testing.assert_allclose(whole, expected, atol=1e-6)
    for order in "CF":
        np.testing.assert_array_equal(mix_down(np.array(waveform[:, :samples], order=order)), whole[:samples])


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.longdouble, "bfloat16"])
def test_floats_of_any_width_become_float32_and_infinite_ones_are_refused(dtype):
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    samples = np.array([0.5, -0.25, 1.0]).astype(dtype)
    waveform = checked_waveform(samples)
    assert waveform.dtype == np.float32
    np.testing.assert_array_equal(waveform, [[0.5, -0.25, 1.0]])
    with pytest.raises(AudioError, match="not finite"):
        checked_waveform(np.array([0.5, np.inf]).astype(dtype))


@pytest.mark.parametrize("dtype", [np.int16, np.uint8, bool, complex])
def test_samples_that_are_no_floats_are_refused(dtype):
    with pytest.raises(AudioError, match=f"got {np.dtype(dtype)}"):
        checked_waveform(np.zeros(3, dtype))


@pytest.mark.parametrize("given", [None, "a.wav", {"a": 1}, {1.0, 2.0}, object(), [[0.1, 0.2], [0.3]], [0.1, None]])
def test_what_is_no_audio_at_all_is_named_by_its_type(given):
    with pytest.raises(AudioError, match=f"a {type(given).__name__} is none of these"):
        checked_waveform(given)


def test_a_sample_rate_is_an_integer_that_a_recording_can_have():
    for rate_hz in (1_000, 16_000, 1_000_000, np.int32(8000), 44_100.0):
        assert checked_rate_hz(rate_hz) == rate_hz
        assert type(checked_rate_hz(rate_hz)) is int
    for rate_hz in (0, -16_000, 999, 1_000_001, 0.5, 16_000.5, 1e30, np.nan, np.inf, -np.inf, "16000", b"", True, [1]):
        with pytest.raises(AudioError, match=r"sample_rate_hz=.*: a sample rate is an integer from 1,000 to 1,000,000"):
            checked_rate_hz(rate_hz)
    with pytest.raises(AudioError, match="needs sample_rate_hz="):
        checked_rate_hz(None)


def test_blocks_of_many_channels_are_shorter_and_together_the_whole_recording(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_MOST_BLOCK_SAMPLES", 3000)
    written = np.random.default_rng(7).integers(-3000, 3000, (1234, 20), dtype=np.int16)
    soundfile.write(tmp_path / "many.wav", written, 8000)
    with open_audio(tmp_path / "many.wav") as stream:
        blocks = list(stream.blocks)
    assert [block.shape for block in blocks] == [(20, 150)] * 8 + [(20, 34)]
    assert np.array_equal(np.hstack(blocks), written.T / np.float32(1 << 15))
