"""Damaged files of model folders and exports, made from good ones by chance: of one seed always the same.

Each is loaded, and where that succeeds a short signal is transcribed. The files of data and runs are in
`damaged_data.py`.
"""

from __future__ import annotations

import gzip
import json
import os
import struct
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import damages
import numpy as np
import onnx
import torch
import yaml
from conftest import TINY, tone_speech
from damages import Chance, Kind, damaged_bytes, damaged_document, damaged_json
from safetensors.torch import load, save

import asr
import asr.runtime
from asr.bundle.bundle import ModelBundle
from asr.bundle.card import TrainingFacts, model_card
from asr.bundle.settings import save_calibration
from asr.exporting.export import export_onnx, export_torch
from asr.lm.rnnlm import LmUnits, RnnLm
from asr.model.acoustic import AcousticModel
from asr.search_config import DecodeSettings
from asr.settings_file import load_config, parse_rnnlm_settings
from asr.text.tokens import TokenTable, train_pieces
from asr.transcript.confidence import Calibration
from asr.transcript.transcript import FORMATS

TEXTS = ["ab cd", "ba", "dc ab", "cab bad"]
SIGNAL = tone_speech("ab cd", np.random.default_rng(0)).astype(np.float32)


def make_good_folders(folder: Path) -> None:
    """Write model folders with characters, with pieces, of 8 bits, and an export; all with their language models."""
    torch.manual_seed(0)
    decode = DecodeSettings(beam_size=4, lm_weight=0.3, rnn_weight=0.1, rescore_weight=0.1, oov_penalty=3.0)
    config = load_config(None, TINY).model_copy(update={"decode": decode})
    counts = {word: 3 for text in TEXTS for word in text.split()}
    text_settings = load_config(None, ["text.tokens=bpe", "text.pieces=8"]).text
    pieces = train_pieces(counts, text_settings)
    for name, tokens in (("characters", TokenTable.from_texts(TEXTS)), ("pieces", pieces)):
        model = AcousticModel(config, len(tokens)).eval()
        with torch.no_grad():
            model.output.weight.normal_(std=3.0)
        settings = config if name == "characters" else config.model_copy(update={"text": text_settings})
        ModelBundle(settings, tokens, model).save(folder / name)
        text = folder / "text.txt"
        text.write_text("".join(f"{line}\n" for line in TEXTS))
        asr.estimate_ngram(text, model=folder / name, order=3)
        asr.estimate_ngram(text, model=folder / name, words=True)
        (folder / name / "rnnlm").mkdir()
        lm = RnnLm(parse_rnnlm_settings(["hidden_size=8", "layers=1"]), LmUnits.of_tokens(tokens))
        lm.save(folder / name / "rnnlm" / "rnnlm.safetensors")
        save_calibration(Calibration(), folder / name)
        TrainingFacts(4, 10.0, 2, 5.0, 8, 0.5, 3, ["en"]).save(folder / name)
    export_torch(folder / "characters", folder / "int8", int8=True)
    export_onnx(folder / "characters", folder / "onnx")
    export_onnx(folder / "characters", folder / "onnx-int8", int8=True)


def _transcribe(name: str, folder: Path, out: Path, **decode: Any) -> None:
    transcript = asr.load(folder / name, decode=decode).transcribe(SIGNAL, sample_rate_hz=16000, segment="none")
    for write in FORMATS.values():
        write(transcript)


def _run(name: str, folder: Path, out: Path) -> None:
    transcript = asr.runtime.load(folder / name).transcribe(SIGNAL, sample_rate_hz=16000, segment="vad")
    for write in FORMATS.values():
        write(transcript)


def _card(name: str, folder: Path, out: Path) -> None:
    model_card(folder / name)


YAML_TOKENS = [
    "&a [*a]",
    "*a",
    "!!python/object/apply:os.system ['touch x']",
    "!!binary aGk=",
    "1:1:1",
    "2024-01-01",
    "no",
]
YAML_TOKENS += [
    "[" * 100_000,
    "- " * 10_000,
    "? ",
    "{a: 1, a: 2}",
    "9" * 5000,
    ".nan",
    ".inf",
    "1e999",
    "|",
    ">",
    "%YAML 9",
    "~",
]


def damaged_yaml(data: bytes, chance: Chance) -> bytes:
    """Return a settings file with a value, a piece of text or bytes changed."""
    way = chance.random()
    if way < 0.2:
        return damaged_bytes(data, chance)
    if way < 0.5:
        lines = data.decode().split("\n")
        place = int(chance.integers(len(lines)))
        key, _, _ = lines[place].partition(":")
        lines[place] = f"{key}: {chance.choice(YAML_TOKENS)}"
        return "\n".join(lines).encode()
    try:
        return yaml.safe_dump(damaged_json(yaml.safe_load(data), chance)).encode("utf-8", "surrogatepass")
    except (RecursionError, yaml.YAMLError, ValueError):
        return b"a: " + b"[" * 1000


NUMBERS = [
    "0",
    "1",
    "-1",
    "nan",
    "inf",
    "-inf",
    "-1e308",
    "1e308",
    "99999999999999999999",
    "x",
    "",
    "-99",
    "1_0",
    "0x1",
    "٣",
]


def damaged_arpa(data: bytes, chance: Chance) -> bytes:
    """Return a compressed ARPA file with a field, lines or bytes changed."""
    if chance.random() < 0.3:
        return damaged_bytes(data, chance)
    lines = gzip.decompress(data).decode().split("\n")
    place = int(chance.integers(len(lines)))
    way = int(chance.integers(7))
    if way == 0:
        fields = lines[place].split("\t")
        fields[int(chance.integers(len(fields)))] = str(chance.choice(NUMBERS))
        lines[place] = "\t".join(fields)
    elif way == 1:
        lines[place : place + 1] = [lines[place]] * int(chance.choice([0, 2, 100, 100_000]))
    elif way == 2:
        lines[place] = lines[place] * int(chance.choice([2, 1000, 1_000_000]))
    elif way == 3:
        lines[1:2] = [f"ngram 1={chance.choice(NUMBERS)}"]
    elif way == 4:
        order = int(chance.choice([5, 21, 10_000]))
        lines[1:4] = [f"ngram {n}=1" for n in range(1, order)]
    elif way == 5:
        other = int(chance.integers(len(lines)))
        lines[place], lines[other] = lines[other], lines[place]
    else:
        del lines[place : place + int(chance.choice([1, 10, 1000]))]
    return gzip.compress("\n".join(lines).encode(), 1)


KINDS_OF_NUMBERS = [torch.int64, torch.bool, torch.float16, torch.float64, torch.complex64, torch.int8, torch.uint8]
VALUES = [np.nan, np.inf, -np.inf, 3e38, -3e38, 1e30, 0.0, -1.0, 1e-40]


def damaged_weights(data: bytes, chance: Chance) -> bytes:
    """Return a safetensors file with its header, a tensor or bytes changed."""
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    way = chance.random()
    if way < 0.3:
        changed = bytearray(data)
        for _ in range(int(chance.integers(1, 20))):
            changed[int(chance.integers(len(changed)))] ^= 1 << int(chance.integers(8))
        return bytes(changed)
    if way < 0.4:
        return damaged_bytes(data, chance)
    if way < 0.6:
        part = header.get("__metadata__", {})
        part.pop("crc32", None)
        try:
            if part and chance.random() < 0.5:
                name = str(chance.choice(sorted(part)))
                part[name] = json.dumps(damaged_json(json.loads(part[name]), chance))
            else:
                header = damaged_json(header, chance)
            text = json.dumps(header).encode()
        except RecursionError:
            text = b"[" * 5000
        return struct.pack("<Q", len(text)) + text + data[8 + size :]
    tensors = load(data)
    name = str(chance.choice(sorted(tensors)))
    tensor = tensors[name]
    if way < 0.7:
        tensors[name] = torch.full_like(
            tensor, float(chance.choice(VALUES[6:] if tensor.dtype == torch.int8 else VALUES))
        )
    elif way < 0.75:
        tensors[name] = tensor.to(KINDS_OF_NUMBERS[int(chance.integers(len(KINDS_OF_NUMBERS)))])
    elif way < 0.8:
        del tensors[name]
    elif way < 0.85:
        tensors[name + ".scale"] = torch.ones(len(tensor) if tensor.ndim else 1)
    elif way < 0.9:
        tensors[name] = tensor[None].contiguous()
    elif way < 0.95:
        tensors[name] = tensor.flatten()[:-1].contiguous()
    else:
        large = 127 if tensor.dtype == torch.int8 else 1e30
        tensors[name] = tensor.clone().view(-1).index_fill(0, torch.tensor([0]), large).view_as(tensor)
    metadata = {name: text for name, text in header.get("__metadata__", {}).items() if name != "crc32"}
    return save(tensors, metadata or None)  # whoever changes weights on purpose leaves no wrong checksum


def damaged_network(data: bytes, chance: Chance) -> bytes:
    """Return an ONNX file with an operator, a constant, the declared shapes or bytes changed."""
    if chance.random() < 0.3:
        changed = bytearray(data)
        for _ in range(int(chance.integers(1, 20))):
            changed[int(chance.integers(len(changed)))] ^= 1 << int(chance.integers(8))
        return damaged_bytes(data, chance) if chance.random() < 0.5 else bytes(changed)
    model = onnx.load_from_string(data)
    graph = model.graph
    node = graph.node[int(chance.integers(len(graph.node)))]
    tensor = graph.initializer[int(chance.integers(len(graph.initializer)))]
    way = int(chance.integers(9))
    if way == 0:
        node.op_type = str(
            chance.choice(["Loop", "If", "Scan", "Mul", "Add", "Concat", "MatMul", "Expand", "Tile", "Gather"])
        )
    elif way == 1:
        other = graph.node[int(chance.integers(len(graph.node)))]
        if node.input:
            node.input[int(chance.integers(len(node.input)))] = other.output[0]
    elif way == 2 and node.attribute:
        attribute = node.attribute[int(chance.integers(len(node.attribute)))]
        attribute.i = int(chance.choice([0, -1, 1, 7, 2**16, 2**31, 2**62]))
        attribute.ints[:] = [int(chance.choice([0, -1, 1, 7, 60_000, 2**31])) for _ in attribute.ints]
    elif way == 3 and tensor.data_type == onnx.TensorProto.INT64:
        values = np.frombuffer(tensor.raw_data, np.int64) * int(chance.choice([-1, 0, 2, 100, 10_000, 2**40]))
        tensor.raw_data = values.tobytes()
    elif way == 4:
        tensor.raw_data = np.full(len(tensor.raw_data) // 4, float(chance.choice(VALUES)), np.float32).tobytes()
    elif way == 5 and tensor.dims:
        tensor.dims[int(chance.integers(len(tensor.dims)))] = int(chance.choice([0, 1, 3, 2**20, 2**62]))
    elif way == 6:
        del graph.node[int(chance.integers(len(graph.node)))]
    elif way == 7:
        tensor.data_type = int(chance.choice([1, 2, 3, 6, 7, 9, 10, 11, 14, 17]))
    else:
        graph.node.add().CopyFrom(node)
    return model.SerializeToString()


def damaged_arrays(data: bytes, chance: Chance) -> bytes:
    """Return a file of numpy's with an array or bytes changed, or packed as it never is."""
    if chance.random() < 0.5:
        return damaged_bytes(data, chance)
    with np.load(BytesIO(data)) as content:
        arrays = dict(content)
    name = str(chance.choice(sorted(arrays)))
    way = int(chance.integers(6))
    if way == 0:
        arrays[name] = arrays[name].astype([np.float64, np.complex64, np.int32, bool][int(chance.integers(4))])
    elif way == 1:
        arrays[name] = np.full_like(arrays[name], float(chance.choice(VALUES)))
    elif way == 2:
        del arrays[name]
    elif way == 3:
        arrays[name] = arrays[name][None]
    elif way == 4:
        arrays[name] = np.zeros(3_000_000, np.float32)
    file = BytesIO()
    np.savez(file, **arrays)
    if way == 5:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr(f"{name}.npy", bytes(100))
    return file.getvalue()


def _model(name: str) -> dict[str, Kind]:
    transcribe = partial(_transcribe, name)
    return {
        f"{name}/config.yaml": Kind(f"{name}/config.yaml", damaged_yaml, (transcribe, partial(_card, name))),
        f"{name}/tokens.json": Kind(f"{name}/tokens.json", damaged_document, (transcribe, partial(_card, name))),
        f"{name}/model.safetensors": Kind(
            f"{name}/model.safetensors", damaged_weights, (transcribe, partial(_card, name))
        ),
    }


KINDS = {
    **_model("characters"),
    **_model("pieces"),
    "decoder.yaml": Kind("characters/decoder.yaml", damaged_yaml, (partial(_transcribe, "characters"),)),
    "calibration": Kind("characters/calibration.json", damaged_document, (partial(_transcribe, "characters"),)),
    "lm.arpa.gz": Kind("characters/lm.arpa.gz", damaged_arpa, (partial(_transcribe, "characters"),)),
    "lm.words.arpa.gz": Kind(
        "characters/lm.words.arpa.gz", damaged_arpa, (partial(_transcribe, "characters", lm="words"),)
    ),
    "rnnlm": Kind("characters/rnnlm/rnnlm.safetensors", damaged_weights, (partial(_transcribe, "characters"),)),
    "int8": Kind("int8/model.safetensors", damaged_weights, (partial(_transcribe, "int8"),)),
    "training.json": Kind("characters/training.json", damaged_document, (partial(_card, "characters"),)),
    "model.json": Kind("onnx/model.json", damaged_document, (partial(_run, "onnx"),)),
    "model.onnx": Kind("onnx/model.onnx", damaged_network, (partial(_run, "onnx"),)),
    "model.onnx of 8 bits": Kind("onnx-int8/model.onnx", damaged_network, (partial(_run, "onnx-int8"),)),
    "speech_detector.npz": Kind("onnx/speech_detector.npz", damaged_arrays, (partial(_run, "onnx"),)),
}

_RUNS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "socket.connect")
_CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.chmod", "os.symlink", "os.link", "shutil.move")
_watching: list[list[str]] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writes or event in (*_RUNS, *_CHANGES):
        _watching[-1].append(f"{event} {arguments[0]}")


@contextmanager
def watched() -> Iterator[list[str]]:
    """Yield a list in which each attempt to run something, or to write or change a file, is named."""
    if not hasattr(watched, "hooked"):
        sys.addaudithook(_hear)
        watched.hooked = True  # type: ignore[attr-defined]
    _watching.append([])
    try:
        yield _watching[-1]
    finally:
        _watching.pop()


outcomes = partial(damages.outcomes, watch=lambda _: watched())
