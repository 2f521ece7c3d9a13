"""Truncated backpropagation as training uses it: two masked views in a batch, processes that share gradients."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from conftest import LEARNS_FAST, TINY
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from asr.config import Config
from asr.features.augment import Draw, apply_masks, draw_masks
from asr.model.acoustic import AcousticModel
from asr.model.ctc import CtcWeights, ctc_loss
from asr.settings_file import load_config
from asr.training.reports import EpochReport
from asr.training.trainer import training_reports

CONFIG = Config.model_validate(
    {"model": {"bidirectional": False, "layers": 2, "hidden_size": 16, "subsampling_channels": 4, "dropout": 0.3}}
)
IDS = ["a", "b", "c"]
TOKENS, TOKEN_LENGTHS = torch.tensor([[1, 2, 2, 3], [4, 5, 6, 0], [1, 6, 0, 0]]), torch.tensor([4, 3, 2])


@pytest.fixture
def one_process_group() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def consistency_loss(model: nn.Module, bptt_frames: int | None) -> Tensor:
    """CR-CTC of two masked views of three recordings, the longest of 1.2 s."""

    def augment(features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        masks = draw_masks(IDS, lengths.tolist(), 80, CONFIG.augment, hop_ms=10, views=2, draw=Draw(1, 0))
        return apply_masks(features, lengths, masks)

    torch.manual_seed(5)
    waveforms, lengths = 0.1 * torch.randn(3, 19200), torch.tensor([19200, 8000, 3000])
    log_posteriors, frames = model(waveforms, lengths, augment, bptt_frames=bptt_frames)
    return ctc_loss(log_posteriors, frames, TOKENS, TOKEN_LENGTHS, views=2, weights=CtcWeights(consistency=0.2)).total


def gradient(model: nn.Module, loss: Tensor) -> Tensor:
    model.zero_grad()
    loss.backward()
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])  # type: ignore[union-attr]


def test_two_views_have_the_same_loss_in_windows_and_the_same_gradient_in_one_window() -> None:
    undisturbed = CONFIG.model.model_copy(update={"dropout": 0.0})
    model = AcousticModel(CONFIG.model_copy(update={"model": undisturbed}), 7).train()
    whole = consistency_loss(model, None)
    torch.testing.assert_close(consistency_loss(model, 8), whole, rtol=1e-5, atol=0)
    assert torch.equal(gradient(model, consistency_loss(model, 31)), gradient(model, whole))


def test_processes_that_share_gradients_can_train_in_windows(one_process_group: None) -> None:
    model = AcousticModel(CONFIG, 7).train()
    alone = gradient(model, consistency_loss(model, 8))
    shared = DistributedDataParallel(model)
    for _ in range(2):  # a second step fails if the first left a gradient unreduced
        together = gradient(shared, consistency_loss(shared, 8))
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


def test_training_in_windows_as_long_as_the_utterances_is_training_on_whole_ones(
    tone_corpus: Path, tmp_path: Path
) -> None:
    """Shorter windows lose what gradients reach beyond them, and the model learns all the same."""
    settings = [*TINY, *LEARNS_FAST, "model.bidirectional=false", "training.epochs=2"]
    weights, losses = {}, {}
    for frames in ("null", "10000", "8"):
        config = load_config(None, [*settings, f"training.bptt_frames={frames}"])
        reports = list(training_reports(config, tone_corpus, tmp_path / frames))
        weights[frames] = load_file(tmp_path / frames / "model.safetensors")
        losses[frames] = [report.loss for report in reports if isinstance(report, EpochReport)]
    assert all(torch.equal(weights["10000"][name], tensor) for name, tensor in weights["null"].items())
    assert any(not torch.equal(weights["8"][name], tensor) for name, tensor in weights["null"].items())
    assert losses["8"][1] < 0.8 * losses["8"][0]
