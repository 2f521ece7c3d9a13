"""Transcripts as txt, json and jsonl: what a reader of the files gets back."""

import io
import json
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.transcript.transcript import FORMATS, Alternative, Transcript, best_alternatives
from asr.transcript.words import Word

TRANSCRIPT = Transcript(
    "zwei Brötchen",
    (Word("zwei", 0.12, 0.4, 0.9), Word("Brötchen", 0.48, 1.0799999, 0.123456)),
    1.5,
    0.5,
    "ton/[a].wav",
)
EMPTY = Transcript("", (), 2.0, 0.0)

times = st.floats(0, 1e5)
shares = st.floats(0, 1)
texts = st.text(min_size=1, max_size=12)
words = st.builds(Word, texts, times, times, shares)
transcripts = st.builds(
    Transcript,
    texts,
    st.lists(words, max_size=8).map(tuple),
    times,
    shares,
    st.none() | st.text(),
    st.none() | st.integers(0, 9),
)


def test_txt_is_the_text_and_a_line_end():
    assert TRANSCRIPT.to_txt() == "zwei Brötchen\n"


def test_an_empty_transcript_is_an_empty_line_of_txt():
    assert EMPTY.to_txt() == "\n"


def test_json_has_the_documented_keys_and_rounded_numbers():
    assert json.loads(TRANSCRIPT.to_json()) == {
        "path": "ton/[a].wav",
        "channel": None,
        "duration_s": 1.5,
        "text": "zwei Brötchen",
        "confidence": 0.5,
        "words": [
            {"text": "zwei", "start_s": 0.12, "end_s": 0.4, "confidence": 0.9},
            {"text": "Brötchen", "start_s": 0.48, "end_s": 1.08, "confidence": 0.1235},
        ],
    }


def test_json_keeps_letters_readable():
    assert "Brötchen" in TRANSCRIPT.to_json()


def test_an_empty_transcript_is_valid_json():
    assert json.loads(EMPTY.to_json()) == {
        "path": None,
        "channel": None,
        "duration_s": 2.0,
        "text": "",
        "confidence": 0.0,
        "words": [],
    }


def test_json_refuses_what_other_readers_cannot_parse():
    with pytest.raises(ValueError, match="not JSON compliant"):
        Transcript("a", (), float("nan"), 0.0).to_json()


@settings(deadline=None)
@given(transcripts)
def test_jsonl_is_one_line_that_gives_the_transcript_back_as_json_does(transcript):
    line = transcript.to_jsonl()
    assert line.endswith("\n")
    assert len(io.StringIO(line, newline="").readlines()) == 1
    back = json.loads(line)
    assert json.loads(transcript.to_json()) == back
    assert (back["text"], back["path"]) == (transcript.text, transcript.path)
    assert back["channel"] == transcript.channel
    assert back["duration_s"] == pytest.approx(transcript.duration_s, abs=0.00051)
    assert back["confidence"] == pytest.approx(transcript.confidence, abs=0.000051)
    assert [word["text"] for word in back["words"]] == [word.text for word in transcript.words]
    for written, word in zip(back["words"], transcript.words, strict=True):
        assert written["start_s"] == pytest.approx(word.start_s, abs=0.00051)
        assert written["end_s"] == pytest.approx(word.end_s, abs=0.00051)
        assert written["confidence"] == pytest.approx(word.confidence, abs=0.000051)


def test_json_keeps_a_file_name_that_is_not_utf_8():
    name = b"caf\xe9.wav".decode("utf-8", "surrogateescape")
    transcript = Transcript("a", (), 1.0, 1.0, name)
    for line in (transcript.to_json(), transcript.to_jsonl()):
        assert json.loads(line.encode("utf-8"))["path"] == name
    word = Word("a", 0.0, 1.0, 1.0)
    assert Transcript("a", (word,), 1.0, 1.0, name).to_ctm().encode("utf-8").startswith(b"caf\\udce9 1 0.00")


def test_json_is_indented_to_be_read_by_people():
    assert EMPTY.to_json() == (
        '{\n  "path": null,\n  "channel": null,\n  "duration_s": 2.0,\n'
        '  "text": "",\n  "confidence": 0.0,\n  "words": []\n}\n'
    )


def test_every_format_is_what_the_method_of_its_name_returns():
    assert {name: write(TRANSCRIPT) for name, write in FORMATS.items()} == {
        "txt": TRANSCRIPT.to_txt(),
        "json": TRANSCRIPT.to_json(),
        "jsonl": TRANSCRIPT.to_jsonl(),
        "srt": TRANSCRIPT.to_srt(),
        "vtt": TRANSCRIPT.to_vtt(),
        "tsv": TRANSCRIPT.to_tsv(),
        "ctm": TRANSCRIPT.to_ctm(),
        "TextGrid": TRANSCRIPT.to_textgrid(),
    }


def test_a_transcript_prints_its_text_and_shows_itself_in_one_short_line(capsys):
    print(TRANSCRIPT)
    assert capsys.readouterr().out == "zwei Brötchen\n"
    assert repr(TRANSCRIPT) == (
        "<asr.Transcript 'zwei Brötchen': 2 words, 1.50 s, confidence 0.50, path='ton/[a].wav'>"
    )
    assert repr(EMPTY) == "<asr.Transcript '': 0 words, 2.00 s, confidence 0.00>"
    assert repr(TRANSCRIPT.words[0]) == "<asr.Word 'zwei' 0.12-0.40 s, confidence 0.90>"
    long = Transcript("word " * 1000, (), 900.0, 0.5, channel=1)
    assert len(repr(long)) < 120
    assert "word word" in repr(long)
    assert repr(long).endswith("channel=1>")


scores = st.integers(-40, 0).map(float)  # their sums are exact
segment_lists = st.lists(
    st.lists(st.builds(Alternative, st.sampled_from(["", "a", "b", "a b"]), scores), min_size=1, max_size=4), max_size=4
)


@given(segment_lists, st.integers(1, 6))
def test_the_best_texts_of_a_recording_are_those_of_all_combinations_of_its_segments(segments, count):
    scores_of = {}
    for combination in product(*segments):
        text = " ".join(part.text for part in combination if part.text)
        scores_of.setdefault(text, []).append(sum(part.score for part in combination))
    first, *others = best_alternatives(segments, count)
    assert first.text == " ".join(parts[0].text for parts in segments if parts[0].text)
    assert first.score == sum(parts[0].score for parts in segments)
    best = {text: max(found) for text, found in scores_of.items() if text != first.text}
    assert [item.score for item in others] == sorted(best.values(), reverse=True)[: count - 1]
    assert all(best[item.text] == item.score for item in others)
    assert len({item.text for item in others}) == len(others)


def test_json_has_the_n_best_list_only_if_it_was_asked_for():
    with_list = Transcript("a", (), 1.0, 0.0, n_best=(Alternative("a", -1.000049), Alternative("b", -2.5)))
    assert json.loads(with_list.to_json())["n_best"] == [{"text": "a", "score": -1.0}, {"text": "b", "score": -2.5}]
    assert "n_best" not in json.loads(TRANSCRIPT.to_json())
