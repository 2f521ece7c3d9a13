"""Training a recurrent language model: what it learns, that it resumes exactly, and what it reads in which order."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from asr.errors import ConfigError, LanguageModelError, TrainingError
from asr.features.augment import Draw
from asr.lm.kneser_ney import kneser_ney
from asr.lm.rnnlm import LmUnits, RnnLm
from asr.model.computation import Comparison, Computation
from asr.search_config import RnnLmSettings
from asr.training import lm_trainer
from asr.training.lm_text import LmSentences, LmText
from asr.training.lm_trainer import CarriedLmState, LmRun, _step, lm_training_reports
from asr.training.reports import LmEpoch, LmReport, LmStart, LmStep, RunStopped
from asr.training.run_state import RunState

WORDS = LmUnits("words", ("</s>", "<unk>", "a", "b", "c", "d"))
TINY = RnnLmSettings(
    hidden_size=16, layers=1, dropout=0.1, bptt_units=8, batch=8, epochs=2, learning_rate=1e-2, accelerator="cpu"
)


def chain(sentences: int, seed: int) -> list[list[int]]:
    """Draw from a Markov chain over the units 2 to 5: on to the next with 0.7, over the next, again or end with 0.1."""
    rng = np.random.default_rng(seed)
    result = []
    for _ in range(sentences):
        sentence = [int(rng.integers(4))]
        while (step := rng.choice([1, 2, 0, -1], p=[0.7, 0.1, 0.1, 0.1])) >= 0:
            sentence.append(int(sentence[-1] + step) % 4)
        result.append([unit + 2 for unit in sentence])
    return result


def run(settings: RnnLmSettings, out: Path, train: int = 100, *, resume: bool = False) -> list[LmReport]:
    return list(lm_training_reports(settings, LmSentences(WORDS, chain(train, 1), chain(20, 2)), out, resume=resume))


def test_the_perplexity_approaches_that_of_the_source_and_a_unigrams_is_far_from_it(tmp_path: Path) -> None:
    settings = TINY.model_copy(update={"dropout": 0.0, "bptt_units": 16, "epochs": 4})
    train, dev = chain(800, 1), chain(800, 2)
    *_, last = lm_training_reports(settings, LmSentences(WORDS, train, dev), tmp_path)
    assert isinstance(last, LmEpoch)
    # Each draw has the same entropy; a sentence is a uniform first unit and ten draws on average, the last its end.
    draw = -(0.7 * math.log(0.7) + 3 * 0.1 * math.log(0.1))
    source = math.exp((math.log(4) + 10 * draw) / 11)
    assert source == pytest.approx(2.67, abs=0.01)
    assert last.dev.perplexity == pytest.approx(source, rel=0.05)
    sentences = [[WORDS.symbols[unit] for unit in sentence] for sentence in dev]
    unigram = kneser_ney([[WORDS.symbols[unit] for unit in sentence] for sentence in train], 1).perplexity(sentences)
    assert (unigram.units, unigram.oovs) == (last.dev.units, last.dev.oovs)
    assert unigram.perplexity > 1.5 * last.dev.perplexity
    kept = RnnLm.load(tmp_path / "rnnlm.safetensors")
    best = min(json.loads(line)["dev"]["perplexity"] for line in (tmp_path / "log.jsonl").read_text().splitlines())
    assert kept.perplexity(dev).perplexity == pytest.approx(best)


def without_times(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("train_s", "dev_s")} for line in lines]


def test_a_run_stopped_in_mid_epoch_and_resumed_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = run(TINY, tmp_path / "whole")
    before = signal.getsignal(signal.SIGTERM)
    seen: list[LmReport] = []
    for report in lm_training_reports(TINY, LmSentences(WORDS, chain(100, 1), chain(20, 2)), tmp_path / "parts"):
        seen.append(report)
        if isinstance(report, LmStep) and report.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
    stopped = seen[-1]
    assert isinstance(stopped, RunStopped)
    assert (stopped.signal, stopped.step) == ("SIGTERM", 4)
    assert signal.getsignal(signal.SIGTERM) == before
    start, *rest = run(TINY, tmp_path / "parts", resume=True)
    assert isinstance(start, LmStart)
    assert start.resumed_at_step == 4
    steps = [report for report in whole if isinstance(report, LmStep)]
    assert len(steps) == start.steps
    assert [report for report in rest if isinstance(report, LmStep)] == steps[4:]
    for name in ("rnnlm.safetensors", "checkpoints/last.safetensors"):
        expected, found = load_file(tmp_path / "whole" / name), load_file(tmp_path / "parts" / name)
        assert expected.keys() == found.keys()
        assert all(torch.equal(tensor, found[key]) for key, tensor in expected.items())
    assert without_times(tmp_path / "whole") == without_times(tmp_path / "parts")

    with pytest.raises(TrainingError, match="--resume"):
        run(TINY, tmp_path / "whole")
    with pytest.raises(ConfigError, match=r"rnnlm\.hidden_size was 16, is 32\); choose another --out$"):
        run(TINY.model_copy(update={"hidden_size": 32}), tmp_path / "whole", resume=True)
    with pytest.raises(ConfigError, match=r"text\.sentences was 100, is 99"):
        run(TINY, tmp_path / "whole", 99, resume=True)
    for train, dev in ((list(reversed(chain(100, 1))), chain(20, 2)), (chain(100, 1), list(reversed(chain(20, 2))))):
        with pytest.raises(ConfigError, match=r"text\.(dev_)?checksum was \d+, is \d+"):
            list(lm_training_reports(TINY, LmSentences(WORDS, train, dev), tmp_path / "whole", resume=True))


@pytest.mark.parametrize("quicker", [1, 2])
def test_the_quicker_number_of_threads_is_taken_and_kept_for_the_resumed_run(
    quicker: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lm_trainer, "thread_counts", lambda: (1, 2))
    monkeypatch.setattr(lm_trainer, "given_threads", lambda: None)
    used: list[int] = []

    @contextmanager
    def threads(count: int) -> Iterator[None]:  # two threads on a busy machine take minutes
        used.append(count)
        yield

    monkeypatch.setattr(lm_trainer, "threads", threads)

    def compare(ways: Sequence[Computation], prepare: Callable[..., Any]) -> Comparison[Computation]:
        work = prepare(0.5)
        for way in ways:
            work(way)
        return Comparison(ways[quicker - 1], dict.fromkeys(ways, 0.01) if len(ways) > 1 else {})

    monkeypatch.setattr(lm_trainer, "compare", compare)
    whole = run(TINY, tmp_path / "whole")
    start = whole[0]
    assert isinstance(start, LmStart)
    assert start.computation == Computation("fp32", quicker)
    assert [way.threads for way in start.timed_s] == [1, 2]
    assert used == [1, 1, 2, quicker]  # the start, both ways, the run

    used.clear()
    monkeypatch.setattr(lm_trainer, "compare", lambda ways, _: Comparison(*ways, {}))
    start = run(TINY, tmp_path / "whole", resume=True)[0]
    assert isinstance(start, LmStart)
    assert start.computation == Computation("fp32", quicker)
    assert used == [1, quicker]


def test_timing_steps_changes_nothing_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = run(TINY, tmp_path / "plain")
    monkeypatch.setattr(lm_trainer, "thread_counts", lambda: (1, 1))
    timed = run(TINY, tmp_path / "timed")
    steps = [[report for report in reports if isinstance(report, LmStep)] for reports in (plain, timed)]
    assert steps[0] == steps[1]


def test_streams_hold_each_sentence_once_an_epoch_in_an_order_of_its_own() -> None:
    sentences = [[2 + n] * (n % 3 + 1) for n in range(23)]  # 68 units with their ends, so that none is left over
    text, orders = LmText(sentences), []
    for epoch in (0, 1):
        streams = text.streams(2, 5, Draw(1, epoch))
        assert torch.equal(streams, text.streams(2, 5, Draw(1, epoch)))
        assert streams.shape == (2, 68 // 2 + 1)
        assert streams[0, -1] == streams[1, 0]  # the second goes on where the first ends
        read = [*streams[0, :-1].tolist(), *streams[1].tolist()]
        assert read[0] == read[-1] == 0
        orders.append([list(part) for inside, part in itertools.groupby(read, bool) if inside])
        assert sorted(orders[-1]) == sentences
    assert orders[0] != orders[1]
    assert text.steps(2, 5) == 7  # 34 units in windows of five


def test_a_text_too_short_for_all_streams_has_fewer() -> None:
    assert LmText([[2, 3, 4]]).streams(32, 2, Draw(1, 0)).shape == (2, 3)
    assert LmText([[2]]).streams(32, 64, Draw(1, 0)).tolist() == [[0, 2, 0]]
    assert LmText([[2]]).steps(32, 64) == 1
    with pytest.raises(LanguageModelError, match="no sentence"):
        LmText([])


def make_run(lm: RnnLm, rows: int) -> LmRun:
    optimizer = torch.optim.AdamW(lm.parameters(), lr=0.0)
    return LmRun(lm, CarriedLmState(lm.start(rows)), optimizer, RunState(), {}, Path())


def test_the_state_is_carried_unless_the_window_begins_with_a_sentence() -> None:
    lm = RnnLm(TINY, WORDS).eval()
    window = torch.tensor([[0, 2, 3, 4], [5, 2, 3, 4]])
    ends = []
    for before in (0.0, 1.0):
        run_ = make_run(lm, 2)
        run_.carried.set(tuple(torch.full_like(part, before) for part in run_.carried.get()))
        _step(run_, window, 0.0)
        ends.append([part.clone() for part in run_.carried.get()])
    for zero, one in zip(*ends, strict=True):
        assert torch.equal(zero[:, 0], one[:, 0])
        assert not torch.allclose(zero[:, 1], one[:, 1])
        assert not one.requires_grad


def test_a_gradient_that_is_not_finite_leaves_the_weights_alone_and_stops_the_run_if_it_stays() -> None:
    lm = RnnLm(TINY, WORDS)
    run_ = make_run(lm, 1)
    run_.carried.set(tuple(part + math.nan for part in run_.carried.get()))
    before = lm.embedding.weight.clone()
    report = _step(run_, torch.tensor([[2, 3, 4]]), 1.0)
    assert report.skipped
    assert torch.equal(lm.embedding.weight, before)
    assert not _step(run_, torch.tensor([[2, 3, 4]]), 1e-3).skipped  # the state began anew
    with torch.no_grad():
        lm.embedding.weight.fill_(math.nan)
    for _ in range(4):
        _step(run_, torch.tensor([[2, 3, 4]]), 1.0)
    with pytest.raises(TrainingError, match="lower learning_rate"):
        _step(run_, torch.tensor([[2, 3, 4]]), 1.0)


def test_tokens_take_the_plain_softmax(tmp_path: Path) -> None:
    units = LmUnits("tokens", WORDS.symbols)
    adaptive = TINY.model_copy(update={"softmax": "adaptive"})
    with pytest.raises(ConfigError, match="sorted by frequency"):
        list(lm_training_reports(adaptive, LmSentences(units, [[2]], [[2]]), tmp_path))
