"""A speaker's name ↔ the name of his file in a model folder. No torch.

Names are text from users. In file names, all but ASCII letters, digits, `_`, `-` and `~` is written as `%` and two
hexadecimal digits for each byte of UTF-8, so a name leads to no other folder. So is the first letter of a name that
Windows keeps for devices, whatever follows its first dot.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote, unquote

from asr.bundle.files import SPEAKER_SUFFIX, SPEAKERS
from asr.errors import ConfigError
from asr.paths import ReadablePath
from asr.reading import shown

# Source: Microsoft, Naming Files, Paths, and Namespaces.
_DEVICE = re.compile("(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.IGNORECASE)
_MOST_NAME_BYTES = 200  # of a file name; systems take 255


def speaker_file(name: str) -> str:
    """Return the name of a speaker's file in a model folder.

    Raises:
        ConfigError: the name is empty, too long, or holds half a character.
    """
    try:
        encoded = quote(_composed(name), safe="").replace(".", "%2E")
    except UnicodeEncodeError:
        raise ConfigError(f"speaker={name!r}: is no text") from None
    if not name.strip():
        raise ConfigError("speaker: the name is empty")
    if _DEVICE.fullmatch(encoded):
        encoded = f"%{ord(encoded[0]):02X}{encoded[1:]}"
    if len(encoded) > _MOST_NAME_BYTES:
        raise ConfigError(f"speaker={shown(name)}: the name is too long for a file")
    return f"{SPEAKERS}/{encoded}{SPEAKER_SUFFIX}"


def speaker_names(folder: ReadablePath) -> list[str]:
    """Return the names of all speakers that a model folder knows, in order."""
    files = (folder / SPEAKERS).glob(f"*{SPEAKER_SUFFIX}")
    return sorted(unquote(path.name.removesuffix(SPEAKER_SUFFIX)) for path in files)


def same_name(one: str, other: str) -> bool:
    """Return whether two names are the same text, in whatever form its accents are written."""
    return _composed(one) == _composed(other)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
