"""A new run times how to compute, keeps it, and is not changed by the timing; a resumed run computes as before."""

import json
import os
import random
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TINY
from safetensors import safe_open
from safetensors.torch import load_file

from asr.model.acoustic import AcousticModel
from asr.model.computation import Comparison, Computation
from asr.model.logmel import LogMel
from asr.settings_file import load_config
from asr.training import run as training_run
from asr.training.engine import NumberFormat
from asr.training.reports import RunStart, StepReport
from asr.training.run import acoustic_trial, choose_computation, noise_batch, possible_ways, time_steps
from asr.training.run_state import RunState, state_from_json, state_to_json
from asr.training.trainer import training_reports

SETTINGS = [*(setting for setting in TINY if "precision" not in setting), "training.epochs=1"]


@pytest.fixture(autouse=True)
def _two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine with two cores whose user has set nothing."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


def found_quickest(monkeypatch: pytest.MonkeyPatch, chosen: Computation) -> list[Sequence[str]]:
    """Let the timing be done, and find `chosen`; return a list that gets the formats of each timing."""
    timings: list[Sequence[str]] = []

    def timed(*arguments: object) -> list[Comparison[Computation]]:
        timings.append(arguments[3])
        return [*time_steps(*arguments), Comparison(chosen, {chosen: 0.05})]

    monkeypatch.setattr(training_run, "time_steps", timed)
    return timings


def run(corpus: Path, out: Path, *overrides: str, resume: bool = False) -> list:
    return list(training_reports(load_config(None, [*SETTINGS, *overrides]), corpus, out, resume=resume))


def begin(corpus: Path, out: Path, *overrides: str) -> RunStart:
    """Begin a run and end it before its first step."""
    reports = training_reports(load_config(None, [*SETTINGS, *overrides]), corpus, out)
    start = next(reports)
    reports.close()
    return start


def state_of(out: Path) -> dict:
    with safe_open(out / "checkpoints" / "last.safetensors", "pt") as file:
        return json.loads(file.metadata()["run"])["state"]


def assert_same_weights(expected: Path, actual: Path) -> None:
    for name in ("model.safetensors", "checkpoints/last.safetensors"):
        wanted, found = load_file(expected / name), load_file(actual / name)
        assert wanted.keys() == found.keys()
        assert [key for key, tensor in wanted.items() if not torch.equal(tensor, found[key])] == []


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_timed_run_makes_the_weights_of_one_that_was_told_how_to_compute(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    timings = found_quickest(monkeypatch, Computation(precision, 1))
    start, *_ = run(tone_corpus, tmp_path / "timed")
    assert timings == [("fp32", "bf16")]
    assert start.computation == Computation(precision, 1)
    assert start.timed_s[-1] == {Computation(precision, 1): 0.05}
    torch.set_num_threads(1)
    start, *_ = run(tone_corpus, tmp_path / "told", f"training.precision={precision}")
    assert (len(timings), start.timed_s) == (1, ())
    assert_same_weights(tmp_path / "told", tmp_path / "timed")


def test_one_thread_chosen_by_timing_makes_the_weights_of_one_that_the_user_asked_for(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recurrent matrices of this size begin otherwise with two threads, because these factorise them otherwise."""
    wide = ("model.hidden_size=160", "training.precision=fp32", "training.max_utterance_s=1.2")
    found_quickest(monkeypatch, Computation("fp32", 1))
    run(tone_corpus, tmp_path / "timed", *wide)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    run(tone_corpus, tmp_path / "asked", *wide)
    assert_same_weights(tmp_path / "asked", tmp_path / "timed")


def test_the_two_formats_make_different_weights(tone_corpus: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    for precision in ("fp32", "bf16"):
        run(tone_corpus, tmp_path / precision, f"training.precision={precision}")
    with pytest.raises(AssertionError):
        assert_same_weights(tmp_path / "fp32", tmp_path / "bf16")


def test_timing_changes_no_weights_no_optimiser_and_no_random_numbers(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def timed(run, *arguments):
        def everything() -> list[bytes]:
            tensors = [*run.model.state_dict().values(), *run.average.model.state_dict().values()]
            states = [torch.get_rng_state(), *tensors]
            return [
                *(tensor.numpy().tobytes() for tensor in states),
                repr((random.getstate(), np.random.get_state(), run.optimizer.state_dict(), run.state)).encode(),
                repr([parameter.grad for parameter in run.model.parameters()]).encode(),
            ]

        before = everything()
        found = time_steps(run, *arguments)
        assert everything() == before
        assert torch.get_num_threads() == 2
        return found

    monkeypatch.setattr(training_run, "time_steps", timed)
    start = begin(tone_corpus, tmp_path)
    assert start.timed_s
    assert all(seconds > 0 for times_s in start.timed_s for seconds in times_s.values())


def test_a_resumed_run_computes_as_before_whatever_is_quicker_now(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found_quickest(monkeypatch, Computation("bf16", 1))
    run(tone_corpus, tmp_path / "whole")
    for report in training_reports(load_config(None, SETTINGS), tone_corpus, tmp_path / "parts"):
        if isinstance(report, StepReport) and report.step == 2:
            os.kill(os.getpid(), signal.SIGTERM)
    assert (state_of(tmp_path / "parts")["precision"], state_of(tmp_path / "parts")["threads"]) == ("bf16", 1)
    timings = found_quickest(monkeypatch, Computation("fp32", 2))
    start, *_ = run(tone_corpus, tmp_path / "parts", resume=True)
    assert isinstance(start, RunStart)
    assert (start.resumed_at_step, start.computation, timings) == (3, Computation("bf16", 1), [])
    assert_same_weights(tmp_path / "whole", tmp_path / "parts")


def test_threads_are_those_chosen_while_the_run_lasts_and_the_caller_s_afterwards(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found_quickest(monkeypatch, Computation("fp32", 1))
    reports = training_reports(load_config(None, SETTINGS), tone_corpus, tmp_path)
    seen = {torch.get_num_threads() for report in reports if isinstance(report, StepReport)}
    assert seen == {1}
    assert torch.get_num_threads() == 2


def test_the_user_s_own_settings_are_not_timed(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timings = found_quickest(monkeypatch, Computation("fp32", 1))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    start = begin(tone_corpus, tmp_path, "training.precision=bf16")
    assert (start.computation, timings) == (Computation("bf16", 2), [])


def test_the_network_hears_the_same_audio_in_both_formats(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: set[torch.dtype] = set()
    forward = LogMel.forward

    def noted(self, waveforms, lengths):
        heard.add(waveforms.dtype)
        return forward(self, waveforms, lengths)

    monkeypatch.setattr(LogMel, "forward", noted)
    run(tone_corpus, tmp_path, "training.precision=bf16")
    assert heard == {torch.float32}


def test_the_timed_batch_is_as_large_as_a_usual_one(tone_corpus: Path) -> None:
    config = load_config(None, [*SETTINGS, "training.batch_s=12"])
    model = AcousticModel(config, 6)
    whole = noise_batch(model, config, 2.0, 1.0, processes=1)
    assert whole.waveforms.shape == (6, 32000)
    assert noise_batch(model, config, 2.0, 1.0, processes=3).waveforms.shape == (2, 32000)
    assert noise_batch(model, config, 2.0, 0.5, processes=1).waveforms.shape == (6, 16000)
    assert noise_batch(model, config, 2.0, 1 / 24, processes=1).waveforms.shape == (1, 8000)
    in_pieces = load_config(None, [*SETTINGS, "training.batch_s=12", "training.micro_batch_s=4"])
    assert noise_batch(model, in_pieces, 2.0, 1.0, processes=1).waveforms.shape == (2, 32000)


def test_a_batch_that_no_corpus_fills_is_timed_as_the_corpus(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timings = found_quickest(monkeypatch, Computation("fp32", 1))
    begin(tone_corpus, tmp_path, "training.batch_s=1.0e+12")  # so much noise would need 64 TB
    assert timings


def test_the_first_of_several_processes_chooses_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_run, "time_steps", lambda *_: pytest.fail("another process times the network"))
    settings = load_config(None, SETTINGS)
    device = torch.device("cpu")
    formats, counts = possible_ways(settings.training, device)
    assert (formats, counts) == (("fp32", "bf16"), (1, 2))
    number_format = NumberFormat("cpu")
    fabric = SimpleNamespace(
        device=device,
        _precision=number_format,
        all_reduce=lambda number, reduce_op: number + 2,  # the first process chose bfloat16 with one thread
    )
    run = SimpleNamespace(first=False, state=RunState(), fabric=fabric)
    assert choose_computation(run, settings, acoustic_trial(settings, 2.0, 1)) == []
    assert (run.state.precision, run.state.threads, number_format.chosen) == ("bf16", 1, "bf16")


@pytest.mark.parametrize("wrong", [{"threads": 0}, {"threads": 10**6}, {"threads": 1.5}, {"precision": "int8"}])
def test_a_checkpoint_with_an_impossible_way_to_compute_is_refused(wrong: dict) -> None:
    values = state_to_json(RunState(precision="fp32", threads=2))
    assert state_from_json(values).threads == 2
    with pytest.raises(ValueError, match=next(iter(wrong))):
        state_from_json(values | wrong)
