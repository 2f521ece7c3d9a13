"""bfloat16 in the network: other digits, the same shape of result, the same transcripts where the model is sure."""

import numpy as np
import torch

import asr
from asr.bundle.bundle import ModelBundle
from asr.features.batch import collate
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from tests.conftest import TINY, tone_speech


def test_bf16_rounds_the_network_and_nothing_around_it(tmp_path, rng):
    config = load_config(None, TINY)
    tokens = TokenTable.from_texts(["abcd "])
    ModelBundle(config, tokens, AcousticModel(config, len(tokens))).save(tmp_path)
    batch = collate([torch.from_numpy(tone_speech("ab cd", rng))], [[]], [""])
    exact, _ = asr.load(tmp_path, accelerator="cpu").decoder.log_posteriors(batch)
    rounded, _ = asr.load(tmp_path, accelerator="cpu", precision="bf16").decoder.log_posteriors(batch)
    assert rounded.dtype == exact.dtype == torch.float32
    difference = (rounded - exact).abs().max().item()
    assert 1e-5 < difference < 16 * torch.finfo(torch.bfloat16).eps
    np.testing.assert_allclose(rounded.exp().sum(-1), 1, atol=1e-5)
