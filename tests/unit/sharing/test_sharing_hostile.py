"""Packed models that are damaged or hostile: each is refused with its name, and nothing of it reaches the disk."""

from __future__ import annotations

import hashlib
import json
import random
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import asr
import asr.runtime
from asr.bundle import files
from asr.errors import AsrError, ModelError
from asr.sharing.packed import open_packed


def written(path: Path, members: dict[str, bytes], **listed: bytes) -> Path:
    """Write a packed model whose list is right for its members, except for what `listed` gives."""
    told = members | listed
    content = {
        "format": 1,
        "files": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in told.items()
        },
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(files.PACKED_LIST, json.dumps(content))
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def test_a_changed_byte_in_a_member_is_noticed(packed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        place = archive.getinfo(files.TOKENS).header_offset
    data = packed.read_bytes()
    place = data.index(b'"symbols"', place)
    copy = tmp_path / "model.asr"
    copy.write_bytes(data[: place + 1] + b"S" + data[place + 2 :])
    with pytest.raises(ModelError, match=r"tokens\.json: damaged"):
        asr.load(copy)


def test_a_member_that_was_replaced_together_with_the_zip_s_own_checksum_is_noticed(tmp_path: Path) -> None:
    file = written(tmp_path / "model.asr", {files.CONFIG: b"a: 1\n"}, **{files.CONFIG: b"a: 2\n"})
    with pytest.raises(ModelError, match=r"config\.yaml: damaged \(its size or checksum is another"):
        (open_packed(file) / files.CONFIG).read_bytes()


def renamed(old: str, new: str) -> Callable[[Path], None]:
    """Return what gives a member another name of the same length, in both places where a zip has it."""

    def rename(path: Path) -> None:
        path.write_bytes(path.read_bytes().replace(old.encode(), new.encode()))

    return rename


def with_header(member: str, offset: int, value: bytes) -> Callable[[Path], None]:
    """Return what changes the directory's entry of a member: the bytes at this offset (APPNOTE 4.3.12)."""

    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        place = data.rindex(member.encode()) - 46 + offset
        data[place : place + len(value)] = value
        path.write_bytes(data)

    return change


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (renamed("aaaaaaaaaaa", "../../../aa"), "a member is named '../../../aa'"),
        (renamed("aaaaaaaaaaa", "/etc/passwd"), "a member is named '/etc/passwd'"),
        (renamed("aaaaaaaaaaa", "c:\\\\windows"), "a member is named"),
        (renamed("aaaaaaaaaaa", "aa/../../bb"), "a member is named 'aa/../../bb'"),
        (renamed("aaaaaaaaaaa", "a\\b\\c\\d\\e\\f"), "a member is named"),
        (renamed("aaaaaaaaaaa", "aa\x00aaaaaaaa"), "a member is named"),
        (renamed("aaaaaaaaaaa", "aaaaaaa\x1b[2J"), "a member is named"),
        (renamed("aaaaaaaaaaa", "CONFIG.yaml"), "a member is named 'CONFIG.yaml', another 'config.yaml'"),
        (renamed("aaaaaaaaaaa", "config.yaml"), "a member is named 'config.yaml', another 'config.yaml'"),
        (with_header("aaaaaaaaaaa", 38, struct.pack("<L", (stat.S_IFLNK | 0o777) << 16)), "is a link"),
        (with_header("aaaaaaaaaaa", 38, struct.pack("<L", (stat.S_IFIFO | 0o777) << 16)), "is a link"),
        (with_header("aaaaaaaaaaa", 8, struct.pack("<H", 1)), "is encrypted"),
        (with_header("aaaaaaaaaaa", 10, struct.pack("<H", zipfile.ZIP_LZMA)), "compressed in an unknown way"),
        (with_header("aaaaaaaaaaa", 24, struct.pack("<L", 99)), "other files than files.json says"),
        (with_header("aaaaaaaaaaa", 24, struct.pack("<L", 0xFFFFFFF0)), "larger than 4 GiB"),
    ],
)
def test_what_a_packed_model_never_has_is_refused(harm: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    file = written(tmp_path / "model.asr", {files.CONFIG: b"a: 1\n", "aaaaaaaaaaa": b"data"})
    assert open_packed(file).is_dir()
    harm(file)
    with pytest.raises(ModelError) as refused:
        open_packed(file)
    assert message in str(refused.value)
    assert str(refused.value).isprintable()
    assert [path.name for path in tmp_path.iterdir()] == ["model.asr"]


def test_a_bomb_is_not_expanded_beyond_what_its_list_declares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.asr"
    bomb = {"format": 1, "files": {files.CONFIG: {"bytes": 10, "sha256": "0" * 64}}}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(files.PACKED_LIST, json.dumps(bomb))
        archive.writestr(files.CONFIG, bytes(50_000_000))
    with_header(files.CONFIG, 24, struct.pack("<L", 10))(file)  # the directory says 10 bytes, too
    asked: list[int] = []
    read = zipfile.ZipExtFile.read
    monkeypatch.setattr(zipfile.ZipExtFile, "read", lambda self, n=-1: asked.append(n) or read(self, n))
    with pytest.raises(ModelError, match="damaged"):
        (open_packed(file) / files.CONFIG).read_bytes()
    assert asked
    assert 0 <= max(asked) <= 1 << 20 | 1
    assert min(asked) >= 0


def test_a_directory_of_very_many_members_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "model.asr"
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(1001):
            archive.writestr(f"{number}", b"")
    monkeypatch.setattr(zipfile.ZipFile, "_RealGetContents", lambda self: pytest.fail("the directory is read"))
    with pytest.raises(ModelError, match="more than 1000 members"):
        open_packed(file)


@pytest.mark.parametrize(
    "listed",
    [
        b"", b"[]", b"{}", b"\xff", b'{"format": 1}', b'{"format": 2, "files": {}}',
        b'{"format": 1, "files": {"a": 1}}',
        b'{"format": 1, "files": {"a": {"bytes": -1, "sha256": ""}}}', b'{"format": 1, "files": {}, "files": {}}',
        b"[" * 100_000, b'{"format": 1, "files": {"a": {"bytes": 1, "sha256": "' + b"0" * 64 + b'"}}}',
    ],
)  # fmt: skip
def test_a_damaged_list_is_refused(listed: bytes, tmp_path: Path) -> None:
    file = tmp_path / "model.asr"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(files.PACKED_LIST, listed)
        archive.writestr(files.CONFIG, b"a: 1\n")
    with pytest.raises(ModelError):
        open_packed(file)


def test_of_2000_damaged_files_none_ends_in_another_error_and_none_is_read_wrong(packed: Path, tmp_path: Path) -> None:
    good = packed.read_bytes()
    whole = open_packed(packed)
    contents = {name: (whole / name).read_bytes() for name in whole.members}
    end = len(good) - good.rindex(b"PK\x05\x06") + sum(46 + len(name) for name in [*contents, files.PACKED_LIST])
    chance = random.Random(0)
    file = tmp_path / "model.asr"
    refused = read = 0
    for _ in range(2000):
        data = bytearray(good)
        for _ in range(chance.choice([1, 1, 2, 8])):
            structure = chance.random() < 0.7  # the directory and the list are a small part of the file
            place = chance.randrange(len(data) - end, len(data)) if structure else chance.randrange(len(data))
            match chance.randrange(4):
                case 0:
                    data[place] ^= 1 << chance.randrange(8)
                case 1:
                    data[place : place + 4] = chance.choice([b"\xff" * 4, bytes(4), chance.randbytes(4)])
                case 2:
                    del data[place : place + chance.randrange(1, 30)]
                case 3:
                    data[place:place] = data[chance.randrange(len(data)) :][: chance.randrange(1, 60)]
            end = min(end, len(data) - 1)
        file.write_bytes(data)
        try:
            found = open_packed(file)
            for name in found.members:
                assert (found / name).read_bytes() == contents[name]
        except AsrError as error:
            refused += str(error).startswith(str(file))
        else:
            read += 1
    assert refused + read == 2000
    assert refused > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["model.asr"]


def test_a_cut_file_is_refused_at_every_length(packed: Path, tmp_path: Path) -> None:
    good, file = packed.read_bytes(), tmp_path / "model.asr"
    for length in [*range(60), *np.random.default_rng(0).integers(60, len(good), 100), len(good) - 1]:
        file.write_bytes(good[:length])
        with pytest.raises(ModelError, match=r"model\.asr"):
            asr.load(file)


def test_a_file_that_is_no_zip_is_refused_by_its_name(tmp_path: Path) -> None:
    for name, message in (("model.asr", "not a packed model"), ("model.txt", "a file, but the first argument is a")):
        (tmp_path / name).write_text("hello")
        with pytest.raises(ModelError, match=message):
            asr.load(tmp_path / name)


def test_of_a_packed_model_only_known_files_are_written(packed: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(packed) as archive:
        good = {name: archive.read(name) for name in archive.namelist() if name != files.PACKED_LIST}
    strange = {"run.sh": b"rm -rf ~", "sub/x.pkl": b".", "config.json": b"{}"}
    asr.pull(written(tmp_path / "strange.asr", good | strange), tmp_path / "pulled")
    found = {path.relative_to(tmp_path / "pulled").as_posix() for path in (tmp_path / "pulled").rglob("*.*")}
    assert found == {*good}
    with pytest.raises(ModelError, match="not a model folder"):
        asr.pull(written(tmp_path / "strange.asr", strange), tmp_path / "strange")
    assert not (tmp_path / "strange").exists()
