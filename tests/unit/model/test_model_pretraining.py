"""What is predicted of audio without transcripts, compared with brute force, and what a loss may depend on."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import TINY, tone_speech
from torch import Tensor

from asr.config import Config
from asr.features.augment import Draw, Perturbation
from asr.features.batch import collate, frame_count
from asr.features.hidden_spans import HiddenSpans, draw_pretraining_view
from asr.model.acoustic import AcousticModel
from asr.model.pretraining import PretrainingModel, RandomProjectionQuantiser, stacked
from asr.settings_file import load_config

SMALL = [*TINY, "model.layers=2", "pretraining.codebook_size=50", "pretraining.codebooks=2", "pretraining.mask_ms=120"]
ONE_WAY = [*SMALL, "model.bidirectional=false", "features.cmvn=global"]
NAMES = ["masked", "autoregressive"]
KINDS = pytest.mark.parametrize("overrides", [SMALL, [*ONE_WAY, "model.lookahead_frames=2"]], ids=NAMES)


def model_of(config: Config) -> PretrainingModel:
    torch.manual_seed(3)
    return PretrainingModel(config).eval()


def waveforms_of(*texts: str) -> list[Tensor]:
    rng = np.random.default_rng(5)
    return [torch.from_numpy(tone_speech(text, rng)) for text in texts]


def view_of(config: Config, waveforms: Sequence[Tensor], tempos: Sequence[float] | None = None) -> Perturbation:
    frames = [frame_count(len(waveform), config.features) for waveform in waveforms]
    ids = [f"{len(waveform)}" for waveform in waveforms]
    return draw_pretraining_view(ids, frames, tempos or [1.0] * len(ids), config, Draw(1, 0))


@torch.no_grad()
def sums_of(model: PretrainingModel, config: Config, *waveforms: Tensor, tempos: Sequence[float] = ()) -> Tensor:
    view = view_of(config, waveforms, list(tempos) or None)
    batch = collate(waveforms, [[]] * len(waveforms), [""] * len(waveforms), view)
    return model(batch.waveforms, batch.lengths, view)


def test_a_code_is_the_nearest_of_all_vectors_on_the_sphere() -> None:
    quantiser = RandomProjectionQuantiser(12, 3, 40, seed=7)
    frames = torch.randn(5, 9, 12)
    codes = quantiser(frames)
    assert codes.shape == (5, 9, 3)
    for row, frame, book in np.ndindex(5, 9, 3):
        projected = frames[row, frame].double() @ quantiser.projections[book].double()
        projected /= projected.norm()
        distances = [float((projected - vector.double()).norm()) for vector in quantiser.codebooks[book]]
        assert int(codes[row, frame, book]) == int(np.argmin(distances))


def test_the_quantiser_depends_on_the_seed_alone_and_is_never_trained() -> None:
    torch.manual_seed(1)
    first = RandomProjectionQuantiser(12, 3, 40, seed=7)
    torch.manual_seed(2)
    second, other = (RandomProjectionQuantiser(12, 3, 40, seed=seed) for seed in (7, 8))
    assert all(torch.equal(*pair) for pair in zip(first.buffers(), second.buffers(), strict=True))
    assert not torch.equal(first.codebooks, other.codebooks)
    assert list(first.parameters()) == []


def test_stacked_frames_stand_side_by_side_and_what_is_missing_is_zero() -> None:
    features = torch.arange(1.0, 15.0).reshape(1, 7, 2)
    rows = stacked(features, 4)[0].tolist()
    assert rows == [[1, 2, 3, 4, 5, 6, 7, 8], [9, 10, 11, 12, 13, 14, 0, 0]]


def test_hidden_spans_do_not_overlap_and_lie_within_whole_output_frames() -> None:
    config = load_config(None, [*SMALL, "pretraining.mask_share=0.5", "model.subsampling=4"])
    for frames in [4, 7, 9, 30, 101, 1000]:
        view = draw_pretraining_view(["a"], [frames], [1.0], config, Draw(1, 0))
        assert isinstance(view, HiddenSpans)
        spans = [(start, start + width) for start, width in view.masks.times[0].tolist()]
        assert all(start % 4 == 0 and end % 4 == 0 for start, end in spans)
        assert spans[0][0] >= 0
        assert spans[-1][1] <= frames // 4 * 4
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
        hidden = sum(end - start for start, end in spans) // 4
        assert hidden == view.most_hidden > 0
        if frames >= 101:
            assert hidden == pytest.approx(0.5 * frames / 4, abs=3)


def test_what_is_hidden_depends_on_seed_epoch_and_utterance_alone() -> None:
    config = load_config(None, SMALL)

    def drawn(ids: list[str], frames: list[int], draw: Draw) -> tuple[Tensor, Tensor]:
        view = draw_pretraining_view(ids, frames, [1.0] * len(ids), config, draw)
        assert isinstance(view, HiddenSpans)
        only = view.only(ids.index("b"))
        return only.masks.times[only.masks.times[..., 1] > 0], only.noise

    alone, together = drawn(["b"], [80], Draw(1, 2)), drawn(["a", "b", "c"], [200, 80, 90], Draw(1, 2))
    assert all(torch.equal(*pair) for pair in zip(alone, together, strict=True))
    for other in (Draw(2, 2), Draw(1, 3)):
        assert not torch.equal(alone[1], drawn(["b"], [80], other)[1])


def test_masked_loss_and_hits_are_those_of_the_definition() -> None:
    config = load_config(None, SMALL)
    model, (waveform,) = model_of(config), waveforms_of("ab cd ab")
    view = view_of(config, [waveform])
    assert isinstance(view, HiddenSpans)
    features, frames = model.network.features(waveform[None], torch.tensor([len(waveform)]))
    heard = features.clone()
    hidden = []
    for start, width in view.masks.times[0].tolist():
        heard[0, start : start + width] = view.noise[0, start : start + width]
        hidden += list(range(start // 4, (start + width) // 4))
    logits = model.head(model.network.encode(heard, frames)[0])[0].detach()
    loss, hits = 0.0, 0.0
    for place in hidden:
        frame = features[0, 4 * place : 4 * place + 4].flatten()
        for book, code in enumerate(model.quantiser(frame).tolist()):
            scores = logits[place, 50 * book : 50 * book + 50]
            loss -= float(scores.log_softmax(0)[code]) / 2
            hits += float(int(scores.argmax()) == code) / 2
    expected = torch.tensor([[loss, hits, len(hidden)]])
    torch.testing.assert_close(sums_of(model, config, waveform), expected, atol=1e-3, rtol=1e-5)


def test_only_hidden_frames_are_predicted() -> None:
    """Codes of frames that are heard change nothing, those of hidden ones do."""
    config = load_config(None, SMALL)
    model, (waveform,) = model_of(config), waveforms_of("ab cd ab")
    view = view_of(config, [waveform])
    features, frames = model.network.features(waveform[None], torch.tensor([len(waveform)]))
    assert isinstance(view, HiddenSpans)
    start, width = view.masks.times[0, 0].tolist()
    seen: list[Tensor] = []
    model.quantiser.register_forward_hook(lambda _, given, __: seen.append(given[0]))
    loss = model._masked(model.quantiser, features, frames, view)
    hidden = stacked(features, 4)[0][sorted({f // 4 for s, w in view.masks.times[0].tolist() for f in range(s, s + w)})]
    assert torch.equal(seen[0][0], hidden), "only they reach the quantiser"
    changed = features.clone()
    changed[0, start : start + width] += 3 * torch.randn(width, features.shape[2])
    other = model._masked(model.quantiser, changed, frames, view)
    assert torch.equal(
        model.network.encode(view.hide(changed), frames)[0], model.network.encode(view.hide(features), frames)[0]
    )
    assert not torch.equal(other[0, 0], loss[0, 0]), "their codes are what is predicted"


def test_the_autoregressive_loss_is_that_of_the_definition() -> None:
    config = load_config(None, [*ONE_WAY, "pretraining.ahead_frames=2"])
    model, (waveform,) = model_of(config), waveforms_of("ab cd ab")
    features, frames = model.network.features(waveform[None], torch.tensor([len(waveform)]))
    predicted = model.head(model.network.encode(features, frames)[0])[0].detach()
    loss, count = 0.0, 0
    for place in range(len(predicted)):
        target = features[0, 4 * (place + 2) : 4 * (place + 3)]
        if len(target) == 4:
            loss += float((predicted[place] - target.flatten()).abs().mean())
            count += 1
    expected = torch.tensor([[loss, 0.0, count]])
    assert count > 10
    torch.testing.assert_close(sums_of(model, config, waveform), expected, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("lookahead", [0, 2])
@pytest.mark.parametrize("ahead", [1, 3])
def test_what_is_predicted_autoregressively_was_not_heard(lookahead: int, ahead: int) -> None:
    """No prediction depends on the frames it is compared with, nor on later ones."""
    overrides = [*ONE_WAY, f"model.lookahead_frames={lookahead}", f"pretraining.ahead_frames={ahead}"]
    config = load_config(None, overrides)
    model = model_of(config)
    for parameter in model.network.lookahead.parameters() if lookahead else ():
        torch.nn.init.normal_(parameter)  # at first it looks at no frame ahead
    features = torch.randn(1, 80, 40, requires_grad=True)
    predicted = model.head(model.network.encode(features, torch.tensor([80]))[0])
    for place in range(predicted.shape[1] - model.ahead):
        (gradient,) = torch.autograd.grad(predicted[0, place].square().sum(), features, retain_graph=True)
        first = 4 * (place + model.ahead)
        assert not gradient[0, first:].any()
        if ahead == 1:
            assert gradient[0, first - 1].any(), "the frame before it is heard"


@KINDS
@pytest.mark.parametrize("tempo", [1.0, 0.9])
def test_an_utterance_alone_has_the_sums_it_has_in_a_batch(overrides: list[str], tempo: float) -> None:
    config = load_config(None, overrides)
    model, waveforms = model_of(config), waveforms_of("ab", "ab cd abc d", "dd cc", "a")
    together = sums_of(model, config, *waveforms, tempos=[tempo] * 4)
    for row, waveform in enumerate(waveforms):
        alone = sums_of(model, config, waveform, tempos=[tempo])[0]
        torch.testing.assert_close(together[row], alone, atol=1e-4, rtol=1e-4)
        assert alone[2] > 0


@KINDS
def test_padding_is_never_predicted_and_what_it_holds_changes_nothing(overrides: list[str]) -> None:
    config = load_config(None, overrides)
    model, waveforms = model_of(config), waveforms_of("ab", "ab cd abc d")
    view = view_of(config, waveforms)
    batch = collate(waveforms, [[], []], ["", ""], view)
    loud = batch.waveforms.clone()
    loud[0, len(waveforms[0]) :] = torch.randn(loud.shape[1] - len(waveforms[0]))
    with torch.no_grad():
        silent, noisy = (model(given, batch.lengths, view) for given in (batch.waveforms, loud))
    assert torch.equal(silent, noisy)


def test_the_layers_are_those_of_a_recogniser_and_the_quantiser_gets_no_gradient() -> None:
    config = load_config(None, SMALL)
    model = model_of(config)
    recogniser = AcousticModel(config, 30).state_dict()
    shapes = {name: tensor.shape for name, tensor in model.network.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in recogniser.items() if not name.startswith("output.")}
    waveforms = waveforms_of("ab cd")
    view = view_of(config, waveforms)
    batch = collate(waveforms, [[]], [""], view)
    model(batch.waveforms, batch.lengths, view)[:, 0].sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
