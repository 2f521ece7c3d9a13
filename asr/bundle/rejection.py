"""`rejection.json` of a model folder or an exported folder: when none of a grammar's texts counts as said. No torch."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from asr.bundle.files import REJECTION
from asr.errors import ModelError
from asr.files import visible_json, write_text
from asr.paths import ReadablePath
from asr.reading import read_json

_WAY_OUT = "delete it or run `asr tune --grammar` again"


@dataclass(frozen=True)
class Rate:
    """A rate that was measured, as a share, and the interval that holds the true one with a probability of 95 %.

    Attributes:
        rate: what is to be expected.
        low, high: the interval.
        count: number of utterances that it was measured on.
    """

    rate: float
    low: float
    high: float
    count: int


@dataclass(frozen=True)
class Rejection:
    """When none of a grammar's texts counts as said, and how often that is wrong.

    Attributes:
        threshold: evidence for the grammar up to which an utterance is rejected, a natural log.
        grammar: the grammar's checksum.
        name: its file.
        false_alarms: how many utterances with other texts are accepted.
        misses: how many utterances with one of its texts are rejected.
    """

    threshold: float
    grammar: str
    name: str
    false_alarms: Rate
    misses: Rate

    def save(self, folder: Path) -> None:
        """Write `rejection.json`."""
        text = json.dumps(asdict(self), ensure_ascii=False, indent=2, allow_nan=False)
        write_text(folder / REJECTION, f"{visible_json(text)}\n")


def load_rejection(folder: ReadablePath | None) -> Rejection | None:
    """Return what `Rejection.save` wrote; None if the folder has none.

    Raises:
        ModelError: the file is damaged.
    """
    path = None if folder is None else folder / REJECTION
    if path is None or not path.is_file():
        return None
    content = read_json(path, ModelError, "the threshold of a grammar", way_out=_WAY_OUT)
    if not isinstance(content, dict) or set(content) != {item.name for item in fields(Rejection)}:
        raise ModelError(f"{path}: not what `asr tune --grammar` writes; {_WAY_OUT}")
    rates = [_rate(content["false_alarms"]), _rate(content["misses"])]
    texts = [content["grammar"], content["name"]]
    threshold = content["threshold"]
    is_whole = None not in rates and all(isinstance(text, str) for text in texts)
    if not is_whole or not _is_number(threshold) or threshold > 0:
        raise ModelError(f"{path}: not what `asr tune --grammar` writes; {_WAY_OUT}")
    return Rejection(threshold, *texts, *rates)


def _rate(content: Any) -> Rate | None:
    if not isinstance(content, dict) or set(content) != {item.name for item in fields(Rate)}:
        return None
    if not all(map(_is_number, content.values())) or type(content["count"]) is not int:
        return None
    return Rate(**content)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
