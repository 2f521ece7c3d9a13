"""A pretrained encoder in an ONNX export computes what torch does, and the runtime takes it."""

import numpy as np
import pytest
import torch
from conftest import TINY
from small_encoder import BASE, LARGE, write_encoder

import asr
import asr.runtime
from asr.bundle.bundle import ModelBundle
from asr.bundle.encoder_folder import load_encoder
from asr.errors import ModelError
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import TokenTable

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

WAVLM = {"model_type": "wavlm", "num_buckets": 16, "max_bucket_distance": 20}
KINDS = {
    "wav2vec2-base": (BASE, True, ()),
    "hubert-large": ({"model_type": "hubert", **LARGE}, True, ("model.subsampling=2",)),
    "wavlm-base": (WAVLM | BASE, False, ("model.subsampling=8",)),
    "wavlm-large": (WAVLM | LARGE, True, ("model.rnn=gru",)),
    "wavlm, all layers trained": (WAVLM | LARGE, False, ("features.unfreeze_layers=3",)),
    "odd positions": (BASE | {"num_conv_pos_embeddings": 5}, True, ("features.unfreeze_layers=1",)),
}


def model_folder(folder, kind):
    """Write a model with random weights, none of them 0, behind an encoder with random weights."""
    changed, do_normalize, overrides = KINDS[kind]
    encoder = write_encoder(folder / "encoder", do_normalize=do_normalize, spread=0.1, **changed)
    config = load_config(None, [*TINY, f"features.encoder={encoder}", *overrides])
    tokens = TokenTable.from_texts(["abcd "])
    loaded, identity = load_encoder(str(encoder))
    model = AcousticModel(config, len(tokens), identity).eval()
    model.attach(loaded, fresh=True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.mix.logits.add_(torch.randn(4))
    ModelBundle(config, tokens, model).save(folder / "model")
    return folder / "model"


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_gives_the_log_posteriors_of_torch(kind, tmp_path, rng):
    folder = model_folder(tmp_path, kind)
    asr.export(folder, tmp_path / "onnx")
    assert "which is in the network |" in (tmp_path / "onnx" / "README.md").read_text()
    recognizer, model = asr.runtime.load(tmp_path / "onnx"), ModelBundle.load(folder).model
    for samples in (1, 319, 1600, 30001):
        waveform = (0.1 * rng.standard_normal(samples)).astype(np.float32)
        with torch.inference_mode():
            wanted, _ = model(torch.from_numpy(waveform)[None], torch.tensor([samples]))
        np.testing.assert_allclose(recognizer.log_posteriors(waveform), wanted[0].numpy(), atol=1e-4)


def test_8_bits_stay_close_and_are_smaller(tmp_path, rng):
    folder = model_folder(tmp_path, "wav2vec2-base")
    sizes = [asr.export(folder, tmp_path / name, int8=name == "int8").size_bytes for name in ("float", "int8")]
    assert sizes[1] < 0.6 * sizes[0]  # the encoder's convolutions, which are most of this small one, stay
    waveform = (0.1 * rng.standard_normal(20000)).astype(np.float32)
    floats, integers = (asr.runtime.load(tmp_path / name).log_posteriors(waveform) for name in ("float", "int8"))
    assert np.abs(integers - floats).mean() < 0.1 * floats.std(axis=1).mean()


def test_an_encoder_that_is_too_large_for_onnx_is_refused(tmp_path, monkeypatch):
    folder = model_folder(tmp_path, "wav2vec2-base")
    monkeypatch.setattr("asr.exporting.onnx_graph._MOST_BYTES", 10_000)
    with pytest.raises(ModelError, match=r"too many for ONNX; take --int8, or see `--format torch`"):
        asr.export(folder, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()
