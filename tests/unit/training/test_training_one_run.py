"""Two training runs never write into one folder at the same time, and a run that died keeps nobody out."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import TINY

from asr.errors import ManifestError, TrainingError
from asr.lm.rnnlm import LmUnits
from asr.search_config import RnnLmSettings
from asr.settings_file import load_config
from asr.training.lm_text import LmSentences
from asr.training.lm_trainer import lm_training_reports
from asr.training.trainer import training_reports

SETTINGS = [*TINY, "training.epochs=1"]
SENTENCES = [[2, 3], [3, 2, 2]] * 8
LM_SETTINGS = RnnLmSettings(hidden_size=4, layers=1, bptt_units=4, batch=2, epochs=1, accelerator="cpu")

# Trains two steps, says so, and waits.
ACOUSTIC = """
import itertools, sys
from pathlib import Path
from asr.settings_file import load_config
from asr.training.trainer import training_reports
reports = training_reports(load_config(None, sys.argv[3:]), Path(sys.argv[1]), Path(sys.argv[2]))
print(len(list(itertools.islice(reports, 3))), flush=True)
sys.stdin.read()
"""
LANGUAGE_MODEL = """
import itertools, sys
from pathlib import Path
from asr.search_config import RnnLmSettings
from asr.lm.rnnlm import LmUnits
from asr.training.lm_text import LmSentences
from asr.training.lm_trainer import lm_training_reports
settings = RnnLmSettings(hidden_size=4, layers=1, bptt_units=4, batch=2, epochs=1, accelerator="cpu")
sentences = [[2, 3], [3, 2, 2]] * 8
units = LmUnits("words", ("</s>", "<unk>", "a", "b"))
reports = lm_training_reports(settings, LmSentences(units, sentences, sentences), Path(sys.argv[2]))
print(len(list(itertools.islice(reports, 3))), flush=True)
sys.stdin.read()
"""


@contextmanager
def at_work(script: str, corpus: Path, out: Path) -> Iterator[subprocess.Popen[str]]:
    """Let another process train in `out`; it waits in the middle of an epoch."""
    command = [sys.executable, "-c", script, str(corpus), str(out), *SETTINGS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "3\n"
            yield process
        finally:
            process.kill()


def acoustic(corpus: Path, out: Path, resume: bool) -> list:
    return list(training_reports(load_config(None, SETTINGS), corpus, out, resume=resume))


def language_model(corpus: Path, out: Path, resume: bool) -> list:
    units = LmUnits("words", ("</s>", "<unk>", "a", "b"))
    return list(lm_training_reports(LM_SETTINGS, LmSentences(units, SENTENCES, SENTENCES), out, resume=resume))


@pytest.mark.parametrize(("script", "run"), [(ACOUSTIC, acoustic), (LANGUAGE_MODEL, language_model)])
def test_a_folder_in_which_a_run_is_at_work_is_refused_until_that_run_is_dead(
    tone_corpus: Path, tmp_path: Path, script: str, run: Callable[[Path, Path, bool], list]
) -> None:
    with at_work(script, tone_corpus, tmp_path) as other:
        for resume in (False, True):
            with pytest.raises(TrainingError, match=rf"{tmp_path}: another training run is at work there"):
                run(tone_corpus, tmp_path, resume)
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert run(tone_corpus, tmp_path, True)
    with pytest.raises(TrainingError, match="holds a training run already"):
        run(tone_corpus, tmp_path, False)


def test_all_processes_of_a_run_are_refused_together(tone_corpus: Path, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "asr"]
    options = [part for override in SETTINGS for part in ("--set", override)]
    command = [*launch, "train", "--data", str(tone_corpus), "--out", str(tmp_path), "--resume", *options]
    with at_work(ACOUSTIC, tone_corpus, tmp_path):
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        child = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert child.returncode != 0
    assert "another training run is at work there" in child.stderr
    assert not (tmp_path / "model.safetensors").exists()


def test_a_run_that_ended_with_an_error_keeps_nobody_out(tone_corpus: Path, tmp_path: Path) -> None:
    steps = training_reports(load_config(None, SETTINGS), tone_corpus, tmp_path)
    next(steps)
    with pytest.raises(ZeroDivisionError):
        steps.throw(ZeroDivisionError())
    assert acoustic(tone_corpus, tmp_path, False)


def test_a_run_that_is_refused_leaves_nothing_behind(tone_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for out in (tmp_path / "new" / "out", tmp_path / "data"):
        with pytest.raises(ManifestError, match="no such manifest"):
            acoustic(tmp_path / "data", out, resume=False)
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "data"]


@pytest.mark.parametrize("name", ["README.md", "config.yaml", "log.jsonl"])
def test_files_that_no_run_wrote_are_not_replaced(tone_corpus: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("of somebody")
    with pytest.raises(TrainingError, match=rf"{name}: exists and is not of a training run.*choose another --out"):
        acoustic(tone_corpus, tmp_path, resume=False)
    assert (tmp_path / name).read_text() == "of somebody"
    assert list(tmp_path.iterdir()) == [tmp_path / name]
