"""Going through an utterance window by window: subsampling, recurrent layers, the whole model."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.config import Config
from asr.model.acoustic import AcousticModel
from asr.model.rnn import RecurrentLayer
from asr.model.subsampling import Subsampling

CELLS = ["lstm", "gru", "tanh", "relu"]


def one_way_model(cell: str = "lstm", subsampling: int = 4) -> AcousticModel:
    settings = {"rnn": cell, "bidirectional": False, "layers": 2, "hidden_size": 16, "subsampling": subsampling}
    settings |= {"subsampling_channels": 4, "dropout": 0.0}
    return AcousticModel(Config.model_validate({"model": settings}), token_count=7).eval()


@settings(max_examples=60)
@given(
    factor=st.sampled_from([2, 4, 8]),
    lengths=st.lists(st.integers(1, 70), min_size=1, max_size=4),
    padding=st.integers(0, 9),
    cut=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
def test_a_window_of_subsampled_frames_is_that_slice_of_all(factor, lengths, padding, cut) -> None:
    subsampling = Subsampling(12, factor, channels=3, width=5).double()
    feature_lengths = torch.tensor(lengths)
    features = torch.randn(len(lengths), max(lengths) + padding, 12, dtype=torch.float64)
    whole, frames = subsampling(features, feature_lengths)
    start, stop = sorted(round(share * whole.shape[1]) for share in cut)
    stop = max(stop, start + 1) if start < whole.shape[1] else stop
    if start == stop:
        return
    window, window_lengths = subsampling.window(features, feature_lengths, start, stop)
    torch.testing.assert_close(window, whole[:, start:stop], rtol=0, atol=1e-12)
    assert window_lengths.tolist() == frames.tolist()


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_a_window_reads_its_span_of_the_features_and_nothing_else(factor: int) -> None:
    subsampling = Subsampling(12, factor, channels=3, width=5)
    lengths = torch.tensor([200])
    features = torch.randn(1, 200, 12)
    first, last = subsampling.input_span(6, 9)
    assert last - first == subsampling.receptive_frames + 2 * factor  # each further output frame adds `factor` inputs
    expected = subsampling.window(features, lengths, 6, 9)[0]
    features[:, :first] = torch.nan
    features[:, last:] = torch.nan
    assert torch.equal(subsampling.window(features, lengths, 6, 9)[0], expected)
    features[:, last - 1] = torch.nan
    assert subsampling.window(features, lengths, 6, 9)[0].isnan().any()


@pytest.mark.parametrize("cell", CELLS)
def test_a_layer_that_hands_its_state_on_gives_what_the_module_gives_in_one_pass(cell: str) -> None:
    layer = RecurrentLayer(cell, 12, bidirectional=False, dropout=0.0)  # type: ignore[arg-type]
    x = torch.randn(3, 17, 12)
    lengths = torch.tensor([17, 9, 1])
    valid = (torch.arange(17) < lengths[:, None])[..., None]
    expected = (x + layer.rnn(layer.norm(x))[0]) * valid
    pieces, state = [], None
    for start, stop in ((0, 5), (5, 6), (6, 17)):
        piece, state = layer.window(x[:, start:stop], lengths - start, state)
        pieces.append(piece)
    torch.testing.assert_close(torch.cat(pieces, 1), expected, rtol=0, atol=1e-6)
    assert state is not None
    assert len(state) == (2 if cell == "lstm" else 1)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("subsampling", [2, 4, 8])
@pytest.mark.parametrize("bptt_frames", [1, 7, 1000])
def test_the_log_posteriors_do_not_depend_on_the_windows(cell: str, subsampling: int, bptt_frames: int) -> None:
    model = one_way_model(cell, subsampling)
    waveforms, lengths = torch.randn(3, 12000), torch.tensor([12000, 7001, 200])
    with torch.inference_mode():
        whole, frames = model(waveforms, lengths)
        windowed, windowed_frames = model(waveforms, lengths, bptt_frames=bptt_frames)
    assert windowed_frames.tolist() == frames.tolist()
    torch.testing.assert_close(windowed, whole, rtol=0, atol=1e-5)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("cell", CELLS)
def test_a_gpu_gives_the_windowed_log_posteriors_and_gradients_of_the_cpu(cell: str) -> None:
    model = one_way_model(cell).train()  # without dropout, whose draws differ between devices
    waveforms, lengths = torch.randn(3, 16000), torch.tensor([16000, 9000, 3000])

    def run(device: str) -> list[torch.Tensor]:
        model.to(device)
        log_posteriors, frames = model(waveforms.to(device), lengths.to(device), bptt_frames=6)
        valid = torch.arange(log_posteriors.shape[1], device=device) < frames[:, None]
        loss = (log_posteriors[..., 1] * valid).sum()
        return [tensor.cpu() for tensor in (loss, *torch.autograd.grad(loss, list(model.parameters())))]

    for on_gpu, on_cpu in zip(run("cuda"), run("cpu"), strict=True):
        torch.testing.assert_close(on_gpu, on_cpu, rtol=1e-2, atol=1e-2)
