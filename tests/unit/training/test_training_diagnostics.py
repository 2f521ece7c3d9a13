import copy
import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

import asr
from asr.bundle.bundle import ModelBundle
from asr.config import Config, ModelSettings
from asr.corpus.manifest import read_manifest
from asr.errors import ModelError, TrainingError
from asr.features.batch import Batch, collate
from asr.model.acoustic import AcousticModel
from asr.model.ctc import ctc_loss
from asr.text.tokens import TokenTable
from asr.training.diagnostics import (
    ENTRIES,
    LATE_SHARE,
    StateGradients,
    compare_with_fresh,
    diagnostic_batch,
    encode_with_states,
    noise_batch,
    state_gradients,
)
from asr.training.diagnostics import draw_diagnosis as draw

CELLS = ["lstm", "gru", "tanh", "relu"]
TOKENS = TokenTable.from_texts(["abcd"])


def small_model(**settings: object) -> AcousticModel:
    config = Config(model=ModelSettings(**{"layers": 2, "hidden_size": 12, "subsampling_channels": 4, **settings}))  # type: ignore[arg-type]
    return AcousticModel(config, len(TOKENS)).eval()


def short_batch(*samples: int) -> Batch:
    waveforms = [torch.randn(count) for count in samples]
    return collate(waveforms, [[1, 2, 3]] * len(samples), [f"u{count}" for count in samples])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [True, False])
def test_going_frame_by_frame_gives_the_log_posteriors_of_the_model(cell: str, bidirectional: bool) -> None:
    model = small_model(rnn=cell, bidirectional=bidirectional)
    features, frames = torch.randn(3, 90, 80), torch.tensor([90, 41, 7])
    expected, lengths = model.encode(features, frames)
    actual, same_lengths, states = encode_with_states(model, features, frames)
    assert torch.equal(lengths, same_lengths)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(actual[row, :length], expected[row, :length], rtol=0, atol=1e-5)
    assert list(states) == [
        (layer, way) for layer in (1, 2) for way in (("forward", "backward") if bidirectional else ("forward",))
    ]


def torch_module(model: AcousticModel, direction: str) -> nn.RNNBase:
    """Return torch's own one-directional module with the weights of one direction of the model's first layer."""
    ours, cell, suffix = model.layers[0].rnn, model.layers[0].cell, "_reverse" if direction == "backward" else ""
    kind = {"lstm": nn.LSTM, "gru": nn.GRU}.get(cell, nn.RNN)
    options = {"nonlinearity": cell} if kind is nn.RNN else {}
    module = kind(ours.input_size, ours.hidden_size, batch_first=True, **options).double()
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    module.load_state_dict({name: getattr(ours, name + suffix) for name in names})
    return module


def norm_at_a_state(model: AcousticModel, batch: Batch, direction: str, place: int, entry: int | None) -> float:
    """Return the gradient's norm at one hidden state of a one-layer model by cutting the sequence behind that state.

    What follows starts from it, so it is a leaf of the graph; all of it is done by torch's modules. Place and entry are
    counted along the direction. Without an entry the whole loss enters.
    """
    features, frames = model.features(batch.waveforms, batch.lengths)
    model = copy.deepcopy(model).double().requires_grad_(False)
    x, lengths = model.subsampling(features.double(), frames)
    layer, last = model.layers[0], x.shape[1] - 1
    inputs = {"forward": layer.norm(x), "backward": layer.norm(x).flip(1)}
    ways = ("forward", "backward") if layer.bidirectional else ("forward",)
    outputs = {way: torch_module(model, way)(inputs[way])[0].detach() for way in ways}

    module = torch_module(model, direction)
    _, state = module(inputs[direction][:, : place + 1])
    hidden, *cells = (y.detach() for y in (state if isinstance(state, tuple) else (state,)))
    hidden.requires_grad_()
    parts = [outputs[direction][:, :place], hidden.transpose(0, 1)]
    if place < last:
        rest = inputs[direction][:, place + 1 :]
        parts.append(module(rest, (hidden, *cells) if cells else hidden)[0])
    outputs[direction] = torch.cat(parts, 1)

    output = torch.cat([y.flip(1) if way == "backward" else y for way, y in outputs.items()], -1)
    log_posteriors = model.output(model.norm(x + output)).log_softmax(-1)
    loss = ctc_loss(log_posteriors, lengths, batch.tokens, batch.token_lengths).total
    if entry is not None:
        (entering,) = torch.autograd.grad(loss, log_posteriors, retain_graph=True)
        frame = entry if direction == "forward" else last - entry
        loss = (entering[:, frame] * log_posteriors[:, frame]).sum()
    return torch.autograd.grad(loss, hidden)[0].norm().item()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_norms_are_those_of_torchs_modules_when_the_sequence_is_cut_behind_each_state(cell, bidirectional) -> None:
    model = small_model(layers=1, rnn=cell, bidirectional=bidirectional)
    batch = short_batch(8000, 5600)
    lengths = model.frame_count(batch.lengths).tolist()
    found = state_gradients(model, batch)
    assert [item.direction for item in found] == (["forward", "backward"] if bidirectional else ["forward"])
    for item in found:
        assert len(item.by_distance) == int((1 - LATE_SHARE) * min(lengths))
        for distance in (0, 1, 4, len(item.by_distance) - 1):
            shares = []
            for row, length in enumerate(lengths):
                for entry in (length - 1 - int(LATE_SHARE * length * number / ENTRIES) for number in range(ENTRIES)):
                    here, there = (
                        norm_at_a_state(model, batch.only(row), item.direction, place, entry)
                        for place in (entry, entry - distance)
                    )
                    shares.append(there / here)
            assert item.by_distance[distance] == pytest.approx(sum(shares) / len(shares), rel=1e-4)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_the_whole_losss_norm_is_the_mean_over_the_valid_frames(bidirectional: bool) -> None:
    model = small_model(layers=1, rnn="gru", bidirectional=bidirectional)
    batch = short_batch(4000, 2400)
    lengths = model.frame_count(batch.lengths).tolist()
    for item in state_gradients(model, batch):
        norms = [
            # the loss is divided by the tokens of the batch, and both utterances have as many
            norm_at_a_state(model, batch.only(row), item.direction, place, None) / len(lengths)
            for row, length in enumerate(lengths)
            for place in range(length)
        ]
        assert item.whole == pytest.approx(sum(norms) / len(norms), rel=1e-4)


def test_the_model_that_is_looked_at_stays_as_it_is() -> None:
    model = small_model().train()
    before = copy.deepcopy(model.state_dict())
    state_gradients(model, short_batch(8000))
    assert model.training
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(
        torch.equal(before[name], tensor) and tensor.dtype == before[name].dtype
        for name, tensor in model.state_dict().items()
    )


def test_a_vanilla_rnn_with_a_contracting_matrix_forgets_sooner_than_an_lstm_with_open_gates() -> None:
    batch = noise_batch(len(TOKENS), 16000)
    batch = Batch(
        batch.waveforms[:3, :48000],
        batch.lengths[:3].clamp_max(48000),
        batch.tokens[:3, :9],
        batch.token_lengths[:3].clamp_max(9),
        batch.ids[:3],
    )
    vanilla = small_model(layers=1, rnn="tanh", bidirectional=False)
    lstm = small_model(layers=1, rnn="lstm", bidirectional=False)
    with torch.no_grad():
        vanilla.layers[0].rnn.weight_hh_l0 *= 0.7  # it was orthogonal: its largest singular value is now 0.7
        lstm.layers[0].rnn.bias_ih_l0[12:24] = 6.0
    (of_vanilla,), (of_lstm,) = state_gradients(vanilla, batch), state_gradients(lstm, batch)
    assert all(share <= 0.7**distance * (1 + 1e-9) for distance, share in enumerate(of_vanilla.by_distance))
    assert 0 < of_vanilla.half_life_frames <= math.log(2) / -math.log(0.7)
    assert of_lstm.half_life_frames > 10 * of_vanilla.half_life_frames


def test_a_relu_rnn_with_an_expanding_matrix_explodes_at_its_rate() -> None:
    """Its matrix is 1.1 times the identity: each unit that is on passes its gradient on 1.1-fold."""
    model = small_model(layers=1, rnn="relu", bidirectional=False)
    with torch.no_grad():
        model.layers[0].rnn.weight_hh_l0 *= 1.1
    (found,) = state_gradients(model, short_batch(64000))
    assert found.half_life_frames == pytest.approx(-math.log(2) / math.log(1.1), rel=0.05)


@pytest.mark.parametrize(("rate", "half_life"), [(0.5, 1.0), (0.25, 0.5), (2**-0.1, 10.0), (2.0, -1.0)])
def test_the_half_life_of_an_exponential_is_that_of_its_formula(rate: float, half_life: float) -> None:
    curve = (7.0, *(rate**k for k in range(1, 30)))  # distance 0 does not count
    assert StateGradients(1, "forward", curve, 1.0).half_life_frames == pytest.approx(half_life)


def test_a_gradient_that_neither_falls_nor_rises_has_no_half_life_and_one_that_is_gone_at_once_has_0() -> None:
    assert StateGradients(1, "forward", (1.0, 0.5, 0.5, 0.5), 1.0).half_life_frames == math.inf
    assert StateGradients(1, "forward", (1.0, 0.0, 0.0, 0.0), 1.0).half_life_frames == 0.0


def test_a_network_without_hidden_states_and_a_loss_without_gradient_are_errors() -> None:
    with pytest.raises(ModelError, match="conformer carries no hidden state"):
        state_gradients(small_model(encoder="conformer"), short_batch(8000))
    with pytest.raises(TrainingError, match="do not fit in their frames"):
        state_gradients(small_model(), collate([torch.randn(1600)], [[1, 2] * 50], ["too-long"]))
    with pytest.raises(TrainingError, match="no utterance"):
        diagnostic_batch([], TOKENS, Config())


def test_the_utterances_nearest_to_8_seconds_are_taken_with_their_transcripts(tone_corpus) -> None:
    cuts = list(read_manifest(tone_corpus / "train.jsonl.gz"))
    table = TokenTable.from_texts(["abcd "])
    batch = diagnostic_batch(cuts, table, Config())
    longest = sorted(cuts, key=lambda cut: -cut.duration)[: len(batch.ids)]  # all are shorter than 8 s
    assert batch.ids == [cut.id for cut in longest]
    assert [table.decode(row[:n].tolist()) for row, n in zip(batch.tokens, batch.token_lengths, strict=True)] == [
        cut.supervisions[0].text for cut in longest
    ]


def test_a_diagnosis_compares_with_a_fresh_model_and_is_drawn_and_written(tmp_path) -> None:
    config = Config(model=ModelSettings(layers=2, hidden_size=12, subsampling_channels=4, rnn="relu"))
    torch.manual_seed(config.training.seed)
    model = AcousticModel(config, len(TOKENS)).eval()
    bundle = ModelBundle(config, TOKENS, model)
    batch, random_state = short_batch(16000, 12000), torch.get_rng_state()
    found = compare_with_fresh(bundle, batch)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert found.trained == found.fresh  # the "trained" one is just such a fresh one
    assert len(found.trained) == 4
    assert found.utterances == ("u16000", "u12000")
    dead = dataclasses.replace(found.trained[0], by_distance=(1.0, *[0.0] * found.distance_frames))
    constant = dataclasses.replace(found.trained[0], by_distance=(1.0,) * (found.distance_frames + 1))
    found = dataclasses.replace(found, trained=(dead, constant, *found.trained[2:]))
    draw(found, tmp_path / "diagnosis.png")
    assert (tmp_path / "diagnosis.png").read_bytes().startswith(b"\x89PNG")
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert values["trained"][0]["half_life_frames"] == 0
    assert values["trained"][1]["half_life_frames"] is None
    assert len(values["fresh"][2]["by_distance"]) == found.distance_frames + 1


def test_a_model_folder_is_diagnosed_on_its_dev_data_and_the_files_say_what_is_returned(
    tone_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.training.diagnostics.UTTERANCES", 2)
    config = Config(model=ModelSettings(layers=1, hidden_size=8, subsampling_channels=4, rnn="gru"))
    tokens = TokenTable.from_texts(["abcd "])
    ModelBundle(config, tokens, AcousticModel(config, len(tokens))).save(tmp_path / "model")
    found = asr.diagnose(str(tmp_path / "model"), tone_corpus, tmp_path / "out")
    assert found.cell == "gru"
    assert all(name.startswith("dev-") for name in found.utterances)
    assert json.loads((tmp_path / "out" / "diagnosis.json").read_text()) == json.loads(json.dumps(found.to_json()))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"diagnosis.json", "diagnosis.png"}
    with pytest.raises(asr.ManifestError, match=r"dev\.jsonl\.gz: no such manifest"):
        asr.diagnose(tmp_path / "model", tmp_path / "nothing")
