"""Whatever chance makes of a file of data or of a run: it is used, or refused, and nothing else is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from damaged_data import KINDS, make_good_files
from damaged_imports import IMPORT_KINDS
from damages import outcomes

# benchmarks/damaged_models.py makes 2,000 of each; these train, decode or score, or import several files.
SLOW = {"manifest": 6, "checkpoint": 15, "log.jsonl": 8, "hyp.jsonl": 8, "ref.trn": 8, "run.json": 6}
SLOW |= dict.fromkeys(IMPORT_KINDS, 20)
COUNT = 60


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good") / "files"
    make_good_files(folder)
    return folder


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.filterwarnings("ignore")
def test_a_damaged_file_is_used_or_refused_and_nothing_else_is_written(name: str, good: Path, tmp_path: Path) -> None:
    for number, read in enumerate(KINDS[name].readers):  # as they are
        (tmp_path / str(number)).mkdir()
        read(good, tmp_path / str(number))
    count = SLOW.get(name, COUNT)
    refused = 0
    for outcome in outcomes(KINDS[name], good, count):
        refused += bool(outcome.refusals)
        assert outcome.noted == ()
        for error in outcome.refusals:
            assert str(error)
            assert max(map(len, str(error).split("\n"))) <= 1000
    assert refused > count // 4 or name == "log.jsonl", "the damages are too small to test anything"
