"""bfloat16 in the network: other digits, the same shape of result. When it is taken without being asked for."""

import json
import threading

import numpy as np
import pytest
import torch

import asr
from asr.bundle.bundle import ModelBundle
from asr.bundle.card import TrainingFacts
from asr.errors import ConfigError
from asr.features.batch import collate
from asr.inference import precision
from asr.inference.precision import settled_precision, time_formats
from asr.model.acoustic import AcousticModel
from asr.model.computation import Comparison
from asr.settings_file import load_config
from asr.text.tokens import TokenTable
from tests.conftest import TINY, tone_speech


def save_model(folder, trained_in=None):
    config = load_config(None, TINY)
    tokens = TokenTable.from_texts(["abcd "])
    facts = TrainingFacts(10, 60.0, 1, 6.0, 3, 0.1, 1, precision=trained_in)
    folder.mkdir(exist_ok=True)
    facts.save(folder)
    ModelBundle(config, tokens, AcousticModel(config, len(tokens))).save(folder)


def test_bf16_rounds_the_network_and_nothing_around_it(tmp_path, rng):
    save_model(tmp_path)
    batch = collate([torch.from_numpy(tone_speech("ab cd", rng))], [[]], [""])
    exact, _ = asr.load(tmp_path, accelerator="cpu").decoder.log_posteriors(batch)
    rounded, _ = asr.load(tmp_path, accelerator="cpu", precision="bf16").decoder.log_posteriors(batch)
    assert rounded.dtype == exact.dtype == torch.float32
    difference = (rounded - exact).abs().max().item()
    assert 1e-5 < difference < 16 * torch.finfo(torch.bfloat16).eps
    np.testing.assert_allclose(rounded.exp().sum(-1), 1, atol=1e-5)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def quicker(monkeypatch):
    """A dictionary whose `format` is found to be the quicker one; `timings` counts how often that was found out."""
    found = {"format": "bf16", "timings": 0}

    def timed(bundle, device):
        found["timings"] += 1
        return Comparison(found["format"], {"fp32": 0.2, "bf16": 0.1})

    monkeypatch.setattr(precision, "time_formats", timed)
    return found


@pytest.mark.parametrize(
    ("trained_in", "format", "taken", "timings"),
    [
        ("bf16", "bf16", "bf16", 1),
        ("bf16", "fp32", "fp32", 1),
        ("fp32", "bf16", "fp32", 0),
        (None, "bf16", "fp32", 0),
    ],
)
def test_bfloat16_is_taken_by_a_model_trained_in_it_where_it_is_quicker(
    tmp_path, cache, quicker, trained_in, format, taken, timings
):
    save_model(tmp_path / "model", trained_in)
    quicker["format"] = format
    assert asr.load(tmp_path / "model", accelerator="cpu").decoder.precision == taken
    assert quicker["timings"] == timings


def test_what_was_found_once_holds_for_the_next_runs(tmp_path, cache, quicker):
    save_model(tmp_path / "model", "bf16")
    assert settled_precision(tmp_path / "model", "cpu", "auto") == "bf16"
    quicker["format"] = "fp32"
    assert settled_precision(tmp_path / "model", "cpu", "auto") == "bf16"
    assert settled_precision(tmp_path / "model", "cpu", "fp32") == "fp32"
    assert quicker["timings"] == 1
    (kept,) = cache.rglob("*.json")
    assert json.loads(kept.read_text())["precision"] == "bf16"


def test_another_network_and_another_machine_are_timed_anew(tmp_path, cache, quicker, monkeypatch):
    save_model(tmp_path / "model", "bf16")
    settled_precision(tmp_path / "model", "cpu", "auto")
    (tmp_path / "model" / "config.yaml").write_text((tmp_path / "model" / "config.yaml").read_text() + "\n# other\n")
    settled_precision(tmp_path / "model", "cpu", "auto")
    assert quicker["timings"] == 2
    monkeypatch.setattr(precision, "processor_name", lambda: "another processor")
    settled_precision(tmp_path / "model", "cpu", "auto")
    assert quicker["timings"] == 3


@pytest.mark.parametrize("content", ["", "{", "[1]", '{"precision": "int8"}', '{"precision": ["bf16"]}', "\xff"])
def test_a_damaged_cache_is_made_anew(tmp_path, cache, quicker, content):
    save_model(tmp_path / "model", "bf16")
    settled_precision(tmp_path / "model", "cpu", "auto")
    (kept,) = cache.rglob("*.json")
    kept.write_text(content, encoding="latin-1")
    assert settled_precision(tmp_path / "model", "cpu", "auto") == "bf16"
    assert json.loads(kept.read_text())["precision"] == "bf16"
    assert quicker["timings"] == 2


def test_where_nothing_can_be_kept_it_is_float32(tmp_path, monkeypatch, quicker):
    save_model(tmp_path / "model", "bf16")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
    assert settled_precision(tmp_path / "model", "cpu", "auto") == "fp32"
    monkeypatch.setattr(precision, "cache_folder", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert settled_precision(tmp_path / "model", "cpu", "auto") == "fp32"
    assert quicker["timings"] == 0


def test_processes_that_begin_together_take_one_format(tmp_path, cache, quicker, monkeypatch):
    save_model(tmp_path / "model", "bf16")
    formats = iter(["bf16", "fp32"])
    begun = threading.Barrier(2)

    def timed(bundle, device):
        return Comparison(next(formats), {})

    def folder():
        begun.wait(timeout=30)
        return tmp_path / "cache"

    monkeypatch.setattr(precision, "time_formats", timed)
    monkeypatch.setattr(precision, "cache_folder", folder)
    taken = []
    workers = [
        threading.Thread(target=lambda: taken.append(settled_precision(tmp_path / "model", "cpu", "auto")))
        for _ in range(2)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert taken == ["bf16", "bf16"]


def test_damaged_facts_about_the_training_leave_float32(tmp_path, cache, quicker):
    save_model(tmp_path / "model", "bf16")
    for content in ("{", "[]", '{"precision": 7}'):
        (tmp_path / "model" / "training.json").write_text(content)
        assert settled_precision(tmp_path / "model", "cpu", "auto") == "fp32"


def test_an_unknown_format_is_refused_by_name(tmp_path):
    save_model(tmp_path)
    with pytest.raises(ConfigError, match=r"precision='int8': auto, fp32 or bf16"):
        asr.load(tmp_path, precision="int8")


def test_timing_draws_no_random_numbers_and_leaves_the_network_as_it_was(tmp_path):
    save_model(tmp_path)
    bundle = ModelBundle.load(tmp_path)
    before = torch.get_rng_state(), {name: tensor.clone() for name, tensor in bundle.model.state_dict().items()}
    found = time_formats(bundle, torch.device("cpu"))
    assert set(found.times_s) == {"fp32", "bf16"}
    assert torch.equal(torch.get_rng_state(), before[0])
    assert all(torch.equal(tensor, before[1][name]) for name, tensor in bundle.model.state_dict().items())


def test_log_posteriors_are_those_of_the_whole_batch_after_threads_were_tried(tmp_path, rng, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    save_model(tmp_path)
    batch = collate([torch.from_numpy(tone_speech(text, rng)) for text in ("ab cd", "a")], [[], []], ["", ""])
    expected = asr.load(tmp_path, accelerator="cpu").decoder.log_posteriors(batch)
    monkeypatch.setattr("asr.model.computation.FIRST_TRIAL_S", 0.0)
    torch.set_num_threads(2)
    try:
        found = asr.load(tmp_path, accelerator="cpu").decoder.log_posteriors(batch)
    finally:
        torch.set_num_threads(1)
    for wanted, tensor in zip(expected, found, strict=True):
        torch.testing.assert_close(tensor, wanted)
