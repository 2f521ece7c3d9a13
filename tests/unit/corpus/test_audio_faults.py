"""What is said of an utterance's samples, in cases worked by hand."""

import tracemalloc

import numpy as np
import pytest
import scipy.signal
import soundfile
from conftest import syllables

from asr.corpus.audio_faults import examine_audio
from asr.corpus.duplicates import highest_correlation, same_recordings, similar_recordings

RATE_HZ = 16000


@pytest.fixture
def speech(rng):
    return (0.8 * syllables(rng, 2.0, RATE_HZ)).astype(np.float32)


def faults(samples, rate_hz=RATE_HZ, model_rate_hz=16000):
    found = examine_audio(np.atleast_2d(samples).astype(np.float32), rate_hz, model_rate_hz).faults
    return {fault.kind: fault.value for fault in found}


def test_the_share_of_clipped_samples_is_counted(speech):
    speech[1000:1040] = 0.45  # no sample is louder
    speech[3000:3010] = -0.45
    assert faults(speech) == {"clipped": pytest.approx(50 / 32000)}


def test_two_loud_samples_in_a_row_are_not_clipped(speech):
    speech[1000:1002] = speech[3000:3002] = 0.45
    assert faults(speech) == {}


@pytest.mark.parametrize("subtype", ["PCM_U8", "ULAW", "ALAW"])
def test_coarse_steps_are_not_taken_for_clipping(tmp_path, speech, subtype):
    path = tmp_path / "a.wav"
    time_s = np.arange(2 * RATE_HZ) / RATE_HZ
    soundfile.write(path, speech + 0.3 * np.sin(2 * np.pi * 150 * time_s) * speech.std(), RATE_HZ, subtype=subtype)
    assert "clipped" not in faults(soundfile.read(path, dtype="float32")[0])


def test_an_offset_is_measured_and_hides_nothing(speech):
    assert faults(speech + 0.25) == {"dc-offset": pytest.approx(0.25, abs=0.01)}
    found = faults(0.001 * speech + 0.25)
    assert found.keys() == {"dc-offset", "low-level"}


@pytest.mark.parametrize("constant", [0.0, 0.25])
def test_samples_that_are_all_the_same_are_silent(constant):
    assert faults(np.full(16000, constant)).keys() == {"silent"}


def test_steady_noise_is_not_speech_at_any_level_but_loud_and_quiet_noise_may_be(rng, speech):
    for level in (0.003, 0.3):
        assert faults(level * rng.uniform(-1, 1, 32000)).keys() == {"no-speech"}
    assert faults(speech) == {}


@pytest.mark.parametrize(
    ("start", "stop", "accused"), [(0, 32000, []), (2667, 32000, ["cut-off"]), (0, 17333, ["cut-off"])]
)
def test_a_beginning_or_an_end_in_full_voice_is_cut_off(speech, start, stop, accused):
    # Syllables are loudest after 1/12 s, 5/12 s and so on.
    assert list(faults(speech[start // 2 : stop])) == accused


def test_a_pause_of_zeros_is_no_dropout(speech):
    pause = speech.copy()
    pause[2700:5300] = 0  # between two syllables
    assert faults(pause) == {}
    pause[1000:1800] = 0
    assert list(faults(pause)) == ["dropout"]


def test_a_channel_without_sound_is_named_by_its_number(speech, rng):
    other = 0.1 * speech + 0.001 * rng.standard_normal(len(speech))
    assert faults([speech, other]) == {}
    assert faults([speech, 0 * speech, other]) == {"dead-channel": 1}


@pytest.mark.parametrize(("rate_hz", "from_hz"), [(16000, 8000), (44100, 8000), (48000, 11025)])
def test_a_raised_rate_is_found_with_the_highest_frequency(rng, rate_hz, from_hz):
    original = 0.8 * syllables(rng, 2.0, from_hz)
    raised = np.round(scipy.signal.resample(original, 2 * rate_hz) * 32767) / 32768
    assert faults(raised, rate_hz) == {"raised-rate": pytest.approx(from_hz / 2, rel=0.08)}
    assert faults(0.8 * syllables(rng, 2.0, rate_hz), rate_hz) == {}


def test_what_the_network_does_not_hear_anyway_may_be_missing(rng):
    raised = np.round(scipy.signal.resample(0.8 * syllables(rng, 2.0, 16000), 96000) * 32767) / 32768
    assert faults(raised, 48000, 16000) == {}
    assert faults(raised, 48000, 48000).keys() == {"raised-rate"}


def test_audio_of_a_few_samples_is_examined(rng):
    for count in (1, 2, 3, 100, 600):
        assert faults(rng.uniform(-0.5, 0.5, count)).keys() <= {"silent"}


def test_a_copy_has_the_same_fingerprint_and_its_samples_decide(rng, speech):
    takes = [speech, (0.8 * syllables(rng, 2.0, RATE_HZ)).astype(np.float32)]
    copy = 0.2 * np.concatenate([np.zeros(4001, np.float32), speech])
    heard = [examine_audio(samples[None], RATE_HZ, RATE_HZ) for samples in (*takes, copy)]
    samples = [*takes, copy]
    pairs = similar_recordings([one.fingerprint for one in heard], [one.spread_s for one in heard])
    assert pairs[0] == (0, 2)
    everything = [(0, 1), (0, 2), (1, 2)]
    found = same_recordings(everything, lambda place: (samples[place], RATE_HZ))
    assert [(pair.first, pair.second) for pair in found] == [(0, 2)]
    assert found[0].correlation == pytest.approx(1, abs=0.01)


def test_the_highest_correlation_is_that_of_all_shifts(rng):
    first, second = rng.standard_normal(50), rng.standard_normal(40)
    shifts = np.abs(np.correlate(first, second, mode="full"))  # numpy's sum of products, shift by shift
    norms = np.linalg.norm(first) * np.linalg.norm(second)
    found = highest_correlation(first, second)
    assert found >= shifts.max() / norms - 1e-9
    assert highest_correlation(first, -3 * first) == pytest.approx(1, abs=0.02)


def test_of_many_recordings_that_are_all_alike_only_the_most_similar_are_kept():
    generator = np.random.default_rng(3)
    alike = generator.normal(0, 40, 160) + generator.normal(0, 5, (3000, 160))  # every pair is similar: 4.5 million
    alike[700] = alike[2200] = alike[31]
    fingerprints = np.clip(np.round(alike), -127, 127).astype(np.int8)
    tracemalloc.start()
    found = similar_recordings([one.tobytes() for one in fingerprints], [0.3] * 3000)
    peak_mb = tracemalloc.get_traced_memory()[1] / 1e6
    tracemalloc.stop()

    vectors = (fingerprints / np.linalg.norm(fingerprints, axis=1, keepdims=True)).astype(np.float32)
    similarities = vectors @ vectors.T
    largest = np.sort(similarities[np.triu_indices(3000, 1)])[::-1][: len(found)]
    assert len(set(found)) == len(found) == 3000
    assert set(found[:3]) == {(31, 700), (31, 2200), (700, 2200)}
    assert similarities[tuple(np.transpose(found))] == pytest.approx(largest, abs=1e-6)
    assert peak_mb < 250  # a list of all pairs takes 700 MB
