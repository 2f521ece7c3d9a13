"""Files, folders and patterns → audio files: links, pipes, other files, and places for transcripts."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest
from name_sayer import touch

from asr.audio.audio_files import AudioFile, find_audio, is_one_file, output_paths
from asr.errors import AsrError

POSIX_ONLY = pytest.mark.skipif(os.name != "posix", reason="links and pipes of POSIX")


@pytest.fixture(autouse=True)
def _here(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def names(*arguments: str) -> list[str]:
    return [str(file.path) for file in find_audio(map(Path, arguments)).files]


@POSIX_ONLY
@pytest.mark.parametrize("pattern", ["talks", "talks/**/*.wav", "talks/**", "**/a.wav", "talks/**/**/a.wav"])
def test_a_file_is_found_once_although_links_lead_round_in_circles(pattern):
    touch("talks/a.wav", "talks/day/b.mp3")
    Path("talks/loop").symlink_to(Path("talks").absolute())
    Path("talks/day/up").symlink_to("..")
    found = find_audio([Path(pattern)])
    paths = [str(file.path) for file in found.files]
    assert len(paths) == len(set(paths))
    assert paths.count("talks/a.wav") == 1
    assert not [path for path in paths if "loop" in path or "up" in path]
    assert {Path("talks/loop"), Path("talks/day/up")} == set(found.unfollowed)


@POSIX_ONLY
def test_a_link_to_a_folder_is_followed_where_it_is_named_or_matched_by_a_single_star():
    touch("elsewhere/a.wav")
    Path("talks").mkdir()
    Path("talks/linked").symlink_to(Path("elsewhere").absolute())
    assert names("talks/linked") == ["talks/linked/a.wav"]
    assert names("talks/*/a.wav") == ["talks/linked/a.wav"]
    assert names("talks/**/a.wav") == []


def test_two_stars_match_any_number_of_folders_and_at_the_end_all_files_as_in_pythons_glob():
    import glob

    touch("x/a.wav", "x/1/b.wav", "x/1/2/c.txt", "x/1/2/d.wav", "x/3/e.mp3", "x/[4]/f.wav", "x/.hidden/g.wav")
    for pattern in (
        "x/**",
        "x/**/*.wav",
        "x/*/**/*.wav",
        "x/**/2/*",
        "x/*/b.*",
        "x/[[]4]/?.wav",
        "**/b.wav",
        "*/[13]/*",
    ):
        expected = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
        assert names(pattern) == expected, pattern


def test_absolute_patterns_and_folders_of_patterns_keep_the_places(tmp_path):
    touch("x/1/a.wav", "x/2/a.wav")
    for argument in (tmp_path / "x" / "**" / "a.wav", tmp_path / "x" / "*" / "*.wav", tmp_path / "x"):
        files = find_audio([argument]).files
        assert [file.place.as_posix() for file in files] == ["1/a.wav", "2/a.wav"]
        assert {file.root for file in files} == {tmp_path / "x"}


def test_files_of_other_kinds_are_counted_by_suffix_but_hidden_ones_are_not():
    touch("x/a.wav", "x/b.mid", "x/1/c.MID", "x/notes", "x/.DS_Store", "x/.git/config.txt", "loose.doc")
    found = find_audio([Path("x"), Path("loose.doc")])
    assert found.passed_over == {".mid": 2, "": 1}
    assert [str(file.path) for file in found.files] == ["x/a.wav", "loose.doc"]


@POSIX_ONLY
def test_pipes_and_devices_are_named_and_passed_over_wherever_they_are():
    touch("x/a.wav")
    os.mkfifo("x/pipe.wav")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("x/b.wav")
        for arguments in (["x"], ["x/*.wav"], ["x/a.wav", "x/pipe.wav", "x/b.wav"]):
            found = find_audio(map(Path, arguments))
            assert [str(file.path) for file in found.files] == ["x/a.wav"]
            assert {str(problem) for problem in found.problems} == {
                "x/pipe.wav: is a pipe, not a file; `- < x/pipe.wav` reads it",
                "x/b.wav: is a device, not a file",
            }
    if Path("/dev/zero").exists():
        assert str(find_audio([Path("/dev/zero")]).problems[0]) == "/dev/zero: is a device, not a file"


@POSIX_ONLY
def test_links_that_lead_nowhere_or_to_themselves_stop_nothing():
    touch("x/a.wav")
    Path("x/gone.wav").symlink_to("nowhere.wav")
    Path("x/self.wav").symlink_to("self.wav")
    found = find_audio([Path("x")])
    assert [file.path.name for file in found.files] == ["a.wav", "gone.wav", "self.wav"]
    assert found.problems == ()


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes only there")
def test_names_that_are_no_text_match_patterns():
    touch("x/" + os.fsdecode(b"caf\xe9.wav"))
    assert names("x/*.wav") == names("x") == ["x/" + os.fsdecode(b"caf\xe9.wav")]


@pytest.mark.parametrize("folder", [None, Path("x")])
def test_no_recording_is_replaced_by_the_transcript_of_another_one(folder):
    files = [AudioFile(Path("x/a.wav"), Path("a.wav")), AudioFile(Path("x/a.txt"), Path("a.txt"))]
    with pytest.raises(AsrError, match=r"^x/a\.txt would be replaced by the transcript of x/a\.wav; rename it"):
        output_paths(files, folder, ".txt")
    with pytest.raises(AsrError, match=r"^x/a\.txt would be replaced by its own transcript"):
        output_paths(files[1:], folder, ".txt")


def test_a_dash_is_standard_input_although_a_folder_has_this_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("-").mkdir()
    assert is_one_file(Path("-"))
    assert not is_one_file(Path("./") / ".." / tmp_path.name / "-")
