"""Aligning texts with posteriors whose path is known, through a recogniser that only looks its posteriors up."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tone_recognizer import ToneDecoder, draw_phrases, record

import asr
from asr.config import Config
from asr.corpus.manifest import make_cut, read_manifest, write_manifest
from asr.errors import ManifestError, ShapeError, TokenError
from asr.inference.recognizer import Recognizer
from asr.inference.text_alignment import MOST_BYTES, align_cuts, bytes_needed
from asr.text.tokens import TokenTable

TABLE = TokenTable.from_texts(["ab c"])
# Frames of 0.1 s; "ab c" is emitted at frames 10, 12, 14 and 16 of 20, with 0.9.
EMITTED = {10: "a", 12: "b", 14: " ", 16: "c"}


def log_posteriors() -> torch.Tensor:
    probabilities = torch.full((20, len(TABLE)), 0.1 / (len(TABLE) - 1))
    for frame in range(20):
        probabilities[frame, TABLE.symbols.index(EMITTED[frame]) if frame in EMITTED else 0] = 0.9
    return probabilities.log()


@pytest.fixture
def recognizer() -> Any:
    def look_up(batch: Any) -> tuple[torch.Tensor, torch.Tensor]:
        rows = len(batch.lengths)
        return log_posteriors().expand(rows, -1, -1), torch.full((rows,), 20)

    decoder: Any = SimpleNamespace(
        bundle=SimpleNamespace(config=Config(), tokens=TABLE),
        sample_rate_hz=16000,
        model=SimpleNamespace(frame_shift_s=0.1),
        log_posteriors=look_up,
    )
    return Recognizer(decoder)


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", np.zeros(32000, np.float32), 16000)
    return tmp_path / "a.wav"


def test_what_was_said_fits_and_stands_at_its_time(recognizer: Any, audio: Path) -> None:
    aligned = recognizer.align(audio, "  AB   c ")
    assert (aligned.text, aligned.id) == ("ab c", str(audio))
    assert [word.text for word in aligned.words] == ["ab", "c"]
    assert [word.fit for word in aligned.words] == pytest.approx([0.9, 0.9])
    assert not any(word.fits_badly for word in aligned.words)
    assert aligned.fit == pytest.approx(1.0)
    # Their frames are 12 and 16, of 0.1 s: each word grows by 0.15 s, less the lateness of 0.07 s.
    assert aligned.words[0].end_s == pytest.approx(1.28)
    assert aligned.words[1].start_s == pytest.approx(1.38)


def test_a_word_that_was_not_said_fits_badly_and_the_others_well(recognizer: Any, audio: Path) -> None:
    aligned = recognizer.align(audio, "ab b")
    assert [word.fits_badly for word in aligned.words] == [False, True]
    assert aligned.worst_fit == aligned.words[1].fit < 0.1
    assert aligned.fit < 1.0


def test_words_that_the_text_lacks_lower_the_fit_of_the_whole(recognizer: Any, audio: Path) -> None:
    aligned = recognizer.align(audio, "ab")
    assert [word.fit for word in aligned.words] == pytest.approx([0.9])
    # Two frames whose best token is left out: blank has 0.025 there instead of 0.9.
    assert aligned.fit == pytest.approx((0.1 / (len(TABLE) - 1) / 0.9) ** (2 / 20))


def test_a_text_too_long_or_with_unknown_letters_is_an_error(recognizer: Any, audio: Path) -> None:
    with pytest.raises(ShapeError, match=r"a\.wav.*2 s are too short for a text of 21 tokens"):
        recognizer.align(audio, "abc" * 7)
    with pytest.raises(TokenError, match="'z'"):
        recognizer.align(audio, "az")


def test_the_one_word_that_the_model_cannot_spell_is_named(recognizer: Any, audio: Path) -> None:
    with pytest.raises(TokenError) as caught:
        recognizer.align(audio, "a b c " * 200 + "na\u00efve " + "a b c" * 200)
    assert str(caught.value).startswith("'na\u00efve' (word 601 of ")
    assert "no token for 'e', 'n', 'v', '\u00ef'" in str(caught.value)
    assert len(str(caught.value)) < 250


def test_an_utterance_that_would_not_fit_into_memory_is_refused_before_the_network_runs(
    recognizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recognizer.decoder, "log_posteriors", lambda batch: pytest.fail("the network ran"))
    path = tmp_path / "hour.wav"
    soundfile.write(path, np.full(3600 * 8000, 0.1, np.float32), 8000)
    write_manifest([make_cut("hour", path, "ab c" * 10_000, "s")], tmp_path / "m.jsonl")
    (aligned,) = align_cuts(recognizer.decoder, read_manifest(tmp_path / "m.jsonl"))
    assert (aligned.words, aligned.fit) == ((), 0.0)
    assert "2 GiB of memory; cut the recording" in aligned.reason
    with pytest.raises(ShapeError, match=r"the recording: .* 2 GiB of memory.*; a file may be longer"):
        recognizer.align(path.read_bytes(), "ab c" * 10_000)


def test_a_long_file_is_aligned_in_parts_and_a_word_that_was_not_said_moves_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loud_is_speech: None, rng: np.random.Generator
) -> None:
    phrases = draw_phrases(12, rng)
    extents = record(tmp_path / "talk.wav", phrases, rng)
    decoder: Any = ToneDecoder()
    recognizer = Recognizer(decoder)
    text = " ".join([*phrases[:4], "cacacaca", *phrases[4:]])
    monkeypatch.setattr("asr.inference.text_alignment.MOST_BYTES", 1 << 20)
    aligned = recognizer.align(tmp_path / "talk.wav", text)
    assert aligned.text == text
    assert [word.text for word in aligned.words if not word.fits_badly] == text.replace("cacacaca ", "").split()
    (unsaid,) = [word for word in aligned.words if word.fits_badly]
    assert (unsaid.text, unsaid.fit) == ("cacacaca", 0.0)
    assert 0.9 < aligned.fit <= 1.0
    said = iter(word for word in aligned.words if word is not unsaid)
    for phrase, extent in zip(phrases, extents, strict=True):
        words = [next(said) for _ in phrase.split()]
        assert (words[0].start_s, words[-1].end_s) == pytest.approx(extent, abs=0.2)


def test_a_quarter_of_an_hour_is_not_too_much() -> None:
    assert bytes_needed(Config(), 900.0, 15_000) < MOST_BYTES < bytes_needed(Config(), 3600.0, 40_000)


def test_a_manifests_utterances_come_in_its_order_and_one_that_cannot_be_fits_not_at_all(
    recognizer: Any, audio: Path, tmp_path: Path
) -> None:
    texts = ("ab c", "abc" * 7, "c", "ab 7")
    cuts = [make_cut(f"u{index}", audio, text, "speaker") for index, text in enumerate(texts)]
    write_manifest(cuts, tmp_path / "m.jsonl.gz")
    aligned = list(align_cuts(recognizer.decoder, read_manifest(tmp_path / "m.jsonl.gz").to_eager()))
    assert [item.id for item in aligned] == ["u0", "u1", "u2", "u3"]
    for item, reason in ((aligned[1], "too short for 21 tokens"), (aligned[3], "no token for '7'")):
        assert item.words == ()
        assert item.worst_fit == 0.0
        assert reason in item.reason
    assert aligned[0].reason == ""
    assert aligned[0].words[0].fit == pytest.approx(0.9)


def test_a_manifest_with_an_id_twice_is_refused_because_texts_are_looked_up_by_id(audio: Path, tmp_path: Path) -> None:
    line = json.dumps(make_cut("u", audio, "ab c", "s").to_dict())
    (tmp_path / "m.jsonl").write_text(f"{line}\n{line}\n")
    with pytest.raises(ManifestError, match=r"m\.jsonl: two utterances have the id 'u'"):
        asr.align_manifest(tmp_path / "model", tmp_path / "m.jsonl")


def test_a_manifest_is_aligned_with_the_worst_fit_first(
    recognizer: Any, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuts = [make_cut(f"u{index}", audio, text, "speaker") for index, text in enumerate(("ab c", "ab b", "ab 7", "ab"))]
    write_manifest(cuts, tmp_path / "m.jsonl.gz")
    monkeypatch.setattr("asr.inference.text_alignment.Decoder.load", lambda *_, **__: recognizer.decoder)
    aligned = asr.align_manifest("model", str(tmp_path / "m.jsonl.gz"))
    assert [item.id for item in aligned] == ["u2", "u1", "u3", "u0"]
    record = aligned[1].to_json()
    assert (record["id"], record["fits_badly"], record["text"]) == ("u1", ["b"], "ab b")
    assert record["words"][0] == {"text": "ab", "start_s": 0.88, "end_s": 1.28, "fit": 0.9}
    assert "reason" not in record
    assert aligned[0].to_json()["reason"].startswith("'7' (word 2 of 2): no token for '7'")
