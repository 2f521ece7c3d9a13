"""The search for settings: which candidates come into which round, kills, several processes, how sure the choice is."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import TINY

import asr
from asr.bundle.files import CHECKPOINTS, WEIGHTS
from asr.config import Config
from asr.errors import ConfigError, TrainingError
from asr.settings_file import load_config
from asr.tuning.search_report import Candidate, compare_outcomes
from asr.tuning.trials import Outcome, Plan, Training, Trial

SPEAKERS, WORDS = 8, 100  # of a dev set: each speaker says so many words
RANGES = """
model:
  hidden_size: [64, 128, 256, 512]
  dropout: 0.0 to 0.5
training:
  learning_rate: 0.0001 to 0.1
"""


def outcome(rate: float, seed: int = 0) -> Outcome:
    """Return what a training gives if each speaker has about this share of errors."""
    noise = np.random.default_rng(seed).integers(-2, 3, SPEAKERS)
    errors = np.clip(np.round(WORDS * rate) + noise, 0, WORDS).astype(int)
    total = float(errors.sum() / (SPEAKERS * WORDS))
    return Outcome(total, total / 2, 3 * total, False, errors.tolist(), [WORDS] * SPEAKERS, 50, 60.0)


def rate_of(config: Config) -> float:
    """Return the error rate of a planted landscape: it is lowest at 256 units, dropout 0.3 and a rate of 0.003."""
    distance = abs(math.log2(config.model.hidden_size / 256)) + 4 * abs(config.model.dropout - 0.3)
    distance += abs(math.log10(config.training.learning_rate / 0.003))
    return min(0.85, 0.05 + 0.08 * distance + 0.3 / config.training.epochs)


def train_in_no_time(config: Config, data: Path, folder: Path) -> Outcome | str | None:
    """Write down that a training is done, and return what it gives in the planted landscape."""
    with (folder.parent / "done.txt").open("a", encoding="utf-8") as file:
        file.write(f"{folder.name}\n")
    (folder / CHECKPOINTS).mkdir(parents=True)
    if config.model.hidden_size == 512:
        return "the GPU's memory does not suffice"
    return outcome(rate_of(config), seed=config.training.seed)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for split in ("train", "dev"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{split}.jsonl.gz").write_bytes(b"")
    (tmp_path / "ranges.yaml").write_text(RANGES, encoding="utf-8")
    return tmp_path / "data"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.tuning.search.train_candidate", train_in_no_time)
    monkeypatch.setattr("asr.tuning.search._WAIT_S", 0.01)


def searched(data: Path, name: str = "out", **options: object) -> asr.SearchReport:
    config = load_config(None, ["training.epochs=27"])
    ranges, out = data.parent / "ranges.yaml", data.parent / name
    return asr.search(ranges, data, out, config=config, **{"trials": 12, "seeds": 2} | options)


def trained(folder: Path) -> list[str]:
    return (folder / "done.txt").read_text(encoding="utf-8").split()


@pytest.mark.usefixtures("quick")
def test_the_better_third_of_each_round_and_the_given_settings_come_into_the_next(data: Path) -> None:
    report = searched(data)
    assert report.plan == Plan(12, (3, 9, 27), (1, 2))
    rounds = [sorted({item.candidate for item in report.trials if item.epochs == epochs}) for epochs in (3, 9, 27)]
    assert rounds[0] == list(range(12))
    for before, after, epochs, places in ((rounds[0], rounds[1], 3, 4), (rounds[1], rounds[2], 9, 2)):
        merits = {n: report.trials[Training(n, epochs, 1)].outcome for n in before}
        ranked = sorted((one.rate, n) for n, one in merits.items() if one is not None and n)
        assert after == sorted({0, *(n for _, n in ranked[:places])})
    assert {item.seed for item in report.trials if item.epochs < 27} == {1}
    assert {item.seed for item in report.trials if item.epochs == 27} == {1, 2}


@pytest.mark.usefixtures("quick")
def test_the_best_candidate_is_written_as_settings_that_differ_from_the_given_ones_where_it_does(data: Path) -> None:
    report = searched(data, trials=30)
    assert report.best is not None
    given = next(one for one in report.candidates if one.number == 0)
    assert report.best.rate(27) < given.rate(27)
    assert report.sureness(given).beyond_chance
    written = yaml.safe_load((data.parent / "out" / "best.yaml").read_text(encoding="utf-8"))
    assert written["training"]["epochs"] == 27
    config = load_config(data.parent / "out" / "best.yaml")
    assert config.model.hidden_size == report.best.values["model.hidden_size"] != 512
    found = json.loads((data.parent / "out" / "search.json").read_text(encoding="utf-8"))
    assert (found["finished"], found["best"]) == (True, report.best.number)
    assert found["against_given"]["difference"] == pytest.approx(report.best.rate(27) - given.rate(27))
    assert (data.parent / "out" / "search.png").stat().st_size > 10_000


@pytest.mark.usefixtures("quick")
def test_failed_trainings_are_counted_and_listed_and_come_into_no_further_round(data: Path) -> None:
    report = searched(data, trials=30)
    assert 0 < len(report.failed) < 30
    assert all(one.values["model.hidden_size"] == 512 and len(one.trials) == 1 for one in report.failed)
    assert sum("failed: the GPU's memory" in "\t".join(row) for row in report.rows()) == len(report.failed)


def test_a_search_whose_first_trainings_all_fail_ends_with_the_reason(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.tuning.search.train_candidate", lambda *_: "no space left on device")
    with pytest.raises(TrainingError, match="the first 3 trainings of the search failed: no space left"):
        searched(data)


@pytest.mark.usefixtures("quick")
def test_a_search_that_was_stopped_or_ran_out_of_time_says_so_and_goes_on(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert searched(data, minutes=0).stopped
    assert not (data.parent / "out" / "done.txt").exists()
    calls: list[str] = []

    def stopped_at_the_fourth(config: Config, data: Path, folder: Path) -> Outcome | str | None:
        calls.append(folder.name)
        return None if len(calls) == 4 else train_in_no_time(config, data, folder)

    with monkeypatch.context() as patch:
        patch.setattr("asr.tuning.search.train_candidate", stopped_at_the_fourth)
        report = searched(data)
    assert report.stopped
    assert report.best is None
    assert report.lines() == ["not finished, 3 trainings so far; the same command continues the search"]
    finished = searched(data)
    assert not finished.stopped
    assert finished.rows() == searched(data, "undisturbed").rows()


def killed(data: Path, at: int, before_it_is_noted: bool) -> None:
    """In a process of its own, let the search die without a word: at a training, or when it is done and not noted."""
    calls = 0

    def dying(config: Config, data: Path, folder: Path) -> Outcome | str | None:
        nonlocal calls
        calls += 1
        if calls == at and not before_it_is_noted:
            os._exit(9)
        found = train_in_no_time(config, data, folder)
        if calls == at:
            os._exit(9)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asr.tuning.search.train_candidate", dying)
        searched(data)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("cut_off", [b"", b'{"op_code":4,"wor'], ids=["", "within a line"])
def test_a_search_that_is_killed_again_and_again_ends_with_the_same_table(data: Path, cut_off: bytes) -> None:
    undisturbed = searched(data, "undisturbed")
    kills = 0
    while True:
        process = multiprocessing.get_context("fork").Process(target=killed, args=(data, 1 + kills % 3, kills % 2 == 0))
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        kills += 1
        assert process.exitcode == 9
        with (data.parent / "out" / "journal.log").open("ab") as journal:
            journal.write(cut_off)
        # What a killed training leaves is for `asr train --resume`, which this pretended one knows nothing of.
        for folder in (data.parent / "out").glob(f"*/{CHECKPOINTS}"):
            folder.rmdir()
    assert kills > 5
    assert searched(data).rows() == undisturbed.rows()
    assert not list((data.parent / "out").glob(f"*/{CHECKPOINTS}"))


@pytest.mark.usefixtures("quick")
def test_two_processes_share_a_search_and_no_training_is_done_twice(data: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=searched, args=(data,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    report, done = searched(data), trained(data.parent / "out")
    assert sorted(done) == sorted(item.name for item in report.trials)
    assert not report.stopped


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("options", "named"), [({"trials": 13}, "trials"), ({"seeds": 3}, "seeds")], ids=["trials", "seeds"]
)
def test_another_search_in_the_same_folder_is_refused(data: Path, options: dict[str, int], named: str) -> None:
    searched(data, minutes=0)
    with pytest.raises(ConfigError, match=f"holds a search with other {named}; choose another --out"):
        searched(data, **options)


@pytest.mark.usefixtures("quick")
def test_other_data_in_the_same_folder_are_refused(data: Path) -> None:
    searched(data, minutes=0)
    (data / "dev.jsonl.gz").write_bytes(b"other")
    with pytest.raises(ConfigError, match="holds a search with other data"):
        searched(data)


@pytest.mark.usefixtures("quick")
def test_all_combinations_are_tried_once_where_there_are_few(data: Path) -> None:
    (data.parent / "ranges.yaml").write_text("model:\n  hidden_size: [64, 128]\n  layers: [1, 2, 4]\n")
    report = searched(data, trials=100)
    tried = {(one.values["model.hidden_size"], one.values["model.layers"]) for one in report.candidates}
    assert tried == {(256, 3), *((size, layers) for size in (64, 128) for layers in (1, 2, 4))}
    assert len(report.candidates) == 7


@pytest.mark.parametrize(
    ("count", "epochs", "planned", "most"),
    [
        (16, 90, (10, 30, 90), 16 * 10 + 7 * 30 + 3 * 3 * 90),
        (9, 10, (2, 4, 10), 9 * 2 + 4 * 4 + 2 * 3 * 10),
        (4, 10, (4, 10), 4 * 4 + 3 * 3 * 10),
        (2, 10, (10,), 2 * 3 * 10),
        (16, 1, (1,), 16 * 3),
    ],
)
def test_the_rounds_have_a_ninth_a_third_and_all_epochs(
    count: int, epochs: int, planned: tuple[int, ...], most: int
) -> None:
    plan = Plan.of(count, epochs, (1, 2, 3))
    assert plan.epochs == planned
    assert plan.most_epochs == most


def test_candidates_are_ordered_by_the_rate_then_the_cer_then_the_loss() -> None:
    def with_rates(rate: float, cer: float, loss: float) -> float:
        return Outcome(rate, cer, loss, False, [1], [1], 1, 0).merit

    by_merit = [(0.1, 0.9, 9), (0.9, 0.1, 1), (0.95, 0.3, 9), (1.2, 0.5, 1), (0.95, 0.95, 1), (1.0, 1.0, math.inf)]
    merits = [with_rates(*figures) for figures in by_merit]
    assert merits == sorted(merits)
    assert len(set(merits)) == len(merits)
    assert math.isfinite(merits[-1])


def test_the_margin_holds_the_true_difference_in_95_of_100_searches() -> None:
    """Draw speakers, and what each training makes of them, of two candidates whose true rates are 10 % and 12 %."""
    rng = np.random.default_rng(3)

    def trained_with_seeds(rate: float, hardness: np.ndarray) -> list[Outcome]:
        found = []
        for _ in range(3):
            own = rate * np.exp(rng.normal(0, 0.1))
            errors = rng.binomial(200, np.clip(own * hardness, 0, 1))
            found.append(Outcome(errors.sum() / (200 * len(errors)), 0, 0, False, errors.tolist(), [200] * 12, 100, 0))
        return found

    mean = math.exp(0.1**2 / 2)  # of the trainings' random factor
    held = 0
    for _ in range(400):
        hardness = rng.gamma(4, 1 / 4, 12)
        sure = compare_outcomes(trained_with_seeds(0.10, hardness), trained_with_seeds(0.12, hardness))
        held += abs(sure.difference - (0.10 - 0.12) * mean) <= sure.margin
    assert held / 400 >= 0.93


def test_equal_trainings_do_not_differ_by_more_than_chance_and_one_seed_is_said_to_know_less() -> None:
    one = compare_outcomes([outcome(0.1)], [outcome(0.1)])
    assert (one.difference, one.margin, one.beyond_chance) == (0, 0, False)
    assert (one.sample, one.seeds) == ("8 speakers", 1)


def test_a_candidate_s_rate_is_the_mean_over_seeds() -> None:
    trials = {(9, seed): Trial({}, outcome(rate, seed=1)) for seed, rate in ((1, 0.1), (2, 0.2))}
    one, other = (outcome(rate, seed=1).rate for rate in (0.1, 0.2))
    assert Candidate(3, {}, trials).rate(9) == pytest.approx((one + other) / 2)
    assert Candidate(3, {}, trials).rate(27) is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "names no setting"),
        ("model: {hidden: [1, 2]}", "unknown key"),
        ("model: {hidden_size: [128, 128.5]}", "model.hidden_size"),
        ("model: {hidden_size: [128]}", "two or more different values"),
        ("model: {dropout: [0, 0.0]}", "two or more different values"),
        ("model: {dropout: 0.3}", "neither a list such as"),
        ("model: {dropout: 0.3 to 0.1}", "'0.3 to 0.1': the lower end of the range comes first"),
        ("model: {dropout: a to b}", "neither a list such as"),
        ("model: {dropout: 0.0 to inf}", "neither a list such as"),
        ("model: {dropout: 0.0 to 2}", "model.dropout"),
        ("model: {hidden_size: 64 to 128.5}", "whole numbers"),
        ("model: {rnn: [lstm, grue]}", "model.rnn"),
        ("training: {epochs: [10, 20]}", "the search sets it itself"),
        ("training: {micro_batch_s: [10, 20]}", "changes nothing of what is measured"),
        ("decode: {beam_size: [10, 20]}", "changes nothing of what is measured"),
        ("text: {case: [lower, upper]}", "error rates could not be compared"),
        ("model: [1, 2]", "model"),
    ],
)
def test_ranges_that_cannot_be_searched_are_refused(data: Path, text: str, reason: str) -> None:
    (data.parent / "ranges.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=reason) as error:
        searched(data)
    assert "ranges.yaml" in str(error.value)


def test_the_search_trains_continues_and_tells_what_it_found(
    tone_corpus: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "ranges.yaml").write_text("model:\n  dropout: [0.0, 0.2]\n", encoding="utf-8")
    overrides = [word for item in (*TINY, "training.epochs=1") for word in ("--set", item)]
    where = ["--data", tone_corpus, "--out", tmp_path / "out", "--trials", 2, "--seeds", 1]
    command = ["search", tmp_path / "ranges.yaml", *where, *overrides]
    status, out, err = call(*command)
    assert status == 0, err
    assert (tmp_path / "out" / "000-1epochs-seed1" / WEIGHTS).is_file()
    found = json.loads((tmp_path / "out" / "search.json").read_text(encoding="utf-8"))
    assert {one["values"]["model.dropout"] for one in found["candidates"]} == {0.0, 0.2}
    assert "best.yaml" in out
    again = call(*command)
    assert again[0] == 0
    assert again[1] in out  # no training was done again, and the result is the same


@pytest.mark.usefixtures("quick")
def test_no_difference_is_written_without_a_sign(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asr.tuning.search.train_candidate", lambda *_: outcome(0.2))
    lines = searched(data, trials=2, seeds=1).lines()  # of equal candidates the given one is the best
    assert lines[2] == "these are the settings that were given: the search found none that are better"
    assert lines[4].startswith("0.00 ± 0.00 % fewer: no more than chance (95 %, over 8 speakers of dev, without")
