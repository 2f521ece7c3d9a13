"""A training run → trackio or wandb: curves, settings, three utterances of dev.

trackio has the names and arguments of wandb, so one class serves both. Source: https://docs.wandb.ai/ref/python and
https://huggingface.co/docs/trackio.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from asr.bundle.files import CHECKPOINTS, TRACKED_RUN
from asr.config import Config
from asr.errors import DependencyError, TrainingError
from asr.files import to_json, write_text
from asr.reading import read_json
from asr.training.examples import ExampleAudio

TrackerName = Literal["none", "trackio", "wandb"]
_INSTALL = {"trackio": "pip install 'asr[track]'", "wandb": "pip install wandb"}


class Tracker(Protocol):
    """What keeps or shows runs."""

    def add(self, points: Mapping[str, float], step: int) -> None:
        """Add a point to each named curve."""

    def hear(self, recordings: Sequence[ExampleAudio]) -> None:
        """Take the sound of utterances of dev."""

    def write(self, texts: Sequence[Mapping[str, str]], step: int) -> None:
        """Take what was recognised in them: the `dev_texts` of a line of `log.jsonl`."""

    def close(self) -> None:
        """Finish, and wait until all is stored."""


@dataclass(frozen=True)
class Tracking:
    """What a tracker gets once: the project, the settings of the run, and the sound of utterances of dev."""

    tracker: TrackerName = "none"
    project: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    recordings: Callable[[], Sequence[ExampleAudio]] = tuple

    @classmethod
    def of(cls, config: Config, recordings: Callable[[], Sequence[ExampleAudio]] = tuple) -> Tracking:
        """Return that of a run with these settings."""
        chosen = config.training
        return cls(chosen.tracker, chosen.tracker_project, config.model_dump(mode="json"), recordings)


def require_tracker(name: TrackerName) -> None:
    """Refuse a tracker that is not installed.

    Raises:
        DependencyError: it cannot be imported.
    """
    if name != "none":
        try:
            import_module(name)
        except ImportError as error:
            raise DependencyError(
                f"training.tracker={name} needs the package {name} ({error}): {_INSTALL[name]}"
            ) from None


def start_tracker(tracking: Tracking, out: Path, *, resumed: bool) -> Tracker:
    """Return the tracker of the run in `out`; a resumed run continues the tracker's run."""
    return _Online(tracking, _name_of_run(out, resumed=resumed), resumed=resumed)


def _name_of_run(out: Path, *, resumed: bool) -> str:
    """Return the name under which the tracker knows the run: that of the folder and the time of the start.

    It is stored beside the checkpoints, because a resumed run needs it.
    """
    path = out / CHECKPOINTS / TRACKED_RUN
    if resumed and path.exists():
        return str(read_json(path, TrainingError, "the run's name at the tracker")["name"])
    name = f"{out.resolve().name}-{time.strftime('%Y%m%d-%H%M%S')}"
    write_text(path, to_json({"name": name}))
    return name


class _Online:
    """A run at trackio or wandb."""

    def __init__(self, tracking: Tracking, name: str, *, resumed: bool) -> None:
        """Begin or continue the run `name`."""
        self._package = import_module(tracking.tracker)
        identity = {"id": re.sub(r"[^\w-]", "_", name)} if tracking.tracker == "wandb" else {}
        resume = "allow" if resumed else "never"
        self._package.init(
            project=tracking.project, name=name, config=dict(tracking.settings), resume=resume, **identity
        )

    def add(self, points: Mapping[str, float], step: int) -> None:
        if points:
            self._package.log(dict(points), step=step)

    def hear(self, recordings: Sequence[ExampleAudio]) -> None:
        for number, one in enumerate(recordings, 1):
            samples = np.round(32767 * np.clip(one.samples, -1, 1)).astype(np.int16)
            sound = self._package.Audio(samples, sample_rate=one.rate_hz, caption=one.reference)
            self._package.log({f"dev/audio {number}": sound}, step=0)

    def write(self, texts: Sequence[Mapping[str, str]], step: int) -> None:
        if texts:
            columns = ["id", "reference", "hypothesis"]
            rows = [[one[column] for column in columns] for one in texts]
            self._package.log({"dev/texts": self._package.Table(columns=columns, data=rows)}, step=step)

    def close(self) -> None:
        self._package.finish()
