"""Training on untranscribed utterances too: their labels, what they count, and a run that is killed."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import LEARNS_FAST, TINY, tone_speech
from lightning_fabric import Fabric
from safetensors.torch import load_file

import asr
from asr.config import Config
from asr.corpus.manifest import cut_text, read_manifest, write_manifest
from asr.features.batching import StepBatch, training_batches
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import TokenTable, min_frames
from asr.training import pseudo_labels
from asr.training.engine import make_fabric
from asr.training.pseudo_labels import MOST_ERRORS, PseudoLabelling, label_batch, read_untranscribed
from asr.training.reports import EpochReport, StepReport
from asr.training.run_state import RunState
from asr.training.step import batch_loss, compute_gradient
from asr.training.trainer import training_reports

# Two views, masks, speeds, dropout: all that draws numbers.
NETWORK = [*TINY, "model.layers=2", "model.subsampling=2"]
pytestmark = pytest.mark.usefixtures("one_thread")
SETTINGS = [*NETWORK, "training.epochs=3", "training.batch_s=12", "training.unlabelled_after=0.3"]
TABLE = TokenTable.from_texts(["abcd "])


@pytest.fixture(autouse=True)
def _whatever_it_recognises(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small networks of few steps hardly recognise anything, and their labels are used all the same."""
    monkeypatch.setattr("asr.training.pseudo_labels.MOST_ERRORS", 9.0)


@pytest.fixture(scope="module")
def few(tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a quarter of the tone corpus, and `untranscribed.jsonl.gz` with the rest, whose texts lie."""
    folder = tmp_path_factory.mktemp("few")
    cuts = list(read_manifest(tone_corpus / "train.jsonl.gz"))
    write_manifest(cuts[:24], folder / "train.jsonl.gz")
    write_manifest(list(read_manifest(tone_corpus / "dev.jsonl.gz")), folder / "dev.jsonl.gz")
    write_manifest([with_text(cut, "zzz") for cut in cuts[24:]], folder / "untranscribed.jsonl.gz")
    return folder


@pytest.fixture(scope="module")
def seed(tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that recognises some words."""
    out = tmp_path_factory.mktemp("seed") / "model"
    asr.train(load_config(None, [*NETWORK, *LEARNS_FAST, "training.epochs=5"]), tone_corpus, out)
    return out


def with_text(cut: Any, text: str) -> Any:
    cut = type(cut).from_dict(cut.to_dict())
    cut.supervisions = [replace(cut.supervisions[0], text=text)]
    return cut


def run(overrides: list[str], data: Path, out: Path, other: str = "untranscribed.jsonl.gz", **options: Any) -> list:
    return list(training_reports(load_config(None, overrides), data, out, unlabelled=data / other, **options))


def labelling(config: Config, data: Path, out: Path) -> tuple[Fabric, PseudoLabelling]:
    fabric = make_fabric(config.training)
    return fabric, PseudoLabelling(
        read_untranscribed(fabric, config, data / "untranscribed.jsonl.gz", out, keep=False), config
    )


def loaded(config: Config, data: Path) -> Any:
    """Return what `training_batches` gives of the untranscribed utterances."""
    return list(training_batches(read_manifest(data / "untranscribed.jsonl.gz"), None, config, epoch=0))


class Recites:
    """Stands for the averaged network: it recognises in each utterance what it is told to, by its number of samples."""

    def __init__(self, heard: dict[int, str]) -> None:
        self.heard = heard

    def __call__(self, waveforms: torch.Tensor, lengths: torch.Tensor, moments: None) -> tuple[Any, Any]:
        frames = waveforms.shape[1] // 320
        posteriors = torch.full((len(lengths), frames, len(TABLE)), -9.0)
        posteriors[:, :, 0] = -1.0
        for row, samples in enumerate(lengths.tolist()):
            text = self.heard[samples]
            every = 1 if len(text) == min_frames(text) else 2  # equal neighbours need a blank between them
            for place, token in enumerate(TABLE.encode(text)):
                posteriors[row, every * place, token] = 0.0
        return posteriors, lengths // 320


def test_what_the_average_recognises_becomes_the_transcript_and_nothing_is_learnt_from_nothing(few: Path) -> None:
    config = load_config(None, [*SETTINGS, "augment.speeds=[1]", "augment.tempos=[1]", "model.subsampling=2"])
    piece = loaded(config, few)[0].pieces[0]
    assert len(piece.ids) > 4
    texts = ["ab cd", "", "d", *["bb"] * (len(piece.ids) - 3)]
    heard = Recites(dict(zip(piece.lengths.tolist(), texts, strict=True)))
    found = label_batch(make_fabric(config.training), heard, piece, config)  # type: ignore[arg-type]
    assert found is not None
    kept = [0, 2, *range(3, len(texts))]  # the second is empty
    assert found.ids == [piece.ids[row] for row in kept]
    spelled = [row[:count].tolist() for row, count in zip(found.tokens, found.token_lengths, strict=True)]
    assert [TABLE.decode(tokens) for tokens in spelled] == [texts[row] for row in kept]
    for place, row in enumerate(kept):
        alone, labelled = piece.only(row), found.only(place)
        assert torch.equal(labelled.waveforms, alone.waveforms)
        assert alone.perturbation is not None
        assert labelled.perturbation is not None
        assert torch.equal(labelled.perturbation.masks.times, alone.perturbation.masks.times)
        assert torch.equal(labelled.perturbation.masks.bands, alone.perturbation.masks.bands)
        assert labelled.perturbation.masks.bins == config.features.mel_bins
        assert labelled.perturbation.frames == alone.perturbation.frames
    nothing = Recites(dict.fromkeys(piece.lengths.tolist(), ""))
    assert label_batch(make_fabric(config.training), nothing, piece, config) is None  # type: ignore[arg-type]


def test_a_label_that_the_faster_utterance_cannot_spell_is_left_out(few: Path) -> None:
    config = load_config(None, [*SETTINGS, "augment.speeds=[1]", "augment.tempos=[2]", "model.subsampling=2"])
    piece = loaded(config, few)[0].pieces[0]
    fits = {samples: samples // 320 // 2 - 1 for samples in piece.lengths.tolist()}
    for extra, count in ((0, len(piece.ids)), (3, 0)):
        texts = {samples: ("ab" * 200)[: most + extra] for samples, most in fits.items()}
        assert all(min_frames(text) == len(text) for text in texts.values())
        found = label_batch(make_fabric(config.training), Recites(texts), piece, config)  # type: ignore[arg-type]
        assert (len(found.ids) if found else 0) == count


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_each_token_counts_alike_but_for_the_weight_of_labels(few: Path, tmp_path: Path, weight: float) -> None:
    config = load_config(None, [*SETTINGS, "model.dropout=0", f"training.unlabelled_weight={weight}"])
    fabric, pseudo = labelling(config, few, tmp_path)
    model, average = AcousticModel(config, len(TABLE)), AcousticModel(config, len(TABLE)).eval()
    with torch.no_grad():
        average.output.bias[0] -= 1.0  # blanks are rarer, so it recognises something
    batch = next(training_batches(read_manifest(few / "train.jsonl.gz"), TABLE, config, epoch=0))
    step = replace(batch, untranscribed=loaded(config, few)[0], place=(0, 1))
    state = RunState()
    labelled = pseudo.label(fabric, average, step, state)
    assert state.untranscribed_place == (0, 1)
    assert state.sums.untranscribed == len(step.untranscribed.ids)  # type: ignore[union-attr]
    found = compute_gradient(fabric, fabric.setup(model), labelled, config)
    gradient = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}

    other = label_batch(fabric, average, step.untranscribed.pieces[0], config)  # type: ignore[union-attr]
    assert other is not None
    assert state.sums.without_label == len(step.untranscribed.ids) - len(other.ids)  # type: ignore[union-attr]
    counts = batch.token_count, int(other.token_lengths.sum())
    losses = batch_loss(model, batch.pieces[0], config).total, batch_loss(model, other, config).total
    whole = counts[0] + weight * counts[1]
    wanted = (counts[0] * losses[0] + weight * counts[1] * losses[1]) / whole
    assert found.loss == pytest.approx(wanted.item(), rel=0.5 / whole)  # the count is rounded
    model.zero_grad()
    (wanted * whole / round(whole)).backward()
    for name, parameter in model.named_parameters():
        assert torch.allclose(gradient[name], parameter.grad, rtol=1e-3, atol=1e-5), name


def test_an_utterance_s_label_and_loss_do_not_depend_on_its_neighbours(few: Path) -> None:
    config = load_config(None, [*SETTINGS, "model.dropout=0"])
    fabric, model = make_fabric(config.training), AcousticModel(config, len(TABLE)).eval()
    with torch.no_grad():
        model.output.bias[0] -= 1.0
    (piece,) = loaded(config, few)[0].pieces
    together = label_batch(fabric, model, piece, config)
    assert together is not None
    assert len(together.ids) > 3
    for row, name in enumerate(piece.ids):
        alone = label_batch(fabric, model, piece.only(row), config)
        assert (alone is not None) == (name in together.ids)
        if alone is not None:
            place = together.ids.index(name)
            count = int(alone.token_lengths)
            assert together.tokens[place, :count].tolist() == alone.tokens[0].tolist()
            one = batch_loss(model, together.only(place), config, token_count=count).total
            assert torch.allclose(batch_loss(model, alone, config).total, one, atol=1e-4)


def test_each_pass_takes_each_utterance_once_from_wherever_the_run_goes_on(few: Path, tmp_path: Path) -> None:
    config = load_config(None, SETTINGS)
    _, pseudo = labelling(config, few, tmp_path)
    empty = StepBatch([], idle=False, token_count=0, ids=[], audio_s=0.0)
    state = RunState(knows_tokens=True)
    steps = list(pseudo.beside(iter([empty] * 60), state, training_batches))
    assert len(steps) == 60
    passes: dict[int, list[str]] = {}
    for step in steps:
        assert step.untranscribed is not None
        passes.setdefault(step.place[0], []).extend(step.untranscribed.ids)
    whole = sorted(cut.id for cut in read_manifest(few / "untranscribed.jsonl.gz"))
    assert len(passes) > 2
    for number in list(passes)[:-1]:
        assert sorted(passes[number]) == whole
    assert passes[0] != passes[1]
    for done in (1, 7, [step.place[0] for step in steps].index(1)):
        state = RunState(knows_tokens=True, untranscribed_place=steps[done - 1].place)
        (following,) = pseudo.beside(iter([empty]), state, training_batches)
        assert following.untranscribed.ids == steps[done].untranscribed.ids  # type: ignore[union-attr]


def test_untranscribed_utterances_are_taken_when_the_model_can_recognise(few: Path, seed: Path, tmp_path: Path) -> None:
    reports = run([*SETTINGS, "training.batch_s=40"], few, tmp_path / "fresh")
    shares = [report.labelled_share for report in reports if isinstance(report, EpochReport)]
    assert shares[0] is None, "0.3 of three epochs are one"
    assert all(share is not None for share in shares[1:])
    reports = run([*SETTINGS, "training.epochs=1"], few, tmp_path / "tuned", init_from=seed)
    (share,) = [report.labelled_share for report in reports if isinstance(report, EpochReport)]
    assert share is not None
    assert share > 0.5


def test_untranscribed_utterances_wait_until_half_of_dev_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert MOST_ERRORS == 0.5
    pseudo = PseudoLabelling(SimpleNamespace(), load_config(None, ["training.epochs=4"]))  # type: ignore[arg-type]
    assert pseudo.takes_part(RunState(knows_tokens=True)), "nothing is known against it"
    assert not pseudo.takes_part(RunState(epoch=1, knows_tokens=True, dev_scores=[0.51]))
    assert pseudo.takes_part(RunState(epoch=2, knows_tokens=True, dev_scores=[0.51, 0.5]))
    assert not pseudo.takes_part(RunState(epoch=1, dev_scores=[0.2])), "half of the run is not over"
    assert pseudo.takes_part(RunState(epoch=2, dev_scores=[0.2, 0.2]))
    assert not pseudo.takes_part(RunState(epoch=3, dev_scores=[0.2, 0.2, 0.9])), "it has got worse"


def test_a_run_ends_when_dev_stops_to_gain() -> None:
    settings = ["training.epochs=20", "training.unlabelled_after=0.3", "training.unlabelled_patience=0.15"]
    config = load_config(None, settings)
    pseudo = PseudoLabelling(SimpleNamespace(), config)  # type: ignore[arg-type]  # no data are needed
    before = [True, False, False, False, False, False]  # 0.3 of 20 epochs, without untranscribed utterances
    for since, stalled in (([], False), ([False] * 3, False), ([True, False, False, False], True),
                           ([True, False, False, True], False), ([False] * 4, True)):  # fmt: skip
        assert pseudo.has_stalled(RunState(improved=before + since)) is stalled
    assert pseudo.has_stalled(RunState(improved=before, knows_tokens=True)), "it took them from the beginning"
    assert not pseudo.has_stalled(RunState(improved=[])), "without dev nothing stalls"


def train_until_killed(data: Path, seed: Path, out: Path, overrides: list[str], kill_at: int) -> None:
    torch.set_num_threads(1)  # this is another process
    pseudo_labels.MOST_ERRORS = 9.0
    config, other = load_config(None, overrides), data / "untranscribed.jsonl.gz"
    for report in training_reports(config, data, out, unlabelled=other, init_from=seed, resume=True):
        if isinstance(report, StepReport) and report.step == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_run_killed_at_any_step_ends_as_if_it_had_not_been(few: Path, seed: Path, tmp_path: Path) -> None:
    settings = [*SETTINGS, "training.epochs=2", "training.batch_s=4", "model.dropout=0.3"]
    reports = run(settings, few, tmp_path / "whole", init_from=seed)
    steps = [report for report in reports if isinstance(report, StepReport)]
    shares = [report.labelled_share for report in reports if isinstance(report, EpochReport)]
    assert all(share is not None and share > 0.5 for share in shares), "or nothing is learnt from labels"
    context = multiprocessing.get_context("forkserver")  # a fresh process each time that need not import everything
    context.set_forkserver_preload(["asr.training.trainer", "lhotse.dataset"])
    choice = random.Random(5)
    for kill_at in sorted(choice.sample(range(2, len(steps)), 3)):
        overrides = [*settings, f"training.checkpoint_every_s={choice.choice([0, 1e9])}"]
        child = context.Process(target=train_until_killed, args=(few, seed, tmp_path / "killed", overrides, kill_at))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL
    reports = run(settings, few, tmp_path / "killed", resume=True)
    assert reports[0].resumed_at_step > 0
    for name in ("model.safetensors", "checkpoints/last.safetensors"):
        wanted, found = load_file(tmp_path / "whole" / name), load_file(tmp_path / "killed" / name)
        assert wanted.keys() == found.keys()
        assert all(torch.equal(tensor, found[key]) for key, tensor in wanted.items())


def test_texts_of_untranscribed_utterances_are_not_read_and_other_ones_are_refused_on_resuming(
    few: Path, seed: Path, tmp_path: Path
) -> None:
    run(SETTINGS, few, tmp_path / "lies", init_from=seed)
    texts = {cut_text(cut) for cut in read_manifest(few / "untranscribed.jsonl.gz")}
    assert texts == {"zzz"}
    write_manifest([with_text(cut, "") for cut in read_manifest(few / "untranscribed.jsonl.gz")], few / "mute.jsonl.gz")
    run(SETTINGS, few, tmp_path / "mute", "mute.jsonl.gz", init_from=seed)
    wanted, found = (load_file(tmp_path / name / "model.safetensors") for name in ("lies", "mute"))
    assert all(torch.equal(tensor, found[key]) for key, tensor in wanted.items())
    assert "z" not in (tmp_path / "lies" / "tokens.json").read_text()
    more = [*read_manifest(few / "untranscribed.jsonl.gz")][:-1]
    write_manifest(more, few / "fewer.jsonl.gz")
    with pytest.raises(asr.ConfigError, match=r"untranscribed_utterances was 72, is 71"):
        run(SETTINGS, few, tmp_path / "lies", "fewer.jsonl.gz", resume=True)
    with pytest.raises(asr.ConfigError, match=r"untranscribed_utterances was 72, is 0"):
        list(training_reports(load_config(None, SETTINGS), few, tmp_path / "lies", resume=True))


@pytest.mark.usefixtures("loud_is_speech")
def test_recordings_are_cut_once_and_a_folder_without_any_is_named(few: Path, tmp_path: Path, call: Any) -> None:
    rng = np.random.default_rng(4)
    calls = tmp_path / "calls"
    calls.mkdir()
    pause = 0.003 * rng.standard_normal(16000)
    parts = [part for text in ("ab cd", "dd", "ca b") for part in (tone_speech(text, rng), pause)]
    soundfile.write(calls / "one.wav", np.concatenate(parts), 16000)
    options = [part for override in [*SETTINGS, "training.unlabelled_after=0"] for part in ("--set", override)]
    arguments = ("train", "--data", few, "--out", tmp_path / "out", *options)
    status, out, err = call(*arguments, "--unlabelled", calls)
    assert status == 0, err
    assert "of the untranscribed labelled" in out
    assert len(list(read_manifest(tmp_path / "out" / "utterances.jsonl.gz"))) == 3
    (tmp_path / "empty").mkdir()
    status, _, err = call("train", "--data", few, "--out", tmp_path / "other", "--unlabelled", tmp_path / "empty")
    assert status == 1
    assert "no audio files in this folder" in err
