"""Kaldi data folders: recordings, segments and speakers; errors that name file and line."""

import pytest

from asr.errors import ManifestError
from asr.importing.kaldi import read_kaldi

SOUND = {
    "wav.scp": "r1 a.wav\nr2 /data/b c.flac\n",
    "text": "r1 hello  you\nr2\tbye\n",
    "utt2spk": "r1 anna\nr2 ben\n",
}


@pytest.fixture
def kaldi(tmp_path):
    """Write a Kaldi folder and read it."""

    def read(files, below=""):
        folder = tmp_path / below
        folder.mkdir(exist_ok=True)
        for name, content in files.items():
            (folder / name).write_text(content)
        return read_kaldi(tmp_path).utterances

    return read


def test_recordings_without_segments_are_utterances(kaldi, tmp_path):
    first, second = kaldi(SOUND)
    assert (first.id, first.text, first.speaker, first.split) == ("r1", "hello  you", "anna", None)
    assert (first.start_s, first.duration_s, first.audio_path) == (0.0, None, tmp_path / "a.wav")
    assert (second.text, str(second.audio_path)) == ("bye", "/data/b c.flac")


def test_segments_are_parts_of_recordings(kaldi, tmp_path):
    files = {
        "wav.scp": "r1 a.wav\n",
        "segments": "u1 r1 0.5 2.0\nu2 r1 2.0 -1\n",
        "text": "u2 bye\nu1 hello\n",
    }
    first, second = kaldi(files)
    assert (first.id, first.text, first.start_s, first.duration_s) == ("u1", "hello", 0.5, 1.5)
    assert (second.text, second.start_s, second.duration_s, second.speaker) == ("bye", 2.0, None, None)
    assert first.where == f"{tmp_path}/segments:1"


def test_relative_paths_start_from_the_working_directory_if_they_lead_anywhere(kaldi, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.wav").touch()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert str(kaldi(SOUND)[0].audio_path) == "a.wav"


def test_relative_paths_start_from_the_audio_folder_that_is_named(kaldi, tmp_path, monkeypatch):
    kaldi(SOUND)
    (tmp_path / "a.wav").touch()
    monkeypatch.chdir(tmp_path)  # where the file is, but another folder was named
    first, second = read_kaldi(tmp_path, tmp_path / "audio").utterances
    assert (first.audio_path, str(second.audio_path)) == (tmp_path / "audio/a.wav", "/data/b c.flac")
    assert (first.relative_to, second.relative_to) == (str(tmp_path / "audio"), "")
    assert kaldi(SOUND)[0].relative_to == f"the working directory {tmp_path}, or to {tmp_path}"


def test_sub_folders_are_splits(kaldi, tmp_path):
    (tmp_path / "local").mkdir()
    kaldi(SOUND, "train")
    kaldi({**SOUND, "wav.scp": "r3 c.wav", "text": "r3 x"}, "eval")
    utterances = kaldi({**SOUND, "wav.scp": "r4 c.wav", "text": "r4 x"}, "valid")
    assert {u.id: u.split for u in utterances} == {"r1": "train", "r2": "train", "r3": "test", "r4": "dev"}


def test_an_utterance_without_a_transcript_has_an_empty_one(kaldi):
    assert [u.text for u in kaldi({**SOUND, "text": "r1\n"})] == ["", ""]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"wav.scp": "r1 nc -l 80 |\n"}, r"wav\.scp:1: a command .* are not run\. Write its output"),
        ({"wav.scp": "r1 data/a.ark:123\n"}, r"wav\.scp:1: audio inside an archive"),
        ({"wav.scp": "r1\n"}, r"wav\.scp:1: 'r1' has no value"),
        ({"text": ""}, r"text: the file is empty"),
        (
            {"segments": "u1 r9 0 1\n", "text": "u1 x"},
            r"segments:1: recording 'r9' does not occur in .*wav\.scp",
        ),
        ({"segments": "u1 r1 0\n", "text": "u1 x"}, r"segments:1: expected 'utterance recording start end'"),
        (
            {"segments": "u1 r1 0 one\n", "text": "u1 x"},
            r"segments:1: expected 'utterance recording start end'",
        ),
        ({"segments": "u1 r1 2 1\n", "text": "u1 x"}, r"segments:1: a segment cannot last from 2 s to 1 s"),
    ],
)
def test_what_is_wrong_with_a_folder_is_named(kaldi, files, reason):
    with pytest.raises(ManifestError, match=reason):
        kaldi({**SOUND, **files})


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ManifestError, match="nowhere: no such folder"):
        read_kaldi(tmp_path / "nowhere")
    with pytest.raises(ManifestError, match=r"no wav\.scp, neither here nor in sub-folders"):
        read_kaldi(tmp_path)
    (tmp_path / "wav.scp").write_text("r1 a.wav\n")
    with pytest.raises(ManifestError, match="text: cannot read the file"):
        read_kaldi(tmp_path)


def test_a_byte_order_mark_is_passed_over(kaldi):
    first, _ = kaldi({**SOUND, "wav.scp": "\ufeff" + SOUND["wav.scp"], "text": "\ufeff" + SOUND["text"]})
    assert (first.id, first.text) == ("r1", "hello  you")


def test_lines_that_cannot_be_used_are_left_out_with_their_reason(tmp_path):
    for name, content in {
        "wav.scp": "r1 a.wav\nr1 b.wav\nr2 nc -l 80 |\nr3\n",
        "segments": "u1 r1 0 1\nu2 r2 0 1\nu3 r1 2 1\nu4 r1 3 4\nu5 r3 0 1\n",
        "text": "u1 one\nu2 two\nu9 nine\nu4 four\n",
        "utt2spk": "u1 anna\n",
    }.items():
        (tmp_path / name).write_text(content)
    material = read_kaldi(tmp_path)
    assert [(u.id, u.audio_path.name, u.text) for u in material.utterances] == [
        ("u1", "a.wav", "one"),
        ("u4", "a.wav", "four"),
    ]
    assert [
        (where.removeprefix(f"{tmp_path}/"), reason.partition(" (")[0]) for where, reason, _ in material.left_out
    ] == [
        ("wav.scp:2", f"'r1' occurs already at {tmp_path}/wav.scp:1"),
        ("wav.scp:4", "'r3' has no value"),
        ("wav.scp:3", "a command"),
        ("text:3", f"utterance 'u9' does not occur in {tmp_path}/segments"),
        ("segments:2", f"its recording 'r2' cannot be used, see {tmp_path}/wav.scp:3"),
        ("segments:3", "a segment cannot last from 2 s to 1 s"),
        ("segments:5", f"recording 'r3' does not occur in {tmp_path}/wav.scp"),
    ]
    assert material.notes == [f"{tmp_path}/utt2spk holds no speaker in 1 of 2 utterances"]


def test_a_folder_without_utt2spk_says_so(tmp_path):
    (tmp_path / "wav.scp").write_text("r1 a.wav\n")
    (tmp_path / "text").write_text("r1 one\n")
    assert read_kaldi(tmp_path).notes == [f"{tmp_path}: no utt2spk, which names the speakers"]
