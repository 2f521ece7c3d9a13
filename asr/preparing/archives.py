"""A tar archive → its files in a folder, whole or not at all, and none of them outside the folder.

Python's own filter for this (`tarfile.data_filter`, PEP 706) is missing in early releases of 3.10 and 3.11, and it had
faults later. Here links are made last, so nothing is ever written through one.
"""

from __future__ import annotations

import errno
import lzma
import os
import shutil
import tarfile
import zlib
from pathlib import Path, PurePosixPath

from asr.errors import DownloadError
from asr.machine import Progress, silent

_MB = 1_000_000


def unpack(archive: Path, folder: Path, *, progress: Progress = silent) -> list[str]:
    """Unpack a tar archive, compressed or not, into a folder that may hold other things already.

    Everything goes to a folder beside first, which is then moved into `folder` entry by entry; folders that both have
    are merged. Owners, permissions and times are those of new files.

    Args:
        archive: the archive.
        folder: where its content goes.
        progress: shows how many megabytes of the archive are unpacked.

    Returns:
        The paths that were moved into `folder`, relative to it.

    Raises:
        DownloadError: the archive is damaged, holds a path outside of it or something other than files, folders and
            links, or the disk is full. Nothing is left of it in `folder`.
    """
    temporary = folder / f".{archive.name}.unpacked"  # a fixed name: what a killed process left is found again
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        _unpack(archive, temporary, progress)
        if hasattr(os, "sync"):
            os.sync()  # one call, and not one for each of a corpus's hundred thousand files
        return sorted(_merge(temporary, folder, PurePosixPath()))
    except (tarfile.TarError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise _damaged(archive, error) from None
    except OSError as error:
        if error.errno is None:  # gzip's, for a damaged archive
            raise _damaged(archive, error) from None
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DownloadError(
                f"{folder}: the disk is full; make room for the content of {archive.name}, "
                f"which is more than {archive.stat().st_size / _MB:,.0f} MB, and run the same command again"
            ) from None
        raise DownloadError(f"{error.filename or folder}: cannot be written ({error.strerror})") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _damaged(archive: Path, error: Exception) -> DownloadError:
    reason = str(error).partition("\n")[0].rstrip(":")
    return DownloadError(f"{archive}: damaged ({reason}); remove it and download it again")


def _unpack(archive: Path, folder: Path, progress: Progress) -> None:
    """Write all members of a tar archive below an empty folder."""
    size_mb = -(-archive.stat().st_size // _MB)
    links: list[tuple[Path, tarfile.TarInfo]] = []
    with (
        archive.open("rb") as compressed,
        tarfile.open(fileobj=compressed, mode="r:*") as members,
        progress(f"unpack {archive.name}, MB", size_mb) as advance,
    ):
        shown_mb = 0
        for member in members:
            path = folder / _inside(archive, member.name)
            if member.issym() or member.islnk():
                links.append((path, member))  # made when all files are there
            else:
                _write_member(archive, members, member, path)
            reached_mb = compressed.tell() // _MB
            if reached_mb > shown_mb:
                advance(reached_mb - shown_mb)
                shown_mb = reached_mb
        assert members.fileobj is not None
        while members.fileobj.read(1 << 20):  # to the end, where the compression has its checksum
            pass
        advance(size_mb - shown_mb)
    _make_links(archive, folder, links)


def _write_member(archive: Path, members: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    """Write a member that is no link: a folder or a file."""
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    if not member.isreg():
        raise DownloadError(f"{archive}: {member.name!r} is neither a file nor a folder nor a link")
    path.parent.mkdir(parents=True, exist_ok=True)
    content = members.extractfile(member)
    assert content is not None
    with content, path.open("wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)


def _make_links(archive: Path, folder: Path, links: list[tuple[Path, tarfile.TarInfo]]) -> None:
    """Make the links of an archive; none may lead out of the folder, also not through another one."""
    for path, member in links:
        if not _is_within(path.parent, folder):  # through links made before
            raise _outside(archive, member.name)
        _link(archive, folder, path, member)
    for path, member in links:
        if not _is_within(path, folder):
            raise _outside(archive, f"{member.name} -> {member.linkname}")


def _is_within(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _inside(archive: Path, name: str) -> PurePosixPath:
    """Return the path of a member as one below the folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or (os.name == "nt" and any(c in name for c in ":\\")):
        raise _outside(archive, name)
    return path


def _outside(archive: Path, name: str) -> DownloadError:
    return DownloadError(f"{archive}: {name!r} is outside of the archive; it is not what it seems, remove it")


def _link(archive: Path, folder: Path, path: Path, member: tarfile.TarInfo) -> None:
    if member.islnk():
        target = folder / _inside(archive, member.linkname)
        if target.is_symlink() or not target.is_file():
            raise DownloadError(f"{archive}: {member.name!r} is a link to {member.linkname!r}, which is not a file")
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(target, path)
        return
    within = os.path.normpath(os.path.join(path.parent, member.linkname))
    if os.path.isabs(member.linkname) or not Path(within).is_relative_to(folder):
        raise _outside(archive, f"{member.name} -> {member.linkname}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(member.linkname)


def _merge(source: Path, target: Path, below: PurePosixPath) -> list[str]:
    """Move what a folder holds into another, and return the moved paths."""
    moved = []
    for path in source.iterdir():
        there, name = target / path.name, below / path.name
        if there.is_dir() and not there.is_symlink() and path.is_dir() and not path.is_symlink():
            moved += _merge(path, there, name)
            continue
        if there.is_dir() and not there.is_symlink():
            shutil.rmtree(there)
        os.replace(path, there)
        moved.append(str(name))
    return moved
