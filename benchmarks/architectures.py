"""Recurrent networks of all kinds, and the Conformer that has supplanted them, side by side in one table.

    python benchmarks/architectures.py                      vanilla RNN, GRU, LSTM, one and two directions; Conformer
    python benchmarks/architectures.py --exp exp/cells-*    the trained models in these folders instead, with their WERs

size       layers × hidden units (of each direction). Without --exp the units are chosen so that every network has as
           many parameters as a bidirectional LSTM of 3 × 256 has; `asr train --set model.hidden_size=…` takes them.
step       a training step (forward, backward, clipping, optimiser; two views of each utterance), the median; synthetic
           utterances, the same for all, which take turns so that a drift of the machine's speed meets all of them
dev, test  WER, greedy: the best epoch's, as training logged it, and that of DIR/decode_test_greedy if it is there
gradients  the norm of the first step's gradient with respect to each layer's weights, from the lowest layer up
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from machine import describe

from asr.bundle.files import CONFIG, TOKENS
from asr.config import Config, ModelSettings, TrainingSettings
from asr.features.augment import Draw, draw_perturbation
from asr.features.batch import Batch, collate, frame_count
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import load_tokens
from asr.training.engine import make_fabric
from asr.training.step import batch_loss, gradient_norms, parameter_groups

LETTERS = 28  # a-z, the space and the blank, where no folder tells
CELLS = ("tanh", "relu", "gru", "lstm")
ARCHITECTURES: list[dict[str, object]] = [
    *[{"rnn": cell, "bidirectional": False} for cell in CELLS],
    *[{"rnn": cell, "bidirectional": True} for cell in CELLS],
    {"encoder": "conformer"},
]


@dataclass(frozen=True)
class Candidate:
    name: str
    config: Config
    token_count: int
    dev_wer: float | None = None
    test_wer: float | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exp", type=Path, nargs="+", metavar="DIR", help="model folders that `asr train` wrote")
    parser.add_argument("--layers", type=int, default=3, help="without --exp")
    parser.add_argument("--hidden-size", type=int, default=256, help="of the bidirectional LSTM, without --exp")
    parser.add_argument("--runs", type=int, default=9, help="steps that are timed")
    parser.add_argument("--utterances", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of an utterance")
    arguments = parser.parse_args()
    if arguments.exp:
        candidates = [trained(folder) for folder in arguments.exp]
    else:
        candidates = equal_sizes(arguments.layers, arguments.hidden_size)
    token_count = min(candidate.token_count for candidate in candidates)
    print(describe())
    print(f"a step of {arguments.utterances} utterances of {arguments.seconds:g} s; medians of {arguments.runs}")

    models, steps, gradients = [], [], []
    for candidate in candidates:
        torch.manual_seed(candidate.config.training.seed)
        models.append(AcousticModel(candidate.config, candidate.token_count))
        batch = synthetic_batch(arguments.utterances, arguments.seconds, token_count, candidate.config)
        step = training_step(models[-1], candidate.config, batch)
        step()  # the first warms up, too
        gradients.append(
            {name: norm for name, norm in gradient_norms(models[-1]).items() if name.startswith("layers.")}
        )
        steps.append(step)
    times_ms = [statistics.median(times) for times in take_turns(steps, arguments.runs)]

    width = max(len(candidate.name) for candidate in candidates)
    print(f"{'':{width}}  {'size':>8}  parameters   step ms    dev   test  gradients")
    for candidate, model, ms, norms in zip(candidates, models, times_ms, gradients, strict=True):
        size = f"{candidate.config.model.layers} × {candidate.config.model.hidden_size}"
        wers = "  ".join(
            "    -" if wer is None else f"{100 * wer:5.1f}" for wer in (candidate.dev_wer, candidate.test_wer)
        )
        shown = "  ".join(f"{norm:.2g}" for norm in norms.values())
        print(f"{candidate.name:{width}}  {size:>8}  {model.parameter_count:10,}  {ms:8.0f}  {wers}  {shown}")


def describe_network(settings: ModelSettings) -> str:
    if settings.encoder == "conformer":
        return "conformer"
    return f"{'bi' if settings.bidirectional else 'uni'}directional {settings.rnn}"


def equal_sizes(layers: int, hidden_size: int) -> list[Candidate]:
    """Return all architectures with about the parameters of a bidirectional LSTM of this size."""

    def parameters(settings: dict[str, object], units: int) -> int:
        model = ModelSettings.model_validate({**settings, "layers": layers, "hidden_size": units})
        return AcousticModel(Config(model=model), LETTERS).parameter_count

    wanted = parameters({"rnn": "lstm", "bidirectional": True}, hidden_size)
    candidates = []
    for settings in ARCHITECTURES:
        low, high = 2, hidden_size  # in eights, so that a conformer's heads can share them
        while low < high:  # the smallest size with at least the wanted parameters
            middle = (low + high) // 2
            low, high = (low, middle) if parameters(settings, 8 * middle) >= wanted else (middle + 1, high)
        nearest = min((8 * low - 8, 8 * low), key=lambda units: abs(parameters(settings, units) - wanted))
        model = ModelSettings.model_validate({**settings, "layers": layers, "hidden_size": nearest})
        candidates.append(Candidate(describe_network(model), Config(model=model), LETTERS))
    return candidates


def trained(folder: Path) -> Candidate:
    """Return the network of a model folder and what is known of its errors."""
    config = load_config(folder / CONFIG)
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    score = folder / "decode_test_greedy" / "wer.json"
    return Candidate(
        f"{folder.name}: {describe_network(config.model)}",
        config,
        len(load_tokens(folder / TOKENS)),
        min((wer for line in lines if (wer := json.loads(line)["dev_wer"]) is not None), default=None),
        json.loads(score.read_text(encoding="utf-8"))["wer"] if score.is_file() else None,
    )


def synthetic_batch(utterances: int, seconds: float, token_count: int, config: Config) -> Batch:
    """Return noise of 60 to 100 % of the length, with random transcripts of six tokens a second."""
    generator = torch.Generator().manual_seed(0)
    lengths_s = torch.linspace(0.6, 1.0, utterances).mul(seconds).tolist()
    samples = [round(config.features.sample_rate_hz * length_s) for length_s in lengths_s]
    frames = [frame_count(count, config.features) for count in samples]
    ids = [f"noise-{number}" for number in range(utterances)]
    return collate(
        [0.1 * torch.randn(count, generator=generator) for count in samples],
        [torch.randint(1, token_count, (int(6 * s),), generator=generator).tolist() for s in lengths_s],
        ids,
        draw_perturbation(ids, frames, [1.0] * utterances, config, Draw(0, 0)),
    )


def training_step(model: AcousticModel, config: Config, batch: Batch) -> Callable[[], None]:
    """Return a function that does one step."""
    settings: TrainingSettings = config.training
    fabric = make_fabric(settings)
    optimizer = torch.optim.AdamW(parameter_groups(model, settings.weight_decay), lr=1e-4)
    wrapped, optimizer = fabric.setup(model, optimizer)

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(batch_loss(wrapped, batch.to(fabric.device), config).total)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9)  # as training does, but the norms stay what they are
        optimizer.step()
        if fabric.device.type == "cuda":
            torch.cuda.synchronize()

    return step


def take_turns(calls: list[Callable[[], None]], runs: int) -> list[list[float]]:
    """Return the milliseconds of `runs` rounds of the calls, one list a call."""
    times_ms: list[list[float]] = [[] for _ in calls]
    for _ in range(runs):
        for call, times in zip(calls, times_ms, strict=True):
            start = time.perf_counter()
            call()
            times.append(1e3 * (time.perf_counter() - start))
    return times_ms


if __name__ == "__main__":
    main()
