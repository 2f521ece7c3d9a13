"""Weights of 8 bits stand for floats that are half a step away at most, and compute as those do."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from asr.bundle.bundle import ModelBundle, quantised, to_float32, to_int8
from asr.errors import ModelError
from asr.exporting.export import export_torch
from asr.features.batch import collate
from asr.inference.decoder import Decoder
from asr.inference.recognizer import Recognizer
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from tests.conftest import TINY, tone_speech

NETWORKS = {
    "lstm": (),
    "gru in one direction that looks ahead": (
        *("model.rnn=gru", "model.bidirectional=false"),
        *("model.lookahead_frames=3", "features.cmvn=global"),
    ),
    "conformer": ("model.encoder=conformer",),
}


def saved(folder, *overrides):
    config = load_config(None, [*TINY, *overrides])
    tokens = TokenTable.from_texts(["abcd "])
    model = AcousticModel(config, len(tokens)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    ModelBundle(config, tokens, model).save(folder)
    return model


def rounded(weight):
    """Return a weight rounded to 255 steps a row by torch's own simulation of that."""
    scale = weight.flatten(1).abs().amax(1) / 127
    return torch.fake_quantize_per_channel_affine(weight, scale, torch.zeros(len(weight)).int(), 0, -127, 127)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), min_size=1, max_size=4))
def test_a_quantised_weight_is_off_by_half_a_step_at_most(rows):
    weight = np.array(rows, np.float32)
    integers, scale = quantised(weight)
    assert integers.dtype == np.int8
    assert np.abs(integers.astype(int)).max() <= 127
    assert (np.abs(weight - integers * scale[:, None]) <= scale[:, None] * (0.5 + 1e-5)).all()
    assert (np.abs(weight).max(1) <= scale * np.abs(integers).max(1) * (1 + 1e-5) + 1e-30).all()


@pytest.mark.parametrize("overrides", NETWORKS.values(), ids=NETWORKS.keys())
def test_a_folder_in_int8_computes_with_the_floats_its_integers_stand_for(overrides, tmp_path, rng):
    model = saved(tmp_path / "model", *overrides)
    export_torch(tmp_path / "model", tmp_path / "int8", int8=True)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.copy_(rounded(parameter))
    batch = collate([torch.from_numpy(tone_speech(text, rng)) for text in ("ab cd", "a")], [[], []], ["", ""])
    expected = model(batch.waveforms, batch.lengths)[0].detach().numpy()
    recognizer = Recognizer(Decoder(ModelBundle.load(tmp_path / "int8")))
    np.testing.assert_allclose(recognizer.decoder.log_posteriors(batch)[0].numpy(), expected, atol=1e-5)


def test_what_is_no_weight_stays_as_it_is(tmp_path):
    tensors = saved(tmp_path).state_dict()
    stored = to_int8(tensors)
    for name, tensor in tensors.items():
        if name.startswith("cmvn.") or ".bias" in name or "norm." in name:
            assert torch.equal(stored[name], tensor)
        else:
            assert stored[name].dtype == torch.int8
    assert {name: tensor.shape for name, tensor in to_float32(stored).items()} == {
        name: tensor.shape for name, tensor in tensors.items()
    }


@pytest.mark.parametrize(
    "damage",
    [
        lambda tensors: tensors.pop("output.weight.scale"),
        lambda tensors: tensors.update({"output.weight.scale": tensors["output.weight.scale"][1:].clone()}),
        lambda tensors: tensors.update({"output.weight.scale": tensors["output.weight.scale"].int()}),
        lambda tensors: tensors.update({"stray.scale": torch.ones(3)}),
        lambda tensors: tensors.update({"output.bias": tensors["output.bias"].to(torch.int8)}),
    ],
    ids=["none", "one too few", "not floats", "of nothing", "integers that need some"],
)
def test_integers_without_their_scales_are_refused(damage, tmp_path):
    saved(tmp_path / "model")
    export_torch(tmp_path / "model", tmp_path / "int8", int8=True)
    tensors = load_file(tmp_path / "int8" / "model.safetensors")
    damage(tensors)
    save_file(tensors, tmp_path / "int8" / "model.safetensors")
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        ModelBundle.load(tmp_path / "int8")
