"""`asr transcribe`: what it takes, prints and refuses, with a recogniser that only says the names of files."""

import json
import os
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from name_sayer import files_in, install, touch

import asr
from asr.decoding.hotwords import DEFAULT_BONUS


@pytest.fixture
def loads(monkeypatch):
    return install(monkeypatch)


@pytest.fixture
def transcribe(loads, monkeypatch, call, tmp_path):
    """Run `asr transcribe model …` in tmp_path; return exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    return partial(call, "transcribe", "model")


def test_one_file_is_printed_as_it_is(transcribe):
    assert transcribe("some/one two.wav") == (0, "one two\n", "")


def test_one_file_as_srt_is_a_subtitle_file(transcribe):
    assert transcribe("hey.wav", "--format", "srt") == (0, "1\n00:00:00,000 --> 00:00:01,000\nhey\n", "")


def test_several_files_as_txt_are_lines_of_path_tab_text(transcribe):
    assert transcribe("a.wav", "x/b c.mp3") == (0, "a.wav\ta\nx/b c.mp3\tb c\n", "")


def test_several_files_as_jsonl_are_one_object_a_line(transcribe):
    status, out, _ = transcribe("a.wav", "b.wav", "--format", "jsonl")
    assert status == 0
    assert [(line["path"], line["text"]) for line in map(json.loads, out.splitlines())] == [
        ("a.wav", "a"),
        ("b.wav", "b"),
    ]


@pytest.mark.parametrize("name", ["srt", "json"])
def test_several_files_as_srt_or_json_need_a_place_and_no_model_is_loaded_to_say_so(transcribe, loads, name):
    status, out, err = transcribe("a.wav", "b.wav", "--format", name)
    assert (status, out, loads) == (2, "", [])
    assert f"--out or --beside: needed when several files or channels become {name}" in err


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


def test_bad_files_are_skipped_named_once_and_counted_and_the_others_done(transcribe):
    status, out, err = transcribe("bad1.wav", "a.wav", "bad2.wav", "b.wav")
    assert status == 2
    assert out == "a.wav\ta\nb.wav\tb\n"
    assert err == ("skipped: bad1.wav: truncated\nskipped: bad2.wav: truncated\n2 skipped, for the reasons above\n")


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


def test_how_far_it_is_shows_on_stderr_in_time_of_audio(transcribe, monkeypatch):
    for seconds, name in ((2, "a.wav"), (3, "b.wav")):
        soundfile.write(name, np.zeros(seconds * 8000), 8000)
    monkeypatch.setattr("asr.cli.console.QUIET_S", 0.0)
    shown = "look through: 3/3, 0:00\ntranscribe: 0:05/0:05, 0:00\n"
    assert transcribe("a.wav", "b.wav", "no header.wav", "--out", "out") == (0, "", shown)
    assert transcribe("a.wav", "--out", "elsewhere")[2] == "look through: 1/1, 0:00\ntranscribe: 0:02/0:02, 0:00\n"


def test_an_unknown_format_is_refused_with_those_that_exist(transcribe, loads):
    status, _, err = transcribe("a.wav", "--format", "doc")
    assert (status, loads) == (2, [])
    assert "'doc' is not one of txt, json, jsonl, srt" in err


def test_options_reach_the_recogniser(transcribe, loads):
    given = "--method beam --accelerator cpu --hotword Rosa=4.5 --hotword Emma --set beam_size=3"
    given += " --segment fixed --precision bf16 --n-best 7 --with other"
    assert transcribe("a.wav", *given.split())[0] == 0
    assert transcribe("a.wav")[0] == 0
    (folder, wishes, fake), (alone, defaults, other) = loads
    assert alone == (Path("model"),)
    assert folder == (Path("model"), Path("other"))
    assert wishes == {"accelerator": "cpu", "precision": "bf16", "decode": {"beam_size": 3}, "speaker": None}
    ((path, asked),) = fake.asked
    assert path == Path("a.wav")
    assert asked | {"on_progress": None} == {
        "method": "beam",
        "hotwords": {"Rosa": 4.5, "Emma": DEFAULT_BONUS},
        "grammar": None,
        "segment": "fixed",
        "channel": None,
        "n_best": 7,
        "on_progress": None,
    }
    assert defaults == {"accelerator": "auto", "precision": "fp32", "decode": {}, "speaker": None}
    ((_, asked),) = other.asked
    assert (asked["method"], asked["hotwords"], asked["segment"]) == (None, {}, "vad")


def test_separate_channels_have_a_transcript_each(transcribe, loads):
    soundfile.write("a.wav", np.zeros((800, 2)), 8000)
    soundfile.write("b.wav", np.zeros(800), 8000)
    assert transcribe("a.wav", "--channels", "separate") == (0, "ch0\ta\nch1\ta\n", "")
    assert transcribe("a.wav", "b.wav", "--channels", "separate")[1] == "a.wav\tch0\ta\na.wav\tch1\ta\nb.wav\tch0\tb\n"
    lines = transcribe("a.wav", "b.wav", "--channels", "separate", "--format", "jsonl")[1].splitlines()
    assert [(line["path"], line["channel"]) for line in map(json.loads, lines)] == [
        ("a.wav", 0),
        ("a.wav", 1),
        ("b.wav", 0),
    ]
    options = ("a.wav", "b.wav", "--channels", "separate", "--format", "srt")
    assert transcribe(*options)[0] == 2
    assert transcribe(*options, "--out", "out")[0] == 0
    assert sorted(files_in("out")) == ["a.ch0.srt", "a.ch1.srt", "b.ch0.srt"]
    assert transcribe(*options, "--out", "out")[2] == "2 of 2 files are done already\n"


def test_stdin_has_its_name_and_cannot_be_shared_out(transcribe, loads):
    assert transcribe("-") == (0, "-\n", "")
    assert transcribe("-", "--out", "out") == (0, "", "")
    assert transcribe("-", "--out", "out") == (0, "", "")
    assert files_in("out") == {"stdin.txt": "-\n"}
    for refused in (["--beside"], ["--jobs", "2"], ["--ray", "local"], ["--channels", "separate"]):
        status, _, err = transcribe("-", *refused)
        assert status == 2
        assert "standard input (-) goes with none of" in err


def test_stream_hands_one_file_or_stdin_over(transcribe, monkeypatch):
    calls = []
    monkeypatch.setattr("asr.cli.transcribe.print_stream", lambda *args, **wishes: calls.append((*args[1:], wishes)))
    monkeypatch.setitem(vars(asr), "load", lambda folder, **wishes: calls.append((folder, wishes)))
    assert transcribe("-", "--stream", "--rate", "16000", "--hotword", "Rosa=2", "--set", "beam_size=3")[0] == 0
    assert calls == [
        (Path("model"), {"accelerator": "auto", "precision": "auto", "decode": {"beam_size": 3}, "speaker": None}),
        (Path("-"), 16000, {"method": None, "hotwords": {"Rosa": 2.0}, "grammar": None}),
    ]


@pytest.mark.parametrize(
    "given",
    [
        "a.wav b.wav --stream",
        "a.wav --stream --out out",
        "a.wav --stream --jobs 2",
        "a.wav --stream --n-best 2",
        "a.wav --stream --with other",
        "a.wav --stream --format srt",
        "a.wav --stream --segment none",
        "a.wav --stream --channels separate",
        "a.wav --rate 16000",
    ],
)
def test_what_does_not_go_together_is_refused(transcribe, loads, given):
    status, _, err = transcribe(*given.split())
    assert (status, loads) == (2, [])
    assert "--stream" in err
