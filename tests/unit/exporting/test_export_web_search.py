"""The beam search that runs in the browser has Python's hypotheses and scores, with the n-gram and without."""

import json
import subprocess
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import asr
import asr.runtime
from asr.bundle.bundle import ModelBundle
from asr.decoding.beam import BeamOptions, beam_search, merge_texts
from asr.decoding.ngram_scorer import TokenNgramScorer
from asr.decoding.scorers import WeightedScorer
from asr.lm.arpa import read_arpa, write_arpa
from asr.lm.estimate import token_ngram
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from tests.conftest import TINY

pytest.importorskip("onnx")

TABLE = TokenTable.from_texts(["abcd "])
SENTENCES = ["abc dab", "abba", "cad cab", "dab", "abc abc", "bad cab dab", "a cab"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory, onnxruntime_web):
    folder = tmp_path_factory.mktemp("search")
    config = load_config(None, [*TINY, "decode.lm_weight=0.7", "decode.insertion_bonus=0.4", "decode.beam_size=8"])
    ModelBundle(config, TABLE, AcousticModel(config, len(TABLE))).save(folder / "model")
    write_arpa(token_ngram(SENTENCES, TABLE, 4), folder / "model" / "lm.arpa.gz")
    asr.export(folder / "model", folder / "web", format="web")
    (folder / "web" / "node_modules").symlink_to(onnxruntime_web)
    return folder / "web"


def answers(folder, requests):
    runner = Path(__file__).parents[2] / "web_recognizer.mjs"
    command = ["node", str(runner), str(folder)]
    ran = subprocess.run(command, input=json.dumps(requests), capture_output=True, text=True, timeout=250)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def draw_log_posteriors(rng, frames):
    """Return log-posteriors `(frame, token)` of a network that is sure now and then, most often of the blank."""
    logits = rng.standard_normal((frames, len(TABLE))) * rng.choice([1.0, 4.0, 9.0], (frames, 1))
    logits[:, 0] += 2
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


def assert_same(found, expected):
    assert [tuple(one["tokens"]) for one in found] == [one.tokens for one in expected]
    np.testing.assert_allclose([one["score"] for one in found], [one.score for one in expected], atol=1e-4)


def test_hypotheses_and_scores_are_those_of_python(exported, tmp_path, rng):
    arpa = exported / "model" / "lm.arpa.gz"
    scorer = TokenNgramScorer(read_arpa(arpa), TABLE)
    requests, expected = [], []
    settings = product((1, 3, 16), (0.0, 0.7), (1.0, 0.9), (0.0, 1e-3))
    for place, (size, weight, blank_skip, token_floor) in enumerate(settings):
        log_posteriors = draw_log_posteriors(rng, 5 + 3 * place)
        log_posteriors.tofile(tmp_path / f"{place}")
        options = BeamOptions(size, 0.4, blank_skip, token_floor)
        requests.append({"kind": "search", "path": str(tmp_path / f"{place}"), "size": len(TABLE), "arpa": str(arpa)})
        requests[-1]["options"] = {**asdict(options), "lm_weight": weight}
        scorers = [WeightedScorer(scorer, weight)]
        (found,) = beam_search(log_posteriors[None], np.array([len(log_posteriors)]), options, scorers)
        expected.append(merge_texts(found, TABLE))
    for found, wanted in zip(answers(exported, requests), expected, strict=True):
        assert_same(found, wanted)
    assert max(len(wanted) for wanted in expected) > 8
    assert any(wanted[0].tokens for wanted in expected)


def test_a_search_without_frames_finds_the_empty_text(exported, tmp_path):
    (tmp_path / "none").write_bytes(b"")
    (found,) = answers(exported, [{"kind": "search", "path": str(tmp_path / "none"), "size": len(TABLE)}])
    assert [one["tokens"] for one in found] == [[]]


def test_the_model_is_searched_with_its_own_settings_and_n_gram(exported, tmp_path, rng):
    log_posteriors = draw_log_posteriors(rng, 60)
    log_posteriors.tofile(tmp_path / "raw")
    expected = asr.runtime.load(exported / "model")._search(None, {})(log_posteriors)
    (found,) = answers(exported, [{"kind": "search", "path": str(tmp_path / "raw"), "size": len(TABLE)}])
    assert_same(found, expected)
    assert len(expected) > 1, "the greedy search has one"


def test_without_its_n_gram_a_model_is_searched_greedily_as_in_python(exported, tmp_path, rng):
    log_posteriors = draw_log_posteriors(rng, 60)
    log_posteriors.tofile(tmp_path / "raw")
    model = tmp_path / "model"
    model.mkdir()
    for path in (exported.parent / "model").iterdir():
        if path.is_file() and path.name != "lm.arpa.gz":
            (model / path.name).write_bytes(path.read_bytes())
    asr.export(model, tmp_path / "web", format="web")
    (tmp_path / "web" / "node_modules").symlink_to((exported / "node_modules").resolve())
    expected = asr.runtime.load(tmp_path / "web" / "model")._search(None, {})(log_posteriors)
    (found,) = answers(tmp_path / "web", [{"kind": "search", "path": str(tmp_path / "raw"), "size": len(TABLE)}])
    assert_same(found, expected)
