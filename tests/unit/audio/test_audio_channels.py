"""Channels → mono: their average, but one channel where stereo is inverted, however the blocks are cut."""

import io
import subprocess
import sys
import warnings

import numpy as np
import pytest
import soundfile

from asr.audio.blocks import load_audio, mono_blocks, waveform_blocks
from asr.audio.channels import MixDown, mix_down
from asr.errors import AudioWarning

RATE_HZ = 16000


def speech_like(rng, seconds=2.0):
    samples = round(seconds * RATE_HZ)
    loudness = np.clip(np.sin(np.arange(samples) / 1500), 0, 1)
    return (0.2 * loudness * rng.standard_normal(samples)).astype(np.float32)


def in_blocks(stereo, rng):
    mix, place, found = MixDown(), 0, []
    while place < stereo.shape[1]:
        step = int(rng.integers(1, 5000))
        found.append(mix(stereo[:, place : place + step]))
        place += step
    return np.concatenate(found)


@pytest.mark.parametrize("gain", [1.0, 0.3])
def test_inverted_copies_are_heard_as_one_channel(rng, gain):
    left = speech_like(rng)
    noise = 0.01 * rng.standard_normal((2, len(left)))
    stereo = (np.stack([left, -gain * left]) + noise).astype(np.float32)
    np.testing.assert_array_equal(mix_down(stereo)[2048:], stereo[0, 2048:])


def test_other_stereo_is_averaged_to_the_bit(rng):
    left, right = speech_like(rng), speech_like(rng)
    delayed, silent = np.roll(left, 40), np.zeros_like(left)
    for stereo in (
        (left, left),
        (left, right),
        (left, delayed),
        (left, silent),
        (silent, silent),
        (left, -0.5 * right),
    ):
        waveform = np.stack(stereo).astype(np.float32)
        np.testing.assert_array_equal(mix_down(waveform), (waveform[0] + waveform[1]) / 2)


def test_a_hum_that_is_inverted_while_nobody_speaks_does_not_take_a_channel_from_the_speech(rng):
    hum = 0.001 * np.sin(np.arange(4 * RATE_HZ) / 50).astype(np.float32)
    speech = np.concatenate([np.zeros(2 * RATE_HZ, np.float32), 50 * speech_like(rng)])
    stereo = np.stack([speech + hum, speech - hum])
    mono = mix_down(stereo)
    np.testing.assert_array_equal(mono[-RATE_HZ:], (stereo[0, -RATE_HZ:] + stereo[1, -RATE_HZ:]) / 2)


def test_the_cutting_into_blocks_does_not_matter(rng):
    left, right = speech_like(rng), speech_like(rng)
    stereo = np.stack([left, np.where(np.arange(len(left)) < 9000, right, -left)])  # inverted from some time on
    whole = mix_down(stereo)
    assert 0 < np.count_nonzero(whole == stereo[0]) < len(whole)
    for _ in range(5):
        np.testing.assert_array_equal(in_blocks(stereo, rng), whole)


def test_a_file_an_array_and_a_stream_of_inverted_stereo_say_so_once_by_name(tmp_path, rng):
    left = speech_like(rng)
    stereo = np.stack([left, -left])
    soundfile.write(tmp_path / "a.wav", stereo.T, RATE_HZ, subtype="FLOAT")
    for read, name in (
        (lambda: load_audio(tmp_path / "a.wav", RATE_HZ), str(tmp_path / "a.wav")),
        (lambda: list(waveform_blocks(stereo, RATE_HZ, RATE_HZ)), "the waveform"),
        (lambda: list(mono_blocks(np.split(stereo, 10, axis=1))), "the stream"),
    ):
        with pytest.warns(AudioWarning) as said:
            read()
        assert [str(warning.message) for warning in said] == [
            f"{name}: its two channels are inverted copies, whose average is silent; the first channel was taken"
        ]


def test_one_channel_of_inverted_stereo_is_taken_without_a_word(tmp_path, rng):
    left = speech_like(rng)
    file = io.BytesIO()
    soundfile.write(file, np.stack([left, -left]).T, RATE_HZ, format="WAV", subtype="FLOAT")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(load_audio(file.getvalue(), RATE_HZ, channel=1), -left)


def test_commands_show_the_warning_as_a_note():
    code = """if True:
        import warnings
        from asr.errors import AudioWarning
        from asr.files import show_notes
        show_notes()
        warnings.warn("a.wav: something\\x1b[1m", AudioWarning)
        warnings.warn("another kind")"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    note, other = result.stderr.splitlines()
    assert note == "note: a.wav: something\\x1b[1m"
    assert other.endswith("UserWarning: another kind")
