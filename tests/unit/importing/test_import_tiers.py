"""TextGrids and ELAN's files: tiers, speakers, recordings; what praatio and pympi write; damaged and hostile files."""

import string
from pathlib import Path

import numpy as np
import pympi
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from praatio import textgrid
from praatio.utilities.constants import Interval, Point

import asr
from asr.corpus.manifest import cut_speaker, cut_text, load_manifest
from asr.errors import ManifestError
from asr.importing.elan import read_eaf, read_elan
from asr.importing.textgrid import read_textgrid, read_textgrids

ANNA = [(0.5, 1.5, "hello there"), (2.0, 3.25, 'she said "no"')]
BEN = [(1.4, 2.0, "hi"), (4.0, 4.5, "bye")]


def silence(path, seconds=10.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(round(8000 * seconds), np.float32), 8000)
    return path


def write_textgrid(path, tiers, format="long_textgrid"):
    """Write a TextGrid of 10 s with praatio; `tiers`: intervals, or points, by name."""
    grid = textgrid.Textgrid(0, 10)
    for name, entries in tiers.items():
        kind = textgrid.PointTier if entries and len(entries[0]) == 2 else textgrid.IntervalTier
        entry = Point if kind is textgrid.PointTier else Interval
        grid.addTier(kind(name, [entry(*values) for values in entries], 0, 10))
    path.parent.mkdir(parents=True, exist_ok=True)
    grid.save(str(path), format, includeBlankSpaces=True)
    return path


def found(material):
    return [(u.start_s, round(u.start_s + u.duration_s, 9), u.text, u.speaker) for u in material.utterances]


@pytest.mark.parametrize("format", ["long_textgrid", "short_textgrid"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_textgrid_of_each_form_is_read(tmp_path, format, encoding, newline):
    path = write_textgrid(tmp_path / "talk.TextGrid", {"ănna": ANNA, "clicks": [(1.0, "x")]}, format)
    text = ("\ufeff" if encoding == "utf-16-be" else "") + path.read_text(encoding="utf-8").replace("\n", newline)
    path.write_bytes(text.encode(encoding))
    silence(tmp_path / "talk.wav")
    material = read_textgrids(path)
    assert found(material) == [(*entry, None) for entry in ANNA]
    assert [u.id for u in material.utterances] == ["talk-0000500-0001500", "talk-0002000-0003250"]
    assert material.notes == [f"{path}: the only tier holds no speaker"]


def test_the_line_of_each_interval_is_known(tmp_path):
    path = write_textgrid(tmp_path / "talk.TextGrid", {"anna": ANNA})
    (tier,) = read_textgrid(path).tiers
    lines = path.read_text().split("\n")
    for text in tier.texts:
        assert text.text.replace('"', '""') in lines[int(text.where.rpartition(":")[2]) - 1]


def test_several_tiers_are_several_speakers(tmp_path):
    path = write_textgrid(tmp_path / "a/talk.TextGrid", {"Anna": ANNA, "Ben": BEN, "noise": [(5.0, 6.0, "x")]})
    silence(tmp_path / "a/talk.flac")
    material = read_textgrids(tmp_path, ["Anna", "Ben"])
    assert found(material) == [*((*entry, "Anna") for entry in ANNA), *((*entry, "Ben") for entry in BEN)]
    assert material.utterances[2].id == "a-talk-Ben-0001400-0002000"
    assert material.notes == ["2 utterances said while another one is"]
    assert found(read_textgrids(path, ["Ben"])) == [(*entry, None) for entry in BEN]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ([], r"talk\.TextGrid: which tier holds the texts\? --tier names it, or .*; there are: 'Anna', 'Ben'"),
        (["Bne"], r"talk\.TextGrid: no tier 'Bne'; there are: 'Anna', 'Ben', 'clicks'"),
        (["Anna", "Bne"], r"talk\.TextGrid: no tier 'Bne'; there are: 'Anna', 'Ben', 'clicks'"),
        (["clicks"], r"talk\.TextGrid: tier 'clicks' holds points, which last no time; there are: 'Anna', 'Ben'"),
    ],
)
def test_the_tier_is_asked_for_by_name(tmp_path, names, reason):
    path = write_textgrid(tmp_path / "talk.TextGrid", {"Anna": ANNA, "Ben": BEN, "clicks": [(1.0, "x")]})
    silence(tmp_path / "talk.wav")
    with pytest.raises(ManifestError, match=reason):
        read_textgrids(path, names)


def test_a_file_without_any_of_the_tiers_is_left_out_beside_others(tmp_path):
    for name, tier in (("a", "Anna"), ("b", "Ben"), ("c", "Carl")):
        write_textgrid(tmp_path / f"{name}.TextGrid", {tier: ANNA})
        silence(tmp_path / f"{name}.wav")
    material = read_textgrids(tmp_path, ["Anna", "Ben"])
    assert {u.speaker for u in material.utterances} == {"Anna", "Ben"}
    assert [Path(fault.where).name for fault in material.left_out] == ["c.TextGrid"]


SHORT = 'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n10\n<exists>\n1\n"IntervalTier"\n"a"\n0\n10\n2\n'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (SHORT + '0\n1\n"x"\n', r"a\.TextGrid: damaged, because it ends before a time in tier 'a'"),
        (SHORT + '0\n1\n"x"\n1\n', r"a\.TextGrid: damaged, because it ends before a time in tier 'a'"),
        (SHORT + '0\n1\n"x"\n1\n2\n"y', r"a\.TextGrid:18: damaged, because a quotation mark here opens no text"),
        (SHORT + '0\n"x"\n', r"a\.TextGrid:14: damaged: \"x\" is not a time in tier 'a'"),
        (SHORT.replace("2\n", "-2\n"), r"a\.TextGrid:12: damaged: -2 is not the size of a tier"),
        (SHORT.replace("2\n", "1e99\n"), r"a\.TextGrid: damaged, because it ends before a time"),
        (
            SHORT.replace("2\n", "1\n") + '0\n1\n"x"\n1\n2\n"y"\n',
            r"a\.TextGrid:16: damaged: the number of tiers, or the size",
        ),
        (SHORT.replace("IntervalTier", "Pitch"), r"a\.TextGrid:8: 'Pitch' is no class of a tier"),
        (SHORT.replace("TextGrid", "Pitch 1"), r"a\.TextGrid: not a TextGrid; .* \['ooTextFile', 'Pitch 1'\]"),
        (SHORT.replace("<exists>\n", "<absent>\n"), r"a\.TextGrid: no tier with times; there are: none"),
        ("", r"a\.TextGrid: damaged, because it ends before the type of the file"),
        ("<xml>", r"a\.TextGrid: damaged|a\.TextGrid:1: damaged: <xml> is not the type"),
        (b"File type = \xe9", r"a\.TextGrid:1: not UTF-8 \(byte 0xe9\); save the TextGrid as UTF-8"),
        (
            SHORT + '0\n0\n"x"\n3\n2\n"y"\n',
            r"a\.TextGrid:15: from 0 s to 0 s lasts no time\n.*:18: from 3 s to 2 s ends b",
        ),
        (SHORT + '-1\n1\n"x"\n1\n2\n""\n', r"a\.TextGrid:15: from -1 s to 1 s is impossible"),
        (SHORT + '0\n1\n" "\n1\n2\n""\n', r"a\.TextGrid: the tiers hold no text"),
    ],
)
def test_what_is_wrong_with_a_textgrid_is_named(tmp_path, content, reason):
    (tmp_path / "a.TextGrid").write_bytes(content if isinstance(content, bytes) else content.encode())
    silence(tmp_path / "a.wav")
    with pytest.raises(ManifestError, match=reason):
        read_textgrids(tmp_path / "a.TextGrid")


def test_what_looks_like_syntax_may_be_in_a_text(tmp_path):
    texts = ['item [2]: class = "TextTier"', "intervals [3]: text = ", '! 5 "', "<exists>", "two\nlines"]
    entries = [(float(place), place + 0.5, text) for place, text in enumerate(texts)]
    for format in ("long_textgrid", "short_textgrid"):
        path = write_textgrid(tmp_path / f"{format}.TextGrid", {"a": entries}, format)
        assert [text.text.strip() for text in read_textgrid(path).tiers[0].texts] == [text.strip() for text in texts]
    (tmp_path / "c.TextGrid").write_text(SHORT + '0 1 "x" ! a comment with "quotes" and 3\n1 2 "y"')
    assert [text.text for text in read_textgrid(tmp_path / "c.TextGrid").tiers[0].texts] == ["x", "y"]


letters = st.text(string.ascii_letters + "äß'\"! []<>", min_size=1, max_size=12).map(str.strip).filter(bool)


@given(st.lists(st.tuples(st.floats(0.01, 1.0), letters), min_size=1, max_size=9), st.sampled_from(["long", "short"]))
def test_what_praatio_writes_is_read(tmp_path_factory, intervals, form):
    end, entries = 0.0, []
    for duration_s, text in intervals:
        entries.append((end, end + duration_s, text))
        end += duration_s
    path = write_textgrid(tmp_path_factory.mktemp("grid") / "a.TextGrid", {"t": entries}, f"{form}_textgrid")
    times_and_texts = [(text.start_s, text.end_s, text.text) for text in read_textgrid(path).tiers[0].texts]
    assert [text for *_, text in times_and_texts] == [text for *_, text in entries]
    assert np.allclose([times[:2] for times in times_and_texts], [times[:2] for times in entries], atol=1e-5)


def write_eaf(path, media=(), participants=True):
    """Write two speakers' tiers, a translation that refers to one, and its words; with pympi."""
    eaf = pympi.Elan.Eaf(author="me")
    eaf.remove_tier("default")
    eaf.add_linguistic_type("translation", "Symbolic_Association", False)
    eaf.add_linguistic_type("words", "Symbolic_Subdivision", False)
    for name, participant, texts in (("A_text", "Anna", ANNA), ("B_text", "Ben", BEN)):
        eaf.add_tier(name, part=participant if participants else None)
        for start_s, end_s, text in texts:
            eaf.add_annotation(name, round(1000 * start_s), round(1000 * end_s), text)
    eaf.add_tier("A_deutsch", "translation", "A_text", part="Anna")
    eaf.add_ref_annotation("A_deutsch", "A_text", 600, "hallo du")
    eaf.add_tier("A_words", "words", "A_deutsch")
    for name in media:
        eaf.add_linked_file(f"file:///C:/Users/me/{name}", relpath=f"./{name}", mimetype="audio/x-wav")
    path.parent.mkdir(parents=True, exist_ok=True)
    eaf.to_file(str(path))
    return path


def test_an_elan_file_that_pympi_writes(tmp_path):
    path = write_eaf(tmp_path / "x/talk.eaf")
    silence(tmp_path / "x/talk.wav")
    material = read_elan(tmp_path, ["A_text", "B_text"])
    assert found(material) == [*((*entry, "Anna") for entry in ANNA), *((*entry, "Ben") for entry in BEN)]
    assert found(read_elan(path, ["A_text"])) == [(*entry, "Anna") for entry in ANNA]
    assert found(read_elan(path, ["A_deutsch"])) == [(0.5, 1.5, "hallo du", "Anna")]


def test_without_participants_the_names_of_several_tiers_are_speakers(tmp_path):
    path = write_eaf(tmp_path / "talk.eaf", participants=False)
    silence(tmp_path / "talk.wav")
    assert {u.speaker for u in read_elan(path, ["A_text", "B_text"]).utterances} == {"A_text", "B_text"}
    material = read_elan(path, ["A_text"])
    assert {u.speaker for u in material.utterances} == {None}
    assert material.notes == [f"{path}: tier 'A_text' holds no speaker"]


def test_the_recording_is_the_one_that_the_file_names(tmp_path):
    path = write_eaf(tmp_path / "a/talk.eaf", media=["film.mp4", "my sound.wav"])
    silence(tmp_path / "a/talk.wav")
    assert read_elan(path, ["A_text"]).utterances[0].audio_path == tmp_path / "a/talk.wav"
    silence(tmp_path / "a/my sound.wav")
    assert read_elan(path, ["A_text"]).utterances[0].audio_path == tmp_path / "a/my sound.wav"
    elsewhere = silence(tmp_path / "b/my sound.wav")
    assert read_elan(path, ["A_text"], tmp_path / "b").utterances[0].audio_path == elsewhere
    path.write_text(path.read_text().replace("./my sound.wav", "../c/my%20sound.wav"))
    (tmp_path / "a/my sound.wav").unlink()
    there = silence(tmp_path / "c/my sound.wav")
    assert read_elan(path, ["A_text"]).utterances[0].audio_path.resolve() == there


def test_times_begin_where_the_recording_has_its_origin(tmp_path):
    path = write_eaf(tmp_path / "talk.eaf", media=["film.mp4", "sound.wav"])
    plain = path.read_text()
    later = [(start_s + 2.5, end_s + 2.5, text, "Anna") for start_s, end_s, text in ANNA]
    path.write_text(
        plain.replace(' RELATIVE_MEDIA_URL="./sound.wav"', ' RELATIVE_MEDIA_URL="./sound.wav" TIME_ORIGIN="2500"')
    )
    silence(tmp_path / "talk.wav")
    with pytest.raises(ManifestError, match=r"talk\.eaf: its times begin .* but it names none called 'talk\.wav'"):
        read_elan(path, ["A_text"])
    silence(tmp_path / "sound.wav")
    assert found(read_elan(path, ["A_text"])) == later
    (tmp_path / "sound.wav").unlink()
    path.write_text(plain.replace(" RELATIVE_MEDIA_URL", ' TIME_ORIGIN="2500" RELATIVE_MEDIA_URL'))
    assert found(read_elan(path, ["A_text"])) == later


@pytest.mark.parametrize("name", ["a" * 5000, "%00", "%0A", "http://[::1/x"])
def test_a_recording_whose_name_no_file_can_have_is_not_there(tmp_path, name):
    path = write_eaf(tmp_path / "talk.eaf", media=[f"{name}.wav"])
    silence(tmp_path / "talk.wav")
    assert found(read_elan(path, ["A_text"])) == [(*entry, "Anna") for entry in ANNA]


EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT FORMAT="3.0">
<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="t1" TIME_VALUE="100"/><TIME_SLOT TIME_SLOT_ID="t2"/>
<TIME_SLOT TIME_SLOT_ID="t3" TIME_VALUE="900"/></TIME_ORDER>
<TIER TIER_ID="s" PARTICIPANT="Anna">
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t3">
<ANNOTATION_VALUE>one &amp; two</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
</TIER>
<TIER TIER_ID="t">
<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="b1" ANNOTATION_REF="a1"><ANNOTATION_VALUE>x</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
</TIER>
<TIER TIER_ID="w">
<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="c2" ANNOTATION_REF="b1" PREVIOUS_ANNOTATION="c1"><ANNOTATION_VALUE>dos</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="c1" ANNOTATION_REF="b1"><ANNOTATION_VALUE>uno</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="c3" ANNOTATION_REF="b1" PREVIOUS_ANNOTATION="c2"><ANNOTATION_VALUE/></REF_ANNOTATION></ANNOTATION>
</TIER>
</ANNOTATION_DOCUMENT>
"""  # noqa: E501


@pytest.fixture
def eaf(tmp_path):
    """Write an ELAN file and read one of its tiers."""

    def read(content, *tiers):
        silence(tmp_path / "a.wav")
        (tmp_path / "a.eaf").write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_elan(tmp_path / "a.eaf", tiers)

    return read


def test_annotations_that_refer_to_one_that_refers_have_its_times_and_are_joined(eaf):
    assert found(eaf(EAF, "s")) == [(0.1, 0.9, "one & two", "Anna")]
    assert found(eaf(EAF, "t")) == [(0.1, 0.9, "x", None)]
    assert found(eaf(EAF, "w")) == [(0.1, 0.9, "uno dos", None)]
    assert eaf(EAF, "s").utterances[0].where.endswith("a.eaf:6")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "iso-8859-1"])
def test_other_encodings_that_xml_declares_are_read(eaf, encoding):
    name = encoding.removesuffix("-sig").upper()
    content = EAF.replace("one", "né").replace("UTF-8", name).replace("\n", "\r\n").encode(encoding)
    assert found(eaf(content, "s"))[0][2] == "né & two"


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (EAF.replace("<ANN", BOMB + "<ANN", 1), r"a\.eaf:2: a document type, which ELAN never writes; take <!DOCTYPE"),
        (
            EAF.replace("<ANN", '<!DOCTYPE x SYSTEM "file:///etc/passwd">\n<ANN', 1),
            r"a\.eaf:2: a document type, which ELAN never writes",
        ),
        (EAF.replace("one &amp; two", "&b;"), r"a\.eaf:7: not an ELAN file \(undefined entity"),
        (EAF[:400], r"a\.eaf:\d+: not an ELAN file \((unclosed token|no element found)"),
        ("", r"a\.eaf:1: not an ELAN file \(no element found"),
        ("<html></html>", r"a\.eaf:1: not an ELAN file, because it begins with <html>"),
        (EAF.replace("UTF-8", "KOI-99"), r"a\.eaf:\d+: not an ELAN file \(unknown encoding"),
        (EAF.replace('"900"', '"-5"'), r"a\.eaf:4: damaged: the time '-5' is no number of milliseconds"),
        (EAF.replace('"900"', '"' + "9" * 5000 + '"'), r"a\.eaf:4: damaged: the time '9{70,80} is no"),
        (EAF.replace('"900"', '"50"'), r"a\.eaf:6: from 0\.1 s to 0\.05 s ends before it begins"),
        (EAF.replace('REF2="t3"', 'REF2="t2"'), r"a\.eaf:6: its times are not known"),
        (EAF.replace('REF2="t3"', 'REF2="nowhere"'), r"a\.eaf:6: its times are not known"),
        (EAF.replace(' TIME_SLOT_REF2="t3"', ""), r"a\.eaf:6: damaged: TIME_SLOT_REF2 is missing"),
        (EAF.replace(' TIER_ID="s"', ""), r"a\.eaf:5: damaged: TIER_ID is missing"),
        (EAF.replace("one", "<b>one</b>"), r"a\.eaf:7: <b> within the text of an annotation"),
        (EAF.replace("one &amp; two", ""), r"a\.eaf: the tiers hold no text"),
        (
            EAF.replace("<TIME_O", '<HEADER TIME_UNITS="PAL-frames"/><TIME_O'),
            r"a\.eaf:3: its times are in 'PAL-frames'; mi",
        ),
    ],
)
def test_what_is_wrong_with_an_elan_file_is_named(eaf, content, reason):
    with pytest.raises(ManifestError, match=reason):
        eaf(content, "s")


def test_references_that_lead_nowhere_or_in_a_circle_have_no_times(eaf):
    for parent in ("nowhere", "b1"):
        with pytest.raises(ManifestError, match=r"a\.eaf:10: its times are not known"):
            eaf(EAF.replace('ANNOTATION_REF="a1"', f'ANNOTATION_REF="{parent}"'), "t")
    circle = EAF.replace('"c1" ANNOTATION_REF="b1"', '"c1" ANNOTATION_REF="b1" PREVIOUS_ANNOTATION="c2"')
    assert found(eaf(circle, "w")) == [(0.1, 0.9, "dos uno", None)]


def test_an_elan_file_has_a_largest_size(tmp_path, monkeypatch):
    monkeypatch.setattr("asr.importing.elan._MOST_BYTES", 1 << 20)
    (tmp_path / "a.eaf").write_text(EAF.replace("one", "one" * 500_000))
    with pytest.raises(ManifestError, match=r"a\.eaf: larger than 1 MiB"):
        read_eaf(tmp_path / "a.eaf")
    with pytest.raises(ManifestError, match=r"b\.eaf: cannot be read \(No such file"):
        read_eaf(tmp_path / "b.eaf")


def test_textgrids_and_elan_files_become_manifests(call, tmp_path):
    silence(tmp_path / "talk.wav", seconds=4.2)
    write_textgrid(tmp_path / "talk.TextGrid", {"Anna": ANNA, "Ben": BEN})
    write_eaf(tmp_path / "talk.eaf")
    for kind, tiers in (("textgrid", ("Anna", "Ben")), ("elan", ("A_text", "B_text"))):
        named = [option for tier in tiers for option in ("--tier", tier)]
        arguments = ("--out", tmp_path / kind, "--dev-share", 0, "--test-share", 0, *named)
        status, out, err = call("import", kind, tmp_path, *arguments)
        assert status == 2
        assert "4 s to 4.5 s is not a part of" in err
        assert "note: 2 utterances said while another one is" in out
        cuts = load_manifest(tmp_path / kind / "train.jsonl.gz")
        assert sorted((c.start, c.end, cut_text(c), cut_speaker(c)) for c in cuts) == sorted(
            [*((*entry, "Anna") for entry in ANNA), (*BEN[0], "Ben")]
        )
    assert asr.import_elan(
        tmp_path, tmp_path / "e", tiers=["A_text"], split=asr.SplitRule(test_share=1)
    ).utterances == {"test": 2}
