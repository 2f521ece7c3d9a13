"""Files that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from asr.files import atomic_path, write_text


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX's")
def test_weights_may_be_read_by_whoever_may_read_any_new_file(tmp_path: Path) -> None:
    plain, weights = tmp_path / "plain", tmp_path / "weights.safetensors"
    before = os.umask(0o022)
    try:
        plain.write_text("as the system makes it")
        with atomic_path(weights) as temporary:
            save_file({"weight": torch.zeros(2)}, temporary)
    finally:
        os.umask(before)
    assert weights.stat().st_mode == plain.stat().st_mode


def test_what_fails_half_way_leaves_the_file_before_it_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "notes.txt"
    write_text(path, "first")

    def fail_half_way() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("sec")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert path.read_text(encoding="utf-8") == "first"
    assert list(path.parent.iterdir()) == [path]


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 251 + ".txt")  # 255 bytes
    write_text(path, "long")
    assert path.read_text(encoding="utf-8") == "long"
