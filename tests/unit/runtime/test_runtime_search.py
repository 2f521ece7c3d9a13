"""The runtime's beam search against the recogniser that needs torch: n-grams, lexicons, hotwords, confidences."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import asr
from asr.bundle.bundle import ModelBundle
from asr.bundle.settings import save_calibration
from asr.errors import ConfigError, LanguageModelError, ModelError, TokenError
from asr.exporting.export import export_onnx
from asr.lm.arpa import write_arpa
from asr.lm.estimate import token_ngram
from asr.lm.kneser_ney import kneser_ney
from asr.model.acoustic import AcousticModel
from asr.runtime import load
from asr.settings_file import load_config
from asr.text.tokens import TokenTable, WordTable, train_pieces
from asr.transcript.confidence import Calibration
from asr.transcript.transcript import Transcript
from tests.conftest import TINY, LoudnessDetector, tone_speech
from tests.unit.runtime.test_runtime_recognizer import WITHOUT

pytest.importorskip("onnx")

SENTENCES = ["ab cd", "dab bad cab", "add abba", "a bad cab", "cd ab"]
HOTWORDS = {"Abba!": 4.0, "dad cab": 6.0}
DECODE = ["decode.beam_size=7", "decode.lm_weight=0.6", "decode.insertion_bonus=0.4"]
TABLES: dict[str, Any] = {
    "characters": TokenTable.from_texts(["abcd "]),
    "bpe": train_pieces(
        {"abba": 5, "dad": 4, "cab": 9, "bad": 3}, load_config(None, ["text.tokens=bpe", "text.pieces=9"]).text
    ),
    "words": WordTable.from_texts(["ab cd dab bad cab add abba a dad"]),
}


def model_folder(folder: Path, tokens: str, settings: list[str]) -> Path:
    """Write a model that was never trained but has strong opinions, with n-grams and a calibration."""
    torch.manual_seed(3)
    config = load_config(None, [*TINY, *DECODE, f"text.tokens={tokens}", "text.remove=!", *settings])
    table = TABLES[tokens]
    model = AcousticModel(config, len(table)).eval()
    with torch.no_grad():
        model.output.weight.normal_(std=3.0)
    ModelBundle(config, table, model).save(folder)
    write_arpa(token_ngram(SENTENCES, table, 3), folder / "lm.arpa.gz")
    write_arpa(kneser_ney([text.split() for text in SENTENCES], 2), folder / "lm.words.arpa.gz")
    save_calibration(Calibration(0.3, 0.8, 1.2), folder)
    return folder


def assert_same(result: Transcript, expected: Transcript) -> None:
    assert expected.words
    assert result.text == expected.text
    for name in ("start_s", "end_s", "confidence"):
        values = [[getattr(word, name) for word in transcript.words] for transcript in (result, expected)]
        np.testing.assert_allclose(*values, atol=1e-4)
    assert [one.text for one in result.n_best] == [one.text for one in expected.n_best]
    scores = [[one.score for one in transcript.n_best] for transcript in (result, expected)]
    np.testing.assert_allclose(
        *scores, rtol=1e-5, atol=1e-3
    )  # the networks round otherwise, in each of a hundred frames


@pytest.mark.parametrize("hotwords", [{}, HOTWORDS], ids=["", "hotwords"])
@pytest.mark.parametrize("tokens", TABLES)
@pytest.mark.parametrize(
    "settings",
    [
        [],
        ["decode.blank_skip=0.9", "decode.token_floor=0.001"],
        ["decode.lm=words"],
        ["decode.lm=words", "decode.oov_penalty=2"],
        ["decode.lm_weight=0"],
    ],
    ids=["tokens", "thresholds", "words", "open", "weight 0"],
)
def test_words_times_confidences_and_scores_are_those_of_torch(
    settings: list[str], tokens: str, hotwords: Mapping[str, float], tmp_path: Path, rng: np.random.Generator
) -> None:
    if tokens == "words" and hotwords:
        hotwords = {"Abba!": 4.0}
    model = model_folder(tmp_path / "model", tokens, settings)
    export_onnx(model, tmp_path / "onnx")
    speech = np.concatenate([tone_speech(text, rng) for text in SENTENCES])
    wanted: dict[str, Any] = {"sample_rate_hz": 16000, "segment": "none", "n_best": 5, "hotwords": hotwords}
    expected = asr.load(model, accelerator="cpu", precision="fp32").transcribe(speech, **wanted)
    assert_same(load(tmp_path / "onnx").transcribe(speech, **wanted), expected)


@pytest.mark.parametrize("hotwords", [{}, HOTWORDS], ids=["", "hotwords"])
def test_a_stream_has_the_results_of_torch_however_it_is_cut(
    hotwords: Mapping[str, float], tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asr.audio.speech_detector.SpeechDetector", LoudnessDetector)
    monkeypatch.setattr("asr.runtime.recognizer.SpeechDetector", LoudnessDetector)
    model = model_folder(tmp_path / "model", "characters", [])
    export_onnx(model, tmp_path / "onnx")
    pause = np.zeros(16000, np.float32)
    speech = np.concatenate([part for text in SENTENCES[:3] for part in (tone_speech(text, rng), pause)])
    wanted: dict[str, Any] = {"sample_rate_hz": 16000, "hotwords": hotwords, "end_silence_s": 0.4}
    torch_model = asr.load(model, accelerator="cpu", precision="fp32")
    expected = list(torch_model.stream([speech], **wanted))
    for blocks in ([speech], np.split(speech, [1000, 1001, 30_000])):
        found = list(load(tmp_path / "onnx").stream(blocks, **wanted))
        assert [(one.text, one.is_final) for one in found] == [(one.text, one.is_final) for one in expected]
        finals = [[one for one in results if one.is_final] for results in (found, expected)]
        assert len(finals[0]) > 1
        for name in ("start_s", "end_s", "confidence"):
            values = [[getattr(word, name) for final in side for word in final.words] for side in finals]
            np.testing.assert_allclose(*values, atol=1e-4)


def test_greedy_search_is_there_for_who_asks_for_it_or_has_no_n_gram(tmp_path: Path, rng: np.random.Generator) -> None:
    model = model_folder(tmp_path / "model", "characters", [])
    speech = tone_speech("dab bad cab add abba", rng)
    recognizer = asr.load(model, accelerator="cpu", precision="fp32")
    expected = recognizer.transcribe(speech, sample_rate_hz=16000, segment="none", method="greedy")
    export_onnx(model, tmp_path / "onnx")
    assert (tmp_path / "onnx" / "lm.arpa.gz").read_bytes() == (model / "lm.arpa.gz").read_bytes()
    assert not (tmp_path / "onnx" / "lm.words.arpa.gz").exists()  # the settings do not name it
    asked = load(tmp_path / "onnx").transcribe(speech, sample_rate_hz=16000, segment="none", method="greedy")
    assert_same(asked, expected)
    (model / "lm.arpa.gz").unlink()
    export_onnx(model, tmp_path / "onnx")
    assert not (tmp_path / "onnx" / "lm.arpa.gz").exists()  # of the export before
    assert_same(load(tmp_path / "onnx").transcribe(speech, sample_rate_hz=16000, segment="none"), expected)


def test_the_search_needs_no_torch(tmp_path: Path, rng: np.random.Generator) -> None:
    model = model_folder(tmp_path / "model", "bpe", ["decode.lm=words", "decode.oov_penalty=2"])
    export_onnx(model, tmp_path / "onnx")
    soundfile.write(tmp_path / "speech.wav", tone_speech("dab bad cab", rng), 16000)
    code = f"""{WITHOUT}
import json, asr.runtime
recognizer = asr.runtime.load({str(tmp_path / "onnx")!r})
print(json.dumps(recognizer.transcribe({str(tmp_path / "speech.wav")!r}, hotwords={HOTWORDS!r}, segment="none").text))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = asr.load(model, accelerator="cpu", precision="fp32").transcribe(
        tmp_path / "speech.wav", hotwords=HOTWORDS, segment="none"
    )
    assert json.loads(done.stdout) == expected.text


def test_what_cannot_be_searched_is_refused_with_the_reason(tmp_path: Path) -> None:
    model = model_folder(tmp_path / "model", "characters", ["decode.lm=words"])
    export_onnx(model, tmp_path / "onnx")
    silence = np.zeros(16000, np.float32)
    recognizer = load(tmp_path / "onnx")
    for wanted, error, message in (
        ({"method": "best"}, ConfigError, "greedy or beam"),
        ({"method": "greedy", "hotwords": ["ab"]}, ConfigError, "need the beam search"),
        ({"hotwords": ["xyz"]}, TokenError, "'x'"),
        ({"n_best": -1}, ConfigError, "n_best=-1"),
    ):
        with pytest.raises(error, match=message):
            recognizer.transcribe(silence, sample_rate_hz=16000, **wanted)
    (tmp_path / "onnx" / "lm.words.arpa.gz").write_bytes(b"not an n-gram")
    with pytest.raises(LanguageModelError, match=r"lm\.words\.arpa\.gz"):
        load(tmp_path / "onnx").transcribe(silence, sample_rate_hz=16000)
    (tmp_path / "onnx" / "lm.words.arpa.gz").unlink()
    with pytest.raises(ModelError, match=r"there is no lm\.words\.arpa\.gz"):
        load(tmp_path / "onnx").transcribe(silence, sample_rate_hz=16000)
