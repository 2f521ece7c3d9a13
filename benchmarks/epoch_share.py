"""Where the wall time of an epoch goes, and how much memory training takes.

    python benchmarks/epoch_share.py          needs data/an4 (`asr prepare an4`)

Trains on AN4 as `asr train --config conf/an4.yaml` does, evaluation, checkpoints and log included, with a stopwatch
around the parts of the loop. Time counts for the innermost part: masks are drawn within the network's forward pass,
and count as masks. The first epoch warms up and is left out. The memory is this process's peak resident size.
"""

from __future__ import annotations

import argparse
import functools
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from machine import THREADS, describe

from asr.bundle.bundle import ModelBundle
from asr.features import augment, batching
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.training import step, trainer
from asr.training.reports import EpochReport, TrainingLog
from asr.training.run import Run
from asr.training.step import WeightAverage

CONFIG, DATA = Path("conf/an4.yaml"), Path("data/an4")
INSIDE = {
    "forward": [(AcousticModel, "forward"), (step, "ctc_loss")],
    "backward": [(Fabric, "backward")],
    "optimiser": [(torch.optim.AdamW, "step")],
}
OUTSIDE = {
    "reading audio": [(batching, "load_cut")],
    "speed and tempo perturbation": [(batching, "perturb_speed"), (batching, "draw_pace"), (augment, "perturb_tempo")],
    "noise, reverberation, level": [(batching, "perturb_conditions")],
    "padding": [(batching, "collate")],
    "masks": [(augment, "draw_masks"), (augment, "apply_masks")],
    "gradient norms, clipping": [(step, "gradient_norms"), (torch.nn.utils, "clip_grads_with_norm_")],
    "average of the weights": [(WeightAverage, "update")],
    "log": [(TrainingLog, "step"), (TrainingLog, "epoch")],
    "evaluation but its forward": [(trainer, "score_dev")],
    "model and checkpoint files": [(ModelBundle, "save"), (Run, "save")],
}


class Stopwatch:
    """Seconds by part; a part that runs within another is not counted for the outer one."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self._running: list[str] = []
        self._since = time.perf_counter()

    def _turn(self) -> None:
        now = time.perf_counter()
        self.seconds[self._running[-1] if self._running else "everything else"] += now - self._since
        self._since = now

    def watch(self, owner: Any, name: str, part: str) -> None:
        """Replace the function `owner.name` by one that is timed."""
        function: Callable[..., Any] = getattr(owner, name)

        @functools.wraps(function)
        def timed(*args: Any, **options: Any) -> Any:
            self._turn()
            self._running.append(part)
            try:
                return function(*args, **options)
            finally:
                self._turn()
                self._running.pop()

        setattr(owner, name, timed)

    def read(self) -> Counter[str]:
        """Return the seconds of all parts since the last reading."""
        self._turn()
        seconds, self.seconds = self.seconds, Counter()
        return seconds


def peak_memory_gb() -> float:
    """Return this process's largest resident size so far, in 10⁹ bytes."""
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size * (1 if sys.platform == "darwin" else 1024) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4, help="the first warms up (4)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="as for `asr train`")
    arguments = parser.parse_args()
    torch.set_num_threads(THREADS)
    print(describe("lhotse", "lightning-fabric"))

    stopwatch = Stopwatch()
    for parts in (INSIDE, OUTSIDE):
        for part, functions in parts.items():
            for owner, name in functions:
                stopwatch.watch(owner, name, part)
    config = load_config(CONFIG, ["training.accelerator=cpu", *arguments.set])
    totals: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as out:
        training = trainer.training_reports(config, DATA, Path(out))
        for report in training:
            if not isinstance(report, EpochReport):
                continue
            seconds = stopwatch.read()
            warm = report.epoch > 0
            print(
                f"epoch {report.epoch + 1}: {sum(seconds.values()):6.1f} s for {report.audio_s:.0f} s of audio, "
                f"peak memory {peak_memory_gb():.2f} GB{'' if warm else ' (warming up)'}"
            )
            totals += seconds if warm else Counter()
            if report.epoch + 1 == arguments.epochs:
                training.close()

    wall_s = sum(totals.values())
    for part, seconds in totals.most_common():
        print(f"{part:28}{100 * seconds / wall_s:6.2f} %{'' if part in INSIDE else '   outside'}")
    outside = 1 - sum(totals[part] for part in INSIDE) / wall_s
    print(f"outside forward, backward and optimiser: {100 * outside:.2f} % of {wall_s:.1f} s")


if __name__ == "__main__":
    main()
