"""Archives: their files in a folder, whole or not at all, and none outside of it."""

import errno
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from contextlib import contextmanager

import pytest

from asr.errors import DownloadError
from asr.preparing.archives import unpack


def pack(path, *members, mode="w:gz"):
    """Write an archive of (name, content), or (name, type, link name)."""
    with tarfile.open(path, mode) as archive:
        for name, content, *link in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes) and not link and not name.endswith("/"):
                info.size, info.mode = len(content), 0o4000
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type = tarfile.DIRTYPE if name.endswith("/") else content
                info.linkname = link[0] if link else ""
                archive.addfile(info)
    return path


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_what_tar_packs_is_unpacked(tmp_path, mode):
    source = tmp_path / "source"
    (source / "speech" / "empty").mkdir(parents=True)
    (source / "speech" / "a.wav").write_bytes(b"a" * 100_000)
    (source / "read me.txt").write_text("ä")
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, mode) as file:
        file.add(source, ".")  # "./speech/a.wav", as Speech Commands has it
    assert unpack(archive, tmp_path / "out") == ["read me.txt", "speech"]
    assert tree(tmp_path / "out") == tree(source)
    assert (tmp_path / "out" / "speech" / "empty").is_dir()
    assert sorted(os.listdir(tmp_path / "out")) == ["read me.txt", "speech"]


def test_archives_with_a_folder_in_common_are_merged_and_the_newer_file_holds(tmp_path):
    one = pack(tmp_path / "one.tar.gz", ("S/README", b"1"), ("S/dev/1.wav", b"1"))
    two = pack(tmp_path / "two.tar.gz", ("S/README", b"2"), ("S/train/2.wav", b"2"), ("S/dev", b"now a file"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_bytes(b"mine")
    assert unpack(one, tmp_path / "out") == ["S"]
    assert unpack(two, tmp_path / "out") == ["S/README", "S/dev", "S/train"]
    assert tree(tmp_path / "out") == {"S/README": b"2", "S/dev": b"now a file", "S/train/2.wav": b"2", "mine": b"mine"}


def test_permissions_are_those_of_new_files(tmp_path):
    unpack(pack(tmp_path / "a.tar.gz", ("a", b"a")), tmp_path / "out")
    (tmp_path / "new").touch()
    assert (tmp_path / "out" / "a").stat().st_mode == (tmp_path / "new").stat().st_mode


def test_links_within_the_archive_are_links(tmp_path):
    """TED-LIUM 3 has a set of links into another."""
    archive = pack(
        tmp_path / "a.tar.gz",
        ("T/data/1.sph", b"1"),
        ("T/legacy/1.sph", tarfile.SYMTYPE, "../data/1.sph"),
        ("T/again.sph", tarfile.LNKTYPE, "T/data/1.sph"),
        ("T/broken", tarfile.SYMTYPE, "nothing"),
    )
    unpack(archive, tmp_path / "out")
    link = tmp_path / "out" / "T" / "legacy" / "1.sph"
    assert (os.readlink(link), link.read_bytes()) == ("../data/1.sph", b"1")
    assert (tmp_path / "out" / "T" / "again.sph").read_bytes() == b"1"


EVIL = {
    "a path above": [("../evil", b"x")],
    "a path above, further in": [("a/../../evil", b"x")],
    "an absolute path": [("/tmp/asr-evil", b"x")],
    "a link above": [("a", tarfile.SYMTYPE, "../../evil")],
    "an absolute link": [("a", tarfile.SYMTYPE, "/etc/passwd")],
    "a file through a link": [("a", tarfile.SYMTYPE, ".."), ("a/evil", b"x")],
    "a hard link above": [("a", tarfile.LNKTYPE, "../good")],
    "a hard link to a link": [("b", tarfile.SYMTYPE, "c"), ("a", tarfile.LNKTYPE, "b")],
    "links that lead out together": [("d/e/up", tarfile.SYMTYPE, "../.."), ("out", tarfile.SYMTYPE, "d/e/up/..")],
    "links that lead out later": [
        ("x", tarfile.SYMTYPE, "y/.."),
        ("y", tarfile.SYMTYPE, "."),
        ("x/z", tarfile.SYMTYPE, "q"),
    ],
    "a device": [("a", tarfile.CHRTYPE, "")],
    "a pipe": [("a", tarfile.FIFOTYPE, "")],
}


@pytest.mark.parametrize("case", EVIL)
def test_nothing_gets_out_of_the_folder(tmp_path, case):
    below = tmp_path / "1" / "2" / "3"
    below.mkdir(parents=True)
    archive = pack(below / "a.tar.gz", ("good", b"good"), *EVIL[case])
    before = tree(tmp_path)
    with pytest.raises(
        DownloadError, match=r"a\.tar\.gz: .* (is outside of the archive|is neither a file|is a link to)"
    ):
        unpack(archive, below / "out")
    assert tree(tmp_path) == before
    assert os.listdir(below / "out") == []
    assert not os.path.lexists("/tmp/asr-evil")


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_archive_leaves_nothing(tmp_path, mode, share):
    archive = pack(tmp_path / "a.tar", ("a", os.urandom(50_000)), ("b", os.urandom(50_000)), mode=mode)
    content = archive.read_bytes()
    archive.write_bytes(content[: int(share * 100_000)])
    with pytest.raises(DownloadError, match=r"a\.tar: damaged \(.*\); remove it and download it again"):
        unpack(archive, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def test_damaged_compression_leaves_nothing(tmp_path):
    archive = pack(tmp_path / "a.tar.gz", ("a", os.urandom(50_000)), ("b", os.urandom(50_000)))
    content = bytearray(archive.read_bytes())
    for place in range(30_000, 90_000, 1000):
        content[place] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(DownloadError, match="damaged"):
        unpack(archive, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []


def test_a_full_disk_is_an_error_that_leaves_the_archive_and_nothing_else(tmp_path, monkeypatch):
    archive = pack(tmp_path / "a.tar.gz", ("S/a", b"a"), ("S/b", b"b"))
    copied = []

    def full(source, target, length):
        copied.append(source)
        if len(copied) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(DownloadError, match=r"out: the disk is full; make room for the content of a\.tar\.gz"):
        unpack(archive, tmp_path / "out")
    assert os.listdir(tmp_path / "out") == []
    assert archive.exists()


CHILD = """
import sys
from contextlib import contextmanager
from pathlib import Path
from asr.preparing.archives import unpack

@contextmanager
def progress(title, total):
    def advance(count):
        print("on", flush=True)
        sys.stdin.read()
    yield advance

unpack(Path(sys.argv[1]), Path(sys.argv[2]), progress=progress)
"""


def test_a_process_killed_while_it_unpacks_leaves_nothing_that_the_next_one_keeps(tmp_path):
    contents = {f"S/{number}": os.urandom(700_000) for number in range(4)}
    archive = pack(tmp_path / "a.tar.gz", *contents.items())
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, archive, tmp_path / "out"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"on\n"
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "out" / "S").exists()
    assert os.listdir(tmp_path / "out") == [".a.tar.gz.unpacked"]
    unpack(archive, tmp_path / "out")
    assert tree(tmp_path / "out") == contents
    assert os.listdir(tmp_path / "out") == ["S"]


def test_the_progress_counts_the_archives_megabytes(tmp_path):
    archive = pack(tmp_path / "a.tar.gz", *((str(number), os.urandom(700_000)) for number in range(4)))
    shown = []

    @contextmanager
    def progress(title, total):
        shown.append((title, total))
        yield shown.append

    unpack(archive, tmp_path / "out", progress=progress)
    assert shown[0] == ("unpack a.tar.gz, MB", 3)
    assert sum(shown[1:]) == 3
