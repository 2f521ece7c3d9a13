"""mp3 files are decoded to their last frame, whatever their first one tells, and without noise on stderr."""

import os
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from lying_audio import RATE_HZ, assert_whole, tones

from asr.audio.blocks import load_audio
from asr.audio.libsndfile import faults_counted
from asr.audio.sound_file import audio_info, read_audio
from asr.errors import AudioError, AudioWarning

ID3 = b"ID3\x04\0\0\0\0\0\x7f" + bytes(127)
ID3_AT_THE_END = b"TAG" + b"a title".ljust(125, b"\0")
APE = b"APETAGEX" + (2000).to_bytes(4, "little") + (48).to_bytes(4, "little") + bytes(4) + b"\0\0\0\xa0" + bytes(8)
APE += bytes(16) + b"APETAGEX" + (2000).to_bytes(4, "little") + (48).to_bytes(4, "little") + bytes(16)


def frames_of(data):
    """Return the frames of an mp3 of RATE_HZ, by the standard's formula for MPEG 2, layer III."""
    kbits = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    place, frames = data.index(b"\xff\xf3"), []
    while place + 4 <= len(data) and data[place : place + 2] == b"\xff\xf3":
        size = 72_000 * kbits[data[place + 2] >> 4] // RATE_HZ + (data[place + 2] >> 1 & 1)
        frames.append(data[place : place + size])
        place += size
    return frames


@pytest.fixture
def mp3(tmp_path):
    """Return what encodes samples, with the frame that declares the length or without, and gives the bytes."""

    def mp3(samples=None, declared=True, mode="VARIABLE"):
        path = tmp_path / "encoded"
        soundfile.write(
            *(path, tones() if samples is None else samples, RATE_HZ),
            **{"format": "MP3", "subtype": "MPEG_LAYER_III", "bitrate_mode": mode, "compression_level": 0.5},
        )
        data = path.read_bytes()
        first, *others = frames_of(data)
        assert b"Xing" in first or b"Info" in first
        return data if declared else b"".join(others)

    return mp3


def quiet_then_loud():
    """Return samples whose first frames are much smaller than the others, or larger the other way round."""
    noise = np.random.default_rng(3).normal(0, 0.1, 3 * RATE_HZ)
    return np.concatenate([np.zeros(3 * RATE_HZ), noise]).astype(np.float32)


@pytest.mark.parametrize("turned", [False, True])
def test_without_a_declared_length_an_mp3_lasts_as_long_as_its_frames(tmp_path, mp3, turned):
    samples = quiet_then_loud()[:: -1 if turned else 1]
    path = tmp_path / "a.mp3"
    path.write_bytes(mp3(samples, declared=False))
    heard, _ = read_audio(path)
    assert audio_info(path).samples == heard.shape[1] == pytest.approx(len(samples), abs=1700)
    loud = np.abs(heard[0]) > 0.02
    assert np.mean(loud[: 3 * RATE_HZ - 2000]) == pytest.approx(0.84 if turned else 0, abs=0.03)
    assert np.mean(loud[3 * RATE_HZ + 2000 :][: 3 * RATE_HZ - 3000]) == pytest.approx(0 if turned else 0.84, abs=0.03)


@pytest.mark.parametrize("mode", ["VARIABLE", "CONSTANT"])
@pytest.mark.parametrize("between", [b"", ID3, ID3_AT_THE_END, APE, bytes(500)])
@pytest.mark.parametrize("declared", [True, False])
def test_joined_mp3s_are_read_one_after_the_other_whatever_is_between(tmp_path, mp3, between, declared, mode):
    data = mp3(declared=declared, mode=mode)
    path = tmp_path / "a.mp3"
    for file in (data + between + data, ID3 + data + between + data + ID3_AT_THE_END):
        path.write_bytes(file)
        samples, _ = read_audio(path)
        assert_whole(samples, times=2)
        assert audio_info(path).samples == samples.shape[1]


def test_joined_mp3s_of_different_rates_are_refused(tmp_path, mp3):
    soundfile.write(tmp_path / "b.mp3", tones(rate=44100), 44100)
    path = tmp_path / "a.mp3"
    path.write_bytes(mp3() + (tmp_path / "b.mp3").read_bytes())
    with pytest.raises(AudioError, match=r"a\.mp3: the kind of its MPEG frames changes at byte \d+"):
        read_audio(path)


def test_bytes_that_are_no_frames_are_refused_by_their_place(tmp_path, mp3):
    data = mp3(np.tile(tones(), 5))
    middle = len(data) // 2
    path = tmp_path / "a.mp3"
    path.write_bytes(data[:middle] + b"\x11" * 5000 + data[middle + 5000 :])
    with pytest.raises(AudioError, match=r"a\.mp3: damaged: there are no MPEG frames from byte \d+ on"):
        read_audio(path)


def test_a_recorded_broadcast_begins_and_ends_within_frames(tmp_path, mp3):
    path = tmp_path / "a.mp3"
    frames = frames_of(mp3(np.tile(tones(), 3)))
    path.write_bytes(frames[4][50:] + b"".join(frames[5:-1]) + frames[-1][:30])
    samples, _ = read_audio(path)
    assert samples.shape[1] == pytest.approx((len(frames) - 6) * 576, abs=600)


def test_a_part_is_the_part_of_the_whole_and_stderr_stays_empty(tmp_path, mp3):
    noise = np.random.default_rng(4).normal(0, 0.1, 20 * RATE_HZ) * np.linspace(0, 1, 20 * RATE_HZ)
    whole, cut = tmp_path / "a.mp3", tmp_path / "b.mp3"
    whole.write_bytes(mp3(noise))
    cut.write_bytes(b"".join(frames_of(mp3(noise))[100:]))  # its first frames want data of those that are missing
    code = f"""if True:
        import numpy as np
        from asr.audio.blocks import load_audio
        from asr.audio.sound_file import read_audio
        whole, rate_hz = read_audio({str(whole)!r})
        for start_s in (0.3, 3.21, 11.0, 18.9):
            part, _ = read_audio({str(whole)!r}, start_s=start_s, duration_s=1.0)
            start = round(start_s * rate_hz)
            np.testing.assert_allclose(part, whole[:, start : start + rate_hz], atol=1e-6)
        np.testing.assert_allclose(load_audio({str(whole)!r}, rate_hz), whole[0], atol=1e-6)
        assert len(load_audio({str(cut)!r}, rate_hz)) > 16 * rate_hz
        print("right")"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout.strip(), result.stderr) == ("right", "")


def test_damaged_frames_are_a_warning_with_the_file_s_name_and_nothing_else_on_stderr(tmp_path, mp3, capfd):
    data, choice = bytearray(mp3(np.concatenate([tones()] * 6))), random.Random(0)
    for _ in range(30):
        data[choice.randrange(2000, len(data))] = choice.randrange(256)
    path = tmp_path / "damaged.mp3"
    path.write_bytes(data)
    with pytest.warns(AudioWarning, match=r"damaged\.mp3: the mp3 decoder found \d+ faults in it"):
        load_audio(path, 16000)
    assert capfd.readouterr().err == ""


def test_only_the_lines_of_the_mp3_decoder_are_taken_from_stderr(capfd):
    with faults_counted() as faults:
        os.write(2, b"bar 1\n[src/libmpg123/layer3.c:f():18] error: dequantization failed!\nNote: resync\nbar 2\n")
    assert len(faults) == 2
    assert capfd.readouterr().err == "bar 1\nbar 2\n"


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg on the PATH")
@pytest.mark.parametrize(
    ("suffix", "encoder", "rate"),
    [
        (".wav", "libmp3lame", 16000),
        (".wav", "libmp3lame", 44100),
        (".mp3", "libmp3lame", 8000),
        (".mp3", "libmp3lame", 48000),
        (".mp2", "mp2", 16000),
        (".mp2", "mp2", 48000),
    ],
)
def test_mpeg_audio_of_others_is_read_whole_and_joined(tmp_path, suffix, encoder, rate):
    soundfile.write(tmp_path / "in.wav", tones(2.0, rate), rate)
    path = tmp_path / f"a{suffix}"
    subprocess.run(["ffmpeg", "-v", "error", "-i", tmp_path / "in.wav", "-c:a", encoder, path], check=True)
    samples, _ = read_audio(path)
    assert_whole(samples, seconds=2.0, rate=rate)
    assert len(load_audio(path, rate)) == audio_info(path).samples == samples.shape[1]
    path.write_bytes(2 * path.read_bytes())
    if suffix == ".wav":
        with pytest.raises(AudioError, match=r"a\.wav: another recording follows at byte"):
            read_audio(path)
    else:
        assert_whole(read_audio(path)[0], times=2, seconds=2.0, rate=rate)
