"""The exported network computes what torch does; integers keep it small; what cannot be exported is refused."""

import math

import numpy as np
import pytest
import torch

import asr
from asr.bundle.bundle import ModelBundle
from asr.bundle.settings import save_calibration
from asr.errors import ConfigError, ModelError
from asr.exporting.export import export_onnx, export_torch
from asr.model.acoustic import AcousticModel
from asr.runtime.description import Description
from asr.settings_file import load_config
from asr.text.tokens import TokenTable, train_pieces
from asr.transcript.confidence import Calibration

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
    return ModelBundle(config, tokens, model)


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


def test_lstm_layers_multiply_unsigned_integers_which_overflow_on_no_processor(tmp_path):
    bundle = bundle_of("model.rnn=lstm")
    export(bundle, tmp_path, int8=True)
    graph = onnx.load(tmp_path / "onnx" / "model.onnx").graph
    constants = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    layers = [node for node in graph.node if node.op_type == "DynamicQuantizeLSTM"]
    assert len(layers) == len(bundle.model.layers)
    for node, layer in zip(layers, bundle.model.layers, strict=True):
        weights, recurrent, *_ = (constants[name] for name in node.input[1:3])
        scale, zero, recurrent_scale, recurrent_zero = (constants[name] for name in node.input[8:])
        for integers in (weights, recurrent, zero, recurrent_zero):
            assert integers.dtype == np.uint8
        for integers, step, middle, name in (
            (weights, scale, zero, "weight_ih_l0_reverse"),
            (recurrent, recurrent_scale, recurrent_zero, "weight_hh_l0_reverse"),
        ):
            floats = (integers[1].T.astype(int) - middle[1][:, None]) * step[1][:, None]
            cell_input_gate = getattr(layer.rnn, name).detach().numpy()[48:72]  # torch has it third, ONNX last
            np.testing.assert_allclose(floats[72:], cell_input_gate, atol=0.5 * step.max() + 1e-6)


def test_a_model_folder_in_int8_takes_less_than_three_tenths_of_the_size(tmp_path):
    bundle = bundle_of("model.layers=3", "model.hidden_size=152")
    bundle.save(tmp_path / "model")
    sizes = [export_torch(tmp_path / "model", tmp_path / f"{int8}", int8=int8) for int8 in (False, True)]
    assert sizes[1] == (tmp_path / "True" / "model.safetensors").stat().st_size
    assert sizes[0] == (tmp_path / "model" / "model.safetensors").stat().st_size
    assert sizes[1] < 0.3 * sizes[0]


def test_a_model_folder_comes_without_what_training_left_in_it(tmp_path):
    bundle_of().save(tmp_path / "model")
    kept = ("lm.arpa.gz", "lm.words.arpa.gz", "rnnlm/rnnlm.safetensors", "calibration.json")
    for name in (*kept, "log.jsonl", "checkpoints/newest.safetensors", "rnnlm/log.jsonl", "decode_test/hyp.trn"):
        (tmp_path / "model" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "model" / name).write_text(f"content of {name}")
    save_calibration(Calibration(0.1, 0.2, 0.3), tmp_path / "model")
    export_torch(tmp_path / "model", tmp_path / "out")
    written = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    own = {"config.yaml", "tokens.json", "decoder.yaml", "model.safetensors", "README.md"}
    assert written == {*own, *kept}
    for name in written - {"README.md"}:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


def test_the_description_holds_what_the_model_does(tmp_path):
    pieces = train_pieces({"the": 9, "cat": 5, "sat": 4}, load_config(None, ["text.tokens=bpe", "text.pieces=11"]).text)
    bundle = bundle_of("features.sample_rate_hz=8000", "features.hop_ms=12.5", tokens=pieces)
    export(bundle, tmp_path)
    description = Description.load(tmp_path / "onnx")
    assert description.sample_rate_hz == 8000
    assert math.isclose(description.frame_shift_s, 4 * 0.0125)
    assert (description.tokens, description.token_kind) == (pieces.symbols, "pieces")
    assert description.table.texts == pieces.texts
    assert any(text.startswith(" ") and len(text) > 1 for text in description.table.texts)


def test_a_conformer_is_not_exported(tmp_path):
    with pytest.raises(ModelError, match=r"model\.encoder=conformer"):
        export(bundle_of("model.encoder=conformer"), tmp_path)
    assert not (tmp_path / "onnx").exists()


@pytest.mark.parametrize("write", [export_onnx, export_torch])
def test_a_model_folder_is_not_written_over(write, tmp_path):
    bundle_of().save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ModelError, match="name another"):
        write(tmp_path, tmp_path, int8=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_command_exports_beside_the_model_and_says_how_to_go_on(call, tmp_path):
    bundle_of().save(tmp_path / "mine")
    status, out, _ = call("export", tmp_path / "mine", "--int8")
    assert status == 0
    assert f"python -m asr.runtime {tmp_path / 'mine-onnx-int8'}" in out
    assert Description.load(tmp_path / "mine-onnx-int8").sample_rate_hz == 16000


def test_a_model_is_exported_from_python_and_the_report_says_where_and_how_large(tmp_path):
    bundle_of().save(tmp_path / "mine")
    for format, name in (("onnx", "model.onnx"), ("torch", "model.safetensors")):
        report = asr.export(str(tmp_path / "mine"), format=format)
        assert (report.folder, report.format, report.int8) == (tmp_path / f"mine-{format}", format, False)
        assert report.size_bytes == (report.folder / name).stat().st_size
    assert asr.export(tmp_path / "mine", tmp_path / "out", int8=True).folder == tmp_path / "out"
    with pytest.raises(ConfigError, match="format='pickle': onnx or torch"):
        asr.export(tmp_path / "mine", format="pickle")


def test_a_model_that_is_named_by_a_dot_is_exported_beside_itself_too(call, tmp_path, monkeypatch):
    bundle_of().save(tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    status, out, _ = call("export", ".", "--format", "torch", "--int8")
    assert status == 0
    assert f"asr transcribe {tmp_path / 'mine-torch-int8'}" in out
    assert ModelBundle.load(tmp_path / "mine-torch-int8").tokens == ModelBundle.load(tmp_path / "mine").tokens
