"""Files shared out to workers that die: each done once, whatever dies when, and a run that is killed goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path

import mortal_workers
import numpy as np
import pytest
import soundfile
from conftest import TINY, tone_speech
from hypothesis import given
from hypothesis import strategies as st

from asr.bulk.journal import hold
from asr.bulk.transcriber import Options, load_transcriber
from asr.bulk.workers import (
    ATTEMPTS,
    FAILED_STARTS,
    Died,
    Done,
    Ready,
    in_order,
    in_processes,
    one_by_one,
    share_out,
)
from asr.bundle.bundle import ModelBundle
from asr.errors import AsrError, AudioError, ModelError
from asr.inference.decoder import Search
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from asr.transcript.transcript import Transcript

WORDS = (Transcript("words", (), 1.0, 1.0),)


class Simulation:
    """Workers of which chance decides what happens to whom; it counts who was alive, and at what files they died."""

    def __init__(self, draw) -> None:
        self.draw, self.numbers = draw, count()
        self.starting: set[int] = set()
        self.idle: set[int] = set()
        self.at_work: dict[int, Path] = {}
        self.most_alive = self.failed_starts = 0
        self.deaths: Counter[Path] = Counter()

    def start(self) -> int:
        worker = next(self.numbers)
        self.starting.add(worker)
        self.most_alive = max(self.most_alive, len(self.starting) + len(self.idle) + len(self.at_work))
        return worker

    def give(self, worker: int, path: Path) -> None:
        self.idle.remove(worker)
        self.at_work[worker] = path

    def wait(self) -> list[Ready | Done | Died]:
        moving = sorted(self.starting | self.at_work.keys())
        assert moving, "nobody is left for whom one could wait"
        worker = self.draw(st.sampled_from(moving + sorted(self.idle)))
        dies = worker in self.idle or self.draw(st.integers(0, 3)) == 0
        if dies:
            if worker in self.at_work:
                self.deaths[self.at_work.pop(worker)] += 1
            self.failed_starts += worker in self.starting
            self.starting.discard(worker)
            self.idle.discard(worker)
            return [Died(worker, "by chance")]
        self.idle.add(worker)
        if worker in self.starting:
            self.starting.remove(worker)
            self.failed_starts = 0
            return [Ready(worker)]
        del self.at_work[worker]
        return [Done(worker, WORDS)]


@given(st.data(), st.integers(0, 12), st.integers(1, 4))
def test_whoever_dies_each_file_has_one_result_and_fails_only_if_two_died_of_it(data, files, most) -> None:
    paths = [Path(f"{index}.wav") for index in range(files)]
    workers = Simulation(data.draw)
    results, end = [], ""
    try:
        for path, result in share_out(workers, paths, most):
            results.append(path)
            assert isinstance(result, AudioError) == (workers.deaths[path] == ATTEMPTS)
    except AsrError as error:
        end = str(error)
    if end:
        assert workers.failed_starts >= FAILED_STARTS
        assert f"{workers.failed_starts} workers in a row died while they loaded the model (by chance)" in end
        assert not workers.at_work
        assert len(set(results)) == len(results) < files
    else:
        assert sorted(results) == sorted(paths)
    assert max(workers.deaths.values(), default=0) <= ATTEMPTS
    assert workers.most_alive <= most


@given(st.permutations(range(8)))
def test_results_that_come_in_any_order_are_put_into_that_of_the_files(order) -> None:
    paths = [Path(str(index)) for index in range(8)]
    assert list(in_order(paths, [(paths[index], WORDS) for index in order])) == [(path, WORDS) for path in paths]


def make_files(folder: Path, names: list[str]) -> list[Path]:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / f"{name}.wav").write_text(f"text of {name}", encoding="utf-8")
    return [folder / f"{name}.wav" for name in names]


@pytest.mark.skipif(os.name != "posix", reason="kills by signals")
def test_a_file_whose_process_was_killed_is_given_to_another_and_after_two_deaths_listed(tmp_path) -> None:
    paths = make_files(tmp_path, ["a", "deadly", "b", "unlucky", "bad", "c", "d"])
    results = list(in_processes(mortal_workers.load, paths, 2))
    assert sorted(path for path, _ in results) == sorted(paths)
    texts = {path.stem: str(result) if isinstance(result, AudioError) else result[0].text for path, result in results}
    assert texts == {name: f"text of {name}" for name in ("a", "b", "c", "d", "unlucky")} | {
        "bad": f"{tmp_path / 'bad.wav'}: truncated",
        "deadly": f"{tmp_path / 'deadly.wav'}: the process at work on it died 2 times "
        "(killed by SIGKILL, perhaps because memory ran out)",
    }


def test_a_model_that_does_not_load_ends_the_run_with_its_reason(tmp_path) -> None:
    paths = make_files(tmp_path, ["a", "senseless"])
    with pytest.raises(ModelError, match=r"^not a model folder$"):
        list(in_processes(mortal_workers.load_nothing, paths, 2))
    with pytest.raises(ModelError, match=r"^no file will do$"):
        list(in_processes(mortal_workers.load, paths, 1))
    with pytest.raises(AsrError, match=r"3 workers in a row died .* \(ended with exit status 7\); fewer --jobs"):
        list(in_processes(mortal_workers.load_and_die, paths, 1))


def test_a_process_that_loads_a_model_returns_what_this_one_transcribes(rng, tmp_path: Path) -> None:
    config = load_config(None, TINY)
    tokens = TokenTable.from_texts(["abcd "])
    ModelBundle(config, tokens, AcousticModel(config, len(tokens))).save(tmp_path / "model")
    paths = [tmp_path / f"{index}.wav" for index in range(4)]
    for path in paths[:3]:
        speech = tone_speech("ab cd", rng)
        soundfile.write(path, np.stack([speech, -speech[::-1]], axis=1), 16000)
    paths[3].write_bytes(b"no audio")
    load = partial(load_transcriber, [tmp_path / "model"], "cpu", Options(Search(), channels="separate"), threads=1)
    alone = dict(one_by_one(load, paths))
    shared = dict(in_processes(load, paths, 1))
    assert [str(shared[path]) for path in paths] == [str(alone[path]) for path in paths]
    assert isinstance(alone[paths[3]], AudioError)
    assert all([one.channel for one in alone[path]] == [0, 1] for path in paths[:3])
    assert any(one.words for path in paths[:3] for one in alone[path]), "nothing to compare"


def wait_until(holds: Callable[[], bool], within_s: float = 30.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.005)


def all_ended(run: int) -> bool:
    """Whether no process of a process group lives."""
    found = subprocess.run(["ps", "-o", "stat=", "-g", str(run)], capture_output=True, text=True)
    return all(state.startswith("Z") for state in found.stdout.split())


@pytest.mark.skipif(os.name != "posix", reason="kills by signals")
def test_a_run_that_is_killed_four_times_writes_what_an_undisturbed_one_does(tmp_path) -> None:
    names = [f"{index:03d}" for index in range(80)]
    paths = make_files(tmp_path / "in", names)
    command = [sys.executable, mortal_workers.__file__, tmp_path / "in", tmp_path / "out", "2"]
    chance = np.random.default_rng(5)
    for kill in range(4):
        run = subprocess.Popen(command, start_new_session=True)
        done = len(list((tmp_path / "out").glob("*.txt")))
        while len(list((tmp_path / "out").glob("*.txt"))) < done + 5 and run.poll() is None:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.02))
        if kill % 2:
            os.killpg(run.pid, signal.SIGKILL)
        else:
            run.kill()
        assert run.wait() == -signal.SIGKILL, "it was done before it was killed"
        wait_until(partial(all_ended, run.pid))
    assert subprocess.run(command).returncode == 0
    found = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "out").glob("[!.]*")}
    assert found == {f"{path.stem}.txt": f"text of {path.stem}\n" for path in paths}


@pytest.mark.skipif(os.name != "posix", reason="kills by signals")
def test_a_run_keeps_others_out_of_its_folder_until_it_is_killed_and_its_workers_end_with_it(tmp_path) -> None:
    make_files(tmp_path / "in", ["endless"])
    out = tmp_path / "out"
    run = subprocess.Popen([sys.executable, mortal_workers.__file__, tmp_path / "in", out, "1"], start_new_session=True)
    wait_until((tmp_path / "in" / "endless.seen").exists)
    with pytest.raises(AsrError, match=r"out: another asr transcribe is at work there; wait .*"), hold([out]):
        pytest.fail("two runs at once")
    with hold([tmp_path / "elsewhere"]):
        pass
    run.kill()
    assert run.wait() == -signal.SIGKILL
    with hold([out]):
        pass
    wait_until(partial(all_ended, run.pid))
