"""Small random encoders, in folders as transformers writes them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from asr.model.encoder import Encoder, EncoderForm

SHAPE = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "conv_dim": [16] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
BASE = {"feat_extract_norm": "group", "do_stable_layer_norm": False, "conv_bias": False}
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}


def write_encoder(
    folder: Path, *, seed: int = 0, do_normalize: bool = True, spread: float = 0.0, **changed: object
) -> Path:
    """Write a random wav2vec 2.0 encoder of the base kind, without transformers; `spread` disturbs all its weights."""
    settings = {"model_type": "wav2vec2", **SHAPE, **BASE, **changed}
    form = EncoderForm.model_validate_json(json.dumps(settings | {"do_normalize": do_normalize}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = Encoder(form)
        for parameter in encoder.parameters():
            parameter.data.add_(spread * torch.randn_like(parameter))
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": do_normalize, "sampling_rate": 16000}))
    save_file(_published_names(encoder.state_dict()), folder / "model.safetensors")
    return folder


def _published_names(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return tensors as transformers names them: WavLM's projections are three there."""
    published = {}
    for name, tensor in tensors.items():
        if ".attention.attention.in_proj_" in name:
            start, _, kind = name.partition("attention.in_proj_")
            for part, value in zip("qkv", tensor.chunk(3), strict=True):
                published[f"{start}{part}_proj.{kind}"] = value.clone()
        else:
            published[name.replace(".attention.attention.out_proj", ".attention.out_proj")] = tensor
    return published
