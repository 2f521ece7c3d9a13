"""Calibration figures worked by hand, and a decode folder whose confidences are scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from asr.errors import ScoringError
from asr.reporting.report import to_json, to_text
from asr.scoring.calibration import render_calibration, score_calibration
from asr.scoring.score import read_score, write_trn


def test_ece_and_auc_are_those_of_a_case_worked_by_hand() -> None:
    # Bins 0.2 to 0.3: claims 0.25, half are right; 0.9 to 1: claims 0.95, 2 of 2 are right. Weighted by their words.
    score = score_calibration([0.25, 0.25, 0.9, 1.0], [True, False, True, True])
    assert score.ece == pytest.approx((2 * 0.25 + 2 * 0.05) / 4)
    # Of the three pairs of a right and the wrong word one is a tie.
    assert score.auc == pytest.approx((0.5 + 1 + 1) / 3)
    assert [(item.low, item.count, item.share_right) for item in score.bins] == [(0.2, 2, 0.5), (0.9, 2, 1.0)]


def test_where_all_words_are_right_there_is_no_area() -> None:
    score = score_calibration([0.5, 0.7], [True, True])
    assert score.auc is None
    assert "AUC -" in render_calibration(score)


@pytest.mark.parametrize(("confidences", "right"), [([], []), ([0.5], []), ([1.5], [True]), ([float("nan")], [True])])
def test_what_is_no_confidence_is_an_error(confidences: list[float], right: list[bool]) -> None:
    with pytest.raises(ScoringError):
        score_calibration(confidences, right)


def test_the_diagram_has_a_line_for_each_bin() -> None:
    lines = render_calibration(score_calibration([0.25, 0.25, 0.95], [True, False, True])).splitlines()
    assert lines[2].startswith("0.2 to 0.3        2   0.250   0.500  ##########|#########")
    assert lines[3].startswith("0.9 to 1.0        1   0.950   1.000")
    assert len(lines) == 4


def decode_folder(folder: Path, confidences: list[float]) -> Path:
    write_trn({"u1": "turn the light on", "u2": "off"}, folder / "ref.trn")
    write_trn({"u1": "turn a light on", "u2": ""}, folder / "hyp.trn")
    words = [{"text": "x", "confidence": confidence} for confidence in confidences]
    records = [{"id": "u1", "words": words}, {"id": "u2", "words": []}]
    (folder / "hyp.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_a_decode_folder_with_confidences_has_them_scored(tmp_path: Path) -> None:
    score = read_score(decode_folder(tmp_path, [0.95, 0.15, 0.95, 0.95]))
    assert score.calibration is not None
    assert score.calibration.auc == 1.0
    assert score.calibration.ece == pytest.approx((3 * 0.05 + 0.15) / 4)
    assert "ECE 0.075, AUC 1.000" in to_text(score)
    assert to_json(score)["confidences"]["auc"] == 1.0


def test_confidences_of_other_words_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match="3 confidences of 4 words"):
        read_score(decode_folder(tmp_path, [0.95, 0.15, 0.95]))


def test_without_confidences_the_report_has_none(tmp_path: Path) -> None:
    decode_folder(tmp_path, [0.9] * 4)
    (tmp_path / "hyp.jsonl").unlink()
    score = read_score(tmp_path)
    assert score.calibration is None
    assert "ECE" not in to_text(score)


def test_words_that_a_table_replaced_one_by_one_are_judged_and_others_left_out(tmp_path: Path) -> None:
    """colour became color, which is right; gonna became two words, of which neither has a confidence."""
    write_trn({"u1": "a color", "u2": "going to", "u3": "no"}, tmp_path / "ref.trn")
    write_trn({"u1": "a color", "u2": "going to", "u3": "yes"}, tmp_path / "hyp.trn")
    said = {"u1": (["a", "colour"], [0.9, 0.8]), "u2": (["gonna"], [0.1]), "u3": (["yes"], [0.3])}
    records = [
        {
            "id": name,
            "text": " ".join(words),
            "words": [{"text": word, "confidence": share} for word, share in zip(words, confidences, strict=True)],
        }
        for name, (words, confidences) in said.items()
    ]
    (tmp_path / "hyp.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    calibration = read_score(tmp_path).calibration
    assert calibration is not None
    assert calibration.ece == pytest.approx((0.1 + 0.2 + 0.3) / 3)
    assert calibration.auc == 1.0
