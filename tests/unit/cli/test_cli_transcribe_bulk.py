"""`asr transcribe` of many files: patterns, places, what is done already, with a recogniser that says their names."""

import os
from functools import partial
from pathlib import Path

import pytest
from name_sayer import NameSayer, files_in, install, touch

from asr.bulk.journal import hold


@pytest.fixture
def loads(monkeypatch):
    return install(monkeypatch)


@pytest.fixture
def transcribe(loads, monkeypatch, call, tmp_path):
    """Run `asr transcribe model …` in tmp_path; return exit status, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    return partial(call, "transcribe", "model")


def test_with_beside_each_transcript_lies_beside_its_audio(transcribe):
    touch("talks/a.wav", "talks/day/b.wav")
    assert transcribe("talks", "--beside", "--format", "srt")[0] == 0
    assert sorted(files_in("talks")) == ["a.srt", "a.wav", "day/b.srt", "day/b.wav"]


def test_jobs_and_a_cluster_transcribe_with_the_same_options_and_keep_the_order(transcribe, loads, monkeypatch):
    calls = []

    def backwards(load, paths, *how, **wishes):
        calls.append((*how, wishes))
        work = load()
        yield from ((path, work(path)) for path in reversed(paths))

    monkeypatch.setattr("asr.bulk.workers.in_processes", backwards)
    monkeypatch.setattr("asr.bulk.cluster.on_ray", backwards)
    assert transcribe("a.wav", "b.wav", "--jobs", "2", "--method", "beam") == (0, "a.wav\ta\nb.wav\tb\n", "")
    assert transcribe("a.wav", "b.wav", "--ray", "auto", "--accelerator", "cuda")[1] == "a.wav\ta\nb.wav\tb\n"
    assert transcribe("a.wav", "b.wav", "--ray", "local", "--jobs", "3")[0] == 0
    assert calls == [(2, {}), ("auto", None, {"gpu": True}), ("local", 3, {"gpu": False})]
    assert [wishes["method"] for _, wishes in loads[0][2].asked] == ["beam", "beam"]


def test_with_beside_and_out_nothing_is_done(transcribe, loads):
    status, _, err = transcribe("a.wav", "--beside", "--out", "out")
    assert (status, loads) == (2, [])
    assert "--beside: transcripts are written to one folder or beside their audio, not both" in err


def test_a_pattern_in_quotes_is_found_below_its_first_folder(transcribe):
    touch("talks/a.wav", "talks/1/b.wav", "talks/2/b.wav", "talks/2/b.mp3", "talks/2/deep/b.wav", "talks/[x].wav")
    assert transcribe("talks/**/b.wav", "--out", "out")[0] == 0
    assert sorted(files_in("out")) == ["1/b.txt", "2/b.txt", "2/deep/b.txt"]
    assert transcribe("talks/?/b.*")[1].splitlines() == ["talks/1/b.wav\tb", "talks/2/b.mp3\tb", "talks/2/b.wav\tb"]
    assert transcribe("talks/[x].wav")[1] == "[x]\n", "a file of that name is no pattern"
    assert transcribe("talks/*.ogg", "talks/a.wav") == (
        2,
        "talks/a.wav\ta\n",
        "skipped: talks/*.ogg: no file matches this pattern\n1 skipped, for the reasons above\n",
    )


def test_what_is_done_is_not_done_again_and_a_bad_file_is_tried_again(transcribe, loads):
    touch("in/a.wav", "in/bad.wav", "in/b.wav")
    assert transcribe("in", "--out", "out")[0] == 2
    status, _, err = transcribe("in", "--out", "out")
    assert status == 2
    assert err.startswith("2 of 3 files are done already\nskipped: in/bad.wav: truncated\n")
    assert [[path.name for path, _ in fake.asked] for _, _, fake in loads] == [
        ["a.wav", "b.wav", "bad.wav"],
        ["bad.wav"],
    ]


def test_if_all_is_done_no_model_is_loaded(transcribe, loads):
    touch("in/a.wav", "in/b.wav")
    assert transcribe("in", "--out", "out") == (0, "", "")
    assert transcribe("in", "--out", "out") == (0, "", "2 of 2 files are done already\n")
    assert len(loads) == 1


def test_another_version_of_this_package_does_all_again(transcribe, loads, monkeypatch):
    touch("in/a.wav")
    assert transcribe("in", "--out", "out") == (0, "", "")
    monkeypatch.setattr("asr.__version__", "99.0")
    assert transcribe("in", "--out", "out") == (0, "", "")
    assert len(loads) == 2


def test_overwrite_does_all_again_and_replaces_what_was_there(transcribe, loads):
    touch("in/a.wav", "in/b.wav")
    transcribe("in", "--out", "out")
    Path("out/a.txt").write_text("mended by hand\n")
    assert transcribe("in", "--out", "out", "--overwrite") == (0, "", "")
    assert files_in("out") == {"a.txt": "a\n", "b.txt": "b\n"}


def test_a_transcript_by_somebody_else_stays_and_nothing_is_done(transcribe, loads):
    touch("in/a.wav", "in/b.wav")
    Path("in/a.txt").write_text("typed by hand\n")
    status, _, err = transcribe("in", "--beside")
    assert (status, loads) == (1, [])
    assert err.startswith(
        "error: in/a.txt exists already and was not written by asr transcribe; choose another folder, or"
    )
    assert files_in("in")["a.txt"] == "typed by hand\n"


def test_an_audio_file_is_never_replaced_by_its_transcript(transcribe, loads):
    touch("talk.txt")
    status, _, err = transcribe("talk.txt", "--beside", "--overwrite")
    assert (status, loads) == (1, [])
    assert err.startswith("error: talk.txt would be replaced by its own transcript")


def test_a_defect_in_one_file_is_named_and_the_others_are_done(transcribe, monkeypatch):
    real = NameSayer.transcribe

    def transcribe_but_for_b(self, path, **wishes):
        return [][1] if path.stem == "b" else real(self, path, **wishes)

    monkeypatch.setattr(NameSayer, "transcribe", transcribe_but_for_b)
    status, out, err = transcribe("a.wav", "b.wav", "c.wav")
    assert (status, out) == (2, "a.wav\ta\nc.wav\tc\n")
    assert "skipped: b.wav: cannot be transcribed (IndexError in test_cli_transcribe_bulk.py, line " in err


@pytest.mark.parametrize("option", [("--out", "out"), ("--beside",)])
def test_while_another_run_writes_there_nothing_is_done(transcribe, loads, option):
    touch("talks/day/a.wav", "talks/b.wav")
    with hold([Path("talks"), Path("out")]):
        status, _, err = transcribe("talks", *option)
    assert (status, loads) == (1, [])
    assert err.startswith(f"error: {'out' if 'out' in option else 'talks'}: another asr transcribe is at work there")
    assert transcribe("talks", *option)[0] == 0


def test_two_files_with_the_same_place_for_their_transcripts_are_an_error_however_they_are_spelt(transcribe, tmp_path):
    touch("talks/a.wav", "talks/a.mp3")
    status, _, err = transcribe("talks/a.wav", tmp_path / "talks" / "a.mp3", "--beside")
    assert status == 1
    assert "talks/a.wav and " in err
    assert "would both be written" in err


def test_an_empty_name_is_refused_and_not_taken_for_this_folder(transcribe, loads):
    touch("a.wav")
    status, _, err = transcribe("a.wav", "--out", "")
    assert (status, loads) == (2, [])
    assert "--out is empty; is a variable not set?" in err
    status, _, err = transcribe("")
    assert (status, loads) == (2, [])
    assert "an argument is empty; is a variable not set?" in err


def test_several_formats_in_any_case_need_a_place(transcribe, loads):
    touch("a.wav")
    status, _, err = transcribe("a.wav", "--format", "SRT,textgrid")
    assert (status, loads) == (2, [])
    assert "--out or --beside: needed for several formats" in err
    assert transcribe("a.wav", "--format", "SRT, textgrid", "--out", "out") == (0, "", "")
    assert sorted(files_in("out")) == ["a.TextGrid", "a.srt"]
    assert transcribe("a.wav", "--format", "JSONL")[1].startswith('{"path": "a.wav"')


def test_what_was_passed_over_in_a_folder_is_said_in_a_line(transcribe):
    touch("talks/a.wav", "talks/b.mid", "talks/notes.txt", "elsewhere/c.wav")
    Path("talks/link").symlink_to("../elsewhere")
    noted = "2 files with other suffixes were passed over: .mid .txt\n1 link to a folder was not followed: talks/link\n"
    assert transcribe("talks") == (0, "talks/a.wav\ta\n", noted)


def test_a_pipe_in_a_folder_is_skipped_by_name(transcribe):
    touch("talks/a.wav")
    os.mkfifo("talks/b.wav")
    problem = "skipped: talks/b.wav: is a pipe, not a file; `- < talks/b.wav` reads it\n"
    status, out, err = transcribe("talks")
    assert (status, out) == (2, "talks/a.wav\ta\n")
    assert err.startswith(problem)


def test_a_second_run_does_not_replace_the_transcript_of_a_recording_of_the_same_name(transcribe, loads):
    touch("x/a.wav", "y/a.wav")
    assert transcribe("x/a.wav", "--out", "out")[0] == 0
    status, _, err = transcribe("y/a.wav", "--out", "out")
    assert (status, len(loads)) == (1, 1)
    assert err.startswith("error: out/a.txt is the transcript of another recording, x/a.wav; choose another folder")


def test_a_file_name_does_nothing_to_the_terminal(transcribe):
    name = "bad\x1bc\nskipped: all.wav"
    assert transcribe(name) == (2, "", "skipped: bad\\x1bc\\nskipped: all.wav: truncated\n")
