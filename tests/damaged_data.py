"""Damaged files of data and runs, made from good ones by chance: of one seed always the same.

A `Kind` knows how to make good files, how to damage one, and what reads it. Each reader must succeed, or raise an
`AsrError` that names what is wrong.
"""

from __future__ import annotations

import copy
import gzip
import json
import math
import shutil
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile
import torch
from conftest import TINY, tone_speech
from safetensors.torch import load, save

import asr
from asr.bulk.journal import RECORD, finish, tasks_of, unfinished
from asr.corpus.cut_audio import example_file
from asr.corpus.manifest import make_cut, read_manifest, write_manifest
from asr.errors import AsrError
from asr.lm.texts import read_texts
from asr.training.reports import EpochReport, StepReport
from asr.training.trainer import training_reports

Chance = np.random.Generator

MISSING = object()
JUNK: list[Any] = [
    *(MISSING, None, True, False, 0, -1, 1, 3, 7, 2**31, 2**63, 10**400, 1e308, -1e308, 1e-308, 0.5, -0.5, 1e9),
    *(math.nan, math.inf, -math.inf, "", "a", "0", "1.0", "nan", "\ud800", "\udfff x", "a\0b", "\x1b[31m", "a\nb"),
    *("../../x", "/dev/zero", "file", "command", "url", "x" * 100_000, [], {}, [[]], [None], [0], [0, 1], ["a"]),
    *({"a": 1}, {"type": "MonoCut"}, {"name": "Speed", "kwargs": {"factor": 1e-9}}, {"name": "Nothing", "kwargs": {}}),
    *([{"name": "Speed", "kwargs": {"factor": 1e-9}}], [{"name": "Nothing", "kwargs": {}}], [0] * 1000),
]
TOKENS = [
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"9" * 5000,
    b"[" * 100_000,
    b"{",
    b'"',
    b",",
    b"null",
    b"\\ud800",
    b"\0",
    b"\xff",
]


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return the container and the key of every value in nested JSON, however deep."""
    found: list[tuple[Any, Any]] = []
    level = [value]
    while level:
        inner = level.pop()
        keys: Any = inner if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else ()
        found += [(inner, key) for key in keys]
        level += [inner[key] for key in keys]
    return found


def damaged_json(record: Any, chance: Chance) -> Any:
    """Return JSON with one to three of its values replaced, missing, repeated or under another name."""
    record = copy.deepcopy(record)
    for _ in range(int(chance.integers(1, 4))):
        if not (found := places(record)):
            return record
        _damage(*found[int(chance.integers(len(found)))], chance)
    return record


def _damage(inner: Any, key: Any, chance: Chance) -> None:
    way = chance.random()
    if way < 0.7:
        value = JUNK[int(chance.integers(len(JUNK)))]
        if value is MISSING:
            del inner[key]
        else:
            inner[key] = copy.deepcopy(value)
    elif way < 0.8 and isinstance(inner[key], (int, float)) and abs(inner[key]) < 1e300:
        inner[key] = inner[key] * float(chance.choice([-1, 0, 1e-12, 0.5, 2, 1e5, 1e12]))
    elif way < 0.85:
        inner[key] = [inner[key]] * int(chance.choice([1, 2, 1000]))
    elif way < 0.9:
        for _ in range(int(chance.choice([1, 60, 5000]))):
            inner[key] = [inner[key]]
    elif isinstance(inner, dict):
        inner[str(chance.choice(["x", "type", "sources", "shape", "width", "tracks", "custom", "transforms"]))] = (
            inner.pop(key)
        )


def damaged_bytes(data: bytes, chance: Chance) -> bytes:
    """Return bytes with one to three places changed, cut out, repeated or filled with what is hard to read."""
    changed = bytearray(data)
    for _ in range(int(chance.integers(1, 4))):
        start = int(chance.integers(len(changed) + 1))
        end = min(len(changed), start + int(chance.choice([1, 2, 10, 100])))
        way = int(chance.integers(6))
        if way == 0 and start < len(changed):
            changed[start] = int(chance.integers(256))
        elif way == 1:
            del changed[start:end]
        elif way == 2:
            changed[start:start] = changed[start:end] * int(chance.choice([1, 1000]))
        elif way == 3:
            changed[start:end] = TOKENS[int(chance.integers(len(TOKENS)))]
        elif way == 4:
            del changed[start:]
        else:
            changed[start:end] = bytes(chance.integers(0, 256, end - start, dtype=np.uint8))
    return bytes(changed)


def damaged_lines(data: bytes, chance: Chance) -> bytes:
    """Return JSON lines with one of them damaged: as JSON, or as bytes."""
    if chance.random() < 0.3:
        return damaged_bytes(data, chance)
    lines = data.splitlines()
    place = int(chance.integers(len(lines)))
    lines[place] = _json_bytes(damaged_json(json.loads(lines[place]), chance))
    return b"\n".join(lines) + b"\n"


def damaged_document(data: bytes, chance: Chance) -> bytes:
    """Return a file of JSON, damaged as JSON or as bytes."""
    return damaged_bytes(data, chance) if chance.random() < 0.3 else _json_bytes(damaged_json(json.loads(data), chance))


def _json_bytes(value: Any) -> bytes:
    try:
        return json.dumps(value).encode()
    except RecursionError:
        return b"[" * 5000


def damaged_checkpoint(data: bytes, chance: Chance) -> bytes:
    """Return a safetensors file with other tensors, another header or other bytes."""
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    way = chance.random()
    if way < 0.2:
        return damaged_bytes(data, chance)
    run = json.loads(header["__metadata__"]["run"])
    if chance.random() < 0.7:  # as in checkpoints from before it existed, or the checks behind it would not be reached
        del run["checksum"]
        header["__metadata__"]["run"] = json.dumps(run)
    if way < 0.6:  # what we say in the header
        header["__metadata__"]["run"] = _json_bytes(damaged_json(run, chance)).decode()
    elif way < 0.7:  # what safetensors says there
        header = damaged_json(header, chance)
    else:
        return _damaged_tensors(data, header["__metadata__"], chance)
    changed = _json_bytes(header)
    return struct.pack("<Q", len(changed)) + changed + data[8 + size :]


def _damaged_tensors(data: bytes, metadata: dict[str, str], chance: Chance) -> bytes:
    tensors = load(data)
    name = str(chance.choice(sorted(tensors)))
    tensor = tensors[name]
    way = int(chance.integers(8))
    if way == 0:
        del tensors[name]
    elif way == 1:
        tensors[name] = tensor.to(
            [torch.int64, torch.bool, torch.float16, torch.float64, torch.complex64][int(chance.integers(5))]
        )
    elif way == 2:
        tensors[name] = torch.full_like(tensor, float(chance.choice([math.nan, math.inf, -math.inf, 1e38, -1.0])))
    elif way == 3:
        tensors[name] = tensor.unsqueeze(0).contiguous()
    elif way == 4:
        tensors[name] = tensor.reshape(-1)[: max(0, tensor.numel() - 1)].contiguous()
    elif way == 5:
        tensors[name + str(chance.choice(["x", ".y", ".1", ""]))] = tensors.pop(name).clone()
    elif way == 6:
        tensors[
            str(chance.choice(["optimizer.x", "optimizer.x.step", "optimizer.99999.step", "model.", "optimizer.0.a.b"]))
        ] = tensor.clone()
    else:
        tensors[name] = torch.zeros(0)
    return save(tensors, metadata)


@dataclass(frozen=True)
class Kind:
    """A kind of file: where it is in a folder of good files, how it is damaged, and what reads it there."""

    path: str
    damage: Callable[[bytes, Chance], bytes]
    readers: Sequence[Callable[[Path, Path], object]]


def _overrides() -> list[str]:
    return [
        *TINY,
        "training.epochs=2",
        "training.batch_s=2",
        "training.checkpoint_every_s=0",
        "augment.speeds=[1]",
        "augment.tempos=[1]",
        "model.hidden_size=8",
    ]


def _config(*more: str) -> asr.Config:
    return asr.load_config(None, [*_overrides(), *more])


def make_good_files(folder: Path, seed: int = 0) -> None:
    """Write into a folder what each kind has a good file of: data, tables, a model, a run, a decode folder."""
    rng = np.random.default_rng(seed)
    texts = {"train": ["ab cd", "ba", "dc ab"], "dev": ["ab", "cd ab"]}
    audio, data = folder / "audio", folder / "data"
    audio.mkdir(parents=True)
    rows = []
    for split, sentences in texts.items():
        cuts = []
        for number, text in enumerate(sentences):
            path = audio / f"{split}{number}.wav"
            soundfile.write(path, tone_speech(text, rng), 16000)
            cuts.append(make_cut(f"{split}{number}", path, text, f"s{number}", language="en"))
            rows.append((f"{split}{number}", path, text, f"s{number}", split, soundfile.info(path).duration))
        if split == "train":
            mixed = cuts[0].append(cuts[1]).pad(duration=3.0)
            mixed.id = "mixed"
            moved = cuts[2].perturb_speed(1.1)
            moved.id = "moved"
            cuts += [mixed, moved]
        write_manifest(cuts, data / f"{split}.jsonl")
    for split in texts:  # asr train wants them compressed
        write_manifest(read_manifest(data / f"{split}.jsonl"), data / f"{split}.jsonl.gz")
    _write_sources(folder, rows)
    _train_in_part(data, folder / "run")
    model = folder / "model"
    asr.train(_config(), data, model)
    asr.estimate_ngram(data / "train.jsonl", model=model, order=2)
    asr.decode(model, data / "dev.jsonl", model / "decode")
    asr.score(model / "decode")
    (folder / "text").mkdir()
    asr.transcribe_files(model, audio, out=folder / "text", jobs=1)


def _train_in_part(data: Path, out: Path) -> None:
    """Write a run that stopped after a step of its second epoch, so that one that resumes has steps to take."""
    scored = False
    for report in training_reports(_config(), data, out):
        if scored and isinstance(report, StepReport):
            break
        scored = scored or isinstance(report, EpochReport)


def _write_sources(folder: Path, rows: Sequence[tuple[str, Path, str, str, str, float]]) -> None:
    (folder / "table").mkdir()
    table = "id,audio,text,speaker,split\n" + "".join(f"{n},{p},{t},{s},{split}\n" for n, p, t, s, split, _ in rows)
    (folder / "table" / "table.csv").write_text(table)
    lines = [
        {"id": n, "audio": str(p), "text": t, "speaker": s, "split": split, "offset": 0.01, "duration": d - 0.02}
        for n, p, t, s, split, d in rows
    ]
    (folder / "table" / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    kaldi = folder / "kaldi"
    kaldi.mkdir()
    (kaldi / "wav.scp").write_text("".join(f"r{n} {p}\n" for n, p, *_ in rows))
    (kaldi / "segments").write_text("".join(f"{n} r{n} 0.01 {d - 0.02:.3f}\n" for n, _, _, _, _, d in rows))
    (kaldi / "text").write_text("".join(f"{n} {t}\n" for n, _, t, *_ in rows))
    (kaldi / "utt2spk").write_text("".join(f"{n} {s}\n" for n, _, _, s, *_ in rows))


def _train(folder: Path, out: Path) -> None:
    shutil.copytree(folder / "data", out / "data")
    (out / "data" / "train.jsonl.gz").unlink()
    (out / "data" / "train.jsonl.gz").write_bytes(gzip.compress((folder / "data" / "train.jsonl").read_bytes(), 1))
    asr.train(_config(), out / "data", out / "model")


def _train_on_dev(folder: Path, out: Path) -> None:
    (out / "data").mkdir()
    (out / "data" / "dev.jsonl.gz").write_bytes(gzip.compress((folder / "data" / "train.jsonl").read_bytes(), 1))
    shutil.copy(folder / "data" / "dev.jsonl.gz", out / "data" / "train.jsonl.gz")
    asr.train(_config(), out / "data", out / "model")


def _resume(folder: Path, out: Path) -> None:
    shutil.copytree(folder / "run", out / "run")
    (out / "run" / "checkpoints" / "previous.safetensors").unlink(missing_ok=True)
    asr.train(_config(), folder / "data", out / "run", resume=True)


def _score(folder: Path, out: Path) -> None:
    shutil.copytree(folder / "model", out / "model")
    asr.score(out / "model" / "decode", against=folder / "model" / "decode")


def _tune(folder: Path, out: Path) -> None:
    shutil.copytree(folder / "model", out / "model")
    asr.tune(out / "model", folder / "data" / "train.jsonl", jobs=1)


def _journal(folder: Path, out: Path) -> None:
    shutil.copytree(folder / "text", out / "text")
    audio = sorted((folder / "audio").iterdir())
    tasks = tasks_of({path: out / "text" / f"{path.stem}.txt" for path in audio}, "other model")
    for task in unfinished(tasks)[:2]:
        finish(task, {task.output: "text"})


KINDS = {
    "manifest": Kind(
        "data/train.jsonl",
        damaged_lines,
        (
            lambda folder, out: asr.check(folder / "data" / "train.jsonl", out=out),
            lambda folder, out: asr.pack(folder / "data" / "train.jsonl", out),
            lambda folder, out: asr.decode(folder / "model", folder / "data" / "train.jsonl", out / "decode"),
            lambda folder, _: asr.align_manifest(folder / "model", folder / "data" / "train.jsonl"),
            lambda folder, _: read_texts(folder / "data" / "train.jsonl"),
            lambda folder, out: example_file(folder / "data" / "train.jsonl", out / "example.flac"),
            _train,
            _train_on_dev,
        ),
    ),
    "csv": Kind(
        "table/table.csv", damaged_bytes, (lambda folder, out: asr.import_csv(folder / "table/table.csv", out),)
    ),
    "jsonl": Kind(
        "table/lines.jsonl", damaged_lines, (lambda folder, out: asr.import_jsonl(folder / "table/lines.jsonl", out),)
    ),
    **{
        f"kaldi {name}": Kind(
            f"kaldi/{name}", damaged_bytes, (lambda folder, out: asr.import_kaldi(folder / "kaldi", out),)
        )
        for name in ("wav.scp", "text", "segments", "utt2spk")
    },
    "checkpoint": Kind("run/checkpoints/last.safetensors", damaged_checkpoint, (_resume,)),
    "log.jsonl": Kind("run/log.jsonl", damaged_lines, (_resume,)),
    "hyp.jsonl": Kind("model/decode/hyp.jsonl", damaged_lines, (_score,)),
    "ref.trn": Kind("model/decode/ref.trn", damaged_bytes, (_score,)),
    "run.json": Kind("model/decode/run.json", damaged_document, (_score,)),
    "journal": Kind(f"text/{RECORD}", damaged_lines, (_journal,)),
}


@dataclass(frozen=True)
class Outcome:
    """What became of a damaged file: refusals, files changed elsewhere, processor time of the slowest reader."""

    index: int
    refusals: tuple[AsrError, ...]
    noted: tuple[str, ...]
    cpu_s: float


def outcomes(name: str, folder: Path, count: int, seed: int = 0) -> Iterator[Outcome]:
    """Damage a file of good ones `count` times and let its readers read it; only AsrErrors are caught.

    `folder` is what `make_good_files` wrote, in a folder of its own; it is the same afterwards.
    """
    kind = KINDS[name]
    path = folder / kind.path
    original = path.read_bytes()
    try:
        for index in range(count):
            path.write_bytes(kind.damage(original, np.random.default_rng((seed, index))))
            refusals, slowest_s, before = [], 0.0, _state(folder)
            for read in kind.readers:
                with TemporaryDirectory() as out:
                    begin = time.process_time()
                    try:
                        read(folder, Path(out))
                    except AsrError as error:
                        refusals.append(error)
                    slowest_s = max(slowest_s, time.process_time() - begin)
            noted = sorted(name for name, _ in _state(folder) ^ before)
            yield Outcome(index, tuple(refusals), tuple(noted), slowest_s)
    finally:
        path.write_bytes(original)


def _state(folder: Path) -> set[tuple[str, tuple[int, int]]]:
    """Return all files of a folder, and of the one above it, with their sizes and times."""
    found = [*folder.rglob("*"), *folder.parent.iterdir()]
    return {(str(path), (path.stat().st_size, path.stat().st_mtime_ns)) for path in found if path.is_file()}
