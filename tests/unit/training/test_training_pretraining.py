"""Pretraining on audio without transcripts: it learns, loses nothing, and a recogniser starts from it."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import LEARNS_FAST, TINY
from safetensors.torch import load_file
from training_runs import assert_close, assert_same_run, log_without_times

import asr
from asr.bundle.files import PRETRAINED
from asr.config import TrainingSettings
from asr.corpus.manifest import load_manifest, make_cut, write_manifest
from asr.errors import ConfigError, ModelError, TrainingError
from asr.features.hidden_spans import HiddenSpans
from asr.model.acoustic import AcousticModel
from asr.search_config import PretrainingSettings
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from asr.training import pretrain
from asr.training.pretrain import WITHOUT_EFFECT, pretraining_reports
from asr.training.pretraining_data import PretrainingEpoch, PretrainingStart, PretrainingStep
from asr.training.reports import RunStart, RunStopped
from asr.training.trainer import training_reports
from asr.training.transfer import transfer_weights

TINY_NETWORK = [setting for setting in TINY if setting != "training.batch_s=8"]
SETTINGS = [*TINY_NETWORK, "pretraining.epochs=3", "pretraining.batch_s=8", "pretraining.codebook_size=16"]
ONE_WAY = ["model.bidirectional=false", "features.cmvn=global"]
pytestmark = pytest.mark.usefixtures("one_thread")
KINDS = pytest.mark.parametrize("kind", [[], ONE_WAY], ids=["masked", "autoregressive"])


def run(overrides: list[str], data: Path, out: Path, *, resume: bool = False) -> list[Any]:
    return list(pretraining_reports(load_config(None, overrides), [data], out, resume=resume))


@pytest.fixture(scope="module")
def alternating_sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder whose utterances are two sounds in turn, so that what is hidden can be known from the rest."""
    folder, rng, time_s = tmp_path_factory.mktemp("sounds"), np.random.default_rng(1), np.arange(4000) / 16000
    sounds = [
        sum(10 ** rng.uniform(-2, 0) * np.sin(2 * np.pi * 200 * k * time_s + rng.uniform(0, 6)) for k in range(1, 40))
        for _ in range(4)
    ]
    for split, count in (("train", 40), ("dev", 8)):
        cuts = []
        for number in range(count):
            one, other = rng.choice(4, 2, replace=False)
            waveform = np.roll(np.tile([*sounds[one], *sounds[other]], 4), rng.integers(8000))
            path = folder / f"{split}-{number}.wav"
            soundfile.write(path, 0.05 * waveform + 1e-4 * rng.standard_normal(len(waveform)), 16000)
            cuts.append(make_cut(path.stem, path, "", path.stem))
        write_manifest(cuts, folder / f"{split}.jsonl.gz")
    return folder


@KINDS
def test_the_loss_falls_on_train_and_on_dev(alternating_sounds: Path, tmp_path: Path, kind: list[str]) -> None:
    learning = ["pretraining.epochs=10", "pretraining.batch_s=4", "pretraining.learning_rate=0.01", "model.dropout=0"]
    learning += ["pretraining.mask_ms=80", "training.ema_decay=0"]
    reports = run([*SETTINGS, *kind, *learning], alternating_sounds, tmp_path / "out")
    first, *_, last = (report for report in reports if isinstance(report, PretrainingEpoch))
    assert last.loss < 0.7 * first.loss
    assert last.dev_loss < 0.8 * first.dev_loss
    if kind:
        assert last.dev_accuracy is None
    else:
        assert last.dev_accuracy > 1.5 * first.dev_accuracy > 1.5 / 16


def pretrain_until_killed(data: Path, out: Path, overrides: list[str], kill_at: int, while_evaluating: bool) -> None:
    torch.set_num_threads(1)  # this is another process
    step, score = 0, pretrain.score_pretraining

    def die(*arguments: Any) -> Any:
        if step >= kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return score(*arguments) if arguments else None

    if while_evaluating:
        pretrain.score_pretraining = die
    for report in pretraining_reports(load_config(None, overrides), [data], out, resume=True):
        if isinstance(report, PretrainingStep):
            step = report.step
            if not while_evaluating:
                die()


@KINDS
def test_a_run_killed_again_and_again_ends_as_if_it_had_not_been(
    tone_corpus: Path, tmp_path: Path, kind: list[str]
) -> None:
    overrides = [*SETTINGS, *kind]
    steps = [r for r in run(overrides, tone_corpus, tmp_path / "whole") if isinstance(r, PretrainingStep)]
    kills = sorted(random.Random(5).sample(range(1, len(steps)), 4))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["asr.training.pretrain", "lhotse.dataset"])
    for number, kill_at in enumerate(kills):
        every_s = f"training.checkpoint_every_s={0 if number % 2 else 1e9}"
        arguments = (tone_corpus, tmp_path / "killed", [*overrides, every_s], kill_at, number == 2)
        child = context.Process(target=pretrain_until_killed, args=arguments)
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
    start, *_ = run(overrides, tone_corpus, tmp_path / "killed", resume=True)
    assert start.resumed_at_step > 0
    assert_same_run(tmp_path / "whole", tmp_path / "killed", PRETRAINED)


def test_a_signal_finishes_the_step_and_the_run_is_resumed(tone_corpus: Path, tmp_path: Path) -> None:
    run(SETTINGS, tone_corpus, tmp_path / "whole")
    reports = pretraining_reports(load_config(None, SETTINGS), [tone_corpus], tmp_path / "out")
    steps, last = 0, None
    for last in reports:
        steps += isinstance(last, PretrainingStep)
        if steps == 4 and isinstance(last, PretrainingStep):
            signal.raise_signal(signal.SIGTERM)
    assert isinstance(last, RunStopped)
    assert (last.signal, last.step) == ("SIGTERM", 5)
    with pytest.raises(TrainingError, match="use --resume"):
        run(SETTINGS, tone_corpus, tmp_path / "out")
    run(SETTINGS, tone_corpus, tmp_path / "out", resume=True)
    assert_same_run(tmp_path / "whole", tmp_path / "out", PRETRAINED)


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("training.epochs=2", "asr pretrain takes pretraining.epochs"),
        ("training.hours=0.1", "it is for training with transcripts"),
        ("training.consistency_weight=0", "it is for training with transcripts"),
        ("text.case=upper", "no transcripts are read"),
    ],
)
def test_a_setting_that_pretraining_would_not_heed_is_refused_with_the_one_to_take(
    call: Callable[..., tuple[int, str, str]], tone_corpus: Path, tmp_path: Path, override: str, reason: str
) -> None:
    status, _, err = call("pretrain", tone_corpus, "--out", tmp_path / "out", "--set", override)
    assert status == 1
    assert " ".join(err.split()).endswith(f"--set '{override}': has no effect here: {reason}")
    assert not (tmp_path / "out").exists()


def test_each_setting_of_training_that_pretraining_does_not_refuse_changes_something_there() -> None:
    heeded = set(TrainingSettings.model_fields) - {name.removeprefix("training.") for name in WITHOUT_EFFECT}
    own = set(PretrainingSettings.model_fields) & set(TrainingSettings.model_fields)
    assert not heeded & own
    assert heeded == {
        *("seed", "micro_batch_s", "loading_processes", "max_utterance_s", "warmup_share", "weight_decay", "clip_norm"),
        *("checkpoint_every_s", "ema_decay", "precision", "accelerator", "tracker", "tracker_project"),
    }


@KINDS
def test_two_processes_make_the_weights_of_one(tone_corpus: Path, tmp_path: Path, kind: list[str]) -> None:
    # Without dropout: its draws depend on how the batch is shared out.
    overrides = [*SETTINGS, *kind, "model.dropout=0", "pretraining.learning_rate=1e-3", "pretraining.epochs=2"]
    run(overrides, tone_corpus, tmp_path / "one")
    options = [part for override in [*overrides, "training.micro_batch_s=3"] for part in ("--set", override)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "asr"]
    command += ["pretrain", str(tone_corpus), "--out", str(tmp_path / "two"), *options]
    environment = os.environ | {"COLUMNS": "80", "OMP_NUM_THREADS": "1"}
    child = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert child.returncode == 0, child.stderr[-3000:]
    assert "shared    by 2 processes" in child.stdout
    assert child.stdout.count("epoch   1/2") == 1, "one process speaks"
    assert_close(tmp_path / "one", tmp_path / "two")
    losses = [[line["dev_loss"] for line in log_without_times(tmp_path / name)] for name in ("one", "two")]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_the_spans_of_dev_are_the_same_after_each_epoch_of_each_run(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[HiddenSpans] = []
    draw = pretrain.draw_pretraining_view

    def keep(*arguments: Any) -> HiddenSpans:
        drawn.append(draw(*arguments))
        return drawn[-1]

    for seed in (1, 2):
        monkeypatch.setattr("asr.training.run.training_batches", lambda *_, **__: iter(()))
        monkeypatch.setattr(pretrain, "draw_pretraining_view", keep)
        run([*SETTINGS, f"training.seed={seed}"], tone_corpus, tmp_path / str(seed))
    assert len(drawn) == 6
    assert all(torch.equal(one.masks.times, drawn[0].masks.times) for one in drawn)
    assert all(torch.equal(one.noise, drawn[0].noise) for one in drawn)


def test_transcripts_are_not_looked_at_and_without_a_dev_split_some_utterances_are_kept_apart(
    tone_corpus: Path, tmp_path: Path
) -> None:
    cuts = load_manifest(tone_corpus / "train.jsonl.gz")
    for folder, change in (("with", False), ("without", True)):
        changed = [replace(cut, supervisions=[]) if change else cut for cut in cuts]
        write_manifest(changed, tmp_path / folder / "all.jsonl.gz")
    started = [
        run(SETTINGS, tmp_path / name / "all.jsonl.gz", tmp_path / "out" / name)[0] for name in ("with", "without")
    ]
    assert_same_run(tmp_path / "out" / "with", tmp_path / "out" / "without", PRETRAINED)
    start = started[0]
    assert isinstance(start, PretrainingStart)
    assert start.survey.utterances + start.dev_utterances == len(cuts)
    assert 1 <= start.dev_utterances <= len(cuts) / 10


@pytest.mark.usefixtures("loud_is_speech")
def test_a_folder_of_recordings_is_cut_and_learnt_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, succeed: Callable[..., str]
) -> None:
    monkeypatch.setattr("asr.corpus.untranscribed.cores", lambda: 1)
    rng = np.random.default_rng(4)
    for number in range(3):
        parts = [np.pad(0.4 * rng.standard_normal(24000), (0, 16000)) for _ in range(6)]
        soundfile.write(tmp_path / f"talk {number}.wav", np.concatenate(parts).clip(-1, 1), 16000)
    options = [part for override in [*SETTINGS, "pretraining.epochs=1"] for part in ("--set", override)]
    shown = succeed("pretrain", tmp_path, "--out", tmp_path / "out", *options)
    assert "; 1 utterance of dev\n" in shown
    assert f"asr train --init-from {tmp_path / 'out'} starts from it" in shown
    assert len(load_manifest(tmp_path / "out" / "utterances.jsonl.gz")) == 18
    assert "the run was trained before, 1 epoch\n" in succeed(
        "pretrain", tmp_path, "--out", tmp_path / "out", "--resume", *options
    )


@KINDS
def test_a_recogniser_starts_from_all_layers_but_the_output(tone_corpus: Path, tmp_path: Path, kind: list[str]) -> None:
    overrides = [*SETTINGS, *kind]
    run(overrides, tone_corpus, tmp_path / "pretrained")
    config = load_config(tmp_path / "pretrained" / "config.yaml", [])
    assert config.model_dump(exclude={"text", "decode", "rnnlm"}) == load_config(None, overrides).model_dump(
        exclude={"text", "decode", "rnnlm"}
    )
    start, *_ = training_reports(
        load_config(None, [*overrides, *LEARNS_FAST, "training.epochs=1", "model.subsampling=4"]),
        tone_corpus,
        tmp_path / "model",
        init_from=tmp_path / "pretrained",
    )
    assert isinstance(start, RunStart)
    assert start.transfer is not None
    assert start.transfer.left == dict.fromkeys(
        ("output.weight", "output.bias"), "a pretrained network has no output layer"
    )
    asr.load(tmp_path / "model")

    tokens = TokenTable.from_texts([" abcd"])
    model = AcousticModel(config, len(tokens))
    random_output = model.output.weight.clone()
    transfer_weights(tmp_path / "pretrained", model, tokens, config.features)
    pretrained = load_file(tmp_path / "pretrained" / "pretrained.safetensors")
    assert {*pretrained} == {*start.transfer.taken}
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in pretrained.items())
    assert torch.equal(model.output.weight, random_output)
    if kind:
        assert model.cmvn.mean.any()


def test_a_pretrained_folder_does_not_pass_for_a_recogniser(
    tone_corpus: Path, tmp_path: Path, call: Callable[..., tuple[Any, str, str]]
) -> None:
    out = tmp_path / "pretrained"
    run(SETTINGS, tone_corpus, out)
    with pytest.raises(ModelError, match=r"recognises nothing yet; `asr train --init-from"):
        asr.load(out)
    status, _, err = call("transcribe", out, tone_corpus / "audio" / "test-000.wav")
    assert status == 1
    assert "recognises nothing yet" in " ".join(err.split())


def test_other_settings_other_data_and_other_folders_are_refused(tone_corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(SETTINGS, tone_corpus, out)
    with pytest.raises(ConfigError, match=r"pretraining\.mask_ms was 400, is 200"):
        run([*SETTINGS, "pretraining.mask_ms=200"], tone_corpus, out, resume=True)
    with pytest.raises(ConfigError, match=r"\(pretraining\.epochs was 3, is 4\)"):
        run([*SETTINGS, "pretraining.epochs=4"], tone_corpus, out, resume=True)
    with pytest.raises(ConfigError, match=r"data\.checksum"):
        run(SETTINGS, tone_corpus / "test.jsonl.gz", out, resume=True)
    (same,) = run([*SETTINGS, "training.epochs=9", "training.hours=1"], tone_corpus, out, resume=True)
    assert same.resumed_at_epoch == 3
    (finished,) = run([*SETTINGS, "text.case=upper", "decode.lm_weight=0.1"], tone_corpus, out, resume=True)
    assert finished.resumed_at_epoch == 3
    with pytest.raises(ConfigError, match="cannot resume with other settings"):
        list(training_reports(load_config(None, SETTINGS), tone_corpus, out, resume=True))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("mine")
    with pytest.raises(TrainingError, match=r"README\.md: exists and is not of a pretraining run"):
        run(SETTINGS, tone_corpus, tmp_path / "mine")


def test_utterances_that_are_too_short_or_too_long_are_left_out(tone_corpus: Path, tmp_path: Path) -> None:
    cuts = list(load_manifest(tone_corpus / "train.jsonl.gz"))
    short = cuts[0].truncate(duration=0.1, preserve_id=True)
    write_manifest([short, *cuts[1:]], tmp_path / "data" / "train.jsonl.gz")
    overrides = [*SETTINGS, f"training.max_utterance_s={cuts[1].duration - 0.01}", "pretraining.epochs=1"]
    start, *_ = run(overrides, tmp_path / "data", tmp_path / "out")
    assert start.survey.skipped[cuts[0].id].startswith("too short: 0.1 s")
    assert start.survey.skipped[cuts[1].id].startswith("too long")
    with pytest.raises(TrainingError, match="no utterance to learn from"):
        run([*SETTINGS, "training.max_utterance_s=0.01"], tone_corpus, tmp_path / "none")
