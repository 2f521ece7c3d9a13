"""NIST's segment time marks: against lhotse's reader, and by hand."""

import numpy as np
import pytest
import soundfile
from lhotse.recipes.tedlium import _parse_stm_file

import asr
from asr.corpus.manifest import cut_text, read_manifest
from asr.errors import ManifestError
from asr.importing.stm import read_stm

TALK = """;; a comment
AlGore_2009 1 inter_segment_gap 0.0 0.5 <o,,unknown> ignore_time_segment_in_scoring
AlGore_2009 1 AlGore_2009 0.51 1.2 <o,f0,male> there 's {NOISE} an <unk> old story
AlGore_2009 1 AlGore_2009 1.2 1.95 <o,f0,male> about | climate
"""


@pytest.fixture
def stm(tmp_path):
    """Write files: text, bytes, or None for two seconds of audio; return the folder."""

    def write(files):
        for name, content in files.items():
            path = tmp_path / "source" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                form = "NIST" if path.suffix == ".sph" else None
                soundfile.write(path, np.full(32000, 0.1), 16000, format=form, subtype="PCM_16")
            else:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / "source"

    return write


def test_tedlium_is_read_as_lhotse_reads_it(stm, tmp_path):
    files = {}
    for part in ("train", "dev", "test"):
        name = f"AlGore_2009{part}"
        files |= {f"legacy/{part}/stm/{name}.stm": TALK.partition("\n")[2].replace("AlGore_2009", name)}
        files |= {f"legacy/{part}/sph/{name}.sph": None}
    source = stm(files)
    expected = {
        (s.recording_id, round(s.start, 3), round(s.duration, 3), s.text.replace("[NOISE]", "{NOISE}"), s.speaker)
        for path in source.rglob("*.stm")
        for s in _parse_stm_file(path)
    }
    report = asr.import_stm(source / "legacy", tmp_path / "out")
    found = {
        (s.id.partition("-")[0], round(cut.start, 3), round(cut.duration, 3), cut_text(cut), s.speaker)
        for split in ("train", "dev", "test")
        for cut in read_manifest(tmp_path / f"out/{split}.jsonl.gz")
        for s in cut.supervisions
    }
    assert len(expected) == 6
    assert found == expected
    assert (report.utterances, report.skipped) == ({"train": 2, "dev": 2, "test": 2}, ())
    assert list(map(len, report.passed_over.values())) == [3]


def test_ids_speakers_genders_and_times_are_read(stm):
    source = stm({"talk.stm": TALK, "AlGore_2009.wav": None})
    first, second = read_stm(source / "talk.stm").utterances
    assert (first.id, first.start_s, first.channel) == ("AlGore_2009-0000510-0001200", 0.51, 0)
    assert first.duration_s == pytest.approx(0.69)
    assert (first.speaker, first.gender, first.split) == ("AlGore_2009", "male", None)
    assert (first.text, second.text) == ("there 's {NOISE} an <unk> old story", "about | climate")
    assert (first.audio_path, first.where) == (source / "AlGore_2009.wav", f"{source}/talk.stm:3")


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("i've { um / uh / @ } as far as i'm concerned", "i've um as far as i'm concerned"),  # of NIST's description
        ("{ @ / uh } yes", "yes"),
        ("{ a b / c } d { e / f }", "a b d e"),
        ("{ { a / b } c / d } e", "a c e"),
        ("{ a / { b / c } / d } e", "a e"),
        ("one / two } me@home", "one / two } me@home"),
        ("{NOISE} a", "{NOISE} a"),
    ],
)
def test_of_alternatives_the_first_is_taken_and_said(stm, said, text):
    material = read_stm(stm({"t.stm": f"t 1 s 0 1 {said}\nt 1 s 1 2 x\n", "t.wav": None}))
    assert [utterance.text for utterance in material.utterances] == [text, "x"]
    taken = ["1 utterance with alternatives such as { a / b }: the first one was taken"]
    assert material.notes == (taken if "{ " in said else [])


def test_alternatives_that_do_not_end_are_a_fault_of_their_line(stm):
    material = read_stm(stm({"t.stm": "t 1 s 0 1 a { b / c\nt 1 s 1 2 x\n", "t.wav": None}))
    assert [fault.reason for fault in material.left_out] == ["'a { b / c': a '{' has no '}'"]


@pytest.mark.parametrize(
    ("labels", "text", "gender"),
    [
        ("<o,f0,male> a", "a", "male"),
        ("<O,F0,F> a", "a", "female"),
        ("<F0_M> a", "a", "male"),
        ("<F2_F> a", "a", "female"),
        ("<NA> a", "a", None),
        ("<F0> a", "a", None),
        ("<o,,unknown> a", "a", None),
        ("<unk> a", "<unk> a", None),
        ("<NOISE> <F0_M> a", "<NOISE> <F0_M> a", None),
        ("<F0_M>a", "<F0_M>a", None),
    ],
)
def test_labels_are_no_words_and_name_the_gender(stm, labels, text, gender):
    (utterance,) = read_stm(stm({"t.stm": f"t 1 s 0 1 {labels}\n", "t.wav": None})).utterances
    assert (utterance.text, utterance.gender) == (text, gender)


@pytest.mark.parametrize(
    ("names", "channels"), [(("A", "B"), (0, 1)), (("1", "2"), (0, 1)), (("0", "1"), (0, 1)), (("a", "1"), (0, 0))]
)
def test_channels_are_letters_or_numbers(stm, names, channels):
    lines = "".join(f"call {name} speaker{name} {place} {place + 0.5} words\n" for place, name in enumerate(names))
    utterances = read_stm(stm({"call.stm": lines, "call.wav": None})).utterances
    assert tuple(utterance.channel for utterance in utterances) == channels
    assert utterances[1].id == ("call-0001000-0001500" if channels[1] == 0 else f"call-{names[1]}-0001000-0001500")


def test_recordings_are_named_with_or_without_suffix_and_may_be_elsewhere(stm):
    lines = "wav/a.sph 1 s 0 1 one\nb.v2 1 s 0 1 two\n"
    source = stm({"x/all.stm": lines, "audio/x/a.flac": None, "audio/b.v2.wav": None})
    first, second = read_stm(source, source / "audio").utterances
    assert (first.id, first.audio_path) == ("a-0000000-0001000", source / "audio/x/a.flac")
    assert (second.id, second.audio_path) == ("b.v2-0000000-0001000", source / "audio/b.v2.wav")


def test_files_and_folders_of_a_split_s_name_are_that_split(stm):
    files = {f"{name}.stm": f"{name[0]} 1 s 0 1 x\n" for name in ("train", "dev", "other")}
    files |= {"test/deep/o.stm": "o 1 s 1 2 x", "train.wav": None}
    source = stm({**files, **{f"{name}.wav": None for name in "tdo"}, "test/deep/o.wav": None})
    assert {u.where.rpartition("/")[2]: u.split for u in read_stm(source).utterances} == {
        "train.stm:1": "train",
        "dev.stm:1": "dev",
        "other.stm:1": None,
        "o.stm:1": "test",
    }


def test_lines_that_cannot_be_used_are_left_out(stm, tmp_path):
    lines = [
        "\ufefftalk 1 anna 0 1 good\r",
        "\r",
        "talk 1 anna 0\r",
        "talk 1 anna one two words\r",
        "talk 1 anna 1.5 1.5 words\r",
        "talk one anna 0 1 words\r",
        "gone 1 anna 0 1 words\r",
        "talk 1 anna 0 1 again\r",
        "talk 1 anna 1 1.2\r",
        "talk 2 anna 1.2 1.4 words\r",
        "talk 1 anna 1.9 2.6 words\r",
        "talk 1 inter_segment_gap 1.4 1.5 noise\r",
        "talk 1 anna 1.5 nan words\r",
    ]
    source = stm({"t.stm": "\n".join(lines), "talk.wav": None})
    report = asr.import_stm(source, tmp_path / "out", split=asr.SplitRule(dev_share=0, test_share=0))
    where = f"{source}/t.stm"
    assert report.utterances == {"train": 1}
    assert report.passed_over == {"marked ignore_time_segment_in_scoring": (f"{where}:12",)}
    reasons = [line.removeprefix(f"{where}:") for line in report.skipped]
    assert reasons[:4] == [
        "3: expected 'recording channel speaker start end <labels> text', found 'talk 1 anna 0'",
        "4: 'one' and 'two' are no times in seconds",
        "5: from 1.5 s to 1.5 s lasts no time",
        "6: 'one' is no channel; channels are A, B, … or 1, 2, …",
    ]
    assert reasons[4].startswith("7: no recording gone.*")
    assert reasons[5:] == [
        f"8: the utterance id 'talk-0000000-0001000' occurs already at {where}:1",
        "9: utterance talk-0001000-0001200: its transcript is empty",
        "10: utterance talk-2-0001200-0001400: channel 1, counted from 0, does not exist in "
        f"{source}/talk.wav, which has 1",
        f"11: utterance talk-0001900-0002600: 1.9 s to 2.6 s is not a part of {source}/talk.wav, which lasts 2 s",
        "13: its times are not known",
    ]


def test_what_is_passed_over_is_told_and_is_no_fault(call, stm, tmp_path):
    gap = "t 1 s 1 1.5 ignore_time_segment_in_scoring\n"
    source = stm({"t.stm": "t 1 s 0 1 x\n" + gap * 12, "t.wav": None})
    status, out, err = call("import", "stm", source, "--out", tmp_path / "out", "--dev-share=0", "--test-share=0")
    assert (status, err) == (0, "")
    joined = "".join(out.split())
    assert "note:12passedover,markedignore_time_segment_in_scoring:" in joined
    assert f"{source}/t.stm:11and2more" in joined


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b";; nothing\n", r"source: no utterances; each line is: recording channel"),
        (b"a,b\n", r"t\.stm:1: expected 'recording channel speaker"),
        (b"t 1 s 0 1 caf\xe9\n", r"t\.stm:1: not UTF-8"),
    ],
)
def test_a_malformed_file_is_refused(stm, content, reason):
    with pytest.raises(ManifestError, match=reason):
        read_stm(stm({"t.stm": content}))


def test_one_file_that_is_no_text_does_not_stop_the_others(stm):
    source = stm(
        {"a.wav": None, "a.stm": "a 1 s 0 1 one\n", "b.wav": None, "b.stm": b"b 1 s 0 1 one\nb 1 s 1 2 caf\xe9\n"}
    )
    material = read_stm(source)
    assert [utterance.id for utterance in material.utterances] == ["a-0000000-0001000"]
    assert [fault.line for fault in material.left_out] == [
        f"{source}/b.stm:2: not UTF-8 (byte 0xe9); save the segment time marks as UTF-8"
    ]
