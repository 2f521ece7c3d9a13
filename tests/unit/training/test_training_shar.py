"""A run on a folder of Shar: shards come in another order each epoch, and resuming finds the same one."""

from itertools import islice
from pathlib import Path

import pytest
from conftest import TINY
from safetensors.torch import load_file

from asr.corpus.manifest import read_manifest
from asr.corpus.pack import write_shar
from asr.settings_file import load_config
from asr.training import run
from asr.training.reports import StepReport
from asr.training.trainer import training_reports


@pytest.fixture(scope="module")
def shar(tone_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shar")
    for split in ("train", "dev"):
        write_shar(read_manifest(tone_corpus / f"{split}.jsonl.gz"), folder / split, shard_utterances=10)
    return folder


def test_a_run_on_shar_shuffles_its_shards_and_resumes_bit_for_bit(
    shar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    original = run.training_batches

    def watched(cuts, *arguments, **options):  # type: ignore[no-untyped-def]
        seen.append([cut.id for cut in cuts])
        return original(cuts, *arguments, **options)

    monkeypatch.setattr(run, "training_batches", watched)
    config = load_config(None, [*TINY, "training.epochs=2", "training.checkpoint_every_s=0"])
    reports = list(training_reports(config, shar, tmp_path / "whole"))
    first, second = seen
    manifest = [cut.id for cut in read_manifest(shar / "train")]
    assert sorted(first) == sorted(second) == sorted(manifest)
    assert len({tuple(first), tuple(second), tuple(manifest)}) == 3

    steps = sum(isinstance(report, StepReport) for report in reports)
    for _ in islice(training_reports(config, shar, tmp_path / "parts"), steps // 2 + 2):
        pass
    list(training_reports(config, shar, tmp_path / "parts", resume=True))
    whole, parts = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(whole[name].equal(parts[name]) for name in whole)
