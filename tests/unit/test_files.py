"""Files are written whole or not at all, and read as UTF-8 or explained."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from asr import files
from asr.errors import ManifestError
from asr.files import (
    append_line,
    atomic_path,
    complete_folder,
    printable,
    to_json,
    write_text,
)
from asr.reading import read_json, read_lines, read_text

BOM = b"\xef\xbb\xbf"
posix = pytest.mark.skipif(os.name != "posix", reason="on Windows nobody can ask whether a process lives")


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_weights_may_be_read_by_whoever_may_read_any_new_file(tmp_path: Path) -> None:
    plain, weights = tmp_path / "plain", tmp_path / "weights.safetensors"
    before = os.umask(0o022)
    try:
        plain.write_text("as the system makes it")
        with atomic_path(weights) as temporary:
            save_file({"weight": torch.zeros(2)}, temporary)
    finally:
        os.umask(before)
    assert weights.stat().st_mode == plain.stat().st_mode


def test_what_fails_half_way_leaves_the_file_before_it_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "notes.txt"
    write_text(path, "first")

    def fail_half_way() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("sec")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_text(encoding="utf-8") == "first"
    assert list(path.parent.iterdir()) == [path]


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".txt")  # 255 bytes
    write_text(path, "long")
    assert path.read_text(encoding="utf-8") == "long"


def killed_while_writing(kind: str, target: Path, *, then: str = "os.kill(os.getpid(), 9)") -> subprocess.Popen[bytes]:
    """Start a process that dies, or does something else, half way through writing `target`."""
    code = (
        "import os, sys, time; from pathlib import Path; import asr.files\n"
        f"with asr.files.{kind}(Path(sys.argv[1])) as temporary:\n"
        "    (temporary / 'part' if temporary.is_dir() else temporary).write_text('half')\n"
        f"    print('half', flush=True); {then}\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"half\n"
    return process


@posix
@pytest.mark.parametrize("kind", ["atomic_path", "complete_folder"])
def test_what_a_killed_process_left_goes_when_the_next_one_writes(tmp_path: Path, kind: str) -> None:
    killed_while_writing(kind, tmp_path / "data.x").communicate()
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".data.x")
    assert left.is_dir() == (kind == "complete_folder")
    write_text(tmp_path / "other.x", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["other.x"]


@posix
def test_what_a_living_process_or_another_machine_writes_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    living = killed_while_writing("atomic_path", tmp_path / "data.x", then="sys.stdin.read()")
    killed_while_writing("atomic_path", tmp_path / "data.x").communicate()
    (half,) = tmp_path.glob(f".asr-*-{living.pid}.data.x")
    foreign = [".2024.data.x", ".asr-data.x", f".asr-00000000-{2**22 + 1}.data.x", "data.x.tmp"]
    for name in foreign:
        (tmp_path / name).touch()
    write_text(tmp_path / "data.x", "whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*foreign, half.name, "data.x"])
    living.communicate()  # which ends its input, so it finishes
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*foreign, "data.x"])
    assert (tmp_path / "data.x").read_text() == "half"


@posix
def test_a_folder_half_written_by_a_process_of_the_same_number_is_begun_anew(tmp_path: Path) -> None:
    left = tmp_path / f"{files._prefix()}{os.getpid()}.data"
    left.mkdir()
    (left / "part").touch()
    with complete_folder(tmp_path / "data") as temporary:
        (temporary / "whole").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "whole"]


TEXT = "größe\nzwei\n"


@pytest.mark.parametrize("data", [TEXT.encode(), BOM + TEXT.encode(), TEXT.replace("\n", "\r\n").encode()])
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_a_byte_order_mark_and_other_line_ends_change_nothing(tmp_path: Path, data: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    assert list(read_lines(path, ManifestError, "the text")) == ["größe", "zwei"]
    if not name.endswith(".gz"):
        assert read_text(path, ManifestError, "the text") == TEXT


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\r\n\ufeff")))
def test_a_text_is_read_as_python_reads_it(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "text"
    path.write_bytes(text.encode())
    with path.open(encoding="utf-8-sig") as file:
        assert read_text(path, ManifestError, "the text") == file.read()


def test_what_cannot_be_read_is_named_with_its_line_and_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for read in (read_text, read_json, lambda *arguments: list(read_lines(*arguments))):
        with pytest.raises(ManifestError, match=r"a\.txt: cannot read the text \(No such file or directory\)$"):
            read(path, ManifestError, "the text")
    path.write_bytes(BOM + "eins\r\nzwei\rfünf\n".encode("latin-1"))
    with pytest.raises(ManifestError, match=r"a\.txt:3: not UTF-8 \(byte 0xfc\); save the text as UTF-8$"):
        read_text(path, ManifestError, "the text")
    with pytest.raises(ManifestError, match=r"a\.txt:2: not UTF-8 \(byte 0xfc\); ask for it again$"):
        list(read_lines(path, ManifestError, "the text", way_out="ask for it again"))


@pytest.mark.parametrize("damage", [b"plain text", gzip.compress(b"line\n" * 9999)[:-12]])
def test_a_damaged_archive_is_named(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "a.gz").write_bytes(damage)
    with pytest.raises(ManifestError, match=r"a\.gz: damaged after line \d+ \(.*\); write it again$"):
        list(read_lines(tmp_path / "a.gz", ManifestError, "the text"))


def test_json_is_read_with_a_byte_order_mark_and_what_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(BOM + b'{"a": [1]}')
    assert read_json(path, ManifestError, "the table") == {"a": [1]}
    for content in ('{"a":', "", "[" * 100_000):
        path.write_text(content)
        with pytest.raises(ManifestError, match=r"a\.json: cannot read the table: not JSON .*; write it again$"):
            read_json(path, ManifestError, "the table", way_out="write it again")


def test_lines_are_appended_and_one_that_was_cut_short_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    for number in range(3):
        append_line(path, json.dumps(number))
    assert path.read_text() == "0\n1\n2\n"
    path.write_text('0\n{"cut sho')
    append_line(path, "größe")
    assert path.read_text(encoding="utf-8") == '0\n{"cut sho\ngröße\n'


def test_nothing_that_users_wrote_moves_the_cursor_or_reorders_the_line() -> None:
    assert printable("a\x1b[31m\tb\r\n\x9b\u2028\u202e") == r"a\x1b[31m\tb\r\n\x9b\u2028\u202e"


@pytest.mark.parametrize("text", ["plain", "grüß Gott", "नमस्ते", "می\u200cخواهم", "👩\u200d🚒", "a\u00a0b", r"a\n"])
def test_text_of_any_language_is_shown_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.skipif(os.name != "posix", reason="names of any bytes are POSIX's")
def test_a_name_is_shown_as_it_is_also_in_a_locale_without_utf8() -> None:
    assert printable("ñ/☃.wav".encode().decode("ascii", "surrogateescape")) == "ñ/☃.wav"
    assert printable(b"\xc3\xb1\xff".decode("ascii", "surrogateescape")) == "ñ\\xff"
    assert printable("\x1b\ud800\udcc3") == "\\x1b\\ud800\\xc3"


def test_a_name_that_is_not_utf8_is_shown_with_escapes() -> None:
    assert printable(Path(os.fsdecode(b"caf\xe9/a\nb.wav"))) == r"caf\xe9/a\nb.wav"


def test_a_name_of_a_locale_without_utf8_is_shown_as_it_is_in_others() -> None:
    torn = "ñ/☃\n.wav".encode().decode("ascii", "surrogateescape")  # as Python reads names where LC_ALL is C
    assert printable(torn) == r"ñ/☃\n.wav"
    assert printable(torn + "\ud800") == r"\xc3\xb1/\xe2\x98\x83\n.wav\ud800"


def test_numbers_that_json_lacks_become_null() -> None:
    content = {"wer": math.inf, "é": [1.5, math.nan, (-math.inf, "NaN")], "n": 3, "ok": True}
    assert json.loads(to_json(content)) == {"wer": None, "é": [1.5, None, [None, "NaN"]], "n": 3, "ok": True}
    assert "é" in to_json(content)
    assert json.loads(to_json({"path": "\udce9é"}).encode()) == {"path": "\udce9é"}


def held_open(times: int, winerror: int = 32) -> Callable[[object, object], None]:
    """What os.replace does on Windows while another program has the file open: so many times, then no more."""
    refusals, rename = itertools.count(), os.replace

    def replace(source: object, target: object) -> None:
        if next(refusals) < times:
            error = PermissionError(13, "The process cannot access the file", str(source))
            error.winerror = winerror  # type: ignore[attr-defined]
            raise error
        rename(source, target)  # type: ignore[arg-type]

    return replace


@pytest.mark.parametrize("winerror", [5, 32])
def test_a_file_that_a_virus_scanner_has_open_for_a_moment_is_replaced_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, winerror: int
) -> None:
    write_text(tmp_path / "notes.txt", "first")
    waits: list[float] = []
    monkeypatch.setattr(files.time, "sleep", waits.append)
    monkeypatch.setattr(os, "replace", held_open(4, winerror))
    write_text(tmp_path / "notes.txt", "second")
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "second"
    assert len(waits) == 4
    with complete_folder(tmp_path / "folder") as folder:
        (folder / "a").write_text("a")
    assert (tmp_path / "folder" / "a").exists()


def test_a_file_that_stays_open_elsewhere_is_named_after_two_seconds_and_the_old_one_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_text(tmp_path / "notes.txt", "first")
    waits: list[float] = []
    monkeypatch.setattr(files.time, "sleep", waits.append)
    monkeypatch.setattr(os, "replace", held_open(1000))
    with pytest.raises(PermissionError) as refused:
        write_text(tmp_path / "notes.txt", "second")
    assert refused.value.filename == str(tmp_path / "notes.txt")
    assert sum(waits) == pytest.approx(2)
    assert [path.read_text(encoding="utf-8") for path in tmp_path.iterdir()] == ["first"]


def test_a_missing_permission_is_reported_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(source: object, target: object) -> None:
        raise PermissionError(13, "Permission denied", str(source))

    monkeypatch.setattr(files.time, "sleep", lambda wait_s: pytest.fail("it waits"))
    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(PermissionError):
        write_text(tmp_path / "notes.txt", "text")


def test_lines_end_in_the_same_bytes_on_every_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[object] = []
    write = Path.write_text
    monkeypatch.setattr(Path, "write_text", lambda *a, **k: written.append(k.get("newline")) or write(*a, **k))
    write_text(tmp_path / "a", "one\ntwo\n")
    assert written == ["\n"]  # None would write what os.linesep is
    assert (tmp_path / "a").read_bytes() == b"one\ntwo\n"
