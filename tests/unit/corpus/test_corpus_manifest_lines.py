"""A manifest's line with an impossible value is named by file and line; so is an id that occurs twice."""

import copy
import json
import math

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from lhotse import MonoCut
from lhotse.cut import Cut

from asr.config import TextSettings
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import (
    Entry,
    distinct,
    entries,
    load_manifest,
    make_cut,
    read_manifest,
    transcripts,
    write_manifest,
)
from asr.errors import AudioError, ManifestError


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """The JSON of an utterance's line, and the file to write it to."""
    folder = tmp_path_factory.mktemp("lines")
    soundfile.write(folder / "a.wav", np.full(16000, 0.1), 8000)
    cut = make_cut("u1", folder / "a.wav", "hello", "s1", start_s=0.5, duration_s=1.0)
    return cut.to_dict(), folder / "train.jsonl"


@pytest.fixture(scope="module")
def records(line):
    """The same line, and those of a cut of two channels and of one that lhotse puts together."""
    record, file = line
    soundfile.write(file.with_name("b.wav"), np.full((16000, 2), 0.1), 8000)
    plain, channels = (make_cut(name, file.with_name(f"{name}.wav"), "hello", "s1") for name in "ab")
    mixed = plain.append(channels.to_mono()[0]).pad(duration=5.0)
    mixed.id = "mixed"
    return [record, channels.to_dict(), mixed.to_dict()]


def places(value, path=()):
    """Yield the path of every value in nested JSON."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(inner, (*path, key))


def changed(record, path, value):
    record = copy.deepcopy(record)
    inner = record
    for key in path[:-1]:
        inner = inner[key]
    if value is MISSING:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return record


MISSING = object()
SPEED = [{"name": "Speed", "kwargs": {"factor": 1e-9}}]
WPE = [{"name": "DereverbWPE", "kwargs": {"n_fft": 10**9}}]
BROKEN_NUMBERS = [math.nan, math.inf, -math.inf, -1.0, 10**400, 1e308, True, "1.0", None, [], {}]


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("id",), 17, "its id is 17, but a text is needed"),
        (("duration",), "1.0", "its duration is '1.0', but a number of seconds from 0 to 1e.09 is needed"),
        (("duration",), -1.0, "its duration is -1.0"),
        (("start",), math.nan, "its start is nan"),
        (("start",), math.inf, "its start is inf"),
        (("supervisions", 0, "text"), ["a"], r"its text is \['a'\], but a text is needed"),
        (("supervisions", 0, "text"), "a\ud800", r"\\ud800 is half a surrogate pair, which is no character"),
        (("recording",), "a.wav", "not a lhotse cut"),
        (("recording", "sampling_rate"), 0, "its recording's sampling_rate is 0, but a whole number above 0"),
        (("recording", "duration"), 10**400, "its recording's duration is 1000"),
        (("recording", "sources", 0, "source"), None, "its source is None, but a text"),
        (("recording", "sources", 0, "source"), "a\0.wav", "its source is .*, but the path of a file is needed"),
        (("recording", "sources", 0, "channels"), ["a"], r"its source's channels is \['a'\], but a channel"),
        (
            ("recording", "sampling_rate"),
            10**9,
            "its recording's sampling_rate is 10{9}, but a sample rate from",
        ),
        (
            ("recording", "num_samples"),
            800,
            "its recording's num_samples 800 at 8000 Hz are 0.1 s, but its",
        ),
        (("recording", "num_samples"), 1e308, "its recording's num_samples is 1e.308"),
        (("recording", "transforms"), [{"name": "Nothing", "kwargs": {}}], "not a lhotse cut .*Nothing"),
        (("recording", "transforms"), SPEED, "its transform Speed's factor is 1e-09, but a number from 0.1 to 10 is"),
        (("recording", "transforms"), WPE, "its transform 'DereverbWPE' is not used here"),
        (("id",), "a\x1b[31m", r"its id is .*, but a text without the control character U\+001B"),
        (("channel",), "left", "its channel is 'left'"),
        (("channel",), [], r"its channel is \[\]"),
        (("supervisions", 0, "text"), "a\0b", r"its text is .*, but a text without the control character U\+0000"),
        (("supervisions", 0, "speaker"), 7, "its speaker is 7, but a text is needed"),
        (("supervisions", 0, "speaker"), ["s"], r"its speaker is \['s'\]"),
        (("supervisions", 0, "language"), {"a": 1}, "its language is .*, but a text is needed"),
        (("supervisions", 0, "duration"), 1e308, r"its supervision's duration is 1e\+308"),
        (("supervisions", 0), "hello", "not a lhotse cut .*; mend the line or take it out"),
    ],
)
def test_an_impossible_value_is_named_with_its_line_and_the_way_out(line, path, value, reason):
    record, file = line
    file.write_text(json.dumps(record) + "\n\n" + json.dumps(changed(record, path, value)) + "\n")
    with pytest.raises(ManifestError, match=rf"train\.jsonl:3: {reason}"):
        list(read_manifest(file))


def test_a_cut_with_more_supervisions_than_any_corpus_has_is_refused_before_they_are_made(line):
    record, file = line
    file.write_text(json.dumps(changed(record, ("supervisions",), record["supervisions"] * 20_001)))
    with pytest.raises(ManifestError, match=r"train\.jsonl:1: .*(20,001 supervisions|a line of more than)"):
        read_manifest(file)


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        ((1, "offset"), math.inf, "its track's offset is inf"),
        ((1, "offset"), -1.0, "its track's offset is -1.0"),
        ((1, "snr"), "loud", "its track's snr is 'loud'"),
        ((2, "cut", "sampling_rate"), 10**9, "its track's sampling_rate is 1000000000"),
    ],
)
def test_an_impossible_value_of_a_track_is_named(line, records, path, value, reason):
    _, file = line
    file.write_text(json.dumps(changed(records[2], ("tracks", *path), value)))
    with pytest.raises(ManifestError, match=rf"train\.jsonl:1: {reason}"):
        list(read_manifest(file))


def test_an_utterance_that_would_fill_the_memory_is_refused_before_it_is_read(line):
    record, _ = line
    cut = MonoCut.from_dict(copy.deepcopy(record)).pad(duration=1e6)
    with pytest.raises(AudioError, match=r"utterance .*: 1e\+06 s at 8000 Hz do not fit into memory at once"):
        load_cut(cut)


@pytest.mark.parametrize("text", ["Ünï", "\ud55c\uae00", "\U0001f600"])
def test_characters_that_json_escapes_are_read(line, text):
    record, file = line
    file.write_text(json.dumps(changed(record, ("supervisions", 0, "text"), text), ensure_ascii=True))
    (entry,) = entries(read_manifest(file))
    assert entry.text == text


JUNK = st.one_of(
    st.sampled_from([*BROKEN_NUMBERS, MISSING, "", "\ud800", "a\0b", "file", "command", [[]], {"id": 1}, 0, 3, 0.5]),
    st.floats(),
    st.integers(),
    st.text(max_size=3),
    st.lists(st.integers(-1, 3), max_size=3),
)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_whatever_is_wrong_with_a_line_is_an_error_that_names_it_or_does_no_harm(line, records, data):
    _, file = line
    record = data.draw(st.sampled_from(records))
    path = data.draw(st.sampled_from(list(places(record))))
    check_line(file, changed(record, path, data.draw(JUNK)))


@pytest.mark.parametrize("value", BROKEN_NUMBERS)
def test_broken_numbers_do_no_harm_anywhere_in_a_line(line, value):
    record, file = line
    for path in places(record):
        check_line(file, changed(record, path, value))


def check_line(file, record):
    """Read a line in both ways; it is refused by name, or gives values that the rest of the package can use."""
    file.write_text(json.dumps(record) + "\n")
    cut = result_of(lambda: next(iter(read_manifest(file))), ManifestError)
    entry = result_of(lambda: next(iter(entries(read_manifest(file)))), ManifestError)
    for found in (cut, entry):
        if isinstance(found, ManifestError):
            assert str(found).startswith(f"{file}:1: ")
    if isinstance(entry, Entry):
        assert isinstance(entry.id, str)
        assert 0 <= entry.duration_s < math.inf
        assert entry.text.encode() is not None
    if isinstance(cut, Cut):
        assert list(transcripts([cut], TextSettings())) == [cut.id]
        assert 0 <= cut.start < math.inf
        assert 0 <= cut.duration < math.inf
        samples = result_of(lambda: load_cut(cut, 8000), AudioError)
        assert cut.id in str(samples) if isinstance(samples, AudioError) else np.isfinite(samples).all()


def result_of(read, error):
    """Return what a function returns, or the error that it may raise."""
    try:
        return read()
    except error as reason:
        return reason


@pytest.mark.parametrize("content", ["[" * 100_000, '{"type": "MonoCut", "id": ' + "[" * 5_000, "1" * 5_000, '"' * 9])
def test_a_line_that_no_parser_takes_is_named(line, content):
    _, file = line
    file.write_text(content)
    for read in (list, entries):
        with pytest.raises(ManifestError, match=r"train\.jsonl:1: not a lhotse cut"):
            next(iter(read(read_manifest(file))))


def test_a_value_that_is_nested_without_end_is_refused_where_it_is_read(line):
    """lhotse keeps whatever a supervision's custom fields hold, and goes through them by recursion to write them."""
    record, file = line
    nested = copy.deepcopy(record)
    nested["supervisions"][0]["custom"] = {"note": "NESTED"}
    file.write_text(json.dumps(nested).replace('"NESTED"', "[" * 400 + "]" * 400) + "\n")
    for read in (list, entries):
        with pytest.raises(ManifestError, match=r"train\.jsonl:1: not a lhotse cut \(ValueError: nested deeper than"):
            next(iter(read(read_manifest(file))))


def test_two_utterances_with_one_id_are_refused_by_name_where_ids_look_utterances_up(line, tmp_path):
    record, file = line
    file.write_text((json.dumps(record) + "\n") * 2)
    cuts = list(read_manifest(file))
    reason = "two utterances have the id 'u1'; ids name utterances, so they must differ"
    with pytest.raises(ManifestError, match=rf"train\.jsonl: {reason}"):
        load_manifest(file)
    with pytest.raises(ManifestError, match=f"^{reason}"):
        transcripts(cuts, TextSettings())
    with pytest.raises(ManifestError, match=f"^{reason}"):
        list(distinct(cuts))
    write_manifest(cuts[:1], tmp_path / "other.jsonl")
    with pytest.raises(ManifestError, match=r"train\.jsonl and .*other\.jsonl: two utterances"):
        load_manifest(file, tmp_path / "other.jsonl")
    assert [cut.id for cut in load_manifest(tmp_path / "other.jsonl")] == ["u1"]
