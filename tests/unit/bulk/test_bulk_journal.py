"""Which transcripts are finished, whatever was changed or wherever the run was killed."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from asr.bulk import journal
from asr.bulk.journal import LOCK, RECORD, Task, fingerprint, finish, hold, tasks_of, unfinished
from asr.errors import AsrError, AudioError
from asr.files import ignores_capitals


@pytest.fixture
def task(tmp_path: Path) -> Task:
    """A task whose output is written and recorded."""
    audio = tmp_path / "a.wav"
    audio.write_bytes(b"audio")
    (task,) = tasks_of({audio: tmp_path / "out" / "a.txt"}, "model and options")
    finish(task, {task.output: "one two\n"})
    return task


def again(task: Task, made_by: str = "model and options") -> Task:
    """Return the task as a later run sees it."""
    (later,) = tasks_of({task.audio: task.output}, made_by)
    return later


def test_what_is_finished_is_not_to_be_done_unless_it_is_to_be_overwritten(task) -> None:
    assert task.output.read_text() == "one two\n"
    assert unfinished([again(task)]) == []
    assert unfinished([again(task)], overwrite=True) == [task]


def test_a_missing_output_is_unfinished(task) -> None:
    task.output.unlink()
    assert unfinished([again(task)]) == [task]


@pytest.mark.parametrize("change", ["contents", "time", "model or options", "another file"])
def test_an_output_made_from_something_else_is_unfinished(task, change) -> None:
    made_by = "others" if change == "model or options" else "model and options"
    if change == "contents":
        os.utime(task.audio, ns=(0, 0))
        (task,) = tasks_of({task.audio: task.output}, made_by)
        finish(task, {task.output: "one two\n"})
        task.audio.write_bytes(b"longer audio")
        os.utime(task.audio, ns=(0, 0))
    elif change == "time":
        os.utime(task.audio, ns=(0, 5))
    elif change == "another file":
        task = replace(task, audio=task.audio.rename(task.audio.with_suffix(".mp3")))
    later = again(task, made_by)
    assert unfinished([later]) == [later]


def test_the_last_of_several_lines_holds(task) -> None:
    later = again(task, "others")
    finish(later, {task.output: "three\n"})
    assert unfinished([again(task, "others")]) == []
    assert unfinished([again(task)]) == [again(task)]


def test_all_outputs_of_a_task_must_be_there(task) -> None:
    left, right = (task.output.with_name(f"a.ch{channel}.txt") for channel in (0, 1))
    finish(task, {left: "one\n", right: "two\n"})
    assert unfinished([task]) == []
    right.unlink()
    assert unfinished([task]) == [task]


@pytest.mark.parametrize("step", ["unlink", "append_line", "write_text", "after"])
def test_wherever_a_run_is_killed_what_counts_as_finished_is_the_new_output(task, monkeypatch, step) -> None:
    """The output of other options is replaced; the run dies as a step begins."""
    later = again(task, "others")

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if step == "unlink":
            patch.setattr(Path, "unlink", die)
        elif step != "after":
            patch.setattr(journal, step, die)
        if step == "after":
            finish(later, {task.output: "new\n"})
        else:
            with pytest.raises(Killed):
                finish(later, {task.output: "new\n"})
    if step == "after":
        assert (unfinished([later]), task.output.read_text()) == ([], "new\n")
    else:
        assert unfinished([later]) == [later]
        finish(later, {task.output: "new\n"})
        assert (unfinished([later]), task.output.read_text()) == ([], "new\n")


def test_a_line_cut_short_by_a_failure_of_power_costs_that_output_alone(task) -> None:
    record = task.output.parent / RECORD
    with record.open("ab") as file:
        file.write(b'{"output": "b.txt", "to": ["b.t')
    other = replace(task, output=task.output.with_name("b.txt"))
    assert unfinished([task, other]) == [other]
    finish(other, {other.output: "three\n"})
    assert unfinished([task, other]) == []


@pytest.mark.parametrize(
    "line", ["[1]", "null", '{"output": ["a"], "to": [], "from": {}}', '{"output": "a.txt"}', "\x00"]
)
def test_lines_that_are_no_record_count_for_nothing(task, line) -> None:
    record = task.output.parent / RECORD
    record.write_text(record.read_text() + line + "\n")
    assert unfinished([task]) == []


def test_outputs_that_the_record_does_not_know_are_refused(task) -> None:
    strangers = [replace(task, output=task.output.with_name(name)) for name in ("b.txt", "c.txt")]
    for stranger in strangers:
        stranger.output.write_text("by hand\n")
    with pytest.raises(AsrError, match=r"out/b\.txt and 1 more exist already .* --overwrite"):
        unfinished([task, *strangers])
    with pytest.raises(AsrError, match=r"out/b\.txt exists already"):
        unfinished([task, strangers[0]])
    assert unfinished(strangers, overwrite=True) == strangers


def test_a_channels_output_that_the_record_does_not_know_is_refused(task) -> None:
    stranger = task.output.with_name("a.ch1.txt")
    stranger.write_text("by hand\n")
    with pytest.raises(AsrError, match=r"out/a\.ch1\.txt exists already"):
        unfinished([again(task, "others")])
    stranger.rename(stranger.with_name("a.chapter1.txt"))
    assert unfinished([task]) == []


def test_standard_input_is_never_finished(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (task,) = tasks_of({Path("-"): tmp_path / "stdin.txt"}, "model and options")
    finish(task, {task.output: "one\n"})
    (later,) = tasks_of({Path("-"): tmp_path / "stdin.txt"}, "model and options")
    assert unfinished([later]) == [later]


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes only there")
def test_names_that_are_not_utf_8_are_kept(tmp_path) -> None:
    audio = tmp_path / os.fsdecode(b"caf\xe9 \xc3\xa9.wav")
    audio.touch()
    (task,) = tasks_of({audio: audio.with_suffix(".txt")}, "x")
    finish(task, {task.output: "one\n"})
    assert unfinished([task]) == []


def test_a_folder_named_twice_is_held_once_and_is_free_again_afterwards(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        with hold([Path("new/out"), tmp_path / "new" / "out", Path("new")]):
            assert (tmp_path / "new" / "out").is_dir()
            with pytest.raises(AsrError, match="new/out: another asr transcribe"), hold([Path("new/out")]):
                pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_named_with_the_file_and_the_task_is_unfinished(task) -> None:
    record = task.output.parent / RECORD
    lines = record.read_bytes()
    record.unlink()
    record.symlink_to("/dev/full")
    later = again(task, "others")
    with pytest.raises(AsrError, match=r"out/a\.txt: cannot be written \(No space left on device\); .* same command"):
        finish(later, {task.output: "new\n"})
    record.unlink()
    record.write_bytes(lines)
    assert unfinished([later]) == [later]
    assert sorted(path.name for path in task.output.parent.iterdir()) == [RECORD]


def test_a_fingerprint_is_that_of_the_model_the_options_and_this_package_alone(tmp_path) -> None:
    settings = ["config.yaml", "tokens.json", "decoder.yaml", "calibration.json"]
    names = [*settings, "model.safetensors", "lm.arpa.gz", "lm.words.arpa.gz", "rnnlm/rnnlm.safetensors"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("before")
    made_with = {"asr": "1.2", "hotwords": {"a": 1.0, "b": 2.0}, "method": None}
    first = fingerprint([tmp_path], made_with)
    (tmp_path / "log.jsonl").write_text("{}")
    assert fingerprint([tmp_path], {"method": None, "hotwords": {"b": 2.0, "a": 1.0}, "asr": "1.2"}) == first
    others = [
        fingerprint([tmp_path], made_with | changed)
        for changed in ({"method": "beam"}, {"asr": "1.3"}, {"hotwords": {"a": 1.0}}, {"decode": {"beam_size": 3}})
    ]
    for name in names:
        (tmp_path / name).write_text("after")
        others.append(fingerprint([tmp_path], made_with))
    assert len({first, *others}) == 1 + len(others)


@pytest.mark.parametrize(("first", "second"), [("talks", "talks/day"), ("talks/day", "talks")])
def test_a_run_above_or_below_is_found(tmp_path, first, second):
    def outputs(folder):
        return [tmp_path / "talks" / "day" / "a.txt"] if folder == "talks" else []

    with hold([tmp_path / first], outputs(first)):
        with pytest.raises(AsrError, match="another asr transcribe"), hold([tmp_path / second], outputs(second)):
            pass
        with hold([tmp_path / "elsewhere"]):
            pass
    with hold([tmp_path / second], outputs(second)):
        pass


def test_a_name_that_with_its_suffix_is_too_long_is_the_files_own_fault(tmp_path):
    (task,) = tasks_of({tmp_path / "a.wav": tmp_path / ("語" * 84 + ".txt")}, "x")
    with pytest.raises(AudioError, match=r"longer than the name of a file may be"):
        finish(task, {task.output: "text"})


def test_a_name_as_long_as_the_system_allows_is_written_whole(tmp_path):
    (task,) = tasks_of({tmp_path / "a.wav": tmp_path / ("語" * 83 + ".txt")}, "x")
    finish(task, {task.output: "text"})
    assert task.output.read_text() == "text"


@pytest.fixture
def of_another_user(monkeypatch):
    """Make lock files in some folders those of another user, which may be read but not written."""
    folders: list[Path] = []

    class Lock(journal.FileLock):
        def acquire(self, *arguments, **options):
            if Path(self.lock_file).parent in folders:
                raise PermissionError(13, "Permission denied", self.lock_file)
            return super().acquire(*arguments, **options)

    monkeypatch.setattr(journal, "FileLock", Lock)
    return folders.append


@pytest.mark.skipif(os.name != "posix", reason="locks of POSIX")
def test_a_finished_run_of_another_user_locks_nobody_out_of_the_folders_below(tmp_path, of_another_user):
    with hold([tmp_path]):
        of_another_user(tmp_path)
        with pytest.raises(AsrError, match="another asr transcribe is at work"), hold([tmp_path / "below"]):
            pytest.fail("two runs at once")
    with hold([tmp_path / "below"]):
        pass
    with pytest.raises(PermissionError), hold([tmp_path]):
        pytest.fail("the folder's own lock file is needed")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="to root no file is unreadable")
def test_a_lock_file_that_may_not_even_be_read_locks_nobody_out(tmp_path):
    with hold([tmp_path]):
        pass
    (tmp_path / journal.LOCK).chmod(0)
    with hold([tmp_path / "below"]):
        pass


def ignore_capitals(folder: Path) -> None:
    """Let a held folder look as if its file system ignored capitals: there the lock file has its other name too."""
    with suppress(FileExistsError):  # it does ignore them
        os.link(folder / LOCK, folder / LOCK.swapcase())


def test_outputs_that_differ_in_capitals_are_refused_only_where_capitals_do_not_matter(tmp_path) -> None:
    out = tmp_path / "out"
    pairs = {Path("A.wav"): out / "x" / "A.txt", Path("B.wav"): out / "x" / "B.txt", Path("a.mp3"): out / "X" / "a.txt"}
    tasks = tasks_of(pairs, "m")
    with hold([out]):
        if not ignores_capitals(out / LOCK):
            assert unfinished(tasks) == tasks
        ignore_capitals(out)
        for overwrite in (False, True):
            with pytest.raises(AsrError, match=r"^A\.wav and a\.mp3 would both be written to .*X/a\.txt, .*; rename"):
                unfinished(tasks, overwrite=overwrite)
        forms = tasks_of({Path("1.wav"): out / "\u00e9.txt", Path("2.wav"): out / "e\u0301.txt"}, "m")
        with pytest.raises(AsrError, match=r"^1\.wav and 2\.wav would both be written"):
            unfinished(forms)


@pytest.mark.parametrize("separate", [False, True])
def test_where_capitals_do_not_matter_nobody_elses_output_is_replaced(task, separate) -> None:
    folder = task.output.parent
    with hold([folder]):
        ignore_capitals(folder)
        if separate:
            (several,) = tasks_of({task.audio: folder / "b.txt"}, "m", separate=True)
            finish(several, {folder / "b.ch0.txt": "0\n", folder / "b.ch1.txt": "1\n"})
        other = task.audio.with_name("other.wav")
        other.write_bytes(b"sound")
        with pytest.raises(AsrError, match=r"is the transcript of another recording, .*a\.wav; choose another folder"):
            unfinished(tasks_of({other: folder / ("B.txt" if separate else "A.txt")}, "m", separate=separate))
        (folder / "Notes.txt").write_text("by hand\n")
        with pytest.raises(AsrError, match=r"out/Notes\.txt exists already"):
            unfinished(tasks_of({other: folder / "notes.txt"}, "m", separate=separate))
        (same,) = tasks_of({task.audio: folder / "A.txt"}, "model and options")
        assert unfinished([same]) == []
