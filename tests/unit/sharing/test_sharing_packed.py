"""A model as one file: read in place like its folder, and the same bytes for the same folder."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import tone_speech

import asr
import asr.runtime
from asr.bundle import files
from asr.errors import ModelError
from asr.sharing.names import model_folder, own_folder
from asr.sharing.pack import pack_model

SIGNAL = tone_speech("ab cd", np.random.default_rng(0)).astype(np.float32)


@pytest.mark.parametrize("name", ["characters", "pieces", "int8"])
def test_a_packed_model_transcribes_as_its_folder(name: str, folders: Path, tmp_path: Path) -> None:
    file = pack_model(folders / name, tmp_path / f"{name}.asr").path
    before = sorted(tmp_path.rglob("*"))
    for decode in (
        {"lm": "tokens"},
        {"lm": "words"},
    ):  # with the n-grams and the recurrent language model of the folder
        results = [
            asr.load(model, decode=decode).transcribe(SIGNAL, sample_rate_hz=16000, segment="none", n_best=3)
            for model in (folders / name, file)
        ]
        assert results[0] == results[1]
    assert sorted(tmp_path.rglob("*")) == before  # nothing was unpacked beside it


@pytest.mark.parametrize("name", ["onnx", "onnx-int8"])
def test_a_packed_export_transcribes_as_its_folder(name: str, folders: Path, tmp_path: Path) -> None:
    file = pack_model(folders / name, tmp_path / f"{name}.asr").path
    results = [
        asr.runtime.load(model).transcribe(SIGNAL, sample_rate_hz=16000, segment="none", method="beam")
        for model in (folders / name, file)
    ]
    assert results[0] == results[1]


def test_nothing_is_written_to_disk_by_reading(packed: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "def watch(event, arguments):\n"
        "    if event == 'open' and isinstance(arguments[1], str) and set('wax+') & set(arguments[1]):\n"
        "        sys.exit(f'written: {arguments}')\n"
        "    if event in ('os.mkdir', 'os.rename', 'os.link', 'os.symlink', 'tempfile.mkdtemp', 'tempfile.mkstemp'):\n"
        "        sys.exit(f'{event}: {arguments}')\n"
        "import asr.bundle.bundle as bundle, asr.lm.arpa, asr.lm.rnnlm\n"
        "from asr.sharing.names import model_folder\n"
        "sys.addaudithook(watch)\n"
        f"folder = model_folder({str(packed)!r})\n"
        "loaded = bundle.ModelBundle.load(folder)\n"
        "asr.lm.arpa.read_arpa(folder / 'lm.arpa.gz')\n"
        "asr.lm.rnnlm.RnnLm.load(folder / 'rnnlm' / 'rnnlm.safetensors')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_equal_folders_give_equal_bytes_whenever_they_were_written(folders: Path, packed: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in sorted((folders / "characters").rglob("*"), reverse=True):
        if path.is_file():
            copy = other / path.relative_to(folders / "characters")
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(path.read_bytes())
            copy.chmod(0o600)
            os.utime(copy, (1e9, 1e9))
    (other / "log.jsonl").write_text("{}\n")
    (other / "checkpoints").mkdir()
    report = pack_model(other, tmp_path / "model.asr")
    assert report.path.read_bytes() == packed.read_bytes()
    assert report.sha256 == hashlib.sha256(packed.read_bytes()).hexdigest()
    assert report.size_bytes == packed.stat().st_size
    assert report.left_out == ("checkpoints", "log.jsonl")


def test_its_list_has_the_size_and_checksum_of_each_file_and_python_s_own_reader_agrees(
    folders: Path, packed: Path
) -> None:
    with zipfile.ZipFile(packed) as archive:
        assert archive.testzip() is None
        listed = json.loads(archive.read(files.PACKED_LIST))["files"]
        assert {*archive.namelist()} == {files.PACKED_LIST, *listed}
        for name, member in listed.items():
            data = (folders / "characters" / name).read_bytes()
            assert archive.read(name) == data
            assert member == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert {files.CONFIG, files.WEIGHTS, files.LANGUAGE_MODEL, files.RNN_LM, files.CARD} <= {*listed}


def test_a_packed_model_packed_again_is_the_same_file(
    packed: Path, tmp_path: Path, succeed: Callable[..., str]
) -> None:
    succeed("pack", packed, "--out", tmp_path / "again.asr")
    assert (tmp_path / "again.asr").read_bytes() == packed.read_bytes()


def test_what_is_known_of_speakers_stays_behind_and_is_named(folders: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    for name in (files.CONFIG, files.DECODER, files.TOKENS, files.WEIGHTS):
        model.mkdir(exist_ok=True)
        (model / name).write_bytes((folders / "characters" / name).read_bytes())
    (model / files.SPEAKERS).mkdir()
    (model / files.SPEAKERS / "anna.safetensors").write_bytes(b"hers")
    report = pack_model(model, tmp_path / "model.asr")
    assert report.left_out == (files.SPEAKERS,)
    assert b"hers" not in report.path.read_bytes()


def test_a_folder_without_a_model_and_a_name_with_another_suffix_are_refused(folders: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder, out, message in (
        (tmp_path / "empty", "model.asr", "not a model folder (config.yaml, tokens.json"),
        (tmp_path / "none", "model.asr", "there is no such folder"),
        (folders / "characters", "model.zip", "let its name end in .asr"),
    ):
        with pytest.raises(ModelError, match=message.replace("(", r"\(")):
            pack_model(folder, tmp_path / out)
    assert not (tmp_path / "model.asr").exists()


def test_commands_that_write_into_the_model_folder_say_how_to_unpack(
    packed: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("ab cd\n")
    before = packed.read_bytes()
    for arguments in (
        ("tune", packed, tmp_path / "dev.jsonl.gz"),
        ("lm", "ngram", text, "--model", packed),
        ("lm", "rnn", text, "--model", packed),
        ("adapt", packed, text, "--speaker", "anna"),
        ("diagnose", packed),
        ("label", packed, text, "--out", tmp_path / "out", "--dev", text),
    ):
        status, _, err = call(*arguments)
        assert status == 1, arguments
        assert f"`asr pull {packed} --out DIR` makes a folder of it".split() == err.split()[-10:], err
    assert packed.read_bytes() == before
    assert own_folder(tmp_path) == tmp_path


def test_the_names_inside_are_those_of_the_folder(folders: Path, packed: Path) -> None:
    folder, inside = folders / "characters", model_folder(packed)
    for name in (files.CONFIG, files.RNN_LM, files.RNN_LM_FOLDER, files.SPEAKERS, "../model.asr", "none"):
        path, there = inside / name, folder / name
        assert (path.is_file(), path.is_dir()) == (there.is_file(), there.is_dir()), name
        assert (path.name, path.suffix) == (there.name, there.suffix)
    assert sorted(path.name for path in inside.glob("*.json")) == sorted(path.name for path in folder.glob("*.json"))
    with pytest.raises(FileNotFoundError, match="none"):
        (inside / "none").open("rb")


def test_its_settings_file_is_read_as_that_of_the_folder(folders: Path, packed: Path) -> None:
    read = [asr.load_config(model / files.CONFIG) for model in (folders / "characters", model_folder(packed))]
    assert read[0] == read[1]


def test_the_command_packs_a_model_and_other_commands_take_it(
    folders: Path, tmp_path: Path, succeed: Callable[..., str]
) -> None:
    import soundfile

    soundfile.write(tmp_path / "a.wav", SIGNAL, 16000)
    out = succeed("pack", folders / "characters", "--out", tmp_path / "mine.asr")
    assert hashlib.sha256((tmp_path / "mine.asr").read_bytes()).hexdigest() in out
    options = (tmp_path / "a.wav", "--segment", "none")
    packed, folder = (
        succeed("transcribe", model, *options) for model in (tmp_path / "mine.asr", folders / "characters")
    )
    assert packed == folder
    succeed("pack", folders / "onnx", "--out", tmp_path / "onnx.asr")
    done = subprocess.run(
        [sys.executable, "-m", "asr.runtime", tmp_path / "onnx.asr", tmp_path / "a.wav"], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_packed_model_can_be_exported_and_then_is_smaller(folders: Path, packed: Path, tmp_path: Path) -> None:
    asr.export(packed, tmp_path / "small", format="torch", int8=True)
    small = pack_model(tmp_path / "small", tmp_path / "small.asr")
    assert small.size_bytes < packed.stat().st_size
    assert asr.export(packed).folder == packed.with_name("model-onnx")


def test_a_packed_model_becomes_a_folder_of_known_files_again(
    folders: Path, packed: Path, tmp_path: Path, succeed: Callable[..., str], call: Callable[..., tuple[int, str, str]]
) -> None:
    succeed("pull", packed, "--out", tmp_path / "again")
    assert pack_model(tmp_path / "again", tmp_path / "again.asr").path.read_bytes() == packed.read_bytes()
    status, _, err = call("pull", packed, "--out", tmp_path / "again")
    assert (status, "exists already" in err) == (1, True)
