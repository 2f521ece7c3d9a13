"""Posteriors in 8 bits: what is kept, and what a file of them gives back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from asr.errors import ScoringError
from asr.transcript.posteriors import SparsePosteriors, TokenFrames, read_posteriors, write_posteriors

MODEL = TokenFrames(tokens=["<blank>", *"abcdefghi"], frame_shift_s=0.04)


def random_posteriors(rng: np.random.Generator, frames: int, tokens: int = 10) -> np.ndarray:
    return rng.dirichlet(np.full(tokens, 0.2), frames)


def dense(sparse: SparsePosteriors, tokens: int = 10) -> np.ndarray:
    posteriors = np.zeros((len(sparse.counts), tokens))
    entries = iter(zip(sparse.tokens, sparse.levels, strict=True))
    for frame, count in enumerate(sparse.counts):
        for _ in range(count):
            token, level = next(entries)
            posteriors[frame, token] = level / 255
    assert list(entries) == []
    return posteriors


def test_what_is_kept_differs_from_the_posteriors_by_less_than_one_per_cent(rng: np.random.Generator) -> None:
    posteriors = random_posteriors(rng, 200)
    sparse = SparsePosteriors.of(np.log(np.maximum(posteriors, 1e-30)).astype(np.float32))
    assert np.abs(dense(sparse) - posteriors).max() < 0.01
    assert len(sparse.tokens) == (posteriors > 1.5 / 255).sum()


def test_a_frame_without_any_probable_token_keeps_none() -> None:
    sparse = SparsePosteriors.of(np.log(np.full((2, 1000), 1e-3, np.float32)))
    assert (sparse.counts.tolist(), len(sparse.tokens)) == ([0, 0], 0)


def test_a_file_gives_back_what_was_written(tmp_path: Path, rng: np.random.Generator) -> None:
    written = {
        f"u {frames}": SparsePosteriors.of(np.log(random_posteriors(rng, frames) + 1e-9).astype(np.float32), model)
        for frames, model in ((7, 0), (0, 1), (3, 1))
    }
    write_posteriors(tmp_path / "p", [MODEL, MODEL], written)
    read = read_posteriors(tmp_path / "p")
    assert (read.models, list(read.utterances)) == ((MODEL, MODEL), list(written))
    for name, sparse in written.items():
        found = read.utterances[name]
        assert found.model == sparse.model
        np.testing.assert_array_equal(dense(found), dense(sparse))


def test_a_folder_without_utterances_has_a_file_too(tmp_path: Path) -> None:
    write_posteriors(tmp_path / "p", [MODEL], {})
    assert read_posteriors(tmp_path / "p").utterances == {}


def test_a_file_whose_parts_do_not_belong_together_is_refused(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "p"
    sparse = SparsePosteriors.of(np.log(random_posteriors(rng, 5) + 1e-9).astype(np.float32))
    write_posteriors(path, [MODEL], {"u": sparse})
    tensors = load_file(path)
    about = {"ids": ["u"], "models": [{"tokens": ["<blank>", "a"], "frame_shift_s": 0.04}]}
    good = {"ids": ["u"], "models": [MODEL.model_dump()]}
    for changed, metadata in (
        ({"frames": np.array([4], np.uint32)}, good),
        ({"tokens": tensors["tokens"][:-1]}, good),
        ({"levels": tensors["levels"].astype(np.int16)}, good),
        ({"models": np.array([1], np.uint8)}, good),
        ({}, about),  # tokens beyond the model's
        ({}, {**good, "ids": ["u", "v"]}),
        ({}, {**good, "models": []}),
    ):
        save_file(tensors | changed, path, {"posteriors": json.dumps(metadata)})
        with pytest.raises(ScoringError, match="decode again"):
            read_posteriors(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ScoringError, match="decode again"):
        read_posteriors(path)
