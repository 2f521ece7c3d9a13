"""Steps without a finite gradient are skipped, named, and in a row they stop the run with the batch on disk."""

import collections
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from conftest import TINY
from safetensors.torch import load_file
from torch import nn

from asr.config import Config
from asr.corpus.manifest import cut_text, make_cut, read_manifest, write_manifest
from asr.errors import TrainingError
from asr.features.batch import Batch
from asr.model.ctc import CtcLoss
from asr.settings_file import load_config
from asr.training import step
from asr.training import step as failure
from asr.training.reports import EpochReport, StepReport, StepSkipped
from asr.training.trainer import training_reports


@pytest.fixture(autouse=True)
def _loudness_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading refuses such samples; here they stand for whatever else makes a gradient overflow."""
    monkeypatch.setattr("asr.audio.sound_file.LOUDEST", float("inf"))


def corpus_with_loud_utterances(corpus: Path, folder: Path, loud: set[int]) -> Path:
    """Copy the manifests; the numbered training utterances are so loud that their power overflows float32."""
    cuts = []
    for index, cut in enumerate(read_manifest(corpus / "train.jsonl.gz")):
        if index in loud:
            path = folder / f"loud-{index}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, 1e30 * np.random.default_rng(index).standard_normal(12000), 16000, "FLOAT")
            cut = make_cut(f"loud-{index}", path, cut_text(cut)[:2], "speaker")
        cuts.append(cut)
    write_manifest(cuts, folder / "train.jsonl.gz")
    write_manifest(read_manifest(corpus / "dev.jsonl.gz"), folder / "dev.jsonl.gz")
    return folder


def test_a_step_without_a_finite_gradient_is_skipped_counted_and_its_utterance_named(
    tone_corpus: Path, tmp_path: Path
) -> None:
    data = corpus_with_loud_utterances(tone_corpus, tmp_path / "data", {17})
    reports = list(training_reports(load_config(None, [*TINY, "training.epochs=2"]), data, tmp_path / "out"))
    skipped = [report for report in reports if isinstance(report, StepSkipped)]
    assert [report.bad_ids for report in skipped] == [["loud-17"], ["loud-17"]]
    assert all("loud-17" in report.ids and len(report.ids) > 1 for report in skipped)
    epochs = [report for report in reports if isinstance(report, EpochReport)]
    assert [report.skipped for report in epochs] == [1, 1]
    taken = [report for report in reports if isinstance(report, StepReport)]
    assert {report.step for report in taken} | {report.step for report in skipped} == set(
        range(1, len(taken) + len(skipped) + 1)
    )
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    assert [json.loads(line)["skipped"] for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines()] == [1, 1]
    lines = [json.loads(line) for line in (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()]
    assert [(line["step"], line["bad_ids"], line["loss"]) for line in lines] == [
        (report.step, ["loud-17"], "nan") for report in skipped
    ]
    (tmp_path / "out" / "checkpoints" / "last.safetensors").unlink()  # back to the epoch before
    list(training_reports(load_config(None, [*TINY, "training.epochs=2"]), data, tmp_path / "out", resume=True))
    again = (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in again] == lines


def test_two_processes_name_what_one_names(tone_corpus: Path, tmp_path: Path) -> None:
    data = corpus_with_loud_utterances(tone_corpus, tmp_path / "data", {17, 40, 41, 60, 75, 90})
    settings = [*TINY, "training.epochs=1"]
    list(training_reports(load_config(None, settings), data, tmp_path / "one"))
    script = (
        "import sys; from pathlib import Path; from asr.settings_file import load_config\n"
        "from asr.training.trainer import training_reports\n"
        "import asr.audio.sound_file as sound; sound.LOUDEST = float('inf')\n"
        "list(training_reports(load_config(None, sys.argv[3:]), Path(sys.argv[1]), Path(sys.argv[2])))\n"
    )
    (tmp_path / "train.py").write_text(script)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launch, tmp_path / "train.py", data, tmp_path / "two", *settings]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300)

    def named(out: Path) -> dict[int, tuple[set[str], set[str]]]:
        lines = map(json.loads, (out / "skipped.jsonl").read_text().splitlines())
        return {line["step"]: (set(line["bad_ids"]), set(line["ids"])) for line in lines}

    assert named(tmp_path / "two") == named(tmp_path / "one")
    assert set().union(*(bad for bad, _ in named(tmp_path / "one").values())) == {
        f"loud-{index}" for index in (17, 40, 41, 60, 75, 90)
    }


def test_an_utterance_whose_loss_is_finite_and_its_gradient_not_is_named(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = next(iter(read_manifest(tone_corpus / "train.jsonl.gz"))).id
    loss_of = step.batch_loss

    def with_a_root_of_zero(model: nn.Module, batch: Batch, config: Config, **options: Any) -> CtcLoss:
        loss = loss_of(model, batch, config, **options)
        nothing = 0 * next(model.parameters()).sum()
        return replace(loss, total=loss.total + nothing.sqrt()) if odd in batch.ids else loss

    monkeypatch.setattr(step, "batch_loss", with_a_root_of_zero)
    monkeypatch.setattr(failure, "batch_loss", with_a_root_of_zero)
    reports = list(training_reports(load_config(None, [*TINY, "training.epochs=1"]), tone_corpus, tmp_path))
    (skipped,) = (report for report in reports if isinstance(report, StepSkipped))
    assert np.isfinite(skipped.loss)
    assert not np.isfinite(skipped.gradient_norm)
    assert skipped.bad_ids == [odd]


def test_several_such_steps_in_a_row_stop_the_run_with_the_batch_on_disk(tone_corpus: Path, tmp_path: Path) -> None:
    data = corpus_with_loud_utterances(tone_corpus, tmp_path / "data", set(range(96)))
    reports = []
    with pytest.raises(TrainingError, match=r"5 steps in a row gave no finite gradient .*loud-.*failed.step-5"):
        collections.deque(
            map(reports.append, training_reports(load_config(None, TINY), data, tmp_path / "out")), maxlen=0
        )
    assert sum(isinstance(report, StepSkipped) for report in reports) == 4
    (facts_path,) = (tmp_path / "out" / "failed").glob("*.json")
    facts = json.loads(facts_path.read_text())
    assert facts["step"] == 5
    assert facts["loss"] == "nan"
    assert facts["epoch"] == 0
    assert {utterance["tempo"] for utterance in facts["utterances"]} <= {0.9, 1.0, 1.1}
    tensors = load_file(facts_path.with_suffix(".safetensors"))
    for row, utterance in enumerate(facts["utterances"]):
        assert utterance["bad"]
        samples = tensors["0.waveforms"][row, : utterance["samples"]]
        assert samples.abs().max().item() == pytest.approx(utterance["peak"])
        assert utterance["peak"] > 1e30


def test_a_gpus_memory_that_does_not_suffice_names_the_setting(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_room(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(step, "batch_loss", without_room)
    with pytest.raises(
        TrainingError, match=r"does not suffice for [78] s of audio in one pass.*training\.micro_batch_s"
    ):
        list(training_reports(load_config(None, TINY), tone_corpus, tmp_path))


def test_norms_by_part_make_up_the_norm_and_the_log_tells_clipping(tone_corpus: Path, tmp_path: Path) -> None:
    settings = [*TINY, "model.layers=2", "training.epochs=1", "training.clip_norm=0.5"]
    reports = list(training_reports(load_config(None, settings), tone_corpus, tmp_path))
    steps = [report for report in reports if isinstance(report, StepReport)]
    for report in steps:
        assert set(report.gradient_norms) == {"subsampling", "layers.0", "layers.1", "norm", "output"}
        assert np.linalg.norm(list(report.gradient_norms.values())) == pytest.approx(report.gradient_norm, rel=1e-5)
        assert report.clipped == (report.gradient_norm > 0.5)
    line = json.loads((tmp_path / "log.jsonl").read_text())
    assert line["clipped_share"] == pytest.approx(np.mean([report.clipped for report in steps]))
    assert line["gradient_norms"]["output"] == pytest.approx(
        np.mean([report.gradient_norms["output"] for report in steps])
    )


def test_a_frozen_part_stays_as_it_is_until_its_steps_are_over(tone_corpus: Path, tmp_path: Path) -> None:
    settings = [*TINY, "training.epochs=1", "training.checkpoint_every_s=0", "training.freeze=[subsampling,layers]"]
    weights = []
    for freeze_steps in (0, 3, 100):
        out = tmp_path / str(freeze_steps)
        reports = training_reports(
            load_config(None, [*settings, f"training.freeze_steps={freeze_steps}"]), tone_corpus, out
        )
        steps = (report.step for report in reports if isinstance(report, StepReport))
        weights.append([load_file(out / "checkpoints" / "last.safetensors") for step in steps if step in (2, 4, 6)])

    with_frozen = load_config(None, [*settings, "training.freeze_steps=100"])
    for report in training_reports(with_frozen, tone_corpus, tmp_path / "norms"):
        if isinstance(report, StepReport):
            assert set(report.gradient_norms) == {"norm", "output"}, "what is frozen has no say in the clipping"

    def moved(a: dict, b: dict, part: str) -> bool:
        return any(not torch.equal(a[name], b[name]) for name in a if name.startswith(f"model.{part}"))

    free, three, always = weights
    assert all(moved(*free[i : i + 2], part) for i in (0, 1) for part in ("subsampling", "layers", "output"))
    assert not moved(always[0], always[2], "subsampling")
    assert not moved(always[0], always[2], "layers")
    assert moved(always[0], always[2], "output")
    assert moved(three[1], three[2], "layers")
