"""The running level, recordings that are too quiet, and silence that the network hears."""

import warnings

import numpy as np
import pytest

from asr.audio.blocks import Heard
from asr.audio.segment import segments, silence_s
from asr.audio.speech_detector import RunningLevel
from asr.errors import AudioWarning

RATE_HZ = 1000


def level_db(level):
    return 10 * np.log10(level)


def test_the_level_falls_by_six_db_a_second_down_to_thirty_below_the_loudest_so_far():
    powers = np.full(1000, 1e-8)
    powers[100:110] = 1e-2  # a third of a second
    levels_db = level_db(RunningLevel(0.032)(powers))
    np.testing.assert_allclose(levels_db[:100], -80)
    assert levels_db[105:110] == pytest.approx(-20, abs=1)
    assert levels_db[109 + round(3 / 0.032)] == pytest.approx(-20 - 18, abs=0.2)
    np.testing.assert_allclose(levels_db[109 + round(5.1 / 0.032) :], -50)


def test_levels_do_not_depend_on_the_cutting_to_the_last_digit(rng):
    powers = 10 ** rng.uniform(-11, 0, 500)
    whole, level = RunningLevel(0.032)(powers), RunningLevel(0.032)
    parts = np.split(powers, sorted(rng.integers(0, 500, 20)))
    np.testing.assert_array_equal(np.concatenate([level(part) for part in parts]), whole)


def test_digital_silence_and_the_noise_of_16_bits_are_not_raised_without_end():
    assert level_db(RunningLevel(0.032)(np.array([0.0, 1e-10]))).tolist() == pytest.approx([-90, -90])


def noted(blocks, name="a.wav"):
    heard = Heard(blocks)
    list(heard)
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        heard.warn_if_quiet(name)
    return [str(note.message) for note in notes]


def test_a_recording_that_is_too_quiet_is_named_with_its_level(rng):
    tone = np.sin(np.arange(5000)).astype(np.float32)
    assert noted([tone * 0.001 + 0.5]) == []
    (note,) = noted([0.25 + tone[:100] * 0.0001, 0.25 + tone[100:] * 0.0001])
    assert note.startswith("a.wav: too quiet to be understood: its loudest sample is at -80 dBFS")
    (note,) = noted([np.full(100, 0.1, np.float32)])
    assert "as quiet as all others" in note
    assert noted([]) == []


def speech(rng, *stretches):
    """Return (pause, speech, pause, …) of these seconds."""
    parts = [
        rng.standard_normal(round(seconds * RATE_HZ)) * (0.1 if place % 2 else 0.001)
        for place, seconds in enumerate(stretches)
    ]
    return np.concatenate(parts).astype(np.float32)


def test_silence_is_what_lasts_a_second_at_least(rng):
    assert silence_s(speech(rng, 0.5, 3, 0.8, 3, 0.3), RATE_HZ) == 0
    assert silence_s(speech(rng, 2, 3, 1.5, 3, 0.3), RATE_HZ) == pytest.approx(3.5, abs=0.2)
    assert silence_s(speech(rng, 0, 5), RATE_HZ) == 0
    assert silence_s(speech(rng, 5), RATE_HZ) == 0
    assert silence_s(np.zeros(0, np.float32), RATE_HZ) == 0


@pytest.mark.parametrize("segmentation", ["fixed", "none"])
def test_much_silence_that_is_not_cut_out_is_said(rng, segmentation):
    for _ in range(2):  # more than one segment
        waveform = np.concatenate([speech(rng, 0, 6, 3)] * 6)
    with pytest.warns(AudioWarning, match=r"^call\.wav: 3\d % of it is silence.*vad leaves it out"):
        list(segments([waveform], RATE_HZ, segmentation, name="call.wav"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(segments([speech(rng, 0.5, 20, 1.5, 20)], RATE_HZ, segmentation))
