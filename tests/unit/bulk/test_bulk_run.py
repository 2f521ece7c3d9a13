"""`asr.transcribe_files`: what it returns, hands over and writes, with a recogniser that says the names of files."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
from name_sayer import files_in, install, touch

import asr
from asr.errors import AsrError, AudioError, ConfigError
from asr.transcript.transcript import FORMATS


@pytest.fixture(autouse=True)
def loads(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    return install(monkeypatch)


def texts(report) -> list[str]:
    return [transcript.text for transcript in report.transcripts]


def test_without_a_place_the_report_has_the_transcripts_in_the_order_of_the_files(capfd):
    touch("x/b.wav", "x/a.wav", "x/bad.wav", "x/c.mid")
    report = asr.transcribe_files("model", ["x", "empty"])
    assert texts(report) == ["a", "b", "empty"]
    assert (report.files, report.done_before, report.done) == (4, 0, 3)
    assert list(map(str, report.skipped)) == ["x/bad.wav: truncated"]
    assert report.notes == ["1 file with another suffix was passed over: .mid"]
    assert capfd.readouterr() == ("", "")


def test_a_single_path_is_not_taken_for_a_list_of_letters():
    touch("calls/a.wav")
    assert texts(asr.transcribe_files("model", "calls")) == texts(asr.transcribe_files("model", Path("calls"))) == ["a"]


def test_results_go_to_the_caller_as_they_come_and_are_not_kept():
    touch("x/b.wav", "x/a.wav", "x/bad.wav")
    seen: list[object] = []
    report = asr.transcribe_files(
        "model", ["x"], on_start=seen.append, on_result=lambda path, result: seen.append((path, result))
    )
    start, *results = seen
    assert (start.files, start.done) == (3, 0)
    assert [path.name for path, _ in results] == ["a.wav", "b.wav", "bad.wav"]
    assert results[0][1][0].text == "a"
    assert isinstance(results[2][1], AudioError)
    assert (report.done, report.transcripts) == (2, ())


def test_with_a_place_transcripts_are_written_and_a_second_run_does_nothing(loads):
    touch("x/a.wav", "x/1/b.wav")
    for run in range(2):
        report = asr.transcribe_files("model", ["x"], out="o", hotwords=["anna"], decode={"beam_size": 3})
        assert (report.done_before, report.done, report.transcripts) == (2 * run, 2 - 2 * run, ())
    assert files_in("o") == {"a.txt": "a\n", "1/b.txt": "b\n"}
    assert len(loads) == 1


def test_several_formats_are_written_in_one_run_and_only_the_missing_ones_later(loads):
    touch("x/a.wav", "x/b.wav")
    asr.transcribe_files("model", ["x"], beside=True, format="SRT, textgrid")
    assert sorted(files_in("x")) == ["a.TextGrid", "a.srt", "a.wav", "b.TextGrid", "b.srt", "b.wav"]
    Path("x/a.srt").unlink()
    before = os.stat("x/a.TextGrid").st_mtime_ns
    report = asr.transcribe_files("model", ["x"], beside=True, format=["textgrid", "srt"])
    assert (report.done_before, report.done) == (1, 1)
    assert os.stat("x/a.TextGrid").st_mtime_ns == before
    assert [path.name for path, _ in loads[1][2].asked] == ["a.wav"]


def test_every_format_is_known_in_any_case_and_written_under_its_own_suffix():
    touch("a.wav")
    asr.transcribe_files("model", ["a.wav"], out="o", format=[name.upper() for name in FORMATS])
    assert sorted(files_in("o")) == sorted(f"a.{name}" for name in FORMATS)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"format": "srt,doc"}, "format 'doc' is not one of txt, json"),
        ({"format": ""}, "format '' is not one of"),
        ({"format": []}, "format '' is not one of"),
        ({"out": ""}, "out: the name of the folder is empty"),
        ({"out": "-"}, "out: - is no folder"),
        ({"out": "o", "beside": True}, "beside: transcripts are written to one folder or beside"),
        ({"jobs": 0}, "jobs: 0 processes"),
        ({"channels": "left"}, "channels: 'left' is neither mix nor separate"),
        ({"method": "greedy", "hotwords": ["anna"]}, "need the beam search"),
        ({"hotwords": "anna"}, "hotwords='anna'"),
        ({"files": ["-"], "jobs": 2}, r"files: standard input \(-\) goes with none of"),
        ({"files": ["a.wav", ""]}, "files: the name of a file is empty"),
    ],
)
def test_arguments_that_make_no_sense_are_refused_by_name(given, message, loads):
    with pytest.raises(ConfigError, match=message):
        asr.transcribe_files("model", **{"files": ["a.wav"]} | given)
    assert loads == []
    assert os.listdir() == []


def test_a_recording_of_the_same_name_from_elsewhere_does_not_replace_the_first_ones_transcript():
    touch("x/a.wav", "y/a.wav", "y/b.wav")
    asr.transcribe_files("model", "x/a.wav", out="o")
    with pytest.raises(AsrError, match=r"^o/a\.txt is the transcript of another recording, x/a\.wav; .*--overwrite"):
        asr.transcribe_files("model", ["y"], out="o")
    assert files_in("o") == {"a.txt": "a\n"}
    asr.transcribe_files("model", ["y"], out="o", overwrite=True)
    with pytest.raises(AsrError, match=r"^o/a\.txt is the transcript of another recording, y/a\.wav"):
        asr.transcribe_files("model", "x/a.wav", out="o")


def test_a_recording_that_was_moved_or_is_named_otherwise_is_still_the_same_one(loads):
    touch("x/a.wav")
    asr.transcribe_files("model", "x/a.wav", out="o")
    os.symlink("x", "link")
    for name in ("link/a.wav", "./x/../x/a.wav", Path("x/a.wav").absolute()):
        assert asr.transcribe_files("model", name, out="o").done_before == 1
    Path("x").rename("y")
    assert asr.transcribe_files("model", "y/a.wav", out="o").done_before == 1
    Path("y/a.wav").write_bytes(b"changed")
    with pytest.raises(AsrError, match=r"another recording, x/a\.wav"):
        asr.transcribe_files("model", "y/a.wav", out="o")


def test_a_folder_of_audio_and_transcripts_can_be_moved_as_a_whole():
    touch("x/a.wav")
    asr.transcribe_files("model", "x", beside=True)
    asr.transcribe_files("model", "x", out="x/texts")
    Path("x").rename("y")
    assert asr.transcribe_files("model", "y", beside=True).done_before == 1
    assert asr.transcribe_files("model", "y", out="y/texts").done_before == 1
    Path("y/a.wav").write_bytes(b"changed")
    assert asr.transcribe_files("model", "y", beside=True).done == 1


def two_channels(*names: str) -> None:
    for name in names:
        soundfile.write(name, np.zeros((800, 2)), 8000)


@pytest.mark.parametrize("first", ["separate", "mix"])
def test_a_recording_called_like_another_ones_channel_does_not_replace_its_transcript(first):
    two_channels("a.wav", "a.ch0.wav")
    runs = [("a.wav", "separate"), ("a.ch0.wav", "mix")]
    (one, how), (other, other_how) = runs if first == "separate" else reversed(runs)
    asr.transcribe_files("model", one, out="o", channels=how)
    before = files_in("o")
    with pytest.raises(AsrError, match=rf"^o/a\.ch0\.txt is the transcript of another recording, {one}"):
        asr.transcribe_files("model", other, out="o", channels=other_how)
    assert files_in("o") == before


def test_recordings_called_like_channels_are_done_once_in_either_way():
    two_channels("a.wav", "a.ch0.wav")
    for folder, channels in (("mixed", "mix"), ("apart", "separate")):
        for done in (0, 2):
            report = asr.transcribe_files("model", ["a.wav", "a.ch0.wav"], out=folder, channels=channels)
            assert report.done_before == done
    assert sorted(files_in("mixed")) == ["a.ch0.txt", "a.txt"]
    assert sorted(files_in("apart")) == ["a.ch0.ch0.txt", "a.ch0.ch1.txt", "a.ch0.txt", "a.ch1.txt"]


def test_a_record_of_an_earlier_version_that_names_no_recording_keeps_its_transcripts():
    touch("x/a.wav", "y/a.wav")
    asr.transcribe_files("model", "x/a.wav", out="o")
    record = Path("o/.asr-transcribe.jsonl")
    line = json.loads(record.read_text())
    del line["recording"]
    record.write_text(json.dumps(line) + "\n")
    assert asr.transcribe_files("model", "x/a.wav", out="o").done_before == 1


def test_transcripts_in_the_folders_searched_are_not_reported_as_passed_over():
    touch("x/a.wav", "x/b.doc", "x/c.jpg", "x/d.jpg")
    asr.transcribe_files("model", "x", beside=True, format="txt,json")
    report = asr.transcribe_files("model", "x", beside=True, format="txt,json")
    assert report.notes == ["3 files with other suffixes were passed over: .jpg .doc"]
    touch(*(f"x/{letter}.{letter}" for letter in "klmnop"))
    assert asr.transcribe_files("model", "x", out="o").notes == [
        "9 files with other suffixes were passed over: .jpg .doc .k .l .m …"
    ]


def test_progress_tells_the_files_looked_through_and_the_seconds_transcribed():
    soundfile.write("a.wav", np.zeros(16000), 8000)
    soundfile.write("b.wav", np.zeros(24000), 8000)
    stages: list[list[object]] = []

    @contextmanager
    def progress(description, total):
        stages.append([description, total, 0.0])

        def advance(more):
            stages[-1][2] += more

        yield advance

    asr.transcribe_files("model", ["a.wav", "b.wav"], progress=progress)
    assert stages == [["look through", 2, 2], ["transcribe", 5.0, 5.0]]


def test_an_error_of_the_caller_ends_the_work_at_once(loads):
    touch("x/a.wav", "x/b.wav")

    def refuse(path, result):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        asr.transcribe_files("model", "x", on_result=refuse)
    assert len(loads[0][2].asked) == 1


def test_a_name_that_is_too_long_for_its_transcript_is_skipped_and_the_others_are_written():
    touch("x/a.wav", "x/" + "b" * 251 + ".wav")
    report = asr.transcribe_files("model", "x", out="o", format="TextGrid")
    assert (report.done, len(report.skipped)) == (1, 1)
    assert "longer than the name of a file may be" in str(report.skipped[0])
