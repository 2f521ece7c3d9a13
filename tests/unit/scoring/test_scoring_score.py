"""Scoring decode folders from Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import asr
from asr.errors import ScoringError
from asr.scoring.score import write_trn


def decode_folder(path: Path, hypothesis: str) -> Path:
    path.mkdir()
    write_trn({"u1": "one two three four", "u2": "five six"}, path / "ref.trn")
    write_trn({"u1": hypothesis, "u2": "five six"}, path / "hyp.trn")
    return path


def test_scoring_returns_the_figures_that_it_writes(tmp_path: Path) -> None:
    folder = decode_folder(tmp_path / "a", "one two three for")
    scored = asr.score(str(folder))
    assert scored.figures.wer == pytest.approx(1 / 6)
    assert scored.figures.cer == pytest.approx(1 / 26)
    assert json.loads((folder / "wer.json").read_text())["wer"] == scored.figures.wer
    assert (scored.folder, scored.card) == (folder, None)


def test_a_folder_that_is_not_there_is_an_error_that_says_who_writes_one(tmp_path: Path) -> None:
    with pytest.raises(ScoringError, match=r"ref\.trn: no such file; `asr decode` writes"):
        asr.score(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": "u1"}', "hyp.jsonl:1: not written by `asr decode`: words is missing; decode again"),
        ('{"id": "u1", "words": [{"confidence": 1.5}]}', r"words\.0\.confidence: 1\.5 is not at most 1"),
        ('{"id": "u1", "words": [{"confidence": "1"}]}', r"words\.0\.confidence: '1' is not a number"),
        ('{"id": ["u1"], "words": []}', r"id: \['u1'\] is not a text"),
        ('{"id": "u1", "words": [], "speaker": 7}', "speaker: 7 is not a text"),
        ('{"id": "u1", "words": []}\n{"id": "u1", "words": []}', "hyp.jsonl:2: .*utterance 'u1' occurs twice"),
        ("[" * 100_000, "nested deeper than"),
        ("1" * 10_000, "a number of 10000 digits"),
        ("[1", "decode again"),
        ('{"id": "u9", "words": []}', "'u9'"),
        ("7", "decode again"),
    ],
)
def test_a_damaged_file_of_recognised_words_is_an_error_that_names_it(tmp_path: Path, line: str, reason: str) -> None:
    folder = decode_folder(tmp_path / "a", "one")
    (folder / "hyp.jsonl").write_text(line + "\n")
    with pytest.raises(ScoringError, match=reason) as caught:
        asr.score(folder)
    assert "hyp.jsonl" in str(caught.value)


def test_line_separators_within_a_text_do_not_end_a_line_of_recognised_words(tmp_path: Path) -> None:
    folder = decode_folder(tmp_path / "a", "one")
    words = [{"text": "one\u2028", "confidence": 0.5}]
    record = {"id": "u1", "speaker": "a\x85b", "words": words}
    (folder / "hyp.jsonl").write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    assert asr.score(folder).figures.speakers == {"u1": "a\x85b"}
