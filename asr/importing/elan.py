"""ELAN's annotations (.eaf) and their recordings → manifests.

An annotation has times of its own, or refers to one of the parent tier and has that one's times. Several that refer to
the same one, such as its words, are one utterance together. Times begin where a recording's `TIME_ORIGIN` is, which is
how much of its beginning ELAN leaves out.

The file is XML. With a document type a few lines could become an endless text, or read other files. ELAN writes none,
so a file with one is refused where it begins. pympi accepts them. It also keeps no line numbers and follows only one
reference. So the file is read here.

Source: Max Planck Institute for Psycholinguistics, "EAF: ELAN Annotation Format", versions 2.7 to 3.0.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from asr.corpus.splits import SplitRule
from asr.errors import ManifestError
from asr.importing.material import Material
from asr.importing.timed_text import Medium, Tier, TierFile, TimedText, read_tiers
from asr.importing.utterances import ImportReport, write_splits
from asr.machine import Progress, silent

SUFFIXES = frozenset({".eaf"})

_MOST_BYTES = 256 << 20
_MOST_REFERENCES = 32  # from an annotation to the one with times; ELAN's tiers are some levels deep


def import_elan(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    tiers: Sequence[str] = (),
    audio_dir: str | os.PathLike[str] | None = None,
    split: SplitRule | None = None,
    language: str | None = None,
    progress: Progress = silent,
) -> ImportReport:
    """Write the manifests of ELAN's annotations into the folder `out`.

    Each annotation that holds a text is an utterance. Its speaker is the participant of its tier. If a tier names none,
    its own name is the speaker, unless it is the only tier.

    Args:
        source: an .eaf file, or a folder of any depth.
        out: the folder for train.jsonl.gz, dev.jsonl.gz and test.jsonl.gz.
        tiers: names of the tiers with the texts; none: the only tier.
        audio_dir: the folder of the recordings; None: they are beside the files, or where these say.
        split: how splits are drawn; None: dev and test get a tenth each, by speaker.
        language: noted in the manifests, e.g. "en".
        progress: shows how far the import is.

    Raises:
        ManifestError: the tier is to be named, or nothing is left for training.
    """
    material = read_elan(Path(source), tiers, Path(audio_dir) if audio_dir else None)
    return write_splits(material, Path(out), split or SplitRule(), language=language, progress=progress)


def read_elan(source: Path, tiers: Sequence[str] = (), audio_dir: Path | None = None) -> Material:
    """Return what is in ELAN's files; arguments and errors are those of `import_elan`."""
    return read_tiers(source, SUFFIXES, "ELAN", tiers, audio_dir, read_eaf)


@dataclass
class _Annotation:
    id: str
    line: int
    slots: tuple[str, str] = ("", "")  # of one with times
    parent: str = ""  # of one that refers to another one
    previous: str = ""  # the one before it that refers to the same one
    text: str = ""


@dataclass
class _Tier:
    name: str
    participant: str
    annotations: list[_Annotation] = field(default_factory=list)


def read_eaf(path: Path) -> TierFile:
    """Return the tiers of an ELAN file and its recordings.

    Raises:
        ManifestError: it cannot be read, is no XML of ELAN, or has a document type; the message names the line.
    """
    reader = _Reader(path)
    reader.read()
    by_id = {annotation.id: annotation for tier in reader.tiers for annotation in tier.annotations}
    tiers = [
        Tier(tier.name, _texts(path, tier.annotations, by_id, reader.slots_ms), tier.participant)
        for tier in reader.tiers
    ]
    return TierFile(tiers, tuple(reader.media))


def _texts(
    path: Path, annotations: list[_Annotation], by_id: dict[str, _Annotation], slots_ms: dict[str, int | None]
) -> list[TimedText]:
    """Return the texts of a tier with their times; those with the same parent are joined."""
    found = []
    for _, group in groupby(_in_order(annotations), key=lambda annotation: annotation.parent or id(annotation)):
        parts = list(group)
        text = " ".join(part.text.strip() for part in parts if part.text.strip())
        timed: _Annotation | None = parts[0]
        for _ in range(_MOST_REFERENCES):
            if timed is None or not timed.parent:
                break
            timed = by_id.get(timed.parent)
        slots = timed.slots if timed else ("", "")
        start_ms, end_ms = (slots_ms.get(slot) for slot in slots)
        nan = float("nan")
        start_s, end_s = (nan if time_ms is None else time_ms / 1000 for time_ms in (start_ms, end_ms))
        if text:
            found.append(TimedText(f"{path}:{parts[0].line}", start_s, end_s, text))
    return found


def _in_order(annotations: list[_Annotation]) -> list[_Annotation]:
    """Return annotations so that those with the same parent follow each other, as `previous` says."""
    children: dict[str, list[_Annotation]] = {}
    for annotation in annotations:
        children.setdefault(annotation.parent, []).append(annotation)
    ordered = []
    for parent, siblings in children.items():
        following = {sibling.previous: sibling for sibling in siblings} if parent else {}
        chain, last = [], ""
        while last in following:
            chain.append(following.pop(last))
            last = chain[-1].id
        ordered += chain if len(chain) == len(siblings) else siblings
    return ordered


class _Reader:
    """Goes through an ELAN file from its start to its end."""

    def __init__(self, path: Path) -> None:
        self.tiers: list[_Tier] = []
        self.slots_ms: dict[str, int | None] = {}
        self.media: list[Medium] = []
        self._path = path
        self._began = False
        self._annotation: _Annotation | None = None
        self._text: list[str] | None = None  # of the value of an annotation
        self._parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.StartDoctypeDeclHandler = self._document_type

    def read(self) -> None:
        """Read the file.

        Raises:
            ManifestError: see `read_eaf`.
        """
        try:
            if self._path.stat().st_size > _MOST_BYTES:
                raise ManifestError(f"{self._path}: larger than {_MOST_BYTES >> 20} MiB; divide it in ELAN")
            with self._path.open("rb") as file:
                self._parser.ParseFile(file)
        except OSError as error:
            raise ManifestError(f"{self._path}: cannot be read ({error.strerror or error})") from None
        except (expat.ExpatError, ValueError, LookupError) as error:  # an unknown encoding is one of the latter
            raise ManifestError(f"{self._where()}: not an ELAN file ({error})") from None

    def _where(self) -> str:
        return f"{self._path}:{self._parser.CurrentLineNumber}"

    def _document_type(self, *_: object) -> NoReturn:
        raise ManifestError(f"{self._where()}: a document type, which ELAN never writes; take <!DOCTYPE …> out")

    def _start(self, name: str, given: dict[str, str]) -> None:
        if not self._began and name != "ANNOTATION_DOCUMENT":
            raise ManifestError(f"{self._where()}: not an ELAN file, because it begins with <{name:.80}>")
        self._began = True
        if self._text is not None:
            raise ManifestError(f"{self._where()}: <{name:.80}> within the text of an annotation")
        if name == "HEADER":
            self._refuse_other_units(given.get("TIME_UNITS", "milliseconds"))
        elif name == "MEDIA_DESCRIPTOR":
            begins_s = (self._time_ms(given.get("TIME_ORIGIN")) or 0) / 1000
            addresses = (given.get(key) for key in ("RELATIVE_MEDIA_URL", "MEDIA_URL"))
            self.media += [Medium(address, begins_s) for address in addresses if address]
        elif name == "TIME_SLOT":
            self.slots_ms[self._needed(given, "TIME_SLOT_ID")] = self._time_ms(given.get("TIME_VALUE"))
        elif name == "TIER":
            self.tiers.append(_Tier(self._needed(given, "TIER_ID"), given.get("PARTICIPANT", "").strip()))
        elif name in ("ALIGNABLE_ANNOTATION", "REF_ANNOTATION"):
            self._annotation = _Annotation(self._needed(given, "ANNOTATION_ID"), self._parser.CurrentLineNumber)
            if name == "REF_ANNOTATION":
                self._annotation.parent = self._needed(given, "ANNOTATION_REF")
                self._annotation.previous = given.get("PREVIOUS_ANNOTATION", "")
            else:
                self._annotation.slots = (self._needed(given, "TIME_SLOT_REF1"), self._needed(given, "TIME_SLOT_REF2"))
            if not self.tiers:
                raise ManifestError(f"{self._where()}: an annotation outside of a tier")
            self.tiers[-1].annotations.append(self._annotation)
        elif name == "ANNOTATION_VALUE" and self._annotation:
            self._text = []

    def _refuse_other_units(self, units: str) -> None:
        if units != "milliseconds":
            raise ManifestError(f"{self._where()}: its times are in {units!r:.80}; milliseconds are read")

    def _end(self, name: str) -> None:
        if name == "ANNOTATION_VALUE" and self._annotation and self._text is not None:
            self._annotation.text = "".join(self._text)
            self._annotation = self._text = None

    def _characters(self, text: str) -> None:
        if self._text is not None:
            self._text.append(text)

    def _needed(self, given: dict[str, str], name: str) -> str:
        if name not in given:
            raise ManifestError(f"{self._where()}: damaged: {name} is missing")
        return given[name]

    def _time_ms(self, text: str | None) -> int | None:
        if text is None:
            return None
        if not (text.isascii() and text.isdigit() and len(text) <= 12):
            raise ManifestError(f"{self._where()}: damaged: the time {text!r:.80} is no number of milliseconds")
        return int(text)
