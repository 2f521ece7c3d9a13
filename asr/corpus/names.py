"""What sources call splits, and what the ids of their utterances are made of."""

from __future__ import annotations

import re
from pathlib import Path

from asr.errors import ManifestError

SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "val": "dev",
    "valid": "dev",
    "validation": "dev",
    "test": "test",
    "testing": "test",
    "eval": "test",
}


def split_name(name: str, where: str) -> str:
    """Return "train", "dev" or "test" for a split's name in the source.

    Raises:
        ManifestError: the name means none of them.
    """
    split = SPLIT_NAMES.get(name.strip().lower())
    if split is None:
        raise ManifestError(f"{where}: {name!r} is not a split; known: {', '.join(SPLIT_NAMES)}")
    return split


def split_in_name(name: str) -> str | None:
    """Return the split that a file's name says, e.g. "dev" for validation-00000-of-00002.parquet."""
    words = re.split(r"[-_.]", name.lower())
    return next((SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES), None)


def top_folder_split(path: Path, source: Path) -> str | None:
    """Return the split that a path belongs to; its first part below the source may be called train, dev or test."""
    parts = path.relative_to(source).parts if path != source else ()
    return SPLIT_NAMES.get(Path(parts[0]).stem.lower()) if parts else None


def name_in_id(name: str) -> str:
    """Return a name with what an utterance id cannot hold replaced by `_`."""
    return re.sub(r"[\s()]+", "_", name)


def id_from_path(name: str) -> str:
    """Return an utterance id made of a file's path as the source gives it."""
    return name_in_id("-".join(part for part in Path(name).with_suffix("").parts if part not in ("/", "..")))


def id_of_part(name: str, start_s: float, end_s: float) -> str:
    """Return the utterance id of a part of a recording; its times are in milliseconds."""
    return "-".join([name, *(f"{round(1000 * time_s):07d}" for time_s in (start_s, end_s))])
