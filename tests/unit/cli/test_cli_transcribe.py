"""`asr transcribe` with a recogniser that only says the names of files, and cannot read those called bad."""

import json
import os
import sys
from pathlib import Path

import pytest

import asr
from asr.cli.main import run
from asr.errors import AudioError
from asr.inference.transcript import Transcript, Word


class NameSayer:
    """Stands for a loaded model: the transcript of `one two.wav` is "one two"."""

    def __init__(self) -> None:
        self.methods = []

    def transcribe_files(self, paths, *, method=None):
        self.methods.append(method)
        for path in paths:
            if path.stem.startswith("bad"):
                yield path, AudioError(f"{path}: truncated")
            else:
                words = tuple(Word(text, float(i), i + 0.5, 1.0) for i, text in enumerate(path.stem.split()))
                yield path, Transcript(path.stem, words, 9.0, 1.0, os.fspath(path))


@pytest.fixture
def loads(monkeypatch):
    """Put the fake in place of `asr.load`; list how it was called."""
    calls = []

    def load(folder, *, accelerator):
        calls.append((folder, accelerator, NameSayer()))
        return calls[-1][-1]

    monkeypatch.setitem(vars(asr), "load", load)
    return calls


@pytest.fixture
def transcribe(loads, monkeypatch, capsys, tmp_path):
    """Run `asr transcribe model …` in tmp_path; return exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def transcribe(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["asr", "transcribe", "model", *arguments])
        with pytest.raises(SystemExit) as exit_:
            run()
        return exit_.value.code, *capsys.readouterr()

    return transcribe


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def files_in(folder: str) -> dict[str, str]:
    found = (path for path in Path(folder).rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in found}


def test_one_file_is_printed_as_it_is(transcribe):
    assert transcribe("some/one two.wav") == (0, "one two\n", "")


def test_one_file_as_srt_is_a_subtitle_file(transcribe):
    assert transcribe("hey.wav", "--format", "srt") == (0, "1\n00:00:00,000 --> 00:00:01,000\nhey\n", "")


def test_several_files_as_txt_are_lines_of_path_tab_text(transcribe):
    assert transcribe("a.wav", "x/b c.mp3") == (0, "a.wav\ta\nx/b c.mp3\tb c\n", "")


def test_several_files_as_json_are_one_object_a_line(transcribe):
    status, out, _ = transcribe("a.wav", "b.wav", "--format", "json")
    assert status == 0
    assert [(line["path"], line["text"]) for line in map(json.loads, out.splitlines())] == [
        ("a.wav", "a"),
        ("b.wav", "b"),
    ]


def test_several_files_as_srt_need_a_folder_and_no_model_is_loaded_to_say_so(transcribe, loads):
    status, out, err = transcribe("a.wav", "b.wav", "--format", "srt")
    assert (status, out, loads) == (2, "", [])
    assert "--out: needed when several files become srt" in err


def test_a_folder_is_searched_for_audio_in_the_order_of_names(transcribe):
    touch(
        "talks/b.wav",
        "talks/a.FLAC",
        "talks/notes.txt",
        "talks/day 1/c.ogg",
        "talks/.hidden.wav",
        "talks/.x/d.wav",
    )
    status, out, _ = transcribe("talks")
    assert status == 0
    assert out.splitlines() == ["talks/a.FLAC\ta", "talks/b.wav\tb", "talks/day 1/c.ogg\tc"]


def test_a_folder_with_one_file_still_names_it(transcribe):
    touch("talks/a.wav")
    assert transcribe("talks") == (0, "talks/a.wav\ta\n", "")


def test_a_file_given_twice_is_done_once(transcribe):
    touch("talks/a.wav")
    assert transcribe("talks/a.wav", "talks", "./talks")[1] == "talks/a.wav\ta\n"


def test_with_out_the_sub_folders_of_a_folder_are_mirrored(transcribe):
    touch("talks/a.wav", "talks/day/b.v2.wav", "talks/day/night/c.wav")
    assert transcribe("talks", "other/d.wav", "--out", "text") == (0, "", "")
    assert files_in("text") == {
        "a.txt": "a\n",
        "day/b.v2.txt": "b.v2\n",
        "day/night/c.txt": "c\n",
        "d.txt": "d\n",
    }


@pytest.mark.parametrize("name", ["txt", "json", "srt"])
def test_the_format_is_the_suffix(transcribe, name):
    transcribe("a.wav", "--format", name, "--out", "out")
    assert list(files_in("out")) == [f"a.{name}"]


def test_two_files_for_one_path_are_refused_before_anything_is_done(transcribe, loads):
    status, _, err = transcribe("x/a.wav", "y/a.mp3", "--out", "out")
    assert (status, loads, Path("out").exists()) == (1, [], False)
    assert err.startswith("error: x/a.wav and y/a.mp3 would both be written to out/a.txt; ")


def test_an_out_that_is_a_file_is_refused_before_the_model_is_loaded(transcribe, loads):
    touch("out")
    status, _, err = transcribe("a.wav", "--out", "out")
    assert (status, err, loads) == (1, "error: out: File exists\n", [])


def test_bad_files_are_skipped_named_and_listed_and_the_others_done(transcribe):
    status, out, err = transcribe("bad1.wav", "a.wav", "bad2.wav", "b.wav")
    assert status == 2
    assert out == "a.wav\ta\nb.wav\tb\n"
    assert err == (
        "skipped: bad1.wav: truncated\nskipped: bad2.wav: truncated\n\n"
        "2 skipped:\n  bad1.wav: truncated\n  bad2.wav: truncated\n"
    )


def test_one_bad_file_is_named_once(transcribe):
    assert transcribe("bad.wav") == (2, "", "skipped: bad.wav: truncated\n")


def test_a_bad_file_leaves_no_output_file(transcribe):
    assert transcribe("bad.wav", "a.wav", "--out", "out")[0] == 2
    assert files_in("out") == {"a.txt": "a\n"}


def test_a_folder_without_audio_is_reported_and_the_others_are_done(transcribe):
    touch("empty/notes.txt")
    status, out, err = transcribe("empty", "a.wav")
    assert (status, out) == (2, "a.wav\ta\n")
    assert "skipped: empty: no audio files in this folder (" in err


def test_a_sub_folder_that_cannot_be_read_is_reported(transcribe, monkeypatch):
    touch("talks/a.wav", "talks/locked/b.wav")
    scandir = os.scandir

    def refuse_locked(folder):
        if os.path.basename(folder) == "locked":
            raise PermissionError(13, "Permission denied", os.fspath(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse_locked)
    status, out, err = transcribe("talks")
    assert (status, out) == (2, "talks/a.wav\ta\n")
    assert "skipped: talks/locked: cannot be searched (Permission denied)" in err


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes only there")
def test_a_file_name_that_is_not_utf_8_does_not_stop_the_others(transcribe):
    assert transcribe(os.fsdecode(b"caf\xe9/a.wav"), "b.wav") == (0, "caf\\xe9/a.wav\ta\nb.wav\tb\n", "")


def test_how_far_it_is_shows_on_stderr_for_several_files_only(transcribe, monkeypatch):
    monkeypatch.setattr("asr.cli.console.QUIET_S", 0.0)
    assert transcribe("a.wav", "b.wav", "--out", "out") == (0, "", "transcribe: 2/2, 0:00\n")
    assert transcribe("a.wav", "--out", "out") == (0, "", "")


def test_an_unknown_format_is_refused_with_those_that_exist(transcribe, loads):
    status, _, err = transcribe("a.wav", "--format", "doc")
    assert (status, loads) == (2, [])
    assert "'doc' is not one of txt, json, srt" in err


def test_options_reach_the_recogniser(transcribe, loads):
    transcribe("a.wav", "--method", "greedy", "--accelerator", "cpu")
    transcribe("a.wav")
    assert [(folder, accelerator, fake.methods) for folder, accelerator, fake in loads] == [
        (Path("model"), "cpu", ["greedy"]),
        (Path("model"), "auto", [None]),
    ]
