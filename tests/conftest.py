"""Fixtures shared by all tests: real corpora where they are, synthesised audio where they are not."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch


def _corpus(name: str) -> Path:
    root = os.environ.get("ASR_CORPORA")
    if not root:
        pytest.skip(f"needs the {name} corpus: set ASR_CORPORA to the folder that holds {name}/")
    folder = Path(root).resolve() / name
    if not folder.is_dir():
        pytest.skip(f"needs the {name} corpus: {folder} does not exist")
    return folder


@pytest.fixture(scope="session")
def an4_dir() -> Path:
    return _corpus("an4")


@pytest.fixture(scope="session")
def yesno_dir() -> Path:
    return _corpus("yesno")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20240607)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
