import pytest
import torch
import torchaudio
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.config import Config, ModelSettings
from asr.errors import ConfigError
from asr.model.acoustic import AcousticModel
from asr.model.conformer import FEED_FORWARD_RATIO, HEADS, KERNEL_FRAMES, ConformerLayer, normalise_utterances

WIDTH = 16


def torchaudio_conformer(layers: int) -> torchaudio.models.Conformer:
    """Return torchaudio's own, with biases and gains drawn too: at 0 and 1 they would hide what they do to padding."""
    theirs = torchaudio.models.Conformer(
        WIDTH, HEADS, FEED_FORWARD_RATIO * WIDTH, layers, KERNEL_FRAMES, use_group_norm=True
    ).eval()
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return theirs


def with_the_same_weights(theirs: torchaudio.models.Conformer) -> torch.nn.ModuleList:
    ours = torch.nn.ModuleList(ConformerLayer(WIDTH, dropout=0.0) for _ in theirs.conformer_layers).eval()
    ours.load_state_dict({name.removeprefix("conformer_layers."): x for name, x in theirs.state_dict().items()})
    return ours


def run(layers: torch.nn.ModuleList, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    for layer in layers:
        x = layer(x, lengths)
    return x


def test_an_utterance_alone_gets_what_torchaudios_conformer_gives_it_in_values_and_gradients() -> None:
    theirs = torchaudio_conformer(layers=2)
    ours = with_the_same_weights(theirs)
    x, lengths = torch.randn(1, 40, WIDTH, requires_grad=True), torch.tensor([40])
    weight = torch.randn(40, WIDTH)
    expected, actual = theirs(x, lengths)[0], run(ours, x, lengths)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)
    gradients = [torch.autograd.grad((y * weight).sum(), x)[0] for y in (expected, actual)]
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-4)


@given(st.lists(st.integers(1, 50), min_size=2, max_size=4), st.integers(0, 2**20))
@settings(max_examples=25)
def test_neither_padding_nor_neighbours_change_a_conformers_utterance(lengths: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    layers = with_the_same_weights(torchaudio_conformer(layers=2))
    counts = torch.tensor(lengths)
    x = 100 * torch.randn(len(lengths), max(lengths) + 3, WIDTH)  # beyond the lengths there is noise
    for row, count in enumerate(lengths):
        x[row, :count] /= 100
    with torch.inference_mode():
        together = run(layers, x, counts)
        for row, count in enumerate(lengths):
            alone = run(layers, x[row : row + 1, :count], counts[row : row + 1])
            torch.testing.assert_close(together[row, :count], alone[0], rtol=0, atol=1e-5)
            assert together[row, count:].eq(0).all()


def test_torchaudios_own_forward_would_let_padding_in() -> None:
    """The reason for a forward of our own; if this fails, torchaudio has changed and can be called as it is."""
    theirs = torchaudio_conformer(layers=1)
    x, lengths = torch.randn(2, 40, WIDTH), torch.tensor([40, 10])
    with torch.inference_mode():
        together, alone = theirs(x, lengths)[0][1, :10], theirs(x[1:, :10], lengths[1:])[0][0]
    assert (together - alone).abs().max() > 1e-2


def test_the_group_norm_leaves_each_utterance_with_mean_0_and_variance_1() -> None:
    x, lengths = 3 + 5 * torch.randn(2, 6, 9), [9, 4]
    valid = torch.arange(9) < torch.tensor(lengths)[:, None]
    y = normalise_utterances(x, valid, torch.nn.GroupNorm(1, 6))
    for row, count in enumerate(lengths):
        torch.testing.assert_close(y[row, :, :count].mean(), torch.tensor(0.0), rtol=0, atol=1e-5)
        torch.testing.assert_close(y[row, :, :count].var(correction=0), torch.tensor(1.0), rtol=0, atol=1e-4)


@pytest.mark.parametrize("bf16", [False, True])
def test_a_conformer_model_alone_and_in_a_batch_has_the_same_log_posteriors(bf16: bool) -> None:
    chosen = ModelSettings(encoder="conformer", layers=2, hidden_size=16, subsampling_channels=4)
    model = AcousticModel(Config(model=chosen), token_count=7).eval()
    lengths = torch.tensor([16000, 9001, 400])
    waveforms = torch.randn(3, 16000)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        together, frames = model(waveforms, lengths)
        for row, length in enumerate(lengths):
            alone, count = model(waveforms[row : row + 1, :length], length[None])
            assert count.item() == frames[row].item()
            torch.testing.assert_close(together[row, : alone.shape[1]], alone[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("hidden_size", [128, 256])
@pytest.mark.parametrize("layers", [3, 5])
def test_the_same_settings_give_a_conformer_of_about_the_size_of_the_bidirectional_lstm(hidden_size, layers) -> None:
    recurrent, conformer = (
        AcousticModel(Config(model=ModelSettings(encoder=encoder, layers=layers, hidden_size=hidden_size)), 30)
        for encoder in ("recurrent", "conformer")
    )
    assert conformer.parameter_count == pytest.approx(recurrent.parameter_count, rel=0.1)


def test_a_conformer_whose_heads_cannot_share_the_width_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"model\.hidden_size.*multiple of 4.*30"):
        AcousticModel(Config(model=ModelSettings(encoder="conformer", hidden_size=30)), 7)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_recurrent_models_weights_are_named_as_in_model_folders_written_before(bidirectional: bool) -> None:
    model = AcousticModel(Config(model=ModelSettings(layers=1, bidirectional=bidirectional)), 7)
    names = {name.partition(".")[0] for name in model.state_dict()}
    assert names == {"cmvn", "subsampling", "layers", "norm", "output"}
    assert {"layers.0.norm.weight", "layers.0.rnn.weight_hh_l0"} < model.state_dict().keys()
