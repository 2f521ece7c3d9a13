"""A server of a grammar: its texts or none of them, as Python finds them, for files and streams."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import numpy as np
import pytest
import soundfile

import asr
import asr.runtime
from asr.bundle.rejection import Rate, Rejection
from asr.errors import LanguageModelError, TokenError
from asr.serving.app import Service
from asr.serving.serve import named_models
from tests.unit.serving.running_server import running

websockets = pytest.importorskip("websockets", reason="the extra serve is not installed")
from websockets.sync.client import connect  # noqa: E402

URL = "/v1/audio/transcriptions"
RATE = Rate(0.01, 0.001, 0.05, 300)


@pytest.fixture(scope="module")
def grammar(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("grammar") / "commands.txt"
    path.write_text("ab\nd\ncd ab\ndbca\n")
    return path


@pytest.fixture(scope="module")
def folders(exported, model, grammar, recordings, tmp_path_factory) -> dict[str, Path]:
    """The model, exported and as trained, with a threshold at which some of the recordings' segments are rejected."""
    folder = tmp_path_factory.mktemp("models")
    copies = {"exported": shutil.copytree(exported, folder / "exported"), "trained": folder / "trained"}
    shutil.copytree(model, copies["trained"])
    for threshold in -(2.0 ** np.arange(0, 14)):
        for copy in copies.values():
            Rejection(threshold, asr.load_grammar(grammar).checksum, grammar.name, RATE, RATE).save(copy)
        recognizer = asr.runtime.load(copies["exported"])
        found = [recognizer.transcribe(path, grammar=grammar) for path in recordings]
        if any(one.words for one in found) and any(one.rejected for one in found):
            return copies
    raise AssertionError("no threshold rejects some of them and accepts others")


@pytest.fixture(scope="module")
def server(folders, grammar):
    models = tuple(named_models(list(folders.values()), grammar))
    with running(Service(models, accelerator="cpu")) as server:
        yield server


def ask(server, path, **fields):
    return httpx.post(server.url + URL, files={"file": path.read_bytes()}, data=fields, timeout=60)


def places(transcript):
    return [{"start": round(one.start_s, 3), "end": round(one.end_s, 3)} for one in transcript.rejected]


@pytest.mark.parametrize("name", ["exported", "trained"])
def test_answers_are_texts_of_the_grammar_or_say_where_none_was_said(server, folders, grammar, recordings, name):
    load = asr.runtime.load if name == "exported" else lambda folder: asr.load(folder, accelerator="cpu")
    recognizer = load(folders[name])
    for path in recordings:
        expected = recognizer.transcribe(path, grammar=grammar)
        plain = ask(server, path, model=name).json()
        assert plain == {"text": expected.text, "rejected": places(expected)}
        verbose = ask(server, path, model=name, response_format="verbose_json").json()
        assert [word["word"] for word in verbose["words"]] == [word.text for word in expected.words]
        assert verbose["rejected"] == places(expected)
        assert ask(server, path, model=name, response_format="text").text == f"{expected.text}\n"


def test_final_results_of_streams_are_texts_of_the_grammar_or_empty(server, folders, grammar, recordings):
    pcm, rate = soundfile.read(recordings[3], dtype="int16")
    samples = pcm.astype(np.float32) / np.float32(2**15)
    stream = asr.runtime.load(folders["exported"]).stream(
        [samples], sample_rate_hz=rate, end_silence_s=0.4, grammar=grammar
    )
    expected = [one.text for one in stream if one.is_final]
    with connect(server.url.replace("http", "ws") + "/v1/stream", proxy=None) as connection:
        connection.send(json.dumps({"sample_rate_hz": rate}))
        for start in range(0, len(pcm), rate):
            connection.send(pcm[start : start + rate].tobytes())
        connection.send(json.dumps({"type": "end"}))
        heard = [json.loads(message) for message in connection]
    finals = [one["text"] for one in heard if one["type"] == "final"]
    assert any(expected)
    # Empty ones come only where a partial result was shown before, and a server shows fewer of them.
    assert [text for text in finals if text] == [text for text in expected if text]


def test_expected_words_do_not_go_with_a_grammar(server, recordings):
    answer = ask(server, recordings[0], prompt="abba")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "prompt")
    assert "only the texts of a grammar" in answer.json()["error"]["message"]
    with connect(server.url.replace("http", "ws") + "/v1/stream", proxy=None) as connection:
        connection.send(json.dumps({"sample_rate_hz": 16000, "hotwords": ["abba"]}))
        told = json.loads(connection.recv())
    assert told["type"] == "error"
    assert "without hotwords" in told["message"]


def test_a_grammar_that_cannot_be_used_ends_the_server_with_its_error(exported, tmp_path):
    (tmp_path / "empty.txt").write_text("# nothing\n")
    with pytest.raises(LanguageModelError, match=r"empty\.txt: there is no phrase"):
        asr.serve(exported, grammar=tmp_path / "empty.txt", port=0, jobs=1)
    (tmp_path / "other.txt").write_text("ab\nzoo\n")
    with (
        pytest.warns(asr.GrammarWarning, match="no threshold is set"),
        pytest.raises(TokenError, match=r"other\.txt:2"),
    ):
        asr.serve(exported, grammar=tmp_path / "other.txt", port=0, jobs=1)
