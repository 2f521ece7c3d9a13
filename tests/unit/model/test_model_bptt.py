"""Truncated backpropagation through time: its gradients against explicit formulas, its memory, its random draws."""

import math
import weakref
from collections.abc import Callable, Container

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from asr.config import Config
from asr.model.acoustic import AcousticModel
from asr.model.ctc import ctc_loss
from asr.model.rnn import RecurrentLayer

CELLS = ["lstm", "gru", "tanh", "relu"]
LENGTHS = torch.tensor([150, 91, 37, 9])  # log-mel frames; 38, 23, 10 and 3 output frames at subsampling 4


def one_way_model(
    cell: str = "lstm", *, dropout: float = 0.0, hidden_size: int = 16, lookahead_frames: int = 0
) -> AcousticModel:
    settings = {"rnn": cell, "bidirectional": False, "layers": 2, "hidden_size": hidden_size, "dropout": dropout}
    settings |= {"subsampling_channels": 4, "lookahead_frames": lookahead_frames}
    config = Config.model_validate({"model": settings})
    return AcousticModel(config, token_count=7).train()


def transcript_loss(log_posteriors: Tensor, lengths: Tensor) -> Tensor:
    tokens = torch.tensor([[1, 2, 2, 3], [4, 5, 6, 0], [1, 6, 0, 0], [3, 0, 0, 0]])
    return ctc_loss(log_posteriors, lengths, tokens, torch.tensor([4, 3, 2, 1])).total


def gradient(model: AcousticModel, loss: Tensor) -> Tensor:
    """All parameters' gradients as one vector."""
    return torch.cat([g.flatten().double() for g in torch.autograd.grad(loss, list(model.parameters()))])


def relative_difference(a: Tensor, b: Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


def recurrence(layer: RecurrentLayer, x: Tensor, borders: Container[int]) -> Tensor:
    """The cells' textbook formulas, frame by frame; the state becomes a constant at each border."""
    rnn = layer.rnn
    w_x, w_h, b_x, b_h = (getattr(rnn, f"{n}_l0") for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    h = c = x.new_zeros(x.shape[0], rnn.hidden_size)
    outputs = []
    for frame in range(x.shape[1]):
        if frame in borders:
            h, c = h.detach(), c.detach()
        from_x, from_h = x[:, frame] @ w_x.T + b_x, h @ w_h.T + b_h
        if layer.cell == "lstm":
            i, f, g, o = (from_x + from_h).chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        elif layer.cell == "gru":
            (r_x, z_x, n_x), (r_h, z_h, n_h) = from_x.chunk(3, dim=1), from_h.chunk(3, dim=1)
            z = (z_x + z_h).sigmoid()
            h = (1 - z) * (n_x + (r_x + r_h).sigmoid() * n_h).tanh() + z * h
        else:
            h = getattr(from_x + from_h, layer.cell)()
        outputs.append(h)
    return torch.stack(outputs, dim=1)


def brute_force(
    model: AcousticModel, features: Tensor, lengths: Tensor, borders: Container[int]
) -> tuple[Tensor, Tensor]:
    """One graph of the whole batch, with nothing windowed but the recurrence's state."""
    x, frames = model.subsampling(features, lengths)
    valid = (torch.arange(x.shape[1]) < frames[:, None])[..., None]
    for layer in model.layers:
        x = (x + recurrence(layer, layer.norm(x), borders)) * valid
    if model.lookahead is not None:
        x = model.lookahead(x)
    return model.output(model.norm(x)).float().log_softmax(-1), frames


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bptt_frames", [1, 4, 10, 37])
def test_gradients_inside_a_window_are_exact(cell: str, bptt_frames: int) -> None:
    model = one_way_model(cell).double()
    features = torch.randn(4, 150, 80, dtype=torch.float64)
    ours = gradient(model, transcript_loss(*model.encode(features, LENGTHS, bptt_frames=bptt_frames)))
    expected = gradient(model, transcript_loss(*brute_force(model, features, LENGTHS, range(0, 38, bptt_frames))))
    untruncated = gradient(model, transcript_loss(*brute_force(model, features, LENGTHS, ())))
    assert relative_difference(ours, expected) < 1e-6
    assert relative_difference(ours, untruncated) > 1e-4  # the truncation is real


@pytest.mark.parametrize("bptt_frames", [3, 10, 37])
def test_gradients_inside_a_window_and_the_frames_it_looks_ahead_at_are_exact(bptt_frames: int) -> None:
    model = one_way_model(lookahead_frames=5).double()
    torch.nn.init.normal_(model.lookahead.convolution.weight)  # type: ignore[union-attr]
    features = torch.randn(4, 150, 80, dtype=torch.float64)
    windows = []
    for start in range(0, 38, bptt_frames):
        # Each window's frames from a graph that only its own start cuts.
        whole, frames = brute_force(model, features, LENGTHS, (start,))
        windows.append(whole[:, start : start + bptt_frames])
    ours = gradient(model, transcript_loss(*model.encode(features, LENGTHS, bptt_frames=bptt_frames)))
    expected = gradient(model, transcript_loss(torch.cat(windows, 1), frames))
    assert relative_difference(ours, expected) < 1e-6


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bptt_frames", [38, 39, 1000])
def test_a_window_as_long_as_the_utterance_gives_whole_backpropagation(cell: str, bptt_frames: int) -> None:
    model = one_way_model(cell).double()
    features = torch.randn(4, 150, 80, dtype=torch.float64)
    ours = gradient(model, transcript_loss(*model.encode(features, LENGTHS, bptt_frames=bptt_frames)))
    whole = gradient(model, transcript_loss(*brute_force(model, features, LENGTHS, ())))
    assert relative_difference(ours, whole) < 1e-6


def test_an_utterance_shorter_than_a_window_gets_whole_backpropagation_beside_a_longer_one() -> None:
    model = one_way_model().double()
    features = torch.randn(4, 150, 80, dtype=torch.float64)

    def short_one(bptt_frames: int | None) -> Tensor:
        log_posteriors, _ = model.encode(features, LENGTHS, bptt_frames=bptt_frames)
        return gradient(model, log_posteriors[2, :10, 1].sum())

    assert relative_difference(short_one(10), short_one(None)) < 1e-6
    assert relative_difference(short_one(9), short_one(None)) > 1e-4


def windows_in_one_graph(model: AcousticModel, features: Tensor, lengths: Tensor, bptt_frames: int) -> Tensor:
    """What `encode` does with `bptt_frames`, with every value kept and nothing computed twice."""
    outputs, states = [], None
    frames = model.subsampling.frame_count(features.shape[1])
    for start in range(0, frames, bptt_frames):
        stop = min(start + bptt_frames, frames)
        output, states = model.encode_window(features, lengths, start, stop, states)
        states = [tuple(part.detach() for part in state) for state in states]
        outputs.append(output)
    return torch.cat(outputs, dim=1)


def test_dropout_is_the_same_when_a_window_is_computed_a_second_time() -> None:
    model = one_way_model(dropout=0.5)
    features = torch.randn(4, 150, 80)

    def run(encode: Callable[[], Tensor]) -> list[Tensor]:
        torch.manual_seed(3)
        log_posteriors = encode()
        drawn_next = torch.rand(1)
        loss = log_posteriors[..., 1].sum()
        return [log_posteriors, drawn_next, gradient(model, loss), torch.rand(1)]

    ours = run(lambda: model.encode(features, LENGTHS, bptt_frames=7)[0])
    for value, kept in zip(ours, run(lambda: windows_in_one_graph(model, features, LENGTHS, 7)), strict=True):
        torch.testing.assert_close(value, kept, rtol=1e-5, atol=1e-5)


def test_under_autocast_the_gradient_of_many_windows_keeps_its_digits() -> None:
    model = one_way_model(hidden_size=64)
    features, lengths = torch.randn(1, 1000, 80), torch.tensor([1000])

    def run(enabled: bool) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            log_posteriors, _ = model.encode(features, lengths, bptt_frames=2)
        return gradient(model, log_posteriors[..., 1].mean())

    assert relative_difference(run(True), run(False)) < 4 * 2**-9  # some roundings to bfloat16, not 125 of them


class MostBytes(TorchDispatchMode):
    """Counts the bytes of all tensors made while it is active and alive at once, also inside the backward pass."""

    def __init__(self, *known: Tensor) -> None:
        super().__init__()
        self.alive = {tensor.untyped_storage()._cdata: 0 for tensor in known}
        self.most = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and (key := tensor.untyped_storage()._cdata) not in self.alive:
                self.alive[key] = tensor.untyped_storage().nbytes()
                weakref.finalize(tensor.untyped_storage(), self.alive.pop, key)
        self.most = max(self.most, sum(self.alive.values()))
        return result


def most_bytes(model: AcousticModel, log_mel_frames: int, bptt_frames: int | None) -> int:
    features, lengths = torch.randn(2, log_mel_frames, 80), torch.tensor([log_mel_frames, log_mel_frames // 2])
    model.zero_grad()
    with MostBytes(features, *model.parameters()) as count:
        log_posteriors, _ = model.encode(features, lengths, bptt_frames=bptt_frames)
        log_posteriors.square().sum().backward()
    return count.most


def test_memory_does_not_grow_with_the_recording() -> None:
    model = one_way_model(hidden_size=64)
    short, long = most_bytes(model, 800, 25), most_bytes(model, 6400, 25)
    outputs = 2 * (6400 - 800) // 4 * 7 * 4  # bytes of the further log-posteriors
    assert long - short < 6 * outputs  # joined, their gradients, the states between windows
    assert most_bytes(model, 6400, None) > 20 * (long - short)
    assert math.isclose(most_bytes(model, 6400, None) / most_bytes(model, 800, None), 8, rel_tol=0.2)  # as it would be
