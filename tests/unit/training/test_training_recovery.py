"""A run that is killed, told to stop, or finds its disk full loses nothing."""

import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import TINY
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from training_runs import assert_same_run

from asr.corpus.manifest import read_manifest, write_manifest
from asr.errors import ConfigError, ModelError, TrainingError
from asr.features.conditions import recordings_in
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from asr.training import checkpoint, trainer
from asr.training.checkpoint import find_checkpoint
from asr.training.dev_score import DevScore
from asr.training.reports import EpochReport, RunStart, RunStopped, StepReport
from asr.training.run import start_run
from asr.training.trainer import training_reports

pytestmark = pytest.mark.usefixtures("one_thread")
SETTINGS = [*TINY, "training.epochs=3", "model.layers=2"]


def run(overrides: list[str], corpus: Path, out: Path, *, resume: bool = False) -> list:
    return list(training_reports(load_config(None, overrides), corpus, out, resume=resume))


def train_until_killed(corpus: Path, out: Path, overrides: list[str], kill_at: int, how: str) -> None:
    """Resume the run and die of SIGKILL at a step or soon after it.

    "writing": while the next checkpoint is half written; "renaming": when the last one has become the previous one and
    there is no other; "evaluating": at the end of the epoch, when dev was evaluated and nothing is written.
    """
    torch.set_num_threads(1)  # this is another process
    step = 0
    whole_file, replace_file, evaluate = checkpoint.save_file, checkpoint.replace_file, trainer.score_dev

    def die(moment: str) -> None:
        if how == moment and step >= kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def half_a_file(tensors: dict, path: Path, metadata: dict) -> None:
        whole_file(tensors, path, metadata=metadata)
        if how == "writing" and step >= kill_at:
            os.truncate(path, os.path.getsize(path) // 2)
            die("writing")

    def renamed(source: Path, target: Path) -> None:
        replace_file(source, target)
        die("renaming")

    def evaluated(*arguments: Any) -> DevScore:
        errors = evaluate(*arguments)
        die("evaluating")
        return errors

    checkpoint.save_file, trainer.score_dev = half_a_file, evaluated
    checkpoint.replace_file = renamed
    for report in training_reports(load_config(None, overrides), corpus, out, resume=True):
        if isinstance(report, StepReport):
            step = report.step
            die("stepping")


def test_a_run_killed_at_ten_random_steps_ends_as_if_it_had_not_been(tone_corpus: Path, tmp_path: Path) -> None:
    steps = [r for r in run(SETTINGS, tone_corpus, tmp_path / "whole") if isinstance(r, StepReport)]
    choice = random.Random(5)
    kills = sorted(choice.sample(range(1, len(steps)), 10))
    context = multiprocessing.get_context("forkserver")  # a fresh process each time that need not import everything
    context.set_forkserver_preload(["asr.training.trainer", "torch.utils.tensorboard", "lhotse.dataset"])
    for number, kill_at in enumerate(kills):
        how = ("stepping", "writing", "stepping", "renaming", "evaluating")[number % 5]
        # Some checkpoints lie right before the kill, some many steps back.
        every_s = 0 if how in ("writing", "renaming") else choice.choice([0, 1e9])
        overrides = [*SETTINGS, f"training.checkpoint_every_s={every_s}"]
        child = context.Process(
            target=train_until_killed, args=(tone_corpus, tmp_path / "killed", overrides, kill_at, how)
        )
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
    reports = run(SETTINGS, tone_corpus, tmp_path / "killed", resume=True)
    assert reports[0].resumed_at_step > 0
    assert_same_run(tmp_path / "whole", tmp_path / "killed")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_writes_a_checkpoint_and_leaves_with_status_75(
    tone_corpus: Path, tmp_path: Path, number: int
) -> None:
    out = tmp_path / "out"
    options = [part for override in SETTINGS for part in ("--set", override)]
    command = [sys.executable, "-m", "asr", "train", "--data", str(tone_corpus), "--out", str(out), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "80"})
    assert process.stdout is not None
    shown = list(itertools.takewhile(lambda line: not line.startswith("epoch"), process.stdout))
    process.send_signal(number)
    rest = process.communicate(timeout=300)[0]
    assert process.returncode == 75, (shown, rest)
    assert f"stopped   by {signal.Signals(number).name}" in rest
    assert find_checkpoint(out / "checkpoints") == (out / "checkpoints" / "last.safetensors", None)


def test_a_stopped_run_goes_on_in_the_middle_of_the_epoch(tone_corpus: Path, tmp_path: Path) -> None:
    run(SETTINGS, tone_corpus, tmp_path / "whole")
    before = signal.getsignal(signal.SIGTERM)
    seen = []
    for report in training_reports(load_config(None, SETTINGS), tone_corpus, tmp_path / "parts"):
        seen.append(report)
        if isinstance(report, StepReport) and report.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)
    assert isinstance(seen[-1], RunStopped)
    assert (seen[-1].signal, seen[-1].step) == ("SIGTERM", 6)
    assert signal.getsignal(signal.SIGTERM) == before
    start, *rest = run(SETTINGS, tone_corpus, tmp_path / "parts", resume=True)
    assert (start.resumed_at_epoch, start.resumed_at_step) == (0, 6)
    assert rest[0].step == 7
    assert_same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_truncated_checkpoint_is_told_and_the_one_before_it_used(tone_corpus: Path, tmp_path: Path) -> None:
    run(SETTINGS, tone_corpus, tmp_path / "whole")
    run(SETTINGS, tone_corpus, tmp_path / "cut")
    last = tmp_path / "cut" / "checkpoints" / "last.safetensors"
    last.write_bytes(last.read_bytes()[:5000])
    start, *_ = reports = run(SETTINGS, tone_corpus, tmp_path / "cut", resume=True)
    assert isinstance(start, RunStart)
    assert "last.safetensors: not a readable checkpoint" in str(start.damaged_checkpoint)
    assert [report.epoch for report in reports if isinstance(report, EpochReport)] == [2]
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_damaged_checkpoint_never_replaces_the_one_before_it(tone_corpus: Path, tmp_path: Path) -> None:
    run(SETTINGS, tone_corpus, tmp_path)
    last, previous = (tmp_path / "checkpoints" / f"{name}.safetensors" for name in ("last", "previous"))
    last.write_bytes(last.read_bytes()[:5000])
    before = previous.read_bytes()
    for report in training_reports(load_config(None, SETTINGS), tone_corpus, tmp_path, resume=True):
        if isinstance(report, StepReport):
            os.kill(os.getpid(), signal.SIGTERM)  # the next step is the last: its checkpoint replaces the damaged one
    assert previous.read_bytes() == before
    assert find_checkpoint(last.parent) == (last, None)


def test_without_a_readable_checkpoint_the_run_is_not_silently_started_anew(tone_corpus: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    for name in ("last.safetensors", "previous.safetensors"):
        (folder / name).write_bytes(b"no checkpoint")
    with pytest.raises(
        ModelError, match=r"last\.safetensors.*previous\.safetensors.*remove .*(?<!checkpoints) to start anew"
    ):
        run(SETTINGS, tone_corpus, tmp_path, resume=True)


FULL_DISK = """
import resource, sys
from pathlib import Path
import torch
from asr.settings_file import load_config
from asr.errors import AsrError
from asr.training.reports import StepReport
from asr.training.run import start_run
from asr.training.trainer import training_reports

torch.set_num_threads(1)
corpus, out, *overrides = sys.argv[1:]
try:
    for report in training_reports(load_config(None, overrides), Path(corpus), Path(out), resume=True):
        if isinstance(report, StepReport) and report.step == 3:  # from now on no file can grow beyond 20 kB
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
except AsrError as error:
    print(error)
    sys.exit(9)
"""


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX's")
def test_a_full_disk_is_a_clear_error_and_leaves_the_checkpoint_before_it(tone_corpus: Path, tmp_path: Path) -> None:
    whole, full = tmp_path / "whole", tmp_path / "full"
    settings = [*SETTINGS, "training.checkpoint_every_s=0"]
    run(SETTINGS, tone_corpus, whole)
    child = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tone_corpus), str(full), *settings], capture_output=True, text=True
    )
    assert child.returncode == 9, child.stderr
    assert "last.safetensors: cannot write the checkpoint" in child.stdout
    assert "--resume" in child.stdout
    assert not list((full / "checkpoints").glob(".*")), "no half-written file stays behind"
    start, *_ = run(settings, tone_corpus, full, resume=True)
    assert (start.resumed_at_step, start.damaged_checkpoint) == (2, None)
    assert_same_run(whole, full)


@pytest.mark.skipif(os.name != "posix", reason="file size limits are POSIX's")
def test_a_disk_that_is_full_when_the_model_is_written_is_a_clear_error(tone_corpus: Path, tmp_path: Path) -> None:
    settings = [*SETTINGS, "training.checkpoint_every_s=1e9"]
    command = [sys.executable, "-c", FULL_DISK, str(tone_corpus), str(tmp_path), *settings]
    child = subprocess.run(command, capture_output=True, text=True)
    assert child.returncode == 9, child.stderr
    assert "model.safetensors: cannot write the weights" in child.stdout
    assert not (tmp_path / "model.safetensors").exists()


def test_a_run_whose_first_checkpoint_finds_the_disk_full_can_be_resumed_as_it_is_told(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(tensors: dict, path: Path, metadata: dict) -> None:
        raise OSError(28, "No space left on device")

    whole, out = tmp_path / "whole", tmp_path / "out"
    run(SETTINGS, tone_corpus, whole)
    with monkeypatch.context() as patched:
        patched.setattr("asr.training.checkpoint.save_file", full)
        with pytest.raises(TrainingError, match=r"No space left .*there is none before it, .*--resume"):
            run(SETTINGS, tone_corpus, out)
    assert (out / "model.safetensors").exists(), "the model of the first epoch is written before the checkpoint"
    start, *_ = run(SETTINGS, tone_corpus, out, resume=True)
    assert start.resumed_at_step == 0
    assert_same_run(whole, out)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_log_that_cannot_be_written_is_a_clear_error(tone_corpus: Path, tmp_path: Path) -> None:
    steps = training_reports(load_config(None, SETTINGS), tone_corpus, tmp_path)
    next(steps)
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    with pytest.raises(TrainingError, match=r"log\.jsonl: cannot write the log \(No space left .*--resume"):
        list(steps)


def test_a_folder_that_cannot_be_written_is_a_clear_error(tone_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "checkpoints").write_text("a file where the folder should be")
    with pytest.raises(TrainingError, match=r"out/checkpoints: cannot write there \(File exists\)"):
        run([*SETTINGS, "training.checkpoint_every_s=0"], tone_corpus, tmp_path / "out")


def test_half_a_line_in_the_log_does_not_keep_a_run_from_going_on(tone_corpus: Path, tmp_path: Path) -> None:
    run(SETTINGS, tone_corpus, tmp_path / "whole")
    config = load_config(None, [*SETTINGS, "training.checkpoint_every_s=0"])
    steps = training_reports(config, tone_corpus, tmp_path / "torn")
    while not isinstance(next(steps), EpochReport):
        pass
    list(itertools.islice(steps, 3))
    steps.close()
    log = tmp_path / "torn" / "log.jsonl"
    (line,) = log.read_text().splitlines()
    # Cut off within a letter of two bytes.
    log.write_bytes(f"{line}\n{line.replace('0', '1', 1)[:30]}ö".encode()[:-1])
    run(SETTINGS, tone_corpus, tmp_path / "torn", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "torn")


def test_a_run_begun_before_a_setting_existed_goes_on_with_its_default(tone_corpus: Path, tmp_path: Path) -> None:
    run([*SETTINGS, "training.epochs=1"], tone_corpus, tmp_path)
    path = tmp_path / "checkpoints" / "last.safetensors"
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["run"])
    del header["facts"]["settings"]["augment"]["reverb_share"], header["facts"]["settings"]["data"]
    save_file(load_file(path), path, metadata={"run": json.dumps(header)})
    (start, *_) = run([*SETTINGS, "training.epochs=1"], tone_corpus, tmp_path, resume=True)
    assert start.resumed_at_epoch == 1
    with pytest.raises(ConfigError, match=r"augment\.reverb_share was 0, is 0\.5"):
        run([*SETTINGS, "training.epochs=1", "augment.reverb_share=0.5"], tone_corpus, tmp_path, resume=True)


def test_a_checkpoint_in_another_format_is_told_with_the_way_out(tone_corpus: Path, tmp_path: Path) -> None:
    run([*SETTINGS, "training.epochs=1"], tone_corpus, tmp_path)
    path = tmp_path / "checkpoints" / "last.safetensors"
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["run"])
    del header["version"]  # as the first version wrote it
    save_file(load_file(path), path, metadata={"run": json.dumps(header)})
    with pytest.raises(
        ModelError, match=r"last\.safetensors: .*its format has the number 1, .*; remove .* to start anew"
    ):
        run([*SETTINGS, "training.epochs=1"], tone_corpus, tmp_path, resume=True)


def test_a_run_is_not_resumed_with_other_data(tone_corpus: Path, tmp_path: Path) -> None:
    run([*SETTINGS, "training.epochs=1"], tone_corpus, tmp_path / "out")
    shutil.copytree(tone_corpus, tmp_path / "more")
    cuts = list(read_manifest(tone_corpus / "train.jsonl.gz"))
    write_manifest([*cuts[1:], cuts[0].with_id("other"), cuts[0]], tmp_path / "more" / "train.jsonl.gz")
    with pytest.raises(ConfigError, match=r"data\.utterances was 96, is 97; data\.audio_s"):
        run([*SETTINGS, "training.epochs=1"], tmp_path / "more", tmp_path / "out", resume=True)
    write_manifest(reversed(cuts), tmp_path / "more" / "train.jsonl.gz")
    with pytest.raises(ConfigError, match=r"data\.checksum was \d+, is \d+"):
        run([*SETTINGS, "training.epochs=1"], tmp_path / "more", tmp_path / "out", resume=True)


def test_a_run_is_not_resumed_with_other_transcripts_of_dev(tone_corpus: Path, tmp_path: Path) -> None:
    run([*SETTINGS, "training.epochs=1"], tone_corpus, tmp_path / "out")
    shutil.copytree(tone_corpus, tmp_path / "more")
    cuts = list(read_manifest(tone_corpus / "dev.jsonl.gz"))
    cuts[3].supervisions[0].text += " ab"
    write_manifest(cuts, tmp_path / "more" / "dev.jsonl.gz")
    with pytest.raises(ConfigError, match=r"data\.dev_checksum was \d+, is \d+ \(ids, lengths or transcripts of dev\)"):
        run([*SETTINGS, "training.epochs=1"], tmp_path / "more", tmp_path / "out", resume=True)


def test_a_run_is_not_resumed_with_other_noise(tone_corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.wav", "b.wav"):
        soundfile.write(tmp_path / "noise" / name, 0.1 * rng.standard_normal(16000), 16000)
    settings = [*SETTINGS, "training.epochs=1", "augment.noise_share=1", f"augment.noise_dir={tmp_path / 'noise'}"]
    run(settings, tone_corpus, tmp_path / "out")
    recordings_in.cache_clear()  # it is another process that resumes
    run(settings, tone_corpus, tmp_path / "out", resume=True)
    shutil.copy(tmp_path / "noise" / "a.wav", tmp_path / "noise" / "c.wav")
    recordings_in.cache_clear()
    with pytest.raises(ConfigError, match=r"data\.noise_checksum was \d+, is \d+"):
        run(settings, tone_corpus, tmp_path / "out", resume=True)


def test_processes_that_found_different_checkpoints_do_not_train_together(tmp_path: Path) -> None:
    config = load_config(None, SETTINGS)
    tokens = TokenTable.from_texts(["ab"])
    fabric = SimpleNamespace(
        device=torch.device("cpu"),
        setup=lambda model, optimizer: (model, optimizer),
        all_gather=lambda place: torch.stack([place, place + torch.tensor([7, 0, 7])]),
    )
    with pytest.raises(TrainingError, match="must be a folder that all machines share"):
        start_run(fabric, config, tokens, {}, AcousticModel(config, len(tokens)), tmp_path, None)
