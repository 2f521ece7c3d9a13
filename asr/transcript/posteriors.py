"""The probable tokens of each frame, in 8 bits: what is drawn of a network's posteriors, in about three bytes a frame.

A file holds those of many utterances. The models of an ensemble have tokens of their own, so each utterance names its
model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from asr.errors import ScoringError
from asr.files import atomic_path
from asr.reading import parse_json, read_tensor_forms
from asr.records import Record, Text, checked

LEVELS = 255  # a probability is stored as its product with this
# Of 255 levels the first two are left out: no token of interest is there, and at most 127 tokens of a frame remain.
_LEAST_LEVEL = 2
_FORMS = {"frames": "U32", "models": "U8", "counts": "U8", "tokens": "U16", "levels": "U8"}
_METADATA = "posteriors"
_WHAT, _WAY_OUT = "the posteriors", "decode again"


@dataclass(frozen=True)
class SparsePosteriors:
    """The tokens of an utterance's frames that have a probability of about 1 % at least.

    Attributes:
        counts: `(frame,)` uint8, how many tokens are kept of each frame.
        tokens: `(entry,)` uint16, those of the first frame in rising order, then those of the next.
        levels: `(entry,)` uint8, their probabilities times `LEVELS`.
        model: the number of the model in an ensemble whose tokens these are.
    """

    counts: NDArray[np.uint8]
    tokens: NDArray[np.uint16]
    levels: NDArray[np.uint8]
    model: int = 0

    @classmethod
    def of(cls, log_posteriors: NDArray[np.float32], model: int = 0) -> SparsePosteriors:
        """Return what is kept of `(frame, token)` natural-log posteriors."""
        levels = np.rint(LEVELS * np.exp(log_posteriors)).astype(np.int64).clip(0, LEVELS)
        kept = levels >= _LEAST_LEVEL
        _, tokens = np.nonzero(kept)
        return cls(kept.sum(1).astype(np.uint8), tokens.astype(np.uint16), levels[kept].astype(np.uint8), model)


class TokenFrames(Record):
    """What the posteriors of a model are about: its tokens' texts by id, and the time between two frames.

    Frame i is centred on `i · frame_shift_s`.
    """

    tokens: list[Text]
    frame_shift_s: float = Field(gt=0)


class _Metadata(Record):
    ids: list[Text]
    models: list[TokenFrames] = Field(min_length=1)


@dataclass(frozen=True)
class PosteriorFile:
    """The posteriors of a decode folder.

    Attributes:
        models: what they are about, model by model.
        utterances: by utterance id.
    """

    models: tuple[TokenFrames, ...] = ()
    utterances: Mapping[str, SparsePosteriors] = field(default_factory=dict)


def write_posteriors(path: Path, models: Sequence[TokenFrames], utterances: Mapping[str, SparsePosteriors]) -> None:
    """Write the posteriors of utterances, by their ids, whole or not at all."""
    from safetensors.numpy import save_file

    parts = list(utterances.values())
    nothing = SparsePosteriors(np.zeros(0, np.uint8), np.zeros(0, np.uint16), np.zeros(0, np.uint8))
    tensors: dict[str, NDArray[Any]] = {
        "frames": np.array([len(part.counts) for part in parts], np.uint32),
        "models": np.array([part.model for part in parts], np.uint8),
        "counts": np.concatenate([part.counts for part in [nothing, *parts]]),
        "tokens": np.concatenate([part.tokens for part in [nothing, *parts]]),
        "levels": np.concatenate([part.levels for part in [nothing, *parts]]),
    }
    metadata = _Metadata(ids=list(utterances), models=list(models))
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, {_METADATA: metadata.model_dump_json()})


def read_posteriors(path: Path) -> PosteriorFile:
    """Return what `write_posteriors` wrote.

    Raises:
        ScoringError: the file is missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    forms, texts = read_tensor_forms(path, ScoringError, _WHAT, way_out=_WAY_OUT)
    damaged = f"{path}: cannot read {_WHAT}: damaged; {_WAY_OUT}"
    if {name: form.kind for name, form in forms.items()} != _FORMS or any(len(f.shape) != 1 for f in forms.values()):
        raise ScoringError(damaged)
    about = parse_json(texts.get(_METADATA, "null"), ScoringError, str(path), way_out=_WAY_OUT)
    metadata = checked(_Metadata, about, path, ScoringError, _WAY_OUT)
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError):
        raise ScoringError(damaged) from None
    if not _agree(tensors, metadata):
        raise ScoringError(damaged)
    frames = np.cumsum([0, *tensors["frames"].tolist()])
    entries = np.concatenate([[0], np.cumsum(tensors["counts"], dtype=np.int64)])[frames]
    utterances = {
        name: SparsePosteriors(
            tensors["counts"][frames[place] : frames[place + 1]],
            tensors["tokens"][entries[place] : entries[place + 1]],
            tensors["levels"][entries[place] : entries[place + 1]],
            int(tensors["models"][place]),
        )
        for place, name in enumerate(metadata.ids)
    }
    return PosteriorFile(tuple(metadata.models), utterances)


def _agree(tensors: Mapping[str, NDArray[np.generic]], metadata: _Metadata) -> bool:
    """Return whether the parts of a file belong together."""
    sizes = {name: len(tensor) for name, tensor in tensors.items()}
    counts, frames = np.asarray(tensors["counts"], np.int64), np.asarray(tensors["frames"], np.int64)
    models, tokens = np.asarray(tensors["models"], np.int64), np.asarray(tensors["tokens"], np.int64)
    if not (
        sizes["frames"] == sizes["models"] == len(metadata.ids) == len(set(metadata.ids))
        and frames.sum() == sizes["counts"]
        and counts.sum() == sizes["tokens"] == sizes["levels"]
        and (models < len(metadata.models)).all()
    ):
        return False
    vocabularies = np.array([len(model.tokens) for model in metadata.models])
    return bool((tokens < np.repeat(np.repeat(vocabularies[models], frames), counts)).all())
