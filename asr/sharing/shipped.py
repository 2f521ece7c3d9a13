"""The model that comes with the package, and a recording to try it on. No torch.

`an4` was trained on 38 minutes of CMU's AN4 and knows letters, numbers, dates and a few commands. Its card says how
well. The recording is an utterance of AN4's test set. `recipes/an4/README.md` says how both files were made.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from asr.errors import ModelError

_FOLDER = Path(__file__).parent / "shipped"

SHIPPED = "an4"


class SampleRecording(NamedTuple):
    """A recording, and what is said in it."""

    path: Path
    text: str


def shipped_model() -> Path:
    """Return the file of the model that comes with the package, a packed model.

    Raises:
        ModelError: this installation has none.
    """
    return _existing(f"{SHIPPED}.asr")


def sample_recording() -> SampleRecording:
    """Return a recording of three seconds on which the model `an4` can be tried: `asr.load("an4").transcribe(path)`.

    Raises:
        ModelError: this installation has none.
    """
    return SampleRecording(_existing(f"{SHIPPED}.flac"), "erase f o x k eight")


def _existing(name: str) -> Path:
    path = _FOLDER / name
    if not path.is_file():
        raise ModelError(
            f"{path}: it belongs to the package, but this installation lacks it; install the package again"
        )
    return path
