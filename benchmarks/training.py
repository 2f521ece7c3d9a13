"""How many seconds of audio are trained on in a second: this package's loop beside its peers, on two cores.

    python benchmarks/training.py          needs the extra `bench` (SpeechBrain) and data/an4 (`asr prepare an4`)
    python benchmarks/training.py --own    without the peers: is the way to compute that timing chooses the quickest?

asr           `asr.training.trainer.training_reports` as `asr train` runs it, with the moving average and the log. It
              times number formats and threads at its start; "asr, bf16, 2 threads" and the like are told.
packed        the same loop, each bidirectional LSTM layer on a packed sequence, as most toolkits do; float32
SpeechBrain   the same network in SpeechBrain, its batches, features and loop (`peers/speechbrain_ctc.py`). Its default
              is float32; bf16 is an option of it. "unpacked" leaves out the lengths: then the backward direction
              starts in the padding and an utterance's result depends on its neighbours, so it is another network.

All train on one masked view of each utterance of AN4's training set, 45 s of audio a step, speed perturbation 0.9, 1,
1.1, no noise, no evaluation, no checkpoint. Each has a process of its own; they take turns, a round of steps each, and
stand still meanwhile. The first round warms up and is not counted.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from machine import THREADS, describe
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.config import Config
from asr.corpus.manifest import read_manifest
from asr.features.batching import StepBatch
from asr.model.rnn import RecurrentLayer
from asr.settings_file import load_config
from asr.training import run, trainer
from asr.training.reports import EpochReport, StepReport
from asr.training.survey import survey_training_cuts

CONFIG, DATA = Path("conf/an4.yaml"), Path("data/an4")
SETTINGS = (
    "model.hidden_size=256",
    "training.batch_s=45",
    "training.consistency_weight=0",
    "augment.speeds=[0.9, 1.0, 1.1]",
    "augment.tempos=[1.0]",
    "augment.noise_share=0",
    "augment.reverb_share=0",
    "training.accelerator=cpu",
    "training.checkpoint_every_s=3600",
)

Report = Callable[[float], None]


def ours(report: Report, *, precision: str, threads: int | None = None, packed: bool = False) -> None:
    """Train as `asr train` does; `report` gets the seconds of audio of each step."""
    if threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)
    if packed:
        RecurrentLayer.forward = packed_forward
    audio_s: list[float] = []
    batches = run.training_batches

    def noted(*args: Any, **options: Any) -> Iterator[StepBatch]:
        for batch in batches(*args, **options):
            audio_s.append(batch.audio_s)
            yield batch

    run.training_batches = noted
    config = load_config(CONFIG, [*SETTINGS, f"training.precision={precision}"])
    with tempfile.TemporaryDirectory() as out:
        for event in trainer.training_reports(config, DATA, Path(out)):
            if isinstance(event, EpochReport):
                raise SystemExit("the rounds reach past the first epoch and its evaluation: fewer --rounds or --steps")
            if isinstance(event, StepReport):
                report(audio_s.pop())


def packed_forward(layer: RecurrentLayer, x: Tensor, lengths: Tensor, reversal: Tensor) -> Tensor:
    """Return what `RecurrentLayer` returns, by way of torch's packed sequences."""
    sequence = pack_padded_sequence(layer.norm(x), lengths, batch_first=True, enforce_sorted=False)
    y, _ = pad_packed_sequence(layer.rnn(sequence)[0], batch_first=True, total_length=x.shape[1])
    return x + layer.dropout(y)


def speechbrain(report: Report, *, precision: str, packed: bool = True) -> None:
    """Train as SpeechBrain does; `report` gets the seconds of audio of each step."""
    from peers.speechbrain_ctc import train

    config: Config = load_config(CONFIG, SETTINGS)
    cuts = read_manifest(DATA / "train.jsonl.gz").to_eager()
    train(config, cuts, survey_training_cuts(cuts, config).tokens, report, precision=precision, packed=packed)


CONTENDERS: dict[str, Callable[[Report], None]] = {
    "asr": partial(ours, precision="auto"),
    **{
        f"asr, {precision}, {count} thread{'s' * (count > 1)}": partial(ours, precision=precision, threads=count)
        for precision in ("fp32", "bf16")
        for count in sorted({1, THREADS})
    },
    "packed nn.LSTM": partial(ours, precision="fp32", threads=THREADS, packed=True),
    "SpeechBrain": partial(speechbrain, precision="fp32"),
    "SpeechBrain, bf16": partial(speechbrain, precision="bf16"),
    "SpeechBrain, unpacked": partial(speechbrain, precision="fp32", packed=False),
    "SpeechBrain, unpacked, bf16": partial(speechbrain, precision="bf16", packed=False),
}


class Rounds:
    """Called after each step; waits when a round is done, until the parent process asks for the next."""

    def __init__(self, orders: Connection, steps: int) -> None:
        self._orders, self._steps = orders, steps
        self._begin()

    def _begin(self) -> None:
        try:
            self._orders.recv()
        except EOFError:  # no more rounds
            raise SystemExit from None
        self._left, self._audio_s, self._began = self._steps, 0.0, time.perf_counter()

    def __call__(self, audio_s: float) -> None:
        self._left -= 1
        self._audio_s += audio_s
        if not self._left:
            self._orders.send((self._audio_s, time.perf_counter() - self._began))
            self._begin()


def work(name: str, orders: Connection, steps: int) -> None:
    """Be one contender's process."""
    torch.set_num_threads(THREADS)
    CONTENDERS[name](Rounds(orders, steps))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--own", action="store_true", help="leave out the peers")
    parser.add_argument("--rounds", type=int, default=5, help="counted rounds (5)")
    parser.add_argument("--steps", type=int, default=6, help="in a round (6)")
    arguments = parser.parse_args()

    names = [name for name in CONTENDERS if name.startswith("asr") or not arguments.own]
    # Spawned one by one, so that no process inherits the parent's end of another's pipe.
    context = multiprocessing.get_context("spawn")
    orders: dict[str, Connection] = {}
    processes = []
    for name in names:
        orders[name], theirs = context.Pipe()
        processes.append(context.Process(target=work, args=(name, theirs, arguments.steps), daemon=True))
        processes[-1].start()
        theirs.close()
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for number in range(arguments.rounds + 1):
        for name, connection in orders.items():
            connection.send("a round")
            try:
                measured = connection.recv()
            except EOFError:
                raise SystemExit(f"{name}: its process ended; the reason stands above") from None
            if number:
                rounds[name].append(measured)
    for connection in orders.values():
        connection.close()
    for process in processes:
        process.join()

    torch.set_num_threads(THREADS)
    print(describe("lhotse", "lightning-fabric", *([] if arguments.own else ["speechbrain"])))
    print(f"{arguments.rounds} rounds of {arguments.steps} steps; audio seconds trained in a second, median (range)")
    rates = {name: [audio_s / wall_s for audio_s, wall_s in measured] for name, measured in rounds.items()}
    medians = {name: statistics.median(values) for name, values in rates.items()}
    for name, values in rates.items():
        step_s = statistics.mean(audio_s for audio_s, _ in rounds[name]) / arguments.steps
        print(
            f"{name:28}{medians[name]:7.1f} ({min(values):.1f} to {max(values):.1f})   {step_s:5.1f} s a step   "
            f"asr is {medians['asr'] / medians[name]:.2f} × as fast"
        )
    best = max(medians[name] for name in medians if name.startswith("asr, "))
    share = medians["asr"] / best
    print(f"asr reaches {100 * share:.0f} % of its best fixed way ({'holds' if share >= 0.95 else 'MISSED'}: bar 95 %)")


if __name__ == "__main__":
    main()
