"""Transcripts in the trn format of NIST's sclite: one line an utterance, `text (utterance-id)`, UTF-8."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from asr.errors import ScoringError
from asr.files import write_text
from asr.text.normalise import is_utterance_id

_LINE = re.compile(r"(?P<text>.*)\((?P<id>[^()]+)\)")


def read_trn(path: Path) -> dict[str, str]:
    """Return the texts by utterance id, in file order; white space within a text is one space between words.

    Blank lines are passed over.

    Raises:
        ScoringError: the file cannot be read, or a line is malformed or repeats an id.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ScoringError(f"{path}: cannot read the transcripts ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ScoringError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None
    texts: dict[str, str] = {}
    line_of: dict[str, int] = {}
    for number, raw in enumerate(content.split("\n"), start=1):
        line = _single_spaced(raw)
        if not line:
            continue
        match = _LINE.fullmatch(line)
        name = match["id"].strip() if match else ""
        if match is None or not name:
            raise ScoringError(f"{path}:{number}: {line!r} does not have the form 'text (utterance-id)'")
        if name in texts:
            raise ScoringError(f"{path}:{number}: utterance {name!r} already stands on line {line_of[name]}")
        texts[name] = match["text"].strip()
        line_of[name] = number
    return texts


def write_trn(texts: Mapping[str, str], path: Path) -> None:
    """Write the texts by utterance id, atomically; white space within a text becomes one space between words.

    Raises:
        ScoringError: an id is empty or holds parentheses or irregular white space.
    """
    check_ids(texts, path)
    write_text(path, "".join(f"{_single_spaced(text)} ({name})\n".lstrip() for name, text in texts.items()))


def check_ids(names: Iterable[str], path: Path) -> None:
    """Refuse ids that a trn file cannot hold.

    Raises:
        ScoringError: an id is empty or holds parentheses or irregular white space.
    """
    for name in names:
        if not is_utterance_id(name):
            raise ScoringError(
                f"{path}: utterance id {name!r} cannot be written to a trn file: "
                "give it an id without parentheses, line breaks or doubled spaces"
            )


def _single_spaced(text: str) -> str:
    return " ".join(text.split())
