"""Whether two training runs came to the same: to the bit, or to rounding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

LAST = "checkpoints/last.safetensors"


def assert_same_run(expected: Path, actual: Path, kept: str = "model.safetensors") -> None:
    """Compare the kept weights, the last checkpoint and the log of two runs, to the bit."""
    for name in (kept, LAST):
        wanted, found = load_file(expected / name), load_file(actual / name)
        assert wanted.keys() == found.keys()
        for key, tensor in wanted.items():
            assert torch.equal(tensor, found[key]), key
    assert log_without_times(expected) == log_without_times(actual)


def assert_close(expected: Path, actual: Path) -> None:
    """Compare the last weights of two runs that sum in another order.

    They may differ by a tenth of what a step of Adam moves a weight at a learning rate of 1e-3. Adam makes the rounding
    of a gradient near 0 large; an AMD EPYC (Zen 3) differs by 1.3e-5.
    """
    wanted, found = load_file(expected / LAST), load_file(actual / LAST)
    assert wanted.keys() == found.keys()
    for name, tensor in wanted.items():
        if not name.startswith("optimizer."):
            torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-4, msg=lambda text, name=name: name + text)


def log_without_times(out: Path) -> list[dict[str, Any]]:
    """Return the log of a run but for what differs from run to run."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("train_s", "dev_s")} for line in lines]
