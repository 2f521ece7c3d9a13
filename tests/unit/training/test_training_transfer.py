"""Fine-tuning starts from what fits of another model."""

import shutil
from io import StringIO
from pathlib import Path

import pytest
import torch
from conftest import LEARNS_FAST, TINY
from rich.console import Console

from asr.bundle.bundle import ModelBundle
from asr.cli.training_display import TrainingDisplay
from asr.config import Config
from asr.errors import ModelError
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from asr.training.reports import EpochReport, RunStart
from asr.training.step import part_of
from asr.training.trainer import training_reports
from asr.training.transfer import transfer_weights

OLD, NEW = TokenTable.from_texts([" abc"]), TokenTable.from_texts([" bcz"])


def saved_model(folder: Path, *overrides: str) -> AcousticModel:
    config = load_config(None, [*TINY, *overrides])
    model = AcousticModel(config, len(OLD))
    ModelBundle(config, OLD, model).save(folder)
    return model


def config_with(*overrides: str) -> Config:
    return load_config(None, [*TINY, *overrides])


def test_everything_fits_and_the_output_layer_follows_the_tokens(tmp_path: Path) -> None:
    old = saved_model(tmp_path)
    new = AcousticModel(config_with(), len(NEW))
    fresh = new.output.weight.detach().clone()
    transfer = transfer_weights(tmp_path, new, NEW, config_with().features)
    assert not transfer.left
    assert (transfer.shared_tokens, transfer.tokens) == (4, 5)  # blank, space, b, c; not z
    for name, tensor in old.state_dict().items():
        if not name.startswith("output."):
            assert torch.equal(new.state_dict()[name], tensor)
    for index, symbol in enumerate(NEW.symbols):
        expected = fresh[index] if symbol == "z" else old.output.weight[OLD.symbols.index(symbol)]
        assert torch.equal(new.output.weight[index], expected)


def test_what_does_not_fit_is_left_and_named(tmp_path: Path) -> None:
    old = saved_model(tmp_path, "model.layers=2")
    config = config_with("features.mel_bins=80")
    new = AcousticModel(config, len(OLD))
    transfer = transfer_weights(tmp_path, new, OLD, config.features)
    assert "its shape is" in transfer.left["subsampling.projection.weight"]
    assert "no such tensor" in transfer.left["layers.1.norm.weight"]
    assert "layers.0.norm.weight" in transfer.taken
    assert torch.equal(new.layers[0].rnn.weight_hh_l0, old.layers[0].rnn.weight_hh_l0)
    assert set(transfer.taken).isdisjoint(transfer.left)
    assert set(transfer.taken) | set(transfer.left) == set(new.state_dict()) | set(old.state_dict())


def test_what_is_left_is_told_part_by_part_and_settings_that_fit_are_named(tmp_path: Path) -> None:
    saved_model(tmp_path, "model.layers=2")
    config = config_with("model.hidden_size=48")
    transfer = transfer_weights(tmp_path, AcousticModel(config, len(OLD)), OLD, config.features)
    console = Console(file=StringIO(), width=80)
    TrainingDisplay(console, config)._transfer(transfer)
    _, *lines = console.file.getvalue().splitlines()
    assert sorted(line.split()[1] for line in lines[:-1]) == sorted({f"{part_of(name)}:" for name in transfer.left})
    assert lines[-1] == f"note      no layer fits; --config {tmp_path / 'config.yaml'} takes that model's settings"


@pytest.mark.parametrize(("old", "taken"), [("features.cmvn=global", True), ("features.cmvn=utterance", False)])
def test_moments_of_other_features_do_not_replace_those_of_the_training_set(
    tmp_path: Path, old: str, taken: bool
) -> None:
    saved_model(tmp_path, old)
    config = config_with("features.cmvn=global")
    new = AcousticModel(config, len(OLD))
    measured = torch.full_like(new.cmvn.mean, -8), torch.full_like(new.cmvn.std, 3)
    new.cmvn.set_moments(*measured)
    transfer = transfer_weights(tmp_path, new, OLD, config.features)
    assert ("cmvn.mean" in transfer.taken) == taken
    assert torch.equal(new.cmvn.mean, measured[0]) == (not taken)
    assert torch.equal(new.cmvn.std, measured[1]) == (not taken)
    assert ("cmvn.std" in transfer.left) == (not taken)


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not a model folder"):
        transfer_weights(tmp_path, AcousticModel(config_with(), len(OLD)), OLD, config_with().features)


def test_fine_tuning_starts_where_the_other_model_stood(tone_corpus: Path, tmp_path: Path) -> None:
    base = config_with(*LEARNS_FAST)
    *_, last = (r for r in training_reports(base, tone_corpus, tmp_path / "base") if isinstance(r, EpochReport))
    tuned = config_with(*LEARNS_FAST, "training.epochs=1", "training.learning_rate=1e-4", "training.seed=9")
    start, *rest = training_reports(tuned, tone_corpus, tmp_path / "tuned", init_from=tmp_path / "base")
    assert isinstance(start, RunStart)
    assert start.transfer is not None
    assert start.transfer.source == tmp_path / "base"
    (epoch,) = (r for r in rest if isinstance(r, EpochReport))
    assert epoch.loss < 1.5 * last.loss
    assert epoch.dev.rate <= last.dev.rate + 0.1


def test_a_resumed_run_needs_the_other_model_no_longer(tone_corpus: Path, tmp_path: Path) -> None:
    config, base, out = config_with("training.epochs=1"), tmp_path / "base", tmp_path / "out"
    saved_model(base)
    list(training_reports(config, tone_corpus, out, init_from=base))
    shutil.rmtree(base)
    (start,) = training_reports(config, tone_corpus, out, init_from=base, resume=True)
    assert isinstance(start, RunStart)
    assert (start.resumed_at_epoch, start.transfer) == (1, None)
