"""Scripts without spaces: times, confidences, text and subtitles of single characters, worked by hand."""

import itertools
import json
import math

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from asr.audio.segment import Extent
from asr.text.tokens import TokenTable
from asr.transcript.subtitles import columns
from asr.transcript.transcript import Transcript
from asr.transcript.words import Decoded, Hypothesis, TokenSpan, Word, by_word

TABLE = TokenTable.from_texts([" iphoneを買うコーヒ今天气田"])


class Pieces:
    """A table of pieces, of which the words need the texts alone."""

    texts = ("<blank>", " 今天", "气", " ok", "コー", "ヒーを")

    def decode(self, ids):
        return " ".join("".join(self.texts[i] for i in ids).split())


def decoded(text, *others, probability=0.5):
    """Return an utterance whose characters are recognised in frames 0, 10, 20 …, and its other hypotheses."""
    spans = tuple(TokenSpan(token, 10 * i, 10 * i + 1, probability) for i, token in enumerate(TABLE.encode(text)))
    hypotheses = [
        Hypothesis(tuple(TABLE.encode(each)), math.log(share), 0.0, 0.0, ())
        for each, share in [(text, 1 - sum(share for _, share in others)), *others]
    ]
    return Decoded(tuple(hypotheses), spans, Extent(0.0, 1e9))


def test_each_character_has_its_time_and_the_text_is_what_the_model_wrote():
    transcript = Transcript.of(decoded("iphone を買う コーヒー").words(TABLE, 0.1), 99.0)
    assert transcript.text == "iphone を買う コーヒー"
    assert [(word.text, word.space_before) for word in transcript.words] == [
        ("iphone", True),
        ("を", True),
        ("買", False),
        ("う", False),
        ("コーヒー", True),
    ]
    # 買 is token 8 and recognised at 8 s, 0.07 s late; a second lies on each side, so it grows by 0.15 s.
    ke = transcript.words[2]
    assert (ke.start_s, ke.end_s) == pytest.approx((8 - 0.07 - 0.15, 8 - 0.07 + 0.15))


def test_times_of_characters_side_by_side_meet_in_the_middle():
    spans = [TokenSpan(token, 2 * i, 2 * i + 1, 0.9) for i, token in enumerate(TABLE.encode("今天气"), start=10)]
    utterance = Decoded((Hypothesis(tuple(TABLE.encode("今天气")), 0, 0, 0, ()),), tuple(spans), Extent(0.0, 9.0))
    words = utterance.words(TABLE, 0.1)
    assert [word.end_s for word in words[:-1]] == pytest.approx([2.1 - 0.07, 2.3 - 0.07])
    assert [word.start_s for word in words[1:]] == [word.end_s for word in words[:-1]]


def test_the_posterior_of_a_character_is_the_share_of_hypotheses_that_have_it():
    evidence = decoded("今天气", ("今田气", 0.25), ("田天气", 0.125)).evidence(TABLE)
    assert [item.posterior for item in evidence] == pytest.approx([0.875, 0.75, 1.0])
    assert [item.acoustic for item in evidence] == pytest.approx([math.log(0.5)] * 3)


def test_a_piece_of_several_units_shares_its_frames_by_character():
    spans = [TokenSpan(1, 4, 6, 0.25), TokenSpan(2, 8, 9, 1.0), TokenSpan(3, 10, 12, 0.5)]
    words = by_word([*spans, TokenSpan(4, 14, 16, 0.5), TokenSpan(5, 20, 23, 0.125)], Pieces())
    assert [(word.text, word.space_before) for word in words] == [
        ("今", True),
        ("天", False),
        ("气", False),
        ("ok", True),
        ("コーヒー", False),
        ("を", False),
    ]
    frames = [[(span.start, span.end, span.probability) for span in word.spans] for word in words]
    assert frames == [
        [(4, 5, 0.25)],
        [(5, 6, 0.25)],
        [(8, 9, 1.0)],
        [(10, 12, 0.5)],
        [(14, 16, 0.5), (20, 22, 0.125)],
        [(22, 23, 0.125)],
    ]


def test_formats_have_a_line_for_each_character():
    words = [Word("今", 0.0, 0.25, 0.5), Word("天", 0.25, 0.5, 0.75, space_before=False)]
    transcript = Transcript.of(words, 0.5, "a.wav")
    assert transcript.to_ctm() == "a 1 0.000 0.250 今 0.5000\na 1 0.250 0.250 天 0.7500\n"
    assert transcript.to_tsv().splitlines()[2] == "0.250\t0.500\t0.7500\t天"
    assert transcript.to_textgrid().count("text = ") == 2
    assert transcript.to_txt() == "今天\n"
    assert [word.get("space_before") for word in json.loads(transcript.to_json())["words"]] == [None, False]


def cues_of(transcript):
    """Return (start, end, lines) of each cue, in seconds."""
    cues = []
    for cue in transcript.to_srt().split("\n\n"):
        _, times, *lines = cue.strip().split("\n")
        hours, minutes, seconds = zip(
            *(part.replace(",", ".").split(":") for part in times.split(" --> ")), strict=True
        )
        start_s, end_s = (
            3600 * int(h) + 60 * int(m) + float(s) for h, m, s in zip(hours, minutes, seconds, strict=True)
        )
        cues.append((start_s, end_s, lines))
    return cues


def test_a_long_sentence_becomes_cues_of_two_lines_of_42_columns():
    text = "今天天气很好我们去公园散步吧" * 8
    cues = cues_of(Transcript.of([Word(text, 1.0, 21.0, 0.9)], 22.0))
    assert "".join("".join(lines) for *_, lines in cues) == text
    assert all(len(lines) <= 2 and all(cell_len(line) <= 42 for line in lines) for *_, lines in cues)
    assert cues[0][0] == 1.0
    assert cues[-1][1] == 21.0
    assert all(end_s - start_s <= 7 for start_s, end_s, _ in cues)


def test_a_line_never_begins_with_a_mark_or_a_full_stop():
    text = "น้ำกำลังไหล" * 20 + "。今，" * 30
    for *_, lines in cues_of(Transcript.of([Word(text, 0.0, 60.0, 0.9)], 60.0)):
        assert not any(regex.match(r"[\p{M}ำ。，]", line) for line in lines)


@given(
    st.lists(
        st.tuples(st.sampled_from(["今", "コーヒー", "ok", "กำ", "iphone"]), st.booleans()), min_size=1, max_size=60
    )
)
def test_cues_hold_the_text_with_its_spaces(units):
    words = [Word(text, i / 4, (i + 1) / 4, 1.0, space) for i, (text, space) in enumerate(units)]
    transcript = Transcript.of(words, 99.0)
    cues = cues_of(transcript)
    shown = "".join(line for *_, lines in cues for line in lines)
    assert shown.replace(" ", "") == transcript.text.replace(" ", "")
    assert all(line in transcript.text and cell_len(line) <= 42 for *_, lines in cues for line in lines)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(cues))


@given(st.text(st.characters(categories=["L", "N", "P"], max_codepoint=0x9FFF)))
def test_columns_are_those_that_rich_counts(text):
    known = [character for character in text if not regex.match(r"[ᄀ-ᇿ]", character)]  # jamo join, rich counts none
    assert columns("".join(known)) == sum(map(cell_len, known))
