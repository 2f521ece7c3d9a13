"""The exported network computes what torch does; integers keep it small; what cannot be exported is refused."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.config import load_config
from asr.data.pieces import train_pieces
from asr.data.tokens import TokenTable
from asr.errors import ModelError
from asr.inference.export import export_onnx
from asr.inference.onnx_folder import Description
from asr.inference.onnx_graph import quantised
from asr.model.acoustic import AcousticModel
from asr.model.bundle import ModelBundle

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

SMALL = ("model.layers=2", "model.hidden_size=24", "model.subsampling_channels=8", "features.mel_bins=40")
ONE_WAY = ("model.bidirectional=false", "features.cmvn=global")
NETWORKS = {
    "bidirectional lstm": ("model.rnn=lstm",),
    "bidirectional gru, global cmvn": ("model.rnn=gru", "features.cmvn=global"),
    "bidirectional relu, other frames": ("model.rnn=relu", "features.window_ms=23.7", "features.hop_ms=7"),
    "lstm that looks ahead": ("model.rnn=lstm", "model.lookahead_frames=5", *ONE_WAY),
    "gru with little subsampling": ("model.rnn=gru", "model.subsampling=2", *ONE_WAY),
    "tanh at 8 kHz with much subsampling": ("model.rnn=tanh", "model.subsampling=8", "features.sample_rate_hz=8000"),
}


def bundle_of(*overrides, tokens=None):
    """Return a model with random weights, none of them 0."""
    config = load_config(None, [*SMALL, *overrides])
    tokens = tokens or TokenTable.from_texts(["abcd "])
    model = AcousticModel(config, len(tokens)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    model.cmvn.set_moments(torch.randn(40) - 8, torch.rand(40) + 1)
    return ModelBundle(config, tokens, model, config.decode)


def export(bundle, folder, **options):
    bundle.save(folder / "model")
    return export_onnx(folder / "model", folder / "onnx", **options)


def session_of(folder):
    return onnxruntime.InferenceSession(folder / "onnx" / "model.onnx")


def log_posteriors_of(model, waveform):
    with torch.inference_mode():
        return model(torch.from_numpy(waveform)[None], torch.tensor([len(waveform)]))[0][0].numpy()


@pytest.mark.parametrize("overrides", NETWORKS.values(), ids=NETWORKS.keys())
def test_onnx_gives_the_log_posteriors_of_torch(overrides, tmp_path, rng):
    bundle = bundle_of(*overrides)
    export(bundle, tmp_path)
    session = session_of(tmp_path)
    for samples in (1, 159, 1600, 30001):
        waveform = (0.1 * rng.standard_normal(samples)).astype(np.float32)
        (exported,) = session.run(None, {"waveform": waveform})
        np.testing.assert_allclose(exported, log_posteriors_of(bundle.model, waveform), atol=2e-5)


@pytest.mark.parametrize("cell", ["lstm", "gru", "tanh"])
def test_the_integers_of_int8_stay_close_to_the_floats_they_stand_for(cell, tmp_path, rng):
    bundle = bundle_of(f"model.rnn={cell}")
    export(bundle, tmp_path, int8=True)
    waveform = (0.1 * rng.standard_normal(20000)).astype(np.float32)
    (exported,) = session_of(tmp_path).run(None, {"waveform": waveform})
    floats = log_posteriors_of(bundle.model, waveform)
    assert np.abs(exported - floats).mean() < 0.1 * floats.std(axis=1).mean()


def test_int8_takes_less_than_three_tenths_of_the_size(tmp_path):
    bundle = bundle_of("model.layers=3", "model.hidden_size=152")
    sizes = [export(bundle, tmp_path, int8=int8) for int8 in (False, True)]
    assert sizes[1] == (tmp_path / "onnx" / "model.onnx").stat().st_size
    assert sizes[0] == pytest.approx(4 * bundle.model.parameter_count, rel=0.03)
    assert sizes[1] < 0.3 * sizes[0]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), min_size=1, max_size=4),
    st.sampled_from([64, 127]),
)
def test_a_quantised_weight_is_off_by_half_a_step_at_most(rows, largest):
    weight = np.array(rows, np.float32)
    integers, scale = quantised(weight, largest)
    assert integers.dtype == np.int8
    assert np.abs(integers.astype(int)).max() <= largest
    assert (np.abs(weight - integers * scale[:, None]) <= scale[:, None] * (0.5 + 1e-5)).all()
    assert (np.abs(weight).max(1) <= scale * np.abs(integers).max(1) * (1 + 1e-5) + 1e-30).all()


def test_two_products_of_an_input_and_an_integer_weight_fit_into_16_bits(tmp_path):
    bundle = bundle_of("model.rnn=lstm")
    export(bundle, tmp_path, int8=True)
    graph = onnx.load(tmp_path / "onnx" / "model.onnx").graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    factors = [
        constants[name]
        for node in graph.node
        if node.op_type.startswith("DynamicQuantize")
        for name in node.input
        if name in constants and constants[name].dtype == np.int8
    ]
    assert sum(map(np.size, factors)) > 0.5 * bundle.model.parameter_count
    assert max(2 * 255 * np.abs(factor.astype(int)).max() for factor in factors) < 2**15


def test_the_description_holds_what_the_model_does(tmp_path):
    pieces = train_pieces({"the": 9, "cat": 5, "sat": 4}, load_config(None, ["text.tokens=bpe", "text.pieces=11"]).text)
    bundle = bundle_of("features.sample_rate_hz=8000", "features.hop_ms=12.5", tokens=pieces)
    export(bundle, tmp_path)
    description = Description.load(tmp_path / "onnx")
    assert description.sample_rate_hz == 8000
    assert math.isclose(description.frame_shift_s, 4 * 0.0125)
    assert description.tokens == pieces.texts
    assert any(text.startswith(" ") and len(text) > 1 for text in description.tokens)


def test_a_conformer_is_not_exported(tmp_path):
    with pytest.raises(ModelError, match=r"model\.encoder=conformer"):
        export(bundle_of("model.encoder=conformer"), tmp_path)
    assert not (tmp_path / "onnx").exists()


def test_a_model_folder_is_not_written_over(tmp_path):
    bundle_of().save(tmp_path)
    card = (tmp_path / "README.md").read_bytes()
    with pytest.raises(ModelError, match="name another"):
        export_onnx(tmp_path, tmp_path)
    assert (tmp_path / "README.md").read_bytes() == card


def test_the_command_exports_beside_the_model_and_says_how_to_go_on(call, tmp_path):
    bundle_of().save(tmp_path / "mine")
    status, out, _ = call("export", tmp_path / "mine", "--int8")
    assert status == 0
    assert f"python -m asr.runtime {tmp_path / 'mine-onnx-int8'}" in out
    assert Description.load(tmp_path / "mine-onnx-int8").sample_rate_hz == 16000
