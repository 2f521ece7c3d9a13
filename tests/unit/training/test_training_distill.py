"""`asr.distill`: what a student learns from, and that a distillation that is killed is lost in nothing."""

import json
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import LEARNS_FAST, TINY, tone_speech
from safetensors.torch import load_file

import asr
from asr.bundle.bundle import ModelBundle
from asr.config import Config
from asr.corpus.manifest import read_manifest
from asr.errors import ConfigError, ModelError
from asr.features.augment import Draw, draw_perturbation
from asr.features.batch import Batch, collate, frame_count
from asr.features.batching import training_batches
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from asr.training.distill import DistillTeachers
from asr.training.reports import StepReport
from asr.training.step import batch_loss

SETTINGS = [*TINY, "training.epochs=2", "model.layers=2", "training.checkpoint_every_s=0"]


def write_teacher(folder: Path, seed: int, *overrides: str, letters: str = " abcd") -> Path:
    """Write a network that was never trained, but is surer than chance."""
    torch.manual_seed(seed)
    config, tokens = load_config(None, [*SETTINGS, *overrides]), TokenTable.from_texts([letters])
    model = AcousticModel(config, len(tokens))
    with torch.no_grad():
        model.output.weight *= 5
    ModelBundle(config, tokens, model).save(folder)
    return folder


@pytest.fixture
def teachers(tmp_path: Path) -> list[Path]:
    return [write_teacher(tmp_path / "a", 1), write_teacher(tmp_path / "b", 2, "model.rnn=gru", "model.hidden_size=16")]


def distilled(teachers: list[Path], corpus: Path, out: Path, *overrides: str, resume: bool = False) -> list[StepReport]:
    steps: list[Any] = []
    config = load_config(None, [*SETTINGS, *overrides])
    asr.distill(teachers, corpus, out, config=config, resume=resume, on_report=steps.append)
    return [report for report in steps if isinstance(report, StepReport)]


def batch_of(config: Config, *texts: str, tempo: float = 1.0) -> Batch:
    rng = np.random.default_rng(3)
    waveforms = [torch.from_numpy(tone_speech(text, rng)) for text in texts]
    frames = [frame_count(len(waveform), config.features) for waveform in waveforms]
    perturbation = draw_perturbation(texts, frames, [tempo] * len(texts), config, Draw(1, 0))
    return collate(waveforms, [[1]] * len(texts), list(texts), perturbation)


def test_the_teachers_posteriors_are_the_mean_of_what_each_hears_without_masks(teachers: list[Path]) -> None:
    config = load_config(None, SETTINGS)
    batch = batch_of(config, "ab cd", "a", "dd cc")
    taught = DistillTeachers.load(teachers)
    alone = [bundle.model(batch.waveforms, batch.lengths)[0].exp() for bundle in taught.bundles]
    torch.testing.assert_close(taught.log_posteriors(batch).exp(), (alone[0] + alone[1]) / 2)


@pytest.mark.parametrize("tempo", [1.0, 1.1, 0.9])
def test_an_utterance_is_taught_alike_alone_and_in_a_batch_at_any_tempo(teachers: list[Path], tempo: float) -> None:
    config = load_config(None, SETTINGS)
    batch, taught = batch_of(config, "ab cd", "a", "dd cc ab", tempo=tempo), DistillTeachers.load(teachers)
    model = AcousticModel(config, 6).eval()
    assert batch.perturbation is not None
    _, lengths = model(batch.waveforms, batch.lengths, batch.perturbation.apply)
    together = taught.log_posteriors(batch)
    for row in range(3):
        one = taught.log_posteriors(batch.only(row))[0]
        assert len(one) == lengths[row]
        torch.testing.assert_close(together[row, : len(one)], one, atol=1e-4, rtol=0)


def test_the_loss_has_the_weighted_divergence_of_each_view_from_the_teachers(teachers: list[Path]) -> None:
    config = load_config(None, [*SETTINGS, "model.dropout=0", "training.teacher_weight=0.7"])
    batch, model = batch_of(config, "ab cd", "a"), AcousticModel(config, 6)
    teacher = DistillTeachers.load(teachers).log_posteriors(batch)
    assert batch.perturbation is not None
    views, lengths = model(batch.waveforms, batch.lengths, batch.perturbation.apply)
    by_hand = 0.0
    for view, length, target in zip(views, lengths.tolist(), [*teacher, *teacher], strict=True):
        p, q = target[:length].double().exp(), view[:length].detach().double().exp()
        by_hand += float((p * (p.log() - q.log())).sum()) / 2
    plain, taught = batch_loss(model, batch, config), batch_loss(model, batch, config, teacher=teacher)
    assert taught.teacher.item() == pytest.approx(by_hand / 2, rel=1e-4)  # two tokens
    assert plain.teacher.item() == 0
    share = 1 - config.training.intermediate_weight
    assert (taught.total - plain.total).item() == pytest.approx(share * 0.7 * by_hand / 2, rel=1e-4)


def test_without_weight_the_teachers_change_nothing(teachers: list[Path], tone_corpus: Path, tmp_path: Path) -> None:
    steps = distilled(teachers, tone_corpus, tmp_path / "distilled", "training.teacher_weight=0")
    asr.train(load_config(None, SETTINGS), tone_corpus, tmp_path / "trained")
    assert all(step.teacher > 0 for step in steps)
    found, wanted = (load_file(tmp_path / name / "model.safetensors") for name in ("distilled", "trained"))
    assert all(torch.equal(tensor, found[name]) for name, tensor in wanted.items())


def test_the_teachers_hear_untranscribed_utterances_too_and_without_weight_change_nothing(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.training.pseudo_labels.MOST_ERRORS", 9.0)  # a small network's labels are used all the same
    teachers = [write_teacher(tmp_path / "a", 1, *LEARNS_FAST)]
    heard: set[str] = set()
    log_posteriors = DistillTeachers.log_posteriors

    def listened(self: DistillTeachers, batch: Batch) -> torch.Tensor:
        heard.update(batch.ids)
        return log_posteriors(self, batch)

    monkeypatch.setattr(DistillTeachers, "log_posteriors", listened)
    fast = [*LEARNS_FAST, "training.epochs=3", "training.teacher_weight=0", "training.unlabelled_after=0"]
    config = load_config(None, [*SETTINGS, *fast])
    other = {"unlabelled": tone_corpus / "test.jsonl.gz"}
    asr.distill(teachers, tone_corpus, tmp_path / "distilled", config=config, **other)
    asr.train(config, tone_corpus, tmp_path / "trained", **other)
    found, wanted = (load_file(tmp_path / name / "model.safetensors") for name in ("distilled", "trained"))
    assert all(torch.equal(tensor, found[name]) for name, tensor in wanted.items())
    assert heard & {cut.id for cut in read_manifest(tone_corpus / "test.jsonl.gz")}


def test_the_student_comes_nearer_to_its_teachers(teachers: list[Path], tone_corpus: Path, tmp_path: Path) -> None:
    settings = ["training.teacher_weight=20", "training.learning_rate=0.01", "training.epochs=4", "model.dropout=0"]
    steps = distilled(teachers, tone_corpus, tmp_path / "out", *settings)
    assert np.mean([step.teacher for step in steps[-5:]]) < 0.5 * np.mean([step.teacher for step in steps[:5]])
    assert json.loads((tmp_path / "out/training.json").read_text())["teachers"] == [str(path) for path in teachers]
    assert f"learnt the posteriors of `{teachers[0]}`, `{teachers[1]}`." in (tmp_path / "out/README.md").read_text()
    assert asr.load(tmp_path / "out", accelerator="cpu").decoder.bundle.config.model.hidden_size == 32


def distil_until_killed(teachers: list[Path], corpus: Path, out: Path, kill_at: int) -> None:
    torch.set_num_threads(1)

    def on_report(report: object) -> None:
        if isinstance(report, StepReport) and report.step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    asr.distill(teachers, corpus, out, config=load_config(None, SETTINGS), resume=True, on_report=on_report)


def test_a_distillation_that_is_killed_ends_as_if_it_had_not_been(
    teachers: list[Path], tone_corpus: Path, tmp_path: Path
) -> None:
    whole = distilled(teachers, tone_corpus, tmp_path / "whole")
    context = multiprocessing.get_context("spawn")
    for kill_at in (3, len(whole) - 2):
        arguments = (teachers, tone_corpus, tmp_path / "killed", kill_at)
        child = context.Process(target=distil_until_killed, args=arguments)
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
    rest = distilled(teachers, tone_corpus, tmp_path / "killed", resume=True)
    assert 0 < len(rest) < len(whole)
    assert [step.loss for step in rest] == [step.loss for step in whole[-len(rest) :]]
    for name in ("model.safetensors", "checkpoints/last.safetensors"):
        wanted, found = load_file(tmp_path / "whole" / name), load_file(tmp_path / "killed" / name)
        assert wanted.keys() == found.keys()
        assert all(torch.equal(tensor, found[key]) for key, tensor in wanted.items())


def test_a_run_is_resumed_with_the_same_teachers_only(teachers: list[Path], tone_corpus: Path, tmp_path: Path) -> None:
    distilled(teachers, tone_corpus, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"data.teachers was .*weights of the teachers"):
        distilled(teachers[:1], tone_corpus, tmp_path / "out", resume=True)
    with pytest.raises(ConfigError, match=r"data.teachers was"):
        asr.train(load_config(None, SETTINGS), tone_corpus, tmp_path / "out", resume=True)


@pytest.mark.parametrize(
    ("overrides", "letters", "message"),
    [
        (["model.subsampling=2"], " abcd", r"bad: model.subsampling is 2, that of the network to be trained 4"),
        (["features.hop_ms=8"], " abcd", r"bad: features.hop_ms is 8.0, .* 10.0; .*--config .*bad/config.yaml"),
        (["features.cmvn=speaker"], " abcd", r"bad: features.cmvn is 'speaker', that of .* 'utterance'"),
        ([], " abcde", r"bad: its 7 tokens are not the 6 of the transcripts of train"),
    ],
)
def test_teachers_of_other_frames_or_tokens_are_refused_by_name(
    tone_corpus: Path, tmp_path: Path, overrides: list[str], letters: str, message: str
) -> None:
    bad = write_teacher(tmp_path / "bad", 3, *overrides, letters=letters)
    with pytest.raises(ModelError, match=message):
        distilled([write_teacher(tmp_path / "good", 4), bad], tone_corpus, tmp_path / "out")
    with pytest.raises(ModelError, match="no model folder is given to learn from"):
        asr.distill([], tone_corpus, tmp_path / "out")
    assert not (tmp_path / "out" / "model.safetensors").exists()


@pytest.mark.parametrize("packed", [False, True])
def test_the_command_takes_the_first_models_settings(
    teachers: list[Path], tone_corpus: Path, tmp_path: Path, succeed: Any, packed: bool
) -> None:
    out = tmp_path / "out"
    if packed:
        teachers = [asr.pack_model(folder, tmp_path / f"{folder.name}.asr").path for folder in teachers]
    options = ["--set", "training.epochs=1", "--set", "training.teacher_weight=0.3", "--accelerator", "cpu"]
    shown = succeed("distill", *teachers, "--data", tone_corpus, "--out", out, *options)
    assert "epoch   1/1" in shown
    config = asr.load_config(out / "config.yaml")
    assert (config.model.hidden_size, config.model.layers, config.training.teacher_weight) == (32, 2, 0.3)


def test_pieces_of_a_step_add_up_to_the_whole(teachers: list[Path], tone_corpus: Path) -> None:
    config, tokens = load_config(None, [*SETTINGS, "model.dropout=0"]), TokenTable.from_texts([" abcd"])
    model, taught = AcousticModel(config, len(tokens)), DistillTeachers.load(teachers)
    found = []
    for most_s in ("null", "4"):
        settings = load_config(None, [*SETTINGS, "model.dropout=0", f"training.micro_batch_s={most_s}"])
        cuts = read_manifest(tone_corpus / "train.jsonl.gz")
        step, *_ = training_batches(cuts, tokens, settings, epoch=0)
        losses = [
            batch_loss(model, piece, config, token_count=step.token_count, teacher=taught.log_posteriors(piece))
            for piece in step.pieces
        ]
        found.append(sum(loss.teacher.item() for loss in losses))
    assert found[0] == pytest.approx(found[1], rel=1e-4)
