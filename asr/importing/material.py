"""What an importer reads in a source: utterances as it describes them, and what cannot be used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from asr.errors import ManifestError, one_line
from asr.reading import counted

MOST_LISTED = 20  # reasons in the error of an import that failed


class DeclaredLength(NamedTuple):
    """How long a source says a recording is, to be compared with the audio."""

    duration_s: float
    where: str


@dataclass(frozen=True)
class Utterance:
    """One utterance as its source describes it."""

    id: str
    audio_path: Path
    text: str
    where: str  # the file and line that describe it, for errors
    speaker: str | None = None  # None: unknown, counted as a speaker of its own
    split: str | None = None  # "train", "dev" or "test"; None: to be drawn
    start_s: float = 0.0
    duration_s: float | None = None  # None: up to the end of the file
    relative_to: str = ""  # where the path that the source gives starts from, in words; empty: it is a whole path
    channel: int | None = None  # of the audio file, from 0; None: the average of all
    gender: str | None = None  # of the speaker, as the source writes it
    language: str | None = None  # where the source names one for each utterance
    declared: DeclaredLength | None = None  # of the whole audio file


class LeftOut(NamedTuple):
    """What a source holds and an import does not use."""

    where: str  # the file and line
    reason: str
    is_fault: bool = True  # False: the source itself says that it is no utterance, so nothing is wrong

    @property
    def line(self) -> str:
        """The reason as one line, which names the file once."""
        where = one_line(self.where)
        return self.reason if self.reason.startswith(where) else one_line(f"{where}: {self.reason}")


@dataclass(frozen=True)
class Material:
    """What a reader found in a source."""

    utterances: list[Utterance] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what the user should know about the source

    @contextmanager
    def at(self, where: str) -> Iterator[None]:
        """Turn a `ManifestError` within into an entry of what is left out, so that the next line is read."""
        try:
            yield
        except ManifestError as error:
            self.left_out.append(LeftOut(where, str(error).removeprefix(f"{one_line(where)}: ")))

    def unsearched(self, error: OSError) -> None:
        """Add a folder that could not be searched."""
        self.left_out.append(LeftOut(str(error.filename), f"cannot be searched ({error.strerror})"))

    def extend(self, other: Material, split: str | None = None) -> None:
        """Add what another reader found; `split` is where its utterances belong, if that is known."""
        self.utterances.extend(replace(one, split=split) if split else one for one in other.utterances)
        self.left_out.extend(other.left_out)
        self.notes.extend(other.notes)

    def note_speakers(self, holder: str) -> None:
        """Note how many utterances name no speaker although `holder`, e.g. "t.csv: column 'who'", is there for it."""
        named = sum(utterance.speaker is not None for utterance in self.utterances)
        if named < (of_all := len(self.utterances)):
            some = f" in {of_all - named} of {counted(of_all, 'utterance')}" if named else ""
            self.notes.append(f"{holder} holds no speaker{some}")

    def or_refuse(self, empty: str) -> Material:
        """Return the material.

        Args:
            empty: the error of a source that holds nothing at all.

        Raises:
            ManifestError: no utterance can be used; the message is the first reasons.
        """
        if self.utterances:
            return self
        faults = [fault for fault in self.left_out if fault.is_fault]
        raise ManifestError(*(listed(faults) if faults else [empty]))


def listed(faults: Sequence[LeftOut]) -> list[str]:
    """Return the first reasons as lines, and how many more there are."""
    lines = [fault.line for fault in faults[:MOST_LISTED]]
    more = [f"and {len(faults) - MOST_LISTED} more"] if len(faults) > MOST_LISTED else []
    return [lines[0], *(f"  {line}" for line in [*lines[1:], *more])]
