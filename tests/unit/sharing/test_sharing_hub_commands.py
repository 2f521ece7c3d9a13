"""Commands and functions that are given a model by its name on the hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import tone_speech
from fake_hub import FakeHub

import asr

SIGNAL = tone_speech("ab cd", np.random.default_rng(0)).astype(np.float32)
NAME = "hf://anna/mine"
Call = Callable[..., tuple[int, str, str]]


def test_commands_take_a_name_of_the_hub_and_those_that_write_refuse_it(
    hub: FakeHub, folders: Path, pushed: str, tmp_path: Path, call: Call, succeed: Callable[..., str]
) -> None:
    soundfile.write(tmp_path / "a.wav", SIGNAL, 16000)
    options = (tmp_path / "a.wav", "--segment", "none")
    assert succeed("transcribe", pushed, *options) == succeed("transcribe", folders / "characters", *options)
    status, _, err = call("tune", NAME, tmp_path / "dev.jsonl.gz")
    assert status == 1
    assert "`asr pull hf://anna/mine --out DIR` makes a folder of it" in " ".join(err.split())
    status, _, err = call("push", folders / "characters", "exp/mine")
    assert (status, "expected hf://user/model" in err) == (1, True)


def test_what_is_made_of_a_model_of_the_hub_is_in_the_working_directory(
    pushed: str, folders: Path, tmp_path: Path, succeed: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = {*tmp_path.iterdir()}
    succeed("export", pushed, "--format", "torch", "--int8")
    succeed("pack", pushed, "--out", "mine.asr")
    assert {path.name for path in {*tmp_path.iterdir()} - before} - {"cache"} == {"mine-torch-int8", "mine.asr"}
    assert asr.load("mine.asr").transcribe(SIGNAL, sample_rate_hz=16000) == asr.load(folders / "characters").transcribe(
        SIGNAL, sample_rate_hz=16000
    )


def test_comparing_reads_the_settings_of_a_model_in_the_cache_and_downloads_none(
    hub: FakeHub, pushed: str, tmp_path: Path
) -> None:
    folders = [tmp_path / "x", tmp_path / "y"]
    for folder in folders:
        folder.mkdir()
        for name in ("ref.trn", "hyp.trn"):
            (folder / name).write_text("one (u1)\n")
        (folder / "run.json").write_text(json.dumps({"models": [pushed]}))
    asked = len(hub.asked)
    before = asr.compare(folders)
    assert len(hub.asked) == asked
    assert [system.settings for system in before.systems] == [{}, {}]
    assert all(f"{pushed}: not in the cache" in note for note in before.notes)
    asr.load(pushed)
    after = asr.compare(folders)
    assert after.systems[0].settings["text.tokens"] == "characters"
    assert (str(after.systems[0].model), after.notes) == (pushed, ())
