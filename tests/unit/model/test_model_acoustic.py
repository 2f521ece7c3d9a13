import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.config import Config, ModelSettings
from asr.errors import ShapeError
from asr.model.acoustic import AcousticModel
from asr.model.rnn import RecurrentLayer, make_rnn, packing, reversal_index, reverse

CELLS = ["lstm", "gru", "tanh", "relu"]


def small_model(**settings: object) -> AcousticModel:
    config = Config(model=ModelSettings(layers=2, hidden_size=16, subsampling_channels=4, **settings))  # type: ignore[arg-type]
    return AcousticModel(config, token_count=7).eval()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("subsampling", [2, 4, 8])
def test_an_utterance_alone_and_in_a_batch_has_the_same_log_posteriors(cell, bidirectional, subsampling) -> None:
    model = small_model(rnn=cell, bidirectional=bidirectional, subsampling=subsampling)
    lengths = torch.tensor([16000, 9001, 3333, 400])
    waveforms = torch.randn(4, 16000)  # beyond the lengths there is noise: it must not matter
    with torch.inference_mode():
        together, frames = model(waveforms, lengths)
        for row, length in enumerate(lengths):
            alone, count = model(waveforms[row : row + 1, :length], length[None])
            assert count.item() == frames[row].item() == alone.shape[1]
            torch.testing.assert_close(together[row, : alone.shape[1]], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layout", ["flipped", "packed"])
def test_both_layouts_equal_torchs_packed_bidirectional_module_in_values_and_gradients(layout: str, cell: str) -> None:
    layer = RecurrentLayer(cell, 12, bidirectional=True, dropout=0.0)  # type: ignore[arg-type]
    lengths = torch.tensor([9, 4, 1, 7])
    x = torch.randn(4, 9, 12, requires_grad=True)
    valid = (torch.arange(9) < lengths[:, None])[..., None]
    weight = torch.randn(4, 9, 12)

    def oracle(y: torch.Tensor) -> torch.Tensor:
        packed = pack_padded_sequence(layer.norm(y), lengths, batch_first=True, enforce_sorted=False)
        output = pad_packed_sequence(layer.rnn(packed)[0], batch_first=True)[0]
        return (y + output) * valid

    def run(function) -> list[torch.Tensor]:
        y = function(x)
        return [y, *torch.autograd.grad((y * weight).sum(), [x, *layer.parameters()])]

    ordered = packing(lengths, 9, lengths.tolist()) if layout == "packed" else reversal_index(lengths, 9)
    for ours, theirs in zip(run(lambda y: layer(y, lengths, ordered)), run(oracle), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 2))
def test_the_packing_is_torchs(counts: list[int], padding: int) -> None:
    lengths, frames = torch.tensor(counts), max(counts) + padding
    x = torch.arange(1.0, len(counts) * frames + 1).view(len(counts), frames, 1)
    theirs = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    ours = packing(lengths, frames, counts)
    assert torch.equal(ours.batch_sizes, theirs.batch_sizes)
    by_time = [  # torch sorts utterances of one length in an order of its own
        [part.sort(0).values for part in data.split(theirs.batch_sizes.tolist())]
        for data in (theirs.data, x.flatten(0, 1)[ours.rows])
    ]
    assert all(map(torch.equal, *by_time))
    packed = x.flatten(0, 1)[ours.rows]
    back = packed[ours.places].view_as(x) * ours.valid[..., None]
    assert torch.equal(back, x * (torch.arange(frames) < lengths[:, None])[..., None])


def test_reverse_turns_each_utterance_within_its_length_and_is_its_own_inverse_and_gradient() -> None:
    lengths = torch.tensor([3, 1])
    index = reversal_index(lengths, 4)
    x = torch.arange(8.0).view(2, 4, 1)
    assert reverse(x, index).flatten().tolist() == [2, 1, 0, 3, 4, 5, 6, 7]
    assert torch.equal(reverse(reverse(x, index), index), x)
    double = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: reverse(y, index), double)


def test_a_unidirectional_model_cannot_see_the_future_and_a_bidirectional_one_can() -> None:
    lengths = torch.tensor([8000])
    waveform = torch.randn(1, 8000)
    changed = waveform.clone()
    changed[:, 6000:] = 0
    for bidirectional in (False, True):
        config = Config.model_validate(
            {
                "model": {"layers": 2, "hidden_size": 16, "bidirectional": bidirectional},
                "features": {"cmvn": "global"},
            }
        )
        model = AcousticModel(config, 5).eval()
        with torch.inference_mode():
            before, after = model(waveform, lengths)[0], model(changed, lengths)[0]
        same = torch.equal(before[:, :5], after[:, :5])
        assert same is not bidirectional


@pytest.mark.parametrize("samples", [1, 159, 160, 161, 4000, 16000])
@pytest.mark.parametrize("subsampling", [2, 4, 8])
def test_frame_count_tells_the_frames_that_come_out(samples: int, subsampling: int) -> None:
    model = small_model(subsampling=subsampling)
    lengths = torch.tensor([samples])
    log_posteriors, frames = model(torch.randn(1, samples), lengths)
    assert log_posteriors.shape[1] == frames.item() == model.frame_count(lengths).item()


def test_posteriors_sum_to_1() -> None:
    log_posteriors, _ = small_model()(torch.randn(2, 4000), torch.tensor([4000, 1000]))
    torch.testing.assert_close(log_posteriors.exp().sum(-1), torch.ones(2, log_posteriors.shape[1]))


def test_lengths_that_do_not_fit_are_an_error() -> None:
    with pytest.raises(ShapeError, match=r"\(2, 4000\).*\(3,\)"):
        small_model()(torch.randn(2, 4000), torch.tensor([1, 2, 3]))


def test_the_receptive_field_is_what_a_gradient_reaches() -> None:
    model = small_model()
    features = torch.randn(1, 80, 80, requires_grad=True)
    x, _ = model.subsampling(features, torch.tensor([80]))
    reached = torch.autograd.grad(x[0, 10].sum(), features)[0][0].abs().sum(-1) > 0
    assert reached.sum().item() <= model.subsampling.receptive_frames
    first, last = reached.nonzero().min().item(), reached.nonzero().max().item()
    assert last - first + 1 <= model.subsampling.receptive_frames
    assert model.subsampling.receptive_frames - (last - first + 1) < 3  # relu may silence an edge


def test_recurrent_matrices_start_orthogonal_and_forget_gates_open() -> None:
    lstm = make_rnn("lstm", 8, 16, bidirectional=True)
    for gate in lstm.weight_hh_l0_reverse.split(16):
        torch.testing.assert_close(gate @ gate.T, torch.eye(16), rtol=0, atol=1e-5)
    assert lstm.bias_ih_l0[16:32].eq(1).all()
    assert lstm.bias_ih_l0[:16].eq(0).all()
    assert torch.equal(make_rnn("relu", 8, 16, bidirectional=False).weight_hh_l0, torch.eye(16))
    assert isinstance(lstm, nn.LSTM)


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_autocast_does_not_reach_the_recurrences_on_a_gpu(
    cell: str, bidirectional: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = cell if cell in ("lstm", "gru") else f"rnn_{cell}"
    kernel, seen = getattr(torch, name), []

    def watched(*arguments: object) -> object:
        seen.append(torch.is_autocast_enabled("cuda"))
        return kernel(*arguments)

    monkeypatch.setattr(torch, name, watched)
    layer = RecurrentLayer(cell, 8, bidirectional=bidirectional, dropout=0.0)
    lengths = torch.tensor([5, 3])
    torch.set_autocast_enabled("cuda", True)  # as on a machine that has one
    try:
        layer(torch.randn(2, 5, 8), lengths, reversal_index(lengths, 5))
        if not bidirectional:
            layer.window(torch.randn(2, 5, 8), lengths, None)
        assert torch.is_autocast_enabled("cuda")
    finally:
        torch.set_autocast_enabled("cuda", False)
    assert seen == [False, False]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_a_gpu_gives_the_log_posteriors_and_gradients_of_the_cpu(
    cell: str, bidirectional: bool, autocast: bool
) -> None:
    model = small_model(rnn=cell, bidirectional=bidirectional, dropout=0.0).train()
    waveforms, lengths = torch.randn(3, 16000), torch.tensor([16000, 9000, 3000])

    def run(device: str) -> list[torch.Tensor]:
        model.to(device)
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast and device == "cuda"):
            log_posteriors, frames = model(waveforms.to(device), lengths.to(device))
        valid = torch.arange(log_posteriors.shape[1], device=device) < frames[:, None]
        # So small that in float16 the gradient would be 0.
        loss = (log_posteriors[..., 1] * valid).sum() * 1e-6
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        return [log_posteriors[valid].cpu(), *(1e6 * gradient.cpu() for gradient in gradients)]

    tolerance = 1e-1 if autocast else 1e-2
    for on_gpu, on_cpu in zip(run("cuda"), run("cpu"), strict=True):
        assert (on_gpu - on_cpu).norm() <= tolerance * (on_cpu.norm() + 1e-3)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("network", [{"rnn": cell} for cell in CELLS] + [{"encoder": "conformer"}], ids=str)
def test_on_a_gpu_an_utterance_alone_and_in_a_batch_has_the_same_log_posteriors(
    network: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # which rounds products to 10 bits
    model = small_model(**network).to("cuda")
    lengths = torch.tensor([16000, 9001, 3333, 400], device="cuda")
    waveforms = torch.randn(4, 16000, device="cuda")
    with torch.inference_mode():
        together, frames = model(waveforms, lengths)
        for row, length in enumerate(lengths.tolist()):
            alone, _ = model(waveforms[row : row + 1, :length], lengths[row : row + 1])
            torch.testing.assert_close(together[row, : int(frames[row])], alone[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize(("layers", "middle"), [(2, 1), (3, 2), (4, 2), (5, 3)])
def test_the_intermediate_log_posteriors_are_those_of_a_network_that_ends_in_the_middle(
    layers: int, middle: int
) -> None:
    config = Config(model=ModelSettings(layers=layers, hidden_size=8, subsampling_channels=4))
    model = AcousticModel(config, token_count=7).eval()
    waveforms, lengths = torch.randn(2, 8000), torch.tensor([8000, 3000])
    both, frames = model(waveforms, lengths, intermediate=True)
    whole, same_frames = model(waveforms, lengths)
    del model.layers[middle:]
    short, _ = model(waveforms, lengths)
    torch.testing.assert_close(both, torch.cat([whole, short]))
    assert torch.equal(frames, same_frames)


def test_the_kernels_of_past_shapes_are_let_go() -> None:
    if not torch.backends.mkldnn.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("needs a processor for which oneDNN has bfloat16 kernels")
    script = """
import asr; asr.Recognizer; import torch
lstm = torch.nn.LSTM(16, 16).bfloat16()
with torch.inference_mode():
    for frames in (*range(10, 110), 10):
        lstm(torch.zeros(frames, 1, 16).bfloat16())
"""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ONEDNN")}
    environment["ONEDNN_VERBOSE"] = "profile_create"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment, check=True)
    made = [line for line in shown.stdout.splitlines() if "create:cache_miss" in line and ",rnn," in line]
    assert len(made) == 101  # of 100 shapes, the first of which had been let go when it came again
