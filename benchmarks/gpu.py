"""What one GPU does, in ten minutes: the tests, agreement with the CPU, speed, memory, and the time it waits.

    python benchmarks/gpu.py                          one card; prints as it goes, so a cut run is of use too
    python benchmarks/gpu.py --device cpu --short     the same path on the CPU in about a minute

It needs the package only. It makes its own audio; where the speech engine of the quickstart is installed, it trains on
the quickstart's data. Each section has a time of its own and stops when that is over:

tests        `pytest -m gpu`, where pytest is installed
agreement    losses and gradients of the device against those of the CPU in float32, each cell and the Conformer
search       greedy and beam search of the same log-posteriors on both; their time
step         steps of `asr train` on a 5 × 512 bidirectional LSTM, 60 utterances of up to 15 s, two views: time, audio a
             second, peak memory, how busy the device is, how often the host waits for it, and the share of the step in
             which no kernel runs
loading      the audio that is loaded and perturbed in a second, by one process and by all: what the loop gets at most
quickstart   some epochs of `asr train`, loading and evaluation included

The exit status is 1 if a test fails or a figure is out of tolerance, or if there is no such device.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from architectures import synthetic_batch
from gpu_corpus import corpus
from gpu_time import kernel_share, utilisation, wait, waits_of

from asr.config import Config
from asr.corpus.manifest import read_manifest
from asr.decoding.beam import BeamOptions, beam_search
from asr.decoding.greedy import greedy_search
from asr.errors import AsrError
from asr.features.batch import Batch
from asr.features.batching import Share, StepBatch, training_batches
from asr.machine import choose_accelerator, processor_name
from asr.model.acoustic import AcousticModel, on_cpu
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from asr.training.engine import loading_processes, make_fabric
from asr.training.loop import Requests
from asr.training.reports import EpochReport
from asr.training.run import acoustic_trial, choose_computation, start_run
from asr.training.step import batch_loss
from asr.training.trainer import AcousticTraining, training_reports

TOKENS = TokenTable.from_texts([" 'abcdefghijklmnopqrstuvwxyz"])
# Greatest relative difference of a loss, and of the gradient of a part of the network, to float32 on the CPU. On a GPU
# float32 includes TF32 in convolutions and recurrences, which keeps 10 bits of a factor; bfloat16 keeps 8.
TOLERANCES = {"fp32": (1e-3, 2e-2), "bf16": (2e-2, 3e-1)}


@dataclass(frozen=True)
class Size:
    """How much is done; `seconds` are the budgets of the sections."""

    layers: int
    units: int
    utterances: int
    utterance_s: float
    steps: int
    frames: int
    corpus: dict[str, int]
    epochs: int
    seconds: dict[str, float]


FULL = Size(
    layers=5,
    units=512,
    utterances=60,
    utterance_s=15.0,
    steps=40,
    frames=150,
    corpus={"train": 1500, "dev": 60, "test": 10},
    epochs=4,
    seconds={"tests": 150, "agreement": 60, "search": 40, "step": 110, "loading": 20, "quickstart": 150},
)
SHORT = Size(
    layers=2,
    units=24,
    utterances=3,
    utterance_s=1.5,
    steps=2,
    frames=12,
    corpus={"train": 12, "dev": 3, "test": 3},
    epochs=1,
    seconds={"tests": 5, "agreement": 20, "search": 5, "step": 15, "loading": 5, "quickstart": 15},
)


class Clock:
    """The time of a section."""

    def __init__(self, budget_s: float) -> None:
        self._ends_at = time.perf_counter() + budget_s

    @property
    def left_s(self) -> float:
        return max(0.0, self._ends_at - time.perf_counter())


@dataclass
class Bench:
    """A run of this script: where, how much, and what has failed so far."""

    device: str
    size: Size
    short: bool
    folder: Path
    failed: list[str]

    @property
    def on_gpu(self) -> bool:
        return self.device == "cuda"

    @cached_property
    def data(self) -> Path:
        """The folder of manifests to train on."""
        return corpus(self.folder / "data", self.size.corpus, speech=not self.short)

    def config(self, *settings: str, layers: int | None = None, units: int | None = None) -> Config:
        """Return settings of a network of this run's size on its device."""
        size = [f"model.layers={layers or self.size.layers}", f"model.hidden_size={units or self.size.units}"]
        return load_config(None, [*size, f"training.accelerator={self.device}", *settings])

    def check(self, passes: bool, what: str) -> str:
        """Return a word for a verdict, and keep what failed."""
        if not passes:
            self.failed.append(what)
        return "ok" if passes else "NOT OK"


def say(text: str) -> None:
    print(text, flush=True)


# ---- tests


def tests(bench: Bench, clock: Clock) -> None:
    if not bench.on_gpu or importlib.util.find_spec("pytest") is None:
        say("not run: " + ("pytest is not installed" if bench.on_gpu else "they need a GPU"))
        return
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "tests/unit"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=clock.left_s)
    except subprocess.TimeoutExpired as late:
        say((late.stdout or b"").decode(errors="replace")[-2000:])
        say(f"out of time: {bench.check(False, 'tests')}")
        return
    say(done.stdout[-4000:] + done.stderr[-1000:])
    say(bench.check(done.returncode == 0, "tests"))


# ---- agreement

NETWORKS = {
    "bidirectional LSTM": ["model.rnn=lstm"],
    "bidirectional GRU": ["model.rnn=gru"],
    "LSTM in one direction, windows": ["model.bidirectional=false", "training.bptt_frames=20"],
    "Conformer": ["model.encoder=conformer"],
}


def agreement(bench: Bench, clock: Clock) -> None:
    for name, settings in NETWORKS.items():
        config = bench.config("model.dropout=0", *settings, layers=2, units=64)
        batch = synthetic_batch(4, min(bench.size.utterance_s, 4.0), len(TOKENS), config)
        expected = losses_and_gradients(config, batch, "cpu", "fp32")
        for precision, (of_loss, of_gradient) in TOLERANCES.items():
            found = losses_and_gradients(config, batch, bench.device, precision)
            loss, gradient = differences(found, expected)
            verdict = bench.check(loss <= of_loss and gradient <= of_gradient, f"agreement of {name} in {precision}")
            say(
                f"{name:32} {precision}   loss off by {loss:.1e} (at most {of_loss:g}), "
                f"gradients by {gradient:.1e} ({of_gradient:g})   {verdict}"
            )
        if not clock.left_s:
            return


def losses_and_gradients(config: Config, batch: Batch, device: str, precision: str) -> dict[str, torch.Tensor]:
    """Return the loss as `loss`, and the gradient of each parameter by name, on the CPU."""
    torch.manual_seed(0)
    model = AcousticModel(config, len(TOKENS)).train().to(device)
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
        loss = batch_loss(model, batch.to(torch.device(device)), config).total
    loss.backward()  # type: ignore[no-untyped-call]
    named = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    return {name: tensor.detach().cpu() for name, tensor in ({"loss": loss} | named).items()}


def differences(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> tuple[float, float]:
    """Return the relative difference of the loss, and the greatest of a gradient.

    A gradient is divided by its norm, or by a hundredth of the greatest norm if it is smaller.
    """
    norms = {name: float(tensor.norm()) for name, tensor in expected.items()}
    least = 1e-2 * max(norm for name, norm in norms.items() if name != "loss")
    off = {name: float((found[name] - expected[name]).norm()) / max(norms[name], least) for name in expected}
    return float(abs(found["loss"] / expected["loss"] - 1)), max(off[name] for name in off if name != "loss")


# ---- search


def search(bench: Bench, clock: Clock) -> None:
    generator = torch.Generator().manual_seed(0)
    shape = (bench.size.utterances, bench.size.frames, len(TOKENS))
    log_posteriors = torch.randn(shape, generator=generator).mul(4).log_softmax(-1)
    lengths = torch.full(shape[:1], bench.size.frames)
    searches: dict[str, Callable[..., Any]] = {
        "greedy": lambda *given: greedy_search(*on_cpu(*given)),
        "beam 16": lambda *given: beam_search(*on_cpu(*given), BeamOptions(16, token_floor=1e-3)),
    }
    for name, find in searches.items():
        texts, times_s = {}, {}
        for device in dict.fromkeys(["cpu", bench.device]):
            given = log_posteriors.to(device), lengths.to(device)
            find(*given)  # warms up
            began = time.perf_counter()
            texts[device] = [getattr(best, "tokens", None) or best[0].tokens for best in find(*given)]
            times_s[device] = time.perf_counter() - began
        same = bench.check(texts["cpu"] == texts[bench.device], f"{name} search")
        shown = ", ".join(f"{1e3 * seconds:.1f} ms on {device}" for device, seconds in times_s.items())
        say(f"{name:8} {shape[0]} × {shape[1]} frames: {shown}   same texts: {same}")
        if not clock.left_s:
            return


# ---- step


def step(bench: Bench, clock: Clock) -> None:
    for precision in ("bf16", "fp32"):
        config = bench.config("training.consistency_weight=0.2", f"training.precision={precision}")
        with tempfile.TemporaryDirectory() as out:
            measure_steps(bench, config, Path(out), clock.left_s / (2 if precision == "bf16" else 1))
        if bench.on_gpu:
            torch.cuda.empty_cache()


def measure_steps(bench: Bench, config: Config, out: Path, budget_s: float) -> None:
    """Take steps as training does, and print what they cost."""
    clock = Clock(budget_s)
    take, audio_s = step_taker(bench, config, out)
    for _ in range(3):  # kernels are chosen, memory is taken
        take()
    if bench.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    times_s: list[float] = []
    with utilisation(bench.on_gpu) as busy:
        while len(times_s) < bench.size.steps and (clock.left_s > 0.3 * budget_s or len(times_s) < 2):
            wait(bench.on_gpu)
            began = time.perf_counter()
            take()
            wait(bench.on_gpu)
            times_s.append(time.perf_counter() - began)
    median_s = statistics.median(times_s)
    say(
        f"{config.training.precision}: {1e3 * median_s:.1f} ms a step of {audio_s:.0f} s (median of {len(times_s)}, "
        f"{1e3 * min(times_s):.1f} to {1e3 * max(times_s):.1f}): {audio_s / median_s / 3600:.3f} audio-hours a second"
    )
    if bench.on_gpu:
        peak = torch.cuda.max_memory_allocated() / 2**30
        reserved = torch.cuda.max_memory_reserved() / 2**30
        say(f"      memory: {peak:.2f} GiB at most, {reserved:.2f} GiB reserved; device busy {busy()}")
        say(f"      the host waits {waits_of(take)} times a step; its own transfer is one, the others are torch's")
    say(f"      {kernel_share(take, on_gpu=bench.on_gpu)}")


def step_taker(bench: Bench, config: Config, out: Path) -> tuple[Callable[[], None], float]:
    """Return a function that takes one step of training on generated audio, and the seconds of audio in it."""
    torch.manual_seed(1)
    fabric = make_fabric(config.training)
    run = start_run(fabric, config, TOKENS, {}, AcousticModel(config, len(TOKENS)), out, None)
    choose_computation(run, config, acoustic_trial(config, bench.size.utterance_s, fabric.world_size))
    run.model.train()
    survey: Any = SimpleNamespace(survey=SimpleNamespace(utterances=10**6))
    training = AcousticTraining(run, config, survey, out)
    batch = synthetic_batch(bench.size.utterances, bench.size.utterance_s, len(TOKENS), config)
    audio_s = float(batch.lengths.sum()) / config.features.sample_rate_hz
    one = StepBatch([batch], False, int(batch.token_lengths.sum()), batch.ids, audio_s)
    step_batch = one.pinned() if bench.on_gpu else one
    requests = Requests(1e9)

    def take() -> None:
        training.take_step(step_batch, requests)
        run.state.step += 1

    return take, audio_s


# ---- loading and training of a corpus


def loading(bench: Bench, clock: Clock) -> None:
    config, cuts = bench.config(), list(read_manifest(bench.data / "train.jsonl.gz"))
    most = loading_processes(None if bench.on_gpu else 1, bench.device)
    budget_s = clock.left_s / 2
    for loaders in dict.fromkeys([0, most]):
        part = Clock(budget_s)
        audio_s, began = 0.0, time.perf_counter()
        for batch in training_batches(cuts, TOKENS, config, epoch=0, share=Share(loaders=loaders)):
            audio_s += batch.audio_s
            if not part.left_s:
                break
        seconds = time.perf_counter() - began
        rate = audio_s / seconds
        say(
            f"{loaders} processes beside this one: {audio_s:.0f} s of audio in {seconds:.1f} s, {rate:.0f} s a second "
            f"or {rate / 3600:.3f} audio-hours"
        )


def quickstart(bench: Bench, clock: Clock) -> None:
    settings = [f"training.accelerator={bench.device}", f"training.epochs={bench.size.epochs}"]
    settings += ["model.layers=1", "model.hidden_size=16"] if bench.short else []
    config = load_config(Path("conf/quickstart.yaml"), settings)
    with tempfile.TemporaryDirectory() as out, utilisation(bench.on_gpu) as busy:
        for report in training_reports(config, bench.data, Path(out)):
            if isinstance(report, EpochReport):
                wer = 100 * report.dev.rate if report.dev else float("nan")
                rate = report.audio_s / report.train_s
                say(
                    f"epoch {report.epoch}: loss {report.loss:.3f}, dev WER {wer:.1f} %, {report.train_s:.1f} s of "
                    f"training ({rate:.0f} s of audio a second), {report.dev_s:.1f} s on dev"
                )
                bench.check(report.loss < float("inf"), "the quickstart's loss")
            if not clock.left_s:
                say("out of time")
                break
        if bench.on_gpu:
            say(f"device busy {busy()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--short", action="store_true", help="small sizes, to see that everything runs")
    arguments = parser.parse_args()
    try:
        device = choose_accelerator(arguments.device)
    except AsrError as error:
        raise SystemExit(f"no measurement: {error}") from None
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(device, SHORT if arguments.short else FULL, arguments.short, Path(folder), [])
        say(describe(device))
        for section in (agreement, step, search, loading, quickstart, tests):
            say(f"\n== {section.__name__}")
            began = time.perf_counter()
            section(bench, Clock(bench.size.seconds[section.__name__]))
            say(f"({time.perf_counter() - began:.1f} s)")
    if bench.failed:
        raise SystemExit(f"\nNOT OK: {'; '.join(bench.failed)}")
    say("\nall ok")


def describe(device: str) -> str:
    """Return one line on the device, the processor and torch."""
    where = processor_name()
    if device == "cuda":
        card = torch.cuda.get_device_properties(0)
        where = f"{card.name}, {card.total_memory / 2**30:.0f} GiB, CUDA {torch.version.cuda}, cuDNN " + (
            f"{torch.backends.cudnn.version()}; {where}"
        )
    return f"{where}; torch {torch.__version__}, Python {sys.version.split()[0]}"


if __name__ == "__main__":
    main()
