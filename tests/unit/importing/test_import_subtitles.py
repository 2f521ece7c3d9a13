"""Subtitles: what is dropped, who speaks, which cues are left out, which file belongs to which recording."""

import string
from pathlib import Path

import numpy as np
import pysubs2
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

import asr
from asr.corpus.manifest import cut_speaker, cut_text, load_manifest
from asr.errors import ManifestError
from asr.importing.subtitles import read_subtitles


def silence(path, seconds=60.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(round(8000 * seconds), np.float32), 8000)
    return path


@pytest.fixture
def read(tmp_path):
    """Write subtitles beside a recording and read them."""

    def read(content, name="talk.srt"):
        silence(tmp_path / "talk.wav")
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_subtitles(tmp_path / name)

    return read


def srt(*texts):
    """Cues of a second each, with a second between them."""
    return "\n".join(f"{i + 1}\n00:00:{2 * i:02},000 --> 00:00:{2 * i + 1:02},000\n{t}\n" for i, t in enumerate(texts))


def said(material):
    return [utterance.text for utterance in material.utterances]


def test_a_subrip_file_gives_texts_and_times(read, tmp_path):
    material = read("1\n00:00:01,500 --> 00:00:03,000 X1:100 Y1:50\nHello\nyou.\n\n2\n1:02:03,4 --> 1:02:04\nBye\n")
    first, second = material.utterances
    assert (first.text, first.start_s, first.duration_s) == ("Hello you.", 1.5, 1.5)
    assert (first.id, first.where, first.audio_path) == (
        "talk-0001500-0003000",
        f"{tmp_path}/talk.srt:2",
        tmp_path / "talk.wav",
    )
    assert (second.text, second.start_s, second.duration_s) == ("Bye", 3723.4, pytest.approx(0.6))


def test_a_webvtt_file_with_comments_styles_and_names_of_cues(read):
    material = read(
        "WEBVTT - a title\n\nSTYLE\n::cue { color: red }\n\nNOTE 00:00 is no time\n\nintro\n"
        "00:01.500 --> 00:03.000 line:0\n"
        "<v.loud Mary Ann>Hello <i>you</i><00:02.000><c> &amp; me</c>\n\nNOTE a comment\nin two lines\n\n"
        "00:00:04.000 --> 00:00:05.000\n1984\n\nlast-one\n00:06.000 --> 00:07.000\n<ruby>漢<rt>kan</rt></ruby>\n",
        "talk.vtt",
    )
    assert [(u.text, u.speaker) for u in material.utterances] == [
        ("Hello you & me", "Mary Ann"),
        ("1984", None),
        ("漢", None),
    ]
    assert material.left_out == []


def test_the_numbers_of_cues_are_no_text_and_a_number_that_is_said_is(read):
    content = "7\n00:00:01,000 --> 00:00:02,000\nThe year\n1984\n\n8\n00:00:03,000 --> 00:00:04,000\n\n9\n"
    content += "00:00:05,000 --> 00:00:06,000\na\n\nb\n10\n00:00:07,000 --> 00:00:08,000\n2001"
    assert said(read(content)) == ["The year 1984", "a b", "2001"]


@pytest.mark.parametrize(
    ("text", "kept", "speaker"),
    [
        ("<i>Well</i> {\\an8}yes <b>3 < 4</b>", "Well yes 3 < 4", None),
        ("[door (slams)] Come in (sighs\nloudly) please", "Come in please", None),
        ("well (sighs (deeply)) yes", "well yes", None),
        ("♪ la la la ♪ now", "now", None),
        ("over ♫ la", "over", None),
        ("- Hello\n- Hi", "Hello Hi", None),
        ("-5 degrees", "-5 degrees", None),
        (">> Good evening", "Good evening", None),
        ("ANNA: Hello", "Hello", "ANNA"),
        ("- DR. SMITH-JONES (whispering): Hello\nyou", "Hello you", "DR. SMITH-JONES"),
        ("[music] ANNA: Hello", "Hello", "ANNA"),
        ("ANNA: Hello\nBEN: Hi", "Hello Hi", None),
        ("- ANNA: Hello\n- Hi", "Hello Hi", None),
        ("Remember: go", "Remember: go", None),
        ("at 10:30: go", "at 10:30: go", None),
        ("we said: go", "we said: go", None),
        ("AT&amp;T &lt;3", "AT&T <3", None),
    ],
)
def test_what_is_dropped_and_who_speaks(read, text, kept, speaker):
    material = read(srt(text, "and now something in small letters, as most of the file is"))
    assert (material.utterances[0].text, material.utterances[0].speaker) == (kept, speaker)


def test_names_in_small_letters_are_speakers_if_the_file_has_them_twice(read):
    material = read(
        srt("Anna: one", "Anna: two", "Speaker 1: three", "Speaker 1: four", "Mind: five", "anna: x", "anna: y")
    )
    assert [(u.text, u.speaker) for u in material.utterances] == [
        *(("one", "Anna"), ("two", "Anna"), ("three", "Speaker 1"), ("four", "Speaker 1")),
        *(("Mind: five", None), ("anna: x", None), ("anna: y", None)),
    ]


def test_in_a_file_of_capitals_a_prefix_has_to_occur_twice(read):
    material = read(srt("I SAID: GO", "ANNA: ONE", "ANNA: TWO"))
    assert [(u.text, u.speaker) for u in material.utterances] == [
        ("I SAID: GO", None),
        ("ONE", "ANNA"),
        ("TWO", "ANNA"),
    ]


def test_a_script_without_capitals_has_speakers(read):
    material = read(srt("安娜：你好", "本：再见", "安娜：好"))
    assert [(u.text, u.speaker) for u in material.utterances] == [("你好", "安娜"), ("本：再见", None), ("好", "安娜")]


def test_the_report_says_how_many_of_each_kind_were_dropped(read):
    material = read(srt("<i>a</i> b", "[x] ANNA: c (y)", "- d\n- e", "♪ f", "small letters are the most here"))
    assert material.notes[-1] == (
        "dropped from the texts: 2 × markup, 2 × sounds in brackets, 1 × music, 2 × dashes, 1 × speaker prefixes (ANNA)"
    )
    assert read(srt("a")).notes[-1] == "nothing was dropped from the texts"


def test_cues_without_speech_are_passed_over_and_overlapping_ones_are_left_out(read, tmp_path):
    content = (
        "1\n00:00:00,000 --> 00:00:09,000\n[music]\n\n2\n00:00:01,000 --> 00:00:03,000\na\n\n"
        "3\n00:00:02,000 --> 00:00:04,000\nb\n\n4\n00:00:03,990 --> 00:00:05,000\nc\n\n"
        "5\n00:00:06,000 --> 00:00:06,000\nd\n\n6\n00:00:08,000 --> 00:00:07,000\ne\n\n"
        "7\n00:00:0x,000 --> 00:00:07,000\nf\n\n8\n00:00:10,000 --> 00:00:11,000\n-->\n->\n"
    )
    material = read(content)
    assert said(material) == ["c"]
    reasons = {(where.rpartition(":")[2], reason, is_fault) for where, reason, is_fault in material.left_out}
    assert reasons == {
        ("2", "no speech in the cue", False),
        ("6", "the cue of line 10 is said during this one", True),
        ("10", "the cue of line 6 is said during this one", True),
        ("18", "from 6 s to 6 s lasts no time", True),
        ("22", "from 8 s to 7 s ends before it begins", True),
        ("26", "'00:00:0x,000 --> 00:00:07,000' are no times; expected e.g. 00:00:01,000 --> 00:00:02,500", True),
        ("30", "no speech in the cue", False),
    }


def test_rolling_captions_are_unrolled(read):
    content = (
        "WEBVTT\n\n00:00.000 --> 00:02.000\n \nso<00:01.000><c> this</c>\n\n00:02.000 --> 00:02.010\nso this\n \n\n"
        "00:02.010 --> 00:04.000\nso this\nis<00:03.000><c> how</c>\n\n00:04.000 --> 00:04.010\nis how\n \n\n"
        "00:04.010 --> 00:06.000\nis how\nit rolls\n"
    )
    material = read(content, "talk.vtt")
    assert [(u.text, u.start_s) for u in material.utterances] == [
        ("so this", 0.0),
        ("is how", 2.01),
        ("it rolls", 4.01),
    ]
    assert said(read(srt("No!", "No!", "a", "b", "c"))) == ["No!", "No!", "a", "b", "c"]


def test_a_damaged_line_of_ass_shows_no_warning_of_the_reader(read, recwarn):
    content = pysubs2.SSAFile()
    content.append(pysubs2.SSAEvent(0, 1000, "hello"))
    assert said(read(content.to_string("ass") + "Dialogue: damaged\n", "talk.ass")) == ["hello"]
    assert not recwarn


def test_ass_is_read_with_its_names(read):
    subs = pysubs2.SSAFile()
    subs.append(pysubs2.SSAEvent(start=1000, end=2000, text=r"{\i1}Hello{\i0}\Nyou", name="Anna"))
    subs.append(pysubs2.SSAEvent(start=2000, end=3000, text="a comment", type="Comment"))
    subs.append(pysubs2.SSAEvent(start=3000, end=4500, text=r"one\htwo"))
    content = subs.to_string("ass")
    material = read(content, "talk.ass")
    found = [(u.text, u.speaker, u.start_s, u.duration_s) for u in material.utterances]
    assert found == [("Hello you", "Anna", 1.0, 1.0), ("one two", None, 3.0, 1.5)]
    line = next(number for number, line in enumerate(content.split("\n"), 1) if "Hello" in line)
    assert material.utterances[0].where.endswith(f":{line}")


words = st.lists(st.text(string.ascii_lowercase, min_size=1, max_size=8), min_size=1, max_size=6)


@given(st.lists(st.tuples(st.integers(1, 3000), st.integers(1, 9000), words), min_size=1, max_size=8), st.booleans())
def test_what_pysubs2_writes_is_read(tmp_path_factory, cues, vtt):
    folder = tmp_path_factory.mktemp("subs", numbered=True)
    (folder / "a.wav").touch()
    subs, end = pysubs2.SSAFile(), 0
    for place, (pause_ms, duration_ms, words) in enumerate(cues):
        text = " ".join([f"w{place}", *words])
        subs.append(
            pysubs2.SSAEvent(start=end + pause_ms, end=end + pause_ms + duration_ms, text=text.replace(" ", r"\N", 1))
        )
        end += pause_ms + duration_ms
    subs.save(str(folder / ("a.vtt" if vtt else "a.srt")))
    found = [(round(1000 * u.start_s), round(1000 * u.duration_s), u.text) for u in read_subtitles(folder).utterances]
    assert found == [(event.start, event.duration, event.plaintext.replace("\n", " ")) for event in subs]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_byte_order_marks_and_line_ends_do_not_matter(read, encoding, newline):
    assert said(read(srt("čau", "ahoj").replace("\n", newline).encode(encoding))) == ["čau", "ahoj"]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (
            "talk.srt",
            b"1\n00:00:01,000 --> 00:00:02,000\nn\xe9e\n",
            r"talk\.srt:3: not UTF-8 \(byte 0xe9\); save the sub",
        ),
        ("talk.srt", b"", r"talk\.srt: no cues; expected lines such as"),
        ("talk.srt", srt("[x]").encode(), r"the subtitles hold no cues"),
        ("talk.vtt", b"WEBVTT\n", r"talk\.vtt: no cues"),
        ("talk.srt", b"\xff\xfe\x00", r"talk\.srt: not UTF-16"),
        ("other.srt", srt("a").encode(), r"other\.srt: no recording other\.\* .* --audio-dir names another folder"),
        ("talk.txt", b"", r"talk\.txt: a subtitle file's name ends in \.ass, \.srt, \.ssa, \.vtt"),
    ],
)
def test_what_is_wrong_with_a_file_is_named(read, name, content, reason):
    with pytest.raises(ManifestError, match=reason):
        read(content, name)


def test_a_missing_source_and_an_empty_folder_are_named(tmp_path):
    with pytest.raises(ManifestError, match="nowhere: no such file or folder"):
        read_subtitles(tmp_path / "nowhere")
    with pytest.raises(ManifestError, match=r"no subtitle file \(.*\) in this folder"):
        read_subtitles(tmp_path)


@pytest.fixture
def languages(tmp_path):
    silence(tmp_path / "a/talk.wav")
    for name in ("talk.de.srt", "talk.en-US.sdh.srt", "talk.fr.vtt"):
        (tmp_path / "a" / name).write_text(srt(name))
    return tmp_path


def test_the_language_chooses_among_several_subtitles(languages):
    for language, name in (("en", "talk.en-US.sdh.srt"), ("DE", "talk.de.srt"), ("fr", "talk.fr.vtt")):
        material = read_subtitles(languages, language=language)
        assert [(u.text, u.language) for u in material.utterances] == [(name, language)]
        assert {(Path(where).name, is_fault) for where, _, is_fault in material.left_out} == {
            (path.name, False) for path in (languages / "a").glob("talk.*.*") if path.name != name
        }
    with pytest.raises(
        ManifestError, match=r"talk\.wav: several subtitles \(.*\); --language chooses, of de, en-US, fr"
    ):
        read_subtitles(languages)
    with pytest.raises(
        ManifestError, match=r"talk\.wav: no subtitles of the language 'it'; there are: talk\.de\.srt, "
    ):
        read_subtitles(languages, language="it")


def test_a_file_without_language_is_taken_where_there_is_none_of_the_language(languages):
    (languages / "a/talk.srt").write_text(srt("plain"))
    assert said(read_subtitles(languages, language="it")) == ["plain"]
    assert said(read_subtitles(languages, language="de")) == ["talk.de.srt"]


def test_one_recording_whose_subtitles_cannot_be_chosen_does_not_stop_the_others(languages):
    silence(languages / "b/other.flac")
    (languages / "b/other.pt-BR.srt").write_text(srt("olá"))
    material = read_subtitles(languages)
    assert [(u.text, u.id, u.language) for u in material.utterances] == [
        ("olá", "b-other.pt-BR-0000000-0001000", "pt-BR")
    ]
    assert len(material.left_out) == 1


def test_audio_is_preferred_to_video_and_may_be_in_another_folder(tmp_path):
    for name in ("subs/x/talk.srt", "subs/y/talk.srt"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(srt(name))
    (tmp_path / "audio/x").mkdir(parents=True)
    for name in ("x/talk.mp4", "x/talk.FLAC", "x/talk.wav", "talk.mkv"):
        (tmp_path / "audio" / name).touch()
    material = read_subtitles(tmp_path / "subs", tmp_path / "audio")
    assert [u.audio_path.relative_to(tmp_path / "audio") for u in material.utterances] == [
        Path("x/talk.FLAC"),
        Path("talk.mkv"),
    ]


def test_subtitles_become_manifests(call, tmp_path):
    silence(tmp_path / "show.wav", seconds=9.5)
    (tmp_path / "show.srt").write_text(srt("ANNA: one", "BEN: two two", "three", "ANNA: four", "past the end of it"))
    status, out, err = call(
        "import", "subtitles", tmp_path, "--out", tmp_path / "data", "--dev-share", 0, "--test-share", 0
    )
    assert status == 0, err
    cuts = load_manifest(tmp_path / "data/train.jsonl.gz")
    assert [(cut_text(c), c.start, c.duration) for c in cuts][:2] == [("one", 0.0, 1.0), ("two two", 2.0, 1.0)]
    assert cut_speaker(cuts[3]) == "ANNA"
    assert "dropped from the texts: 3 × speaker prefixes (ANNA, BEN)" in out
    assert "holds no speaker in 2 of 5 utterances" in out


def test_a_cue_past_the_end_of_the_recording_is_left_out(call, tmp_path):
    silence(tmp_path / "show.wav", seconds=3.5)
    (tmp_path / "show.srt").write_text(srt("one", "two", "three"))
    arguments = ("--dev-share", 0, "--test-share", 0)
    status, out, err = call("import", "subtitles", tmp_path / "show.srt", "--out", tmp_path / "my data", *arguments)
    assert status == 2
    assert out.splitlines()[-1] == f"next  asr check '{tmp_path}/my data'"
    assert "left out 1 of 3 utterances" in err
    assert "show.srt:10: utterance show-0004000-0005000: 4 s to 5 s is not a part of" in err
    report = asr.import_subtitles(tmp_path / "show.srt", tmp_path / "d2", split=asr.SplitRule(test_share=1))
    assert report.utterances == {"test": 2}


def test_brackets_without_end_take_no_time(read):
    hostile = (
        "(" * 200_000,
        "<a" * 100_000,
        "<v" + " " * 200_000,
        "[" * 100_000 + "]" * 100_000,
        "{" * 100_000,
        "♪ " * 100_000,
    )
    for text in hostile:
        assert len(said(read(srt(text, "small letters")))) >= 1
