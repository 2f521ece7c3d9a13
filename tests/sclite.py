"""NIST's sclite, what it prints, and texts with errors for it."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from asr.scoring.error_counts import ErrorCounts


def sctk(folder: Path, *arguments: object, given: str = "") -> str:
    if shutil.which("sctk") is None:
        pytest.skip("needs NIST's sclite: apt-get install sctk")
    command = ["sctk", *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, input=given, capture_output=True, encoding="latin-1", check=True)
    return done.stdout


def corrupted(rng: random.Random, reference: list[str], rate: float, words: list[str]) -> list[str]:
    """Return a text with errors of a rate of about `rate`: half of them substitutions."""
    text = []
    for word in reference:
        while rng.random() < rate / 4:
            text.append(rng.choice(words))
        chance = rng.random()
        if chance < rate / 2:
            text.append(rng.choice(words))
        elif chance > rate * 3 / 4:
            text.append(word)
    return text


def rows_of_raw_summary(path: Path) -> dict[str, tuple[int, ErrorCounts]]:
    """Return utterances and errors by speaker, and of all as `Sum`."""
    rows = {}
    for line in path.read_text().splitlines():
        cells = line.replace("|", " ").split()
        if len(cells) == 9 and all(cell.isdigit() for cell in cells[1:]):
            sentences, words, _, substitutions, deletions, insertions = map(int, cells[1:7])
            rows[cells[0]] = (sentences, ErrorCounts(substitutions, deletions, insertions, words))
    return rows
