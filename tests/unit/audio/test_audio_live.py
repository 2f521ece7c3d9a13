"""Audio read from a pipe while it is being written."""

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile

from asr.audio.live import live_audio
from asr.errors import AudioError


@contextmanager
def pipe_of(*writes: bytes) -> Iterator[int]:
    """A pipe into which a thread writes these, and its reading end."""
    reading, writing = os.pipe()

    def write() -> None:
        for data in writes:
            os.write(writing, data)
        os.close(writing)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield reading
    finally:
        os.close(reading)
        thread.join()


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


@pytest.mark.parametrize(("form", "options"), [("WAV", {"subtype": "FLOAT"}), ("AIFF", {}), ("AU", {}), ("OGG", {})])
def test_files_of_these_formats_are_read_from_a_pipe_and_mixed_down(form: str, options: dict[str, str]) -> None:
    channels = 0.3 * np.sin(np.arange(6000)[:, None] * [0.05, 0.09])
    data = encoded(channels, form, **options)
    expected = soundfile.read(io.BytesIO(data), dtype="float32")[0].mean(1)
    with pipe_of(data[:3000], data[3000:]) as descriptor:
        rate_hz, blocks = live_audio(descriptor, None)
        got = np.concatenate(list(blocks))
    assert rate_hz == 16000
    np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("data", [encoded(np.zeros(4000), "FLAC"), b"no audio, but long enough for a header" * 9, b""])
def test_what_cannot_be_read_from_a_pipe_says_what_can(data: bytes) -> None:
    with pipe_of(data) as descriptor, pytest.raises(AudioError, match=r"--rate.*ffmpeg"):
        live_audio(descriptor, None)


def test_samples_that_are_no_numbers_are_an_error() -> None:
    with pipe_of(encoded(np.array([0.0, np.nan]), "WAV", subtype="FLOAT")) as descriptor:
        _, blocks = live_audio(descriptor, None)
        with pytest.raises(AudioError, match="NaN"):
            list(blocks)
