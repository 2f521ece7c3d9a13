"""Corrections of a manifest's utterances → a file beside the manifest, one line of JSON for each, and back.

A line is synced to disk before anybody says that the correction is kept. So a process that is killed loses at most the
line that it was writing. Such a line has no end and is dropped when the file is read.

A line holds all that the utterance is from then on, or nothing if it takes the one before back. It also holds what the
manifest said, so that corrections are never applied to another utterance.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from asr.errors import AsrError, ManifestError
from asr.files import append_line, to_json
from asr.records import Record, Text, journal_records

WAY_OUT = "mend the line, or move the file away; without it, its corrections are lost"


class State(Record):
    """What an utterance is at some time.

    Attributes:
        text: its transcript, as it is written.
        start_s: where it begins, in seconds from the start of its recording.
        end_s: where it ends.
        bad: whether it is of no use.
        confirmed: whether somebody says that the text is right.
    """

    text: Text
    start_s: float
    end_s: float
    bad: bool = False
    confirmed: bool = False


class Correction(Record):
    """A line of the journal.

    Attributes:
        id: the utterance.
        version: the number of lines about this utterance up to this one.
        was: what the manifest says.
        now: what the utterance is from now on; None takes the last correction that still holds back.
    """

    id: Text
    version: int
    was: State
    now: State | None


@dataclass(frozen=True)
class History:
    """What became of an utterance.

    Attributes:
        was: what the manifest says.
        kept: what it was corrected to, one after the other, without what was taken back.
        version: the number of corrections, with those that take one back. Whoever corrects the utterance says which
            version that is based on.
    """

    was: State
    kept: tuple[State, ...] = ()
    version: int = 0

    @property
    def now(self) -> State:
        """What the utterance is."""
        return self.kept[-1] if self.kept else self.was

    def then(self, now: State | None) -> History:
        """Return the history after a correction; None takes one back."""
        kept = self.kept[:-1] if now is None else (*self.kept, now)
        return History(self.was, kept, self.version + 1)


def histories(corrections: Iterable[Correction]) -> dict[str, History]:
    """Return the history of each utterance that was corrected, by its id.

    Raises:
        ManifestError: a correction is missing, or two do not agree on what the manifest says.
    """
    found: dict[str, History] = {}
    for correction in corrections:
        history = found.get(correction.id) or History(correction.was)
        if (correction.version, correction.was) != (history.version + 1, history.was):
            raise ManifestError(
                f"utterance {correction.id}: its correction {correction.version} does not follow the one before; "
                f"{WAY_OUT}"
            )
        if correction.now is None and not history.kept:
            raise ManifestError(
                f"utterance {correction.id}: its correction {correction.version} takes back what is not there; "
                f"{WAY_OUT}"
            )
        found[correction.id] = history.then(correction.now)
    return found


def journal_of(manifest: Path) -> Path:
    """Return where the corrections of a manifest are: `review.train.jsonl` beside `train.jsonl.gz`."""
    return manifest.with_name(f"review.{manifest.name.removesuffix('.gz').removesuffix('.jsonl')}.jsonl")


def read_journal(path: Path) -> dict[str, History]:
    """Return the history of each utterance in a journal; a last line that was cut short counts for nothing.

    Raises:
        ManifestError: a line is damaged.
    """
    if not path.exists():
        return {}
    try:
        return histories(correction for correction, _ in _read(path))
    except ManifestError as error:
        where = "" if str(error).startswith(str(path)) else f"{path}: "
        raise ManifestError(f"{where}{error}") from None


def _read(path: Path) -> Iterator[tuple[Correction, int]]:
    """Yield each correction, and how long the file is up to its end, in bytes."""
    size = 0
    for _, correction, length in journal_records(path, Correction, "the corrections", ManifestError, WAY_OUT):
        size += length
        yield correction, size


@dataclass
class Journal:
    """A journal that this process alone writes to.

    Attributes:
        path: the file; it need not exist.
        histories: of the utterances that were corrected, by their ids.
        dropped: number of bytes of a last line that was cut short.
    """

    path: Path
    histories: dict[str, History] = field(default_factory=dict)
    dropped: int = 0

    @classmethod
    def open(cls, path: Path) -> Journal:
        """Read a journal, and take what was cut short off its end.

        Raises:
            ManifestError: a line is damaged.
        """
        journal = cls(path, read_journal(path))
        if path.exists():
            whole = max((size for _, size in _read(path)), default=0)
            journal.dropped = path.stat().st_size - whole
            if journal.dropped:
                os.truncate(path, whole)
        return journal

    def add(self, id: str, was: State, now: State | None) -> History:
        """Write a correction to disk, and return the utterance's history after it.

        Raises:
            OSError: it cannot be written; then the file is as it was.
        """
        history = self.histories.get(id) or History(was)
        after = history.then(now)
        size = self.path.stat().st_size if self.path.exists() else 0
        line = Correction(id=id, version=after.version, was=was, now=now)
        try:
            append_line(self.path, to_json(line.model_dump()))
        except OSError:
            if self.path.exists():
                os.truncate(self.path, size)
            raise
        self.histories[id] = after
        return after


def hold(journal: Path) -> AbstractContextManager[object]:
    """Keep other processes from correcting the same manifest until the `with` statement ends.

    The lock is the operating system's, which releases it when the process ends, so a killed one locks nobody out.

    Raises:
        AsrError: another process holds it.
    """
    try:
        return FileLock(journal.with_name(f".{journal.name}.lock")).acquire(blocking=False)
    except Timeout:
        raise AsrError(
            f"{journal}: another asr review has these utterances open; use its page, in as many tabs as you like, or "
            "end it first"
        ) from None


def changed(found: Mapping[str, History], said: Mapping[str, State]) -> list[str]:
    """Return the ids of corrected utterances of which the manifest no longer says what it said; it may lack them.

    Args:
        found: the histories of corrected utterances.
        said: what the manifest says now, by utterance id.
    """
    return [id for id, history in found.items() if said.get(id) != history.was]
