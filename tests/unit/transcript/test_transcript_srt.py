"""Subtitles, read back by pysubs2: nothing lost, nothing overlapping, limits kept, breaks at the pauses."""

import itertools
import re

import pysubs2
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.transcript.transcript import Transcript
from asr.transcript.words import Word

LINE_CHARACTERS, SHORTEST_MS, LONGEST_MS, PAUSE_MS = 42, 1000, 7000, 500
FASTEST_MS_PER_CHARACTER = 45  # about 22 characters a second; fast speech has 20

letters = st.characters(categories=["L"], max_codepoint=0x0DFF)  # of scripts with spaces, a column wide
texts = st.text(letters, min_size=1, max_size=12) | st.text("mno", min_size=1, max_size=60)
gaps_ms = st.just(0) | st.integers(0, 300) | st.integers(400, 6000)
steady = st.tuples(st.text("mno", min_size=1, max_size=10), st.integers(0, 80), st.integers(450, 600))


def transcript_of(spoken: list[tuple[str, int, int]]) -> Transcript:
    """Build a transcript from (text, gap before in ms, duration in ms)."""
    words, now_ms = [], 0
    for text, gap_ms, duration_ms in spoken:
        start_ms = now_ms + gap_ms
        now_ms = start_ms + duration_ms
        words.append(Word(text, start_ms / 1000, now_ms / 1000, 1.0))
    return Transcript(" ".join(word.text for word in words), tuple(words), now_ms / 1000, 1.0)


@st.composite
def speech(draw, max_size=60):
    """Words no faster than people speak, with pauses."""
    spoken = []
    for text in draw(st.lists(texts, max_size=max_size)):
        shortest = FASTEST_MS_PER_CHARACTER * len(text)
        spoken.append((text, draw(gaps_ms), shortest + draw(st.integers(0, 3 * shortest))))
    return transcript_of(spoken)


# Running speech, which only the limits of size and time can break.
monologue = st.lists(steady, min_size=20, max_size=60).map(transcript_of)
# Anything at all, also faster than anybody speaks.
gabble = st.lists(st.tuples(texts, gaps_ms, st.integers(1, 9000)), max_size=40).map(transcript_of)


def cues_of(transcript: Transcript) -> list[tuple[int, int, list[str]]]:
    """Return (start_ms, end_ms, lines) as an independent reader sees them."""
    subtitles = pysubs2.SSAFile.from_string(transcript.to_srt(), format_="srt", keep_html_tags=True)
    return [(event.start, event.end, event.text.split("\\N")) for event in subtitles]


def words_in(lines: list[str]) -> list[str]:
    return " ".join(lines).split(" ")


@settings(deadline=None)
@given(speech() | monologue)
def test_speech_keeps_every_limit(transcript):
    for start_ms, end_ms, lines in cues_of(transcript):
        assert SHORTEST_MS <= end_ms - start_ms <= LONGEST_MS
        assert 1 <= len(lines) <= 2
        assert all(len(line) <= LINE_CHARACTERS or " " not in line for line in lines)


@settings(deadline=None)
@given(speech() | monologue | gabble)
def test_all_words_are_there_in_order_and_no_cues_overlap(transcript):
    cues = cues_of(transcript)
    assert [text for _, _, lines in cues for text in words_in(lines)] == [word.text for word in transcript.words]
    assert all(0 < end_ms - start_ms <= LONGEST_MS for start_ms, end_ms, _ in cues)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(cues))


@settings(deadline=None)
@given(speech() | monologue | gabble)
def test_a_cue_starts_with_its_first_word_and_stays_until_its_last_or_seven_seconds(transcript):
    rest = iter(transcript.words)
    for start_ms, end_ms, lines in cues_of(transcript):
        inside = [next(rest) for _ in words_in(lines)]
        assert start_ms == round(1000 * inside[0].start_s)
        assert end_ms >= min(round(1000 * inside[-1].end_s), start_ms + LONGEST_MS)


@settings(deadline=None)
@given(speech() | monologue | gabble)
def test_numbers_count_from_one_and_times_have_two_digit_fields(transcript):
    text = transcript.to_srt()
    heads = re.findall(r"(?:\A|\n\n)(\d+)\n(\d\d:\d\d:\d\d,\d{3} --> \d\d:\d\d:\d\d,\d{3})\n", text)
    assert [int(number) for number, _ in heads] == list(range(1, text.count(" --> ") + 1))


@settings(deadline=None)
@given(speech(max_size=7) | gabble.filter(lambda transcript: len(transcript.words) <= 7))
def test_no_other_breaking_has_fewer_short_cues_or_bridged_pauses(transcript):
    words = transcript.words
    starts = [round(1000 * word.start_s) for word in words]
    ends = [round(1000 * word.end_s) for word in words]

    def faults(breaks: tuple[int, ...]) -> tuple[int, int] | None:
        short = bridged = 0
        for first, after in itertools.pairwise((0, *breaks, len(words))):
            cue = [word.text for word in words[first:after]]
            if len(cue) > 1 and (not fits(cue) or ends[after - 1] - starts[first] > LONGEST_MS):
                return None
            until = starts[after] if after < len(words) else starts[first] + SHORTEST_MS
            short += until - starts[first] < SHORTEST_MS
            bridged += sum(starts[i] - ends[i - 1] > PAUSE_MS for i in range(first + 1, after))
        return short, bridged

    chosen = tuple(itertools.accumulate(len(words_in(lines)) for _, _, lines in cues_of(transcript)))[:-1]
    places = range(1, len(words))
    every = (breaks for size in range(len(words)) for breaks in itertools.combinations(places, size))
    allowed = [found for breaks in every if (found := faults(breaks)) is not None]
    assert not words or faults(chosen) == min(allowed)


def fits(texts_in_cue: list[str]) -> bool:
    """Say whether some split into at most two lines keeps the width; a line of one word may exceed it."""
    splits = [[part for part in (texts_in_cue[:i], texts_in_cue[i:]) if part] for i in range(len(texts_in_cue))]
    return any(all(len(part) == 1 or len(" ".join(part)) <= LINE_CHARACTERS for part in split) for split in splits)


def test_a_short_answer_stays_for_a_second():
    assert transcript_of([("yes", 1500, 250)]).to_srt() == "1\n00:00:01,500 --> 00:00:02,500\nyes\n"


def test_a_pause_separates_cues_and_the_file_reads_as_worked_by_hand():
    transcript = transcript_of([("good", 3_599_000, 500), ("morning", 100, 900), ("everyone", 900, 700)])
    assert transcript.to_srt() == (
        "1\n00:59:59,000 --> 01:00:00,500\ngood morning\n\n2\n01:00:01,400 --> 01:00:02,400\neveryone\n"
    )


def test_words_too_close_for_a_second_each_share_a_cue_despite_the_pause():
    transcript = transcript_of([("no", 0, 200), ("wait", 600, 300)])
    assert transcript.to_srt() == "1\n00:00:00,000 --> 00:00:01,100\nno wait\n"


def spoken_evenly(*gaps_before_ms: int) -> list[tuple[str, int, int]]:
    """Words of ten letters, of which three fit in a line."""
    return [("abcdefghij", gap_ms, 600) for gap_ms in gaps_before_ms]


def test_running_speech_is_broken_at_its_longest_hesitation():
    cues = cues_of(transcript_of(spoken_evenly(0, 0, 0, 300, 0, 0, 50, 0, 0)))
    assert [len(words_in(lines)) for _, _, lines in cues] == [3, 6]


def test_running_speech_without_hesitation_makes_few_and_equally_full_cues():
    cues = cues_of(transcript_of(spoken_evenly(*[0] * 14)))
    assert sorted(len(words_in(lines)) for _, _, lines in cues) == [4, 5, 5]


def test_two_lines_are_about_equally_long():
    lines = ["eleven letters or a few", "more of them in every line"]
    spoken = [(text, 0, 300) for text in words_in(lines)]
    assert [cue[2] for cue in cues_of(transcript_of(spoken))] == [lines]


def test_a_word_of_ten_seconds_is_shown_for_seven():
    assert cues_of(transcript_of([("aaah", 0, 10_000)])) == [(0, 7000, ["aaah"])]


def test_an_empty_transcript_is_an_empty_file():
    assert transcript_of([]).to_srt() == ""
