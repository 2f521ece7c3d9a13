"""Cutting recordings into segments: nothing that is said is lost or doubled, and little is held at a time."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr.audio.segment import FILE_RULE, Segment, _Tape, segments
from asr.features.batch import SEGMENT_BATCH_S as BATCH_S
from asr.features.batch import SEGMENT_POOL_S, segment_batches

RATE_HZ = 1000  # nothing but the speech detector minds the rate, and that is replaced
WINDOW = 32
PAUSE, EARLY, BEFORE, AFTER = 600, 300, 300, 200
LONGEST = int(FILE_RULE.longest_s) * RATE_HZ


pytestmark = pytest.mark.usefixtures("loud_is_speech")


def recording(*stretches):
    """Return (pause, speech, pause, …) samples: speech is loud, and no two samples are alike."""
    parts = [np.full(samples, 0.5 if place % 2 else 0.0) for place, samples in enumerate(stretches)]
    waveform = np.concatenate(parts)
    return (waveform + np.arange(len(waveform)) / len(waveform) / 100).astype(np.float32)


def in_blocks(waveform, size):
    return np.split(waveform, range(size, len(waveform), size))


def check_law(waveform, found):
    """Segments are parts of the recording, in order, without overlap, and say what they skip."""
    end = 0
    for segment in found:
        assert segment.start == end + segment.skipped >= end
        end = segment.start + len(segment.waveform)
        np.testing.assert_array_equal(segment.waveform, waveform[segment.start : end])
        assert 0 < len(segment.waveform) <= LONGEST
    assert end <= len(waveform)


@pytest.mark.parametrize("samples", [1, LONGEST, 3 * LONGEST])
def test_a_recording_in_which_nobody_speaks_has_no_segment(samples):
    assert list(segments(in_blocks(recording(samples), 7000), RATE_HZ)) == []


@pytest.mark.parametrize("segmentation", ["fixed", "none"])
@pytest.mark.parametrize("samples", [1, LONGEST])
def test_a_recording_of_half_a_minute_stays_whole_if_speech_is_not_looked_for(segmentation, samples):
    waveform = recording(samples)
    (found,) = segments(in_blocks(waveform, 7000), RATE_HZ, segmentation)
    assert (found.start, found.skipped) == (0, 0)
    np.testing.assert_array_equal(found.waveform, waveform)


@pytest.mark.parametrize("stretches", [(0, 5000), (PAUSE - WINDOW, 3000, EARLY - 2 * WINDOW, 3000, PAUSE - 2 * WINDOW)])
def test_a_short_recording_with_no_pause_between_words_stays_whole(stretches):
    waveform = recording(*stretches)
    (found,) = segments(in_blocks(waveform, 7000), RATE_HZ, "vad")
    assert (found.start, found.skipped) == (0, 0)
    np.testing.assert_array_equal(found.waveform, waveform)


@pytest.mark.parametrize(("before", "after"), [(9000, 9000), (PAUSE + WINDOW, 100), (100, PAUSE + WINDOW)])
def test_of_a_pause_at_the_end_of_a_short_recording_a_little_is_kept(before, after):
    waveform = recording(before, 3000, after)
    (found,) = segments(in_blocks(waveform, 7000), RATE_HZ, "vad")
    check_law(waveform, [found])
    kept = before - found.start, found.start + len(found.waveform) - before - 3000
    for silence, rest, least in zip((before, after), kept, (BEFORE, AFTER), strict=True):
        assert rest == silence if silence < PAUSE else least <= rest < least + WINDOW


@pytest.mark.parametrize("size", [100, 7000])
def test_a_short_recording_is_cut_in_a_pause_as_a_long_one_is(size):
    waveform = recording(3000, 1000, 700, 500)
    found = list(segments(in_blocks(waveform, size), RATE_HZ))
    check_law(waveform, found)
    beginning = list(segments(in_blocks(np.concatenate([waveform, recording(30_000)]), size), RATE_HZ))
    assert [(segment.start, segment.skipped) for segment in found] == [(s.start, s.skipped) for s in beginning]
    assert len(found) == 2
    for segmentation in ("fixed", "none"):
        assert len(list(segments(in_blocks(waveform, size), RATE_HZ, segmentation))) == 1


@pytest.mark.parametrize("size", [100, 7000, 10**6])
def test_segments_keep_a_little_of_the_pauses_around_them(size):
    waveform = recording(3000, 4000, 700, 5000, 20_000, 100, 700, 50, 10_000)
    found = list(segments(in_blocks(waveform, size), RATE_HZ))
    check_law(waveform, found)
    spoken = [(3000, 7000), (7700, 12_700), (32_700, 32_800), (33_500, 33_550)]
    assert len(found) == len(spoken)
    for segment, (start, end) in zip(found, spoken, strict=True):
        assert start - BEFORE - WINDOW < segment.start <= start - BEFORE
        assert end + AFTER <= segment.start + len(segment.waveform) < end + AFTER + WINDOW


def test_a_short_pause_does_not_cut():
    waveform = recording(1000, 3000, EARLY - 2 * WINDOW, 3000, 30_000)
    assert len(list(segments([waveform], RATE_HZ))) == 1


@pytest.mark.parametrize(("speech", "pause", "count"), [(400, 500, 1), (400, 700, 2), (1500, 500, 2), (1500, 350, 2)])
def test_a_short_pause_cuts_once_a_segment_has_a_second(speech, pause, count):
    waveform = recording(1000, speech, pause, 2000, 30_000)
    found = list(segments([waveform], RATE_HZ))
    check_law(waveform, found)
    assert len(found) == count


def test_speech_that_reaches_the_ends_of_the_recording_is_kept_to_its_last_sample():
    waveform = recording(0, 2000, 30_000, 2000)
    first, last = segments(in_blocks(waveform, 999), RATE_HZ)
    assert first.start == 0
    assert last.start + len(last.waveform) == len(waveform)


def test_speech_without_a_pause_is_cut_where_it_is_quietest():
    waveform = recording(0, 100_000)
    for dip in (20_000, 45_000, 71_000):
        waveform[dip - 100 : dip + 100] *= 0.3
    found = list(segments(in_blocks(waveform, 3000), RATE_HZ))
    check_law(waveform, found)
    assert sum(segment.skipped for segment in found) == 0
    assert [segment.start for segment in found[:4]] == pytest.approx([0, 20_000, 45_000, 71_000], abs=20)
    assert found[-1].start + len(found[-1].waveform) == len(waveform)


def test_fixed_segments_cover_everything_and_are_cut_where_it_is_quietest():
    waveform = recording(0, 100_000)
    for dip in (20_000, 45_000, 71_000):
        waveform[dip - 100 : dip + 100] *= 0.3
    for size in (100, 3000, 10**6):
        found = list(segments(in_blocks(waveform, size), RATE_HZ, "fixed"))
        check_law(waveform, found)
        assert sum(len(segment.waveform) for segment in found) == len(waveform)
        assert [segment.start for segment in found[:4]] == pytest.approx([0, 20_000, 45_000, 71_000], abs=20)


def test_none_keeps_the_recording_whole():
    waveform = recording(0, 100_000)
    (found,) = segments(in_blocks(waveform, 7000), RATE_HZ, "none")
    np.testing.assert_array_equal(found.waveform, waveform)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.integers(0, 3000) | st.integers(0, 40_000), min_size=1, max_size=12),
    st.sampled_from([90, 1000, 33_333]),
    st.sampled_from(["vad", "fixed"]),
)
def test_all_speech_is_in_exactly_one_segment(stretches, size, segmentation):
    waveform = recording(*stretches)
    found = list(segments(in_blocks(waveform, size), RATE_HZ, segmentation)) if len(waveform) else []
    check_law(waveform, found)
    covered = np.zeros(len(waveform), bool)
    for segment in found:
        covered[segment.start : segment.start + len(segment.waveform)] = True
    assert covered[waveform > 0.1].all()


def test_a_segment_comes_once_its_pause_is_heard():
    waveform = np.concatenate([recording(5000, 2000)] * 20)
    heard = []

    def blocks():
        for block in in_blocks(waveform, 100):
            heard.append(len(block))
            yield block

    found = segments(blocks(), RATE_HZ)
    next(found)  # to know that the recording is long
    for segment in found:
        waited = sum(heard) - (segment.start + len(segment.waveform) - AFTER)
        assert waited <= PAUSE + WINDOW + 100 or segment.start < LONGEST


@pytest.mark.parametrize("segmentation", ["vad", "fixed"])
@pytest.mark.parametrize("stretches", [(500_000,), (0, 500_000), (1000, 2000) * 200])
def test_no_more_than_a_segment_is_held_however_long_the_recording(monkeypatch, segmentation, stretches):
    append, held = _Tape.append, []

    def noting(tape, block):
        append(tape, block)
        held.append(tape.end - tape.start)

    monkeypatch.setattr(_Tape, "append", noting)
    for _ in segments(in_blocks(recording(*stretches), 1000), RATE_HZ, segmentation):
        pass
    assert len(held) > 100
    assert max(held) <= LONGEST + 1000
    if stretches == (500_000,) and segmentation == "vad":
        assert held[-1] <= BEFORE + WINDOW + 1000  # silence is not kept


def test_batches_are_of_similar_length_bounded_and_complete_and_their_segments_were_not_held_for_long():
    rng = np.random.default_rng(1)
    seconds = rng.uniform(0.5, 30, 100)
    drawn = []

    def source():
        for place, duration_s in enumerate(seconds):
            drawn.append(place)
            yield Segment(place, np.zeros(round(duration_s * RATE_HZ), np.float32), 0)

    given_back, padded_s = 0, 0.0
    for group in segment_batches(source(), RATE_HZ):
        longest_s = max(len(segment.waveform) for segment in group) / RATE_HZ
        assert longest_s * len(group) <= BATCH_S
        padded_s += longest_s * len(group)
        assert seconds[given_back : len(drawn)].sum() <= SEGMENT_POOL_S + FILE_RULE.longest_s
        given_back += len(group)
    assert given_back == len(seconds)
    assert padded_s < 1.15 * seconds.sum()
