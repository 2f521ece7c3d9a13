"""Folders laid out in known ways — texts beside audio, LJSpeech, LibriSpeech — against lhotse's readers and by hand."""

import os

import numpy as np
import pytest
import soundfile
from lhotse.recipes import prepare_librispeech, prepare_ljspeech

import asr
from asr.corpus.manifest import cut_speaker, cut_text, read_manifest
from asr.errors import ManifestError
from asr.importing.folder import read_folder
from asr.importing.librispeech import read_librispeech
from asr.importing.ljspeech import read_ljspeech
from asr.importing.subtitles import read_subtitles


@pytest.fixture
def lay(tmp_path):
    """Write files: text, bytes, or None for an audio file; return their folder."""

    def lay(files):
        for index, (name, content) in enumerate(files.items()):
            path = tmp_path / "source" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                soundfile.write(path, np.full(8000 + 80 * index, 0.1), 16000)
            else:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / "source"

    return lay


def found(material):
    return [(u.id, u.text.strip(), u.speaker, u.split) for u in material.utterances]


def left_out(material, folder):
    return [(fault.where.removeprefix(f"{folder}/"), fault.reason, fault.is_fault) for fault in material.left_out]


def imported(folder):
    """Return the utterances of the manifests in a folder: id, text, speaker, split, duration, audio file."""
    return {
        (
            cut.id,
            cut_text(cut),
            cut_speaker(cut),
            path.name.split(".")[0],
            cut.duration,
            cut.recording.sources[0].source,
        )
        for path in folder.glob("*.jsonl.gz")
        for cut in read_manifest(path)
    }


# --- audio with texts beside it


def test_texts_beside_audio_at_any_depth_are_its_transcripts(lay):
    source = lay(
        {
            "a.wav": None, "a.txt": b"\xef\xbb\xbfh\xc3\xa9llo\r\nthere\r\n",
            "x/y/b c.FLAC": None, "x/y/b c.LAB": "bye",
            "x/d.mp3": None, "x/d.lab": "not this", "x/d.txt": "this",
            ".hidden/e.wav": None, "x/.f.wav": None,
        }
    )  # fmt: skip
    material = read_folder(source)
    assert found(material) == [
        ("a", "héllo\nthere", None, None),
        ("x-d", "this", None, None),
        ("x-y-b_c", "bye", None, None),
    ]
    assert left_out(material, source) == []
    assert material.notes == [f"{source}: no speakers are taken from it; --speaker-from parent takes folders' names"]


def test_folders_at_the_top_are_splits_and_parents_are_speakers_if_asked_for(lay):
    names = ("anna/1", "train/anna/2", "Dev/ben/s1/3", "validation/4", "test/carl/5", "6", "carl/test/7")
    source = lay({f"{name}.wav": None for name in names} | {f"{name}.txt": "x" for name in names})
    by_id = {utterance.id[-1]: utterance for utterance in read_folder(source, "parent").utterances}
    assert {id: (utterance.speaker, utterance.split) for id, utterance in by_id.items()} == {
        "1": ("anna", None),
        "2": ("anna", "train"),
        "3": ("s1", "dev"),
        "4": (None, "dev"),
        "5": ("carl", "test"),
        "6": (None, None),
        "7": ("test", None),
    }
    assert read_folder(source, "parent").notes == [
        f"{source}: the path of the audio holds no speaker in 2 of 7 utterances"
    ]
    assert {utterance.speaker for utterance in read_folder(source).utterances} == {None}


def test_what_has_no_partner_or_is_no_text_is_left_out(lay):
    files = {"a.wav": None, "a.txt": "good", "b.wav": None, "c.txt": "no audio", "README.txt": "about", "notes.md": "x"}
    source = lay({**files, "e.wav": None, "e.txt": b"caf\xe9"})
    material = read_folder(source)
    assert [utterance.id for utterance in material.utterances] == ["a"]
    assert left_out(material, source) == [
        ("b.wav", "no transcript beside it, neither b.txt nor b.lab", True),
        ("e.txt", f"{source}/e.txt:1: not UTF-8 (byte 0xe9); save the transcript as UTF-8", True),
        ("README.txt", "no audio file of this name beside it", False),
        ("c.txt", "no audio file of this name beside it", True),
    ]


def test_of_two_audio_files_of_one_name_the_second_is_left_out(lay, tmp_path):
    source = lay(
        {"a.flac": None, "a.wav": None, "a.txt": "x", "b.wav": None, "b.txt": " \n", "c.wav": "", "c.txt": "y"}
    )
    report = asr.import_folder(source, tmp_path / "out", split=asr.SplitRule(dev_share=0, test_share=0))
    assert report.utterances == {"train": 1}
    twice, empty, damaged = report.skipped
    assert twice.startswith(f"{source}/a.txt: the utterance id 'a' occurs already")
    assert "its transcript is empty" in empty
    assert "the file is empty (0 bytes)" in damaged


@pytest.mark.parametrize("files", [{}, {"a.wav": None}, {"a.txt": "x"}, {"a.md": "x"}])
def test_a_folder_without_pairs_is_refused(lay, tmp_path, files):
    (tmp_path / "source").mkdir()
    with pytest.raises(ManifestError, match=r"source.*(no transcript beside it|no audio file|no audio files with)"):
        read_folder(lay(files))
    with pytest.raises(ManifestError, match="nowhere: no such folder"):
        read_folder(tmp_path / "nowhere")


# --- LJSpeech

METADATA = (
    "LJ001-0001|Printing, in 1450|Printing, in fourteen fifty\n"
    'LJ001-0002|"Yes," he said|"Yes," he said\n'
    "LJ001-0003|He said “I”.|He said “I”.\n"
)


def test_ljspeech_is_read_as_lhotse_reads_it(lay, tmp_path):
    source = lay({"metadata.csv": METADATA, **{f"wavs/LJ001-000{i}.wav": None for i in (1, 2, 3)}})
    asr.import_ljspeech(source, tmp_path / "out", split=asr.SplitRule("utterance", 0, 0))
    theirs = prepare_ljspeech(source)
    expected = {
        (s.id, s.custom["normalized_text"], s.id, "train", r.duration, r.sources[0].source)
        for s, r in zip(theirs["supervisions"], theirs["recordings"], strict=True)
    }
    assert imported(tmp_path / "out") == expected


def test_of_ljspeech_the_normalised_text_is_taken_where_there_is_one(lay):
    lines = "\ufeffa|one\r\n\r\nb|2|two\r\nc|three|\r\n"
    source = lay({"metadata.csv": lines, "wavs/a.wav": None, "wavs/b.flac": None})
    material = read_ljspeech(source)
    assert [(u.id, u.text, u.audio_path.name) for u in material.utterances] == [
        ("a", "one", "a.wav"),
        ("b", "two", "b.flac"),
        ("c", "three", "c.wav"),
    ]
    assert material.notes == [f"{source}/metadata.csv: this format has no place for speakers"]
    assert read_ljspeech(source / "metadata.csv") == material


def test_lines_of_ljspeech_that_cannot_be_used_are_left_out(lay, tmp_path):
    lines = "a|one\nb|x|y|z\nc\n|four\na|again\nf|gone\ng|\n"
    source = lay({"metadata.csv": lines, "wavs/a.wav": None, "wavs/b.wav": None, "wavs/g.wav": None})
    report = asr.import_ljspeech(source, tmp_path / "out", split=asr.SplitRule("utterance", 0, 0))
    assert report.utterances == {"train": 1}
    assert [line.removeprefix(f"{source}/metadata.csv:") for line in report.skipped] == [
        "2: 4 fields, but ID|text|normalised text has 2 or 3; a text holds no | itself",
        "3: 1 fields, but ID|text|normalised text has 2 or 3; a text holds no | itself",
        "4: '' is no ID, which names the audio file",
        f"5: the utterance id 'a' occurs already at {source}/metadata.csv:1",
        f"6: {source}/wavs/f.wav: no such file",
        "7: utterance g: its transcript is empty",
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"metadata\.csv: no utterances; each line is ID\|text"),
        (b"a,one\n", r"metadata\.csv:1: 1 fields"),
        (b"a|caf\xe9\n", r"metadata\.csv:1: not UTF-8"),
    ],
)
def test_a_malformed_metadata_csv_is_refused(lay, content, reason):
    with pytest.raises(ManifestError, match=reason):
        read_ljspeech(lay({"metadata.csv": content}))


# --- LibriSpeech


def test_librispeech_is_read_as_lhotse_reads_it(lay, tmp_path):
    files = {}
    for part, speaker, chapter in [
        ("train-clean-100", "84", "121123"), ("train-other-500", "84", "9"), ("dev-clean", "1272", "128104"),
        ("dev-other", "116", "288045"), ("test-clean", "61", "70968"),
    ]:  # fmt: skip
        stem = f"{part}/{speaker}/{chapter}/{speaker}-{chapter}"
        files |= {f"{stem}-{i:04}.flac": None for i in range(3)}
        files[f"{stem}.trans.txt"] = "".join(f"{speaker}-{chapter}-{i:04} WORDS OF {part} {i}\n" for i in range(3))
    source = lay({f"LibriSpeech/{name}": content for name, content in files.items()})
    report = asr.import_librispeech(source, tmp_path / "out")
    expected = set()
    for part, manifests in prepare_librispeech(source / "LibriSpeech").items():
        audio = {recording.id: recording for recording in manifests["recordings"]}
        for s in manifests["supervisions"]:
            path = str((source / audio[s.id].sources[0].source).absolute())
            expected.add((s.id, s.text, s.speaker, part.split("-")[0], audio[s.id].duration, path))
    assert len(expected) == 15
    assert imported(tmp_path / "out") == expected
    assert (report.notes, report.skipped) == ((), ())


def test_of_librispeech_one_part_or_one_speaker_is_a_source_too(lay):
    files = {"dev-clean/1/2/1-2.trans.txt": "1-2-0 A\n", "dev-clean/1/2/1-2-0.flac": None}
    source = lay({**files, "test/train-clean-5/1/2/1-2.trans.txt": "1-2-0 B\n", "other/3/4/3-4.trans.txt": "3-4-0 C"})
    expected = [("1-2-0", "A", "1", "dev")]
    assert found(read_librispeech(source / "dev-clean")) == expected
    assert found(read_librispeech(source / "dev-clean" / "1")) == [("1-2-0", "A", "1", None)]
    assert found(read_librispeech(source)) == [*expected, ("3-4-0", "C", "3", None), ("1-2-0", "B", "1", "train")]


def test_lines_of_librispeech_that_cannot_be_used_are_left_out(lay, tmp_path):
    lines = "\ufeff1-2-0 GOOD\r\n\r\n1-2-1\r\n1-2-0 AGAIN\r\n1-2-3 GONE\r\n../x BAD\r\n1-2-4 |\r\n"
    audio = {f"1/2/1-2-{i}.flac": None for i in (0, 1, 4)}
    source = lay({"1/2/1-2.trans.txt": lines, **audio})
    report = asr.import_librispeech(source, tmp_path / "out", split=asr.SplitRule(dev_share=0, test_share=0))
    assert {(id, text) for id, text, *_ in imported(tmp_path / "out")} == {("1-2-0", "GOOD"), ("1-2-4", "|")}
    where = f"{source}/1/2/1-2.trans.txt"
    assert report.skipped == (
        f"{where}:3: utterance 1-2-1: its transcript is empty",
        f"{where}:4: the utterance id '1-2-0' occurs already at {where}:1",
        f"{where}:5: {source}/1/2/1-2-3.flac: no such file",
        f"{where}:6: '../x' is no utterance id; each line is an id and its text",
    )


def test_one_list_of_librispeech_that_is_no_text_does_not_stop_the_others(lay):
    audio = {f"{i}/2/{i}-2-0.flac": None for i in (1, 2)}
    source = lay({"1/2/1-2.trans.txt": "1-2-0 ONE\n", "2/2/2-2.trans.txt": b"2-2-0 ONE\n2-2-1 CAF\xc9\n", **audio})
    material = read_librispeech(source)
    assert found(material) == [("1-2-0", "ONE", "1", None)]
    assert [fault.line for fault in material.left_out] == [
        f"{source}/2/2/2-2.trans.txt:2: not UTF-8 (byte 0xc9); save the transcripts as UTF-8"
    ]


def test_a_folder_that_is_no_librispeech_is_refused(lay, tmp_path):
    with pytest.raises(ManifestError, match=r"source: no \*\.trans\.txt"):
        read_librispeech(lay({"a.txt": "x"}))
    with pytest.raises(ManifestError, match=r"1-2\.trans\.txt:1: not UTF-8"):
        read_librispeech(lay({"1/2/1-2.trans.txt": b"1-2-0 CAF\xc9\n"}))
    with pytest.raises(ManifestError, match=r"the \*\.trans\.txt in it hold no utterances"):
        read_librispeech(lay({"1/2/1-2.trans.txt": "\n"}))


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
@pytest.mark.parametrize("layout", ["folder", "librispeech", "subtitles"])
def test_folders_that_are_only_linked_are_named_and_links_in_circles_are_not(tmp_path, layout):
    read = {"folder": read_folder, "librispeech": read_librispeech, "subtitles": read_subtitles}[layout]
    names = {"folder": "x.txt", "librispeech": "x.trans.txt", "subtitles": "x.srt"}
    for folder in ("data/1/2", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / names[layout]).write_text("x 1\n00:00:00,000 --> 00:00:01,000\nhello\n")
        (tmp_path / folder / "x.wav").write_bytes(b"")
    (tmp_path / "data/circle").symlink_to(tmp_path / "data")
    (tmp_path / "data/linked").symlink_to(tmp_path / "elsewhere")
    material = read(tmp_path / "data")
    assert material.utterances
    named = [(where, reason) for where, reason, _ in material.left_out if "circle" in where or "link" in reason]
    assert named == [
        (f"{tmp_path}/data/linked", "cannot be searched (is a link to another folder, which is not followed)")
    ]
