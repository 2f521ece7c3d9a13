"""A speaker's name ↔ the name of his file in a model folder. No torch.

Names are text from users. In file names, all but ASCII letters, digits, `_`, `-` and `~` is written as `%` and two
hexadecimal digits for each byte of UTF-8, so a name leads to no other folder. So is the first letter of a name that
Windows keeps for devices, whatever follows its first dot.

Many file systems take "Anna" and "anna" for the same. So `=` and a hexadecimal number follow a name with capital
letters: its bit n is set if letter n is a capital. Older versions left that out: their files are found, and get their
names when the next speaker is stored.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, unquote

from asr.bundle.files import SPEAKER_SUFFIX, SPEAKERS
from asr.errors import ConfigError
from asr.paths import ReadablePath
from asr.reading import shown

# Source: Microsoft, Naming Files, Paths, and Namespaces.
_DEVICE = re.compile("(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.IGNORECASE)
_CAPITALS = "="  # stands before their number; `quote` leaves none in a name
_MOST_NAME_BYTES = 200  # of a file name; systems take 255


def speaker_file(name: str) -> str:
    """Return the name that a speaker's file gets in a model folder: another one for each name, in whatever case.

    Raises:
        ConfigError: the name is empty, too long, or holds half a character.
    """
    encoded = _encoded(name)
    capitals = sum(1 << place for place, letter in enumerate(_composed(name)) if "A" <= letter <= "Z")
    if capitals:
        encoded += f"{_CAPITALS}{capitals:x}"
    if len(encoded) > _MOST_NAME_BYTES:
        raise ConfigError(f"speaker={shown(name)}: the name is too long for a file")
    return f"{SPEAKERS}/{encoded}{SPEAKER_SUFFIX}"


def find_speaker(folder: ReadablePath, name: str) -> ReadablePath:
    """Return a speaker's file in a model folder, also under the name that older versions gave it.

    If the folder knows no such speaker, it is the file that he would get.

    Raises:
        ConfigError: as `speaker_file`.
    """
    path, older = folder / speaker_file(name), f"{_encoded(name)}{SPEAKER_SUFFIX}"
    # The names in the folder are compared, because a file system may find Anna's file by the name of anna's.
    files = {file.name: file for file in _files(folder)}
    return files.get(path.name) or files.get(older) or path


def rename_older(folder: Path) -> None:
    """Give the files of older versions in a model folder their names, except where a newer file has it."""
    for path in list((folder / SPEAKERS).glob(f"*{SPEAKER_SUFFIX}")):
        with suppress(ConfigError):  # the file is nobody's
            target = folder / speaker_file(_name_of(path))
            if _CAPITALS not in path.name and target.name != path.name and not target.exists():
                path.rename(target)


def speaker_names(folder: ReadablePath) -> list[str]:
    """Return the names of all speakers that a model folder knows, in order."""
    return sorted({_name_of(path) for path in _files(folder)})


def same_name(one: str, other: str) -> bool:
    """Return whether two names are the same text, in whatever form its accents are written."""
    return _composed(one) == _composed(other)


def _files(folder: ReadablePath) -> Iterator[ReadablePath]:
    return (folder / SPEAKERS).glob(f"*{SPEAKER_SUFFIX}")


def _name_of(path: ReadablePath) -> str:
    return unquote(path.name.removesuffix(SPEAKER_SUFFIX).partition(_CAPITALS)[0])


def _encoded(name: str) -> str:
    """Return a name with what file names cannot hold in hexadecimal digits.

    Raises:
        ConfigError: the name is empty, or holds half a character.
    """
    try:
        encoded = quote(_composed(name), safe="").replace(".", "%2E")
    except UnicodeEncodeError:
        raise ConfigError(f"speaker={name!r}: is no text") from None
    if not name.strip():
        raise ConfigError("speaker: the name is empty")
    return f"%{ord(encoded[0]):02X}{encoded[1:]}" if _DEVICE.fullmatch(encoded) else encoded


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
