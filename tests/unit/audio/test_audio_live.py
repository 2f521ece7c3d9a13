"""Audio read from a pipe while it is being written."""

import io
import os
import time

import numpy as np
import pytest
import soundfile
from conftest import pipe_of
from lying_audio import LIES, assert_whole, tones, with_length

from asr.audio.live import live_audio
from asr.errors import AudioError


def encoded(waveform: np.ndarray, form: str, **options: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform, 16000, format=form, **options)
    return file.getvalue()


def test_raw_samples_are_read_whatever_the_writes_and_half_a_sample_at_the_end_is_none() -> None:
    samples = np.array([0, 1, -1, 32767, -32768, 12345], "<i2")
    data = samples.tobytes() + b"\x07"
    with pipe_of(data[:1], data[1:4], data[4:]) as descriptor:
        rate_hz, blocks = live_audio(descriptor, 8000)
        assert rate_hz == 8000
        assert (np.concatenate(list(blocks)) * 2**15).tolist() == samples.tolist()


def test_a_block_comes_before_the_next_one_is_written() -> None:
    reading, writing = os.pipe()
    _, blocks = live_audio(reading, 16000)
    for value in (1, 2, 3):
        os.write(writing, np.full(1600, value, "<i2").tobytes())
        assert (next(blocks) * 2**15).tolist() == [value] * 1600
    os.close(writing)
    assert list(blocks) == []
    os.close(reading)


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("WAV", {"subtype": "FLOAT"}),
        ("WAV", {"subtype": "ULAW"}),
        ("WAV", {"subtype": "IMA_ADPCM"}),
        ("WAVEX", {}),
        ("AIFF", {}),
        ("AU", {}),
        ("NIST", {}),
        ("OGG", {"subtype": "VORBIS"}),
        ("OGG", {"subtype": "OPUS"}),
    ],
)
def test_files_of_these_formats_are_read_from_a_pipe_and_mixed_down(form: str, options: dict[str, str]) -> None:
    channels = 0.3 * np.sin(np.arange(6000)[:, None] * [0.05, 0.09])
    data = encoded(channels, form, **options)
    expected = soundfile.read(io.BytesIO(data), dtype="float32")[0].mean(1)
    with pipe_of(data[:3000], data[3000:]) as descriptor:
        rate_hz, blocks = live_audio(descriptor, None)
        got = np.concatenate(list(blocks))
    assert rate_hz == 16000
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("form", ["WAV", "WAVEX", "AIFF", "AU", "NIST"])
def test_a_wrong_length_in_a_pipe_loses_no_samples_silently(form: str, lie: str) -> None:
    data = with_length(encoded(tones(), form), form, lie)
    with pipe_of(data[:3000], data[3000:]) as descriptor:
        _, blocks = live_audio(descriptor, None)
        if form != "NIST" and lie in ("half", "a little less"):  # nobody knows what will follow
            with pytest.raises(AudioError, match="goes on after the end that its header declares"):
                list(blocks)
        else:
            assert_whole(np.concatenate(list(blocks)))


@pytest.mark.parametrize("form", ["WAV", "AIFF", "AU", "OGG"])
def test_what_follows_a_recording_in_a_pipe_is_no_silent_loss(form: str) -> None:
    data = encoded(tones(), form)
    with pipe_of(data, data) as descriptor:
        _, blocks = live_audio(descriptor, None)
        with pytest.raises(AudioError, match=r"perhaps with another recording; put ffmpeg -i - -f wav - \| in between"):
            list(blocks)


@pytest.mark.parametrize("after", [b"LIST\x04\0\0\0INFO", b"id3 \x02\0\0\0ab", bytes(100)])
def test_metadata_after_the_audio_is_no_audio(after: bytes) -> None:
    with pipe_of(encoded(tones(), "WAV") + after) as descriptor:
        assert_whole(np.concatenate(list(live_audio(descriptor, None).blocks)))


def test_a_stream_that_pauses_at_its_end_and_one_without_samples() -> None:
    reading, writing = os.pipe()
    os.write(writing, encoded(tones(0.25), "WAV"))  # and the writer stays
    assert len(np.concatenate(list(live_audio(reading, None).blocks))) == 4000
    os.close(writing)
    os.close(reading)
    with pipe_of(encoded(np.zeros(0), "WAV")) as descriptor, pytest.raises(AudioError, match="holds no samples"):
        list(live_audio(descriptor, None).blocks)


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="needs the list of open descriptors in /dev/fd")
def test_a_reader_that_leaves_early_closes_its_pipe() -> None:
    before = len(os.listdir("/dev/fd"))
    with pipe_of(encoded(tones(), "WAV")) as descriptor:
        _, blocks = live_audio(descriptor, None)
        next(blocks)
        blocks.close()
        deadline = time.monotonic() + 5
        while len(os.listdir("/dev/fd")) > before + 1:
            assert time.monotonic() < deadline, "descriptors stay open"
            time.sleep(0.01)


@pytest.mark.parametrize(
    "data",
    [
        encoded(np.zeros(4000), "FLAC"),
        encoded(np.zeros(4000), "MP3"),
        encoded(np.zeros(4000), "CAF"),
        encoded(np.zeros(4000), "RF64"),
        encoded(np.zeros(4000), "AU", subtype="G721_32"),
        encoded(np.zeros(4000), "WAV", subtype="GSM610"),
        b"\0\0\0\x18ftypmp42" * 10,
        b"no audio, but long enough for a header" * 9,
        b"",
    ],
)
def test_what_cannot_be_read_from_a_pipe_says_what_can(data: bytes) -> None:
    with pipe_of(data) as descriptor, pytest.raises(AudioError, match=r"--rate.*ffmpeg"):
        live_audio(descriptor, None)


def test_samples_that_are_no_numbers_are_an_error() -> None:
    with pipe_of(encoded(np.array([0.0, np.nan]), "WAV", subtype="FLOAT")) as descriptor:
        _, blocks = live_audio(descriptor, None)
        with pytest.raises(AudioError, match="NaN"):
            list(blocks)
