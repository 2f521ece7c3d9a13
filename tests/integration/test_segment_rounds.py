"""`asr.segment` without a model: rounds of training, on tones that a small network learns in seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import LEARNS_FAST, TINY
from tone_recognizer import record

import asr
from asr.corpus.manifest import cut_text, load_manifest
from asr.segmenting.segment import ROUNDS


def test_a_few_utterances_with_times_are_enough_to_begin_with(
    tone_corpus: Path, tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, loud_is_speech: None
) -> None:
    monkeypatch.setattr("asr.segmenting.rounds._LEAST_HEARD_H", 0.0)
    phrases = [" ".join("".join(rng.choice(list("abcd"), 2)) for _ in range(5)) for _ in range(12)]
    extents = record(tmp_path / "talk.wav", phrases, rng)
    (tmp_path / "talk.txt").write_text("\n".join(phrases), encoding="utf-8")
    report = asr.segment(
        None,
        [(tmp_path / "talk.wav", tmp_path / "talk.txt")],
        tmp_path / "out",
        data=tone_corpus,
        rounds=2,
        config=asr.load_config(None, [*TINY, *LEARNS_FAST]),
        split=asr.SplitRule(dev_share=0.0, test_share=0.0),
        accelerator="cpu",
    )
    assert report.model == tmp_path / "out" / ROUNDS / "2" / "model"
    times = dict(zip(phrases, extents, strict=True))
    cuts = list(load_manifest(report.manifests.manifests["train"]))
    whole = [cut for cut in cuts if cut_text(cut) in times]
    assert len(whole) >= 9
    for cut in whole:
        assert (cut.start, cut.start + cut.duration) == pytest.approx(times[cut_text(cut)], abs=0.2)
    trained_on = {cut.id for cut in load_manifest(tmp_path / "out" / ROUNDS / "2" / "data" / "train.jsonl.gz")}
    timed = {cut.id for cut in load_manifest(tone_corpus / "train.jsonl.gz")}
    assert timed < trained_on
    held_out = {cut.id for split in ("dev", "test") for cut in load_manifest(tone_corpus / f"{split}.jsonl.gz")}
    assert trained_on.isdisjoint(held_out)
