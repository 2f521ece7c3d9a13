"""A recogniser in other processes and threads: it says the same as alone, or says at once why it cannot."""

from __future__ import annotations

import copy
import dataclasses
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import TINY, tone_speech

import asr
from asr import errors
from asr.bundle.bundle import ModelBundle
from asr.inference.decoder import Decoder
from asr.lm.arpa import write_arpa
from asr.lm.estimate import token_ngram
from asr.model.acoustic import AcousticModel
from asr.settings_file import load_config
from asr.text.tokens import TokenTable

TOKENS = TokenTable.from_texts(["abcd "])


def talkative() -> ModelBundle:
    """Return a model whose weights are so large that it hears something in everything."""
    config = load_config(None, TINY)
    model = AcousticModel(config, len(TOKENS)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.5 * torch.randn_like(parameter)
        [bias] = [p for name, p in model.named_parameters() if name.endswith("bias") and p.shape == (len(TOKENS),)]
        bias[:2] -= 8.0  # of the blank and the space
    return ModelBundle(config, TOKENS, model)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    talkative().save(tmp_path / "model")
    write_arpa(token_ngram(["ab cd", "da b"], TOKENS, 3), tmp_path / "model" / "lm.arpa.gz")
    return tmp_path / "model"


@pytest.fixture
def recordings(rng: np.random.Generator) -> list[np.ndarray]:
    return [tone_speech(text, rng) for text in ("ab cd", "d", "abcd dcba abcd", "c a", "bb", "dad cab")]


def said(recognizer: asr.Recognizer, recording: np.ndarray, **arguments: object) -> dict[str, object]:
    return dataclasses.asdict(recognizer.transcribe(recording, sample_rate_hz=16000, segment="none", **arguments))


def test_a_pickled_recognizer_comes_back_with_its_settings_from_wherever_it_is_unpickled(
    folder: Path, recordings: list[np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder.parent)
    recognizer = asr.load(
        folder.name, accelerator="cpu", decode={"beam_size": 3, "lm_weight": 0.7, "insertion_bonus": 4}
    )
    expected = [said(recognizer, recording) for recording in recordings]
    assert any(transcript["words"] for transcript in expected)
    assert expected != [said(asr.load(folder, accelerator="cpu"), recording) for recording in recordings]
    content = pickle.dumps(recognizer)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    again = pickle.loads(content)
    assert [said(again, recording) for recording in recordings] == expected
    assert again.decoder.bundle.config == recognizer.decoder.bundle.config
    assert len(content) < (folder / "model.safetensors").stat().st_size / 2  # the name of the folder, not the weights


def test_a_model_that_is_in_no_folder_says_why_it_cannot_be_pickled() -> None:
    recognizer = asr.Recognizer(Decoder(talkative()))
    with pytest.raises(asr.ModelError, match="not loaded from a folder cannot be pickled"):
        pickle.dumps(recognizer)
    assert copy.copy(recognizer).decoder is recognizer.decoder


@pytest.mark.parametrize(
    "kind", [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.AsrError)]
)
def test_errors_come_back_from_other_processes(kind: type[errors.AsrError]) -> None:
    error = kind("why", 3) if kind is errors.StageError else kind("why")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (kind, "why", vars(error))


def test_threads_that_share_a_recognizer_hear_what_one_alone_hears(folder: Path, recordings: list[np.ndarray]) -> None:
    recognizer = asr.load(folder, accelerator="cpu")
    ways = [{"method": "greedy"}, {"method": "beam"}, {"hotwords": {"ab": 3.0}}, {"hotwords": ["cd", "d a"]}]
    work = [(recording, way) for _ in range(3) for recording in recordings for way in ways]
    alone = [said(recognizer, recording, **way) for recording, way in work]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda item: said(recognizer, item[0], **item[1]), work))
    assert together == alone


FORKED = """
import functools, multiprocessing, sys
import torch
torch.set_num_threads(2)
import asr

if __name__ == "__main__":
    folder, *files = sys.argv[1:]
    recognizer = asr.load(folder, accelerator="cpu")
    transcribe = functools.partial(recognizer.transcribe, segment="none")  # tones are no speech
    alone = [transcribe(file) for file in files]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        together = pool.map_async(transcribe, files).get(timeout=100)
        again = multiprocessing.get_context("fork").Queue()
        process = multiprocessing.get_context("fork").Process(
            target=lambda: again.put([transcribe(file) for file in files])
        )
        process.start()
        copied = again.get(timeout=100)
        process.join()
    heard = [[[(word.text, word.start_s, word.end_s) for word in item.words] for item in way]
             for way in (alone, together, copied)]
    assert heard[0] == heard[1] == heard[2] and any(heard[0]), heard
    assert torch.get_num_threads() == 2
    print("equal")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_recognizer_works_in_processes_that_are_forked_after_it_has_computed_with_two_threads(
    folder: Path, recordings: list[np.ndarray], tmp_path: Path
) -> None:
    script = tmp_path / "forked.py"
    script.write_text(FORKED, encoding="utf-8")
    # So long that torch shares the work out among its threads.
    for name, recording in (("short.wav", recordings[0]), ("long.wav", np.concatenate(recordings * 6))):
        soundfile.write(tmp_path / name, recording, 16000)
    arguments = [sys.executable, script, folder, tmp_path / "short.wav", tmp_path / "long.wav"]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=250, cwd=Path(asr.__file__).parents[1])
    assert (result.stdout, result.returncode) == ("equal\n", 0), result.stderr
