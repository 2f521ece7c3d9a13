"""A model that reads a recording block by block, and its look-ahead over frames to come."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from asr.config import Config
from asr.errors import ConfigError, ModelError
from asr.model.acoustic import AcousticModel
from asr.model.rnn import LookAhead
from asr.settings_file import load_config

CELLS = ["lstm", "gru", "tanh", "relu"]


def one_way_model(cell: str = "lstm", subsampling: int = 4, lookahead_frames: int = 3) -> AcousticModel:
    config = Config.model_validate(
        {
            "model": {
                "rnn": cell,
                "bidirectional": False,
                "layers": 2,
                "hidden_size": 16,
                "subsampling": subsampling,
                "subsampling_channels": 4,
                "lookahead_frames": lookahead_frames,
            },
            "features": {"cmvn": "global"},
        }
    )
    model = AcousticModel(config, token_count=7).eval()
    model.cmvn.set_moments(torch.full((80,), -2.0), torch.full((80,), 3.0))
    if model.lookahead is not None:
        torch.nn.init.normal_(model.lookahead.convolution.weight)  # as after training
    return model


def in_blocks(model: AcousticModel, waveform: Tensor, sizes: list[int]) -> Tensor:
    """Log-posteriors of a waveform that arrives in blocks of these sizes, and the rest as the last one."""
    pieces, state = [], model.start()
    *blocks, rest = torch.split(waveform, [*sizes, len(waveform) - sum(sizes)])
    for block in blocks:
        piece, state = model.step(block, state)
        pieces.append(piece)
    piece, _ = model.step(rest, state, last=True)
    return torch.cat([*pieces, piece])


@st.composite
def blocks(draw: st.DrawFn) -> tuple[int, list[int]]:
    """Samples of a recording, and the sizes of all blocks but the last."""
    samples = draw(st.one_of(st.integers(0, 2500), st.integers(2500, 20000)))
    size = st.one_of(st.integers(0, 1), st.integers(0, 700), st.integers(0, 8000))
    sizes, left = [], samples
    for wanted in draw(st.lists(size, max_size=25)):
        sizes.append(min(wanted, left))
        left -= sizes[-1]
    return samples, sizes


@settings(max_examples=80)
@given(
    cell=st.sampled_from(CELLS),
    subsampling=st.sampled_from([2, 4, 8]),
    lookahead_frames=st.sampled_from([0, 1, 5]),
    cut=blocks(),
)
def test_blocks_of_any_size_give_the_log_posteriors_of_the_whole(cell, subsampling, lookahead_frames, cut) -> None:
    samples, sizes = cut
    model = one_way_model(cell, subsampling, lookahead_frames)
    level = 10 ** (2 * torch.rand(samples // 1000 + 1) - 3).repeat_interleave(1000)[:samples]  # from -60 to -20 dBFS
    waveform = 0.2 + level * torch.randn(samples)
    with torch.inference_mode():
        whole, frames = model(waveform[None], torch.tensor([samples]))
    streamed = in_blocks(model, waveform, sizes)
    assert len(streamed) == frames.item()
    torch.testing.assert_close(streamed, whole[0], rtol=0, atol=1e-5)


def test_single_samples_and_empty_blocks_give_the_log_posteriors_of_the_whole() -> None:
    model = one_way_model()
    waveform = 0.1 * torch.randn(2000)
    whole, _ = model(waveform[None], torch.tensor([2000]))
    for sizes in ([1] * 2000, [0, 0, 700, 0, 1300, 0]):
        torch.testing.assert_close(in_blocks(model, waveform, sizes), whole[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("lookahead_frames", [0, 1, 6])
@pytest.mark.parametrize("subsampling", [2, 4, 8])
def test_a_frame_hears_lookahead_s_past_its_centre_and_no_more(subsampling: int, lookahead_frames: int) -> None:
    model = one_way_model("tanh", subsampling, lookahead_frames)
    waveform = (0.1 * torch.randn(1, 20000)).requires_grad_()
    log_posteriors, _ = model(waveform, torch.tensor([20000]))
    (reached,) = torch.autograd.grad(log_posteriors[0, 5].square().sum(), waveform)
    past_centre = reached[0].nonzero().max().item() + 1 - 5 * round(model.frame_shift_s * 16000)
    most = round(model.lookahead_s * 16000)
    assert most - 2 * 160 <= past_centre <= most  # a ReLU may silence the outermost log-mel frames


def test_a_frame_comes_out_as_soon_as_lookahead_s_past_its_centre_has_been_read() -> None:
    model = one_way_model()
    needed = round(model.lookahead_s * 16000)
    early, state = model.step(torch.randn(needed - 1), model.start())
    assert early.shape == (0, 7)
    now, _ = model.step(torch.randn(1), state)
    assert now.shape == (1, 7)


def test_the_state_does_not_grow() -> None:
    model = one_way_model()
    state, sizes = model.start(), []
    for _ in range(12):
        _, state = model.step(torch.randn(4000), state)
        logmel = [state.logmel.samples, state.logmel.energies, state.logmel.level]
        tensors = [*logmel, state.features, state.outputs, *(part for layer in state.layers for part in layer)]
        sizes.append(sum(tensor.numel() for tensor in tensors))
        assert sum(tensor.untyped_storage().nbytes() for tensor in tensors) < 300_000
    assert max(sizes[3:]) <= max(sizes[:3]) + model.subsampling.factor * 80 + model.logmel.hop_samples


def test_the_look_ahead_is_the_sum_that_its_formula_says() -> None:
    layer = LookAhead(width=3, frames=2, dropout=0.0)
    x = torch.randn(2, 5, 3)
    assert torch.equal(layer(x), x)  # it starts as one that looks at nothing
    torch.nn.init.normal_(layer.convolution.weight)
    weight = layer.convolution.weight[:, 0]  # (feature, distance - 1)
    for utterance, frame, feature in torch.cartesian_prod(torch.arange(2), torch.arange(5), torch.arange(3)).tolist():
        expected = x[utterance, frame, feature].item()
        for distance in (1, 2):
            if frame + distance < 5:
                expected += (weight[feature, distance - 1] * x[utterance, frame + distance, feature]).item()
        assert layer(x)[utterance, frame, feature].item() == pytest.approx(expected, abs=1e-6)


def test_with_look_ahead_an_utterance_alone_and_in_a_batch_has_the_same_log_posteriors() -> None:
    model = one_way_model(lookahead_frames=6)
    lengths = torch.tensor([16000, 9001, 3333, 400])
    waveforms = torch.randn(4, 16000)
    together, _ = model(waveforms, lengths)
    for row, length in enumerate(lengths):
        alone, _ = model(waveforms[row : row + 1, :length], length[None])
        torch.testing.assert_close(together[row, : alone.shape[1]], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("bptt_frames", [1, 4, 7, 1000])
@pytest.mark.parametrize("lookahead_frames", [1, 6])
def test_with_look_ahead_the_log_posteriors_do_not_depend_on_the_windows(bptt_frames, lookahead_frames) -> None:
    model = one_way_model(lookahead_frames=lookahead_frames)
    waveforms, lengths = torch.randn(3, 12000), torch.tensor([12000, 7001, 200])
    whole, _ = model(waveforms, lengths, intermediate=True)
    windowed, _ = model(waveforms, lengths, bptt_frames=bptt_frames, intermediate=True)
    torch.testing.assert_close(windowed, whole, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "override", ["model.bidirectional=true", "model.encoder=conformer"], ids=["two directions", "conformer"]
)
def test_look_ahead_in_a_network_that_sees_everything_is_an_error(override: str) -> None:
    with pytest.raises(ConfigError, match=r"lookahead_frames=8 .*model\.bidirectional=false"):
        load_config(None, ["model.bidirectional=false", "model.lookahead_frames=8", override])


@pytest.mark.parametrize(
    "settings_",
    [
        {"model": {"bidirectional": False}},
        {"features": {"cmvn": "global"}},
        {"model": {"encoder": "conformer", "bidirectional": False}, "features": {"cmvn": "global"}},
    ],
    ids=["normalises by the utterance", "two directions", "conformer"],
)
def test_a_model_that_needs_whole_utterances_says_how_to_train_one_that_does_not(settings_: dict) -> None:  # type: ignore[type-arg]
    model = AcousticModel(Config.model_validate(settings_), token_count=7)
    assert not model.streams
    with pytest.raises(ModelError, match=r"bidirectional=false features\.cmvn=global"):
        model.start()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_streams_the_log_posteriors_of_the_cpu() -> None:
    model = one_way_model()
    waveform = 0.1 * torch.randn(16000)
    on_cpu = in_blocks(model, waveform, [3000, 1, 7000])
    on_gpu = in_blocks(model.to("cuda"), waveform.to("cuda"), [3000, 1, 7000])
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, rtol=1e-2, atol=1e-2)
