"""Files damaged by chance, of one seed always the same, and what becomes of them where they are read.

A `Kind` of file knows how to damage a good one, and what reads it. Each reader must succeed, or raise an `AsrError`
that names what is wrong. The kinds are in `damaged_data.py` and `damaged_models.py`.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from asr.errors import AsrError

Chance = np.random.Generator

MISSING = object()
JUNK: list[Any] = [
    *(MISSING, None, True, False, 0, -1, 1, 3, 7, 2**31, 2**63, 10**400, 1e308, -1e308, 1e-308, 0.5, -0.5, 1e9),
    *(math.nan, math.inf, -math.inf, "", "a", "0", "1.0", "nan", "\ud800", "\udfff x", "a\0b", "\x1b[31m", "a\nb"),
    *("../../x", "/dev/zero", "file", "command", "url", "x" * 100_000, [], {}, [[]], [None], [0], [0, 1], ["a"]),
    *({"a": 1}, {"type": "MonoCut"}, {"name": "Speed", "kwargs": {"factor": 1e-9}}, {"name": "Nothing", "kwargs": {}}),
    *([{"name": "Speed", "kwargs": {"factor": 1e-9}}], [{"name": "Nothing", "kwargs": {}}], [0] * 1000),
]
TOKENS = [
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 5000,
    b"[" * 100_000,
    b"{",
    b'"',
    b",",
    b"null",
    b"\\ud800",
    b"\0",
    b"\xff",
]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return the container and the key of every value in nested JSON, however deep."""
    found: list[tuple[Any, Any]] = []
    level = [value]
    while level:
        inner = level.pop()
        keys: Any = inner if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else ()
        found += [(inner, key) for key in keys]
        level += [inner[key] for key in keys]
    return found


def damaged_json(record: Any, chance: Chance) -> Any:
    """Return JSON with one to three of its values replaced, missing, repeated or under another name."""
    record = copy.deepcopy(record)
    for _ in range(int(chance.integers(1, 4))):
        if not (found := places(record)):
            return record
        _damage(*found[int(chance.integers(len(found)))], chance)
    return record


def _damage(inner: Any, key: Any, chance: Chance) -> None:
    way = chance.random()
    if way < 0.7:
        value = JUNK[int(chance.integers(len(JUNK)))]
        if value is MISSING:
            del inner[key]
        else:
            inner[key] = copy.deepcopy(value)
    elif way < 0.8 and isinstance(inner[key], (int, float)) and abs(inner[key]) < 1e300:
        inner[key] = inner[key] * float(chance.choice([-1, 0, 1e-12, 0.5, 2, 1e5, 1e12]))
    elif way < 0.85:
        inner[key] = [inner[key]] * int(chance.choice([1, 2, 1000]))
    elif way < 0.9:
        for _ in range(int(chance.choice([1, 60, 5000]))):
            inner[key] = [inner[key]]
    elif isinstance(inner, dict):
        inner[str(chance.choice(["x", "type", "sources", "shape", "width", "tracks", "custom", "transforms"]))] = (
            inner.pop(key)
        )


def damaged_bytes(data: bytes, chance: Chance) -> bytes:
    """Return bytes with one to three places changed, cut out, repeated or filled with what is hard to read."""
    changed = bytearray(data)
    for _ in range(int(chance.integers(1, 4))):
        start = int(chance.integers(len(changed) + 1))
        end = min(len(changed), start + int(chance.choice([1, 2, 10, 100])))
        way = int(chance.integers(6))
        if way == 0 and start < len(changed):
            changed[start] = int(chance.integers(256))
        elif way == 1:
            del changed[start:end]
        elif way == 2:
            changed[start:start] = changed[start:end] * int(chance.choice([1, 1000]))
        elif way == 3:
            changed[start:end] = TOKENS[int(chance.integers(len(TOKENS)))]
        elif way == 4:
            del changed[start:]
        else:
            changed[start:end] = bytes(chance.integers(0, 256, end - start, dtype=np.uint8))
    return bytes(changed)


def damaged_lines(data: bytes, chance: Chance) -> bytes:
    """Return JSON lines with one of them damaged: as JSON, or as bytes."""
    if chance.random() < 0.3:
        return damaged_bytes(data, chance)
    lines = data.splitlines()
    place = int(chance.integers(len(lines)))
    lines[place] = json_bytes(damaged_json(json.loads(lines[place]), chance))
    return b"\n".join(lines) + b"\n"


def damaged_document(data: bytes, chance: Chance) -> bytes:
    """Return a file of JSON, damaged as JSON or as bytes."""
    return damaged_bytes(data, chance) if chance.random() < 0.3 else json_bytes(damaged_json(json.loads(data), chance))


def json_bytes(value: Any) -> bytes:
    """Return a value as JSON; what is nested too deep to be written becomes brackets."""
    try:
        return json.dumps(value).encode()
    except RecursionError:
        return b"[" * 5000


@dataclass(frozen=True)
class Kind:
    """A kind of file: where it is in a folder of good files, how it is damaged, and what reads it there."""

    path: str
    damage: Callable[[bytes, Chance], bytes]
    readers: Sequence[Callable[[Path, Path], object]]


@contextmanager
def changed(folder: Path) -> Iterator[list[str]]:
    """Yield a list in which, at the end, each file is named that was changed in a folder or beside it."""
    before, noted = _state(folder), list[str]()
    yield noted
    noted += sorted(name for name, _ in _state(folder) ^ before)


def _state(folder: Path) -> set[tuple[str, tuple[int, int]]]:
    """Return all files of a folder, and of the one above it, with their sizes and times."""
    found = [*folder.rglob("*"), *folder.parent.iterdir()]
    return {(str(path), (path.stat().st_size, path.stat().st_mtime_ns)) for path in found if path.is_file()}


@dataclass(frozen=True)
class Outcome:
    """What became of a damaged file.

    Attributes:
        index: by which chance it was damaged.
        refusals: of its readers; the others succeeded.
        noted: what its readers did that they should not, as the watch says it.
        cpu_s: processor time of the slowest reader.
    """

    index: int
    refusals: tuple[AsrError, ...]
    noted: tuple[str, ...]
    cpu_s: float


def outcomes(
    kind: Kind,
    folder: Path,
    count: int,
    seed: int = 0,
    *,
    watch: Callable[[Path], AbstractContextManager[list[str]]] = changed,
) -> Iterator[Outcome]:
    """Damage a file of good ones `count` times and let its readers read it; only AsrErrors are caught.

    Args:
        kind: of the file.
        folder: of good files, alone in the folder above it; it is the same afterwards.
        count: number of damages.
        seed: of all chances.
        watch: notes what a reader should not do.
    """
    path = folder / kind.path
    original = path.read_bytes()
    try:
        for index in range(count):
            path.write_bytes(kind.damage(original, np.random.default_rng((seed, index))))
            refusals, noted, slowest_s = list[AsrError](), list[str](), 0.0
            for read in kind.readers:
                with TemporaryDirectory() as out, watch(folder) as seen:
                    begin = time.process_time()
                    try:
                        read(folder, Path(out))
                    except AsrError as error:
                        refusals.append(error)
                    slowest_s = max(slowest_s, time.process_time() - begin)
                noted += seen
            yield Outcome(index, tuple(refusals), tuple(noted), slowest_s)
    finally:
        path.write_bytes(original)
