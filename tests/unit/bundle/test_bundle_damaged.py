"""Whatever chance makes of a file in a model folder or an export: it is used, or refused by name, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnx")

from damaged_models import KINDS, make_good_folders, outcomes, watched

COUNT = 20  # benchmarks/damaged_models.py makes 2,000


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    make_good_folders(folder)
    return folder


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_is_used_or_refused_by_its_folder_and_nothing_is_run_or_written(name: str, good: Path) -> None:
    for read in KINDS[name].readers:  # as they are
        read(good, good)
    refused = 0
    for outcome in outcomes(KINDS[name], good, COUNT):
        for error in outcome.refusals:
            refused += 1
            assert str(good) in str(error), "it names no file"
            assert len(str(error)) < 1500  # of settings, all keys are named
        assert outcome.noted == ()
    assert refused > COUNT // 4, "the damages are too small to test anything"


def test_what_is_run_and_written_is_noted(tmp_path: Path) -> None:
    with watched() as noted:
        (tmp_path / "x").write_text("x")
        (tmp_path / "x").rename(tmp_path / "y")
    assert [line.split()[0] for line in noted] == ["open", "os.rename"]
