"""Good files of data and runs, and what damages and reads each kind of them."""

from __future__ import annotations

import gzip
import json
import math
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from conftest import TINY, tone_speech
from damaged_imports import IMPORT_KINDS, reads, write_imports
from damages import Chance, Kind, damaged_bytes, damaged_document, damaged_json, damaged_lines, json_bytes
from safetensors.torch import load, save

import asr
from asr.bulk.journal import RECORD, finish, tasks_of, unfinished
from asr.bundle.training_log import read_epochs
from asr.corpus.cut_audio import example_file, load_cut
from asr.corpus.manifest import make_cut, read_manifest, write_manifest
from asr.lm.texts import read_texts
from asr.reviewing.corrections import Review, Utterance
from asr.reviewing.journal import Journal, journal_of
from asr.training.reports import EpochReport, StepReport
from asr.training.trainer import training_reports
from asr.transcript.posteriors import read_posteriors


def damaged_checkpoint(data: bytes, chance: Chance) -> bytes:
    """Return a safetensors file with other tensors, another header or other bytes."""
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    way = chance.random()
    if way < 0.2:
        return damaged_bytes(data, chance)
    run = json.loads(header["__metadata__"]["run"])
    if chance.random() < 0.7:  # as in checkpoints from before it existed, or the checks behind it would not be reached
        run.pop("crc32", None)
        header["__metadata__"]["run"] = json.dumps(run)
    if way < 0.6:  # what we say in the header
        header["__metadata__"]["run"] = json_bytes(damaged_json(run, chance)).decode()
    elif way < 0.7:  # what safetensors says there
        header = damaged_json(header, chance)
    else:
        return _damaged_tensors(data, header["__metadata__"], chance)
    changed = json_bytes(header)
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
    _review(data / "dev.jsonl.gz")
    _write_sources(folder, rows)
    write_imports(folder, rows)
    _train_in_part(data, folder / "run")
    model = folder / "model"
    asr.train(_config(), data, model)
    asr.estimate_ngram(data / "train.jsonl", model=model, order=2)
    asr.decode(model, data / "dev.jsonl", model / "decode")
    asr.score(model / "decode")
    (folder / "text").mkdir()
    asr.transcribe_files(model, audio, out=folder / "text", jobs=1)


def _review(manifest: Path) -> None:
    """Correct the utterances of a manifest."""
    review = Review([Utterance("dev", cut) for cut in read_manifest(manifest)], {"dev": Journal(journal_of(manifest))})
    for version, change in enumerate(({"text": "ba"}, {"text": "ba", "start_s": 0.05, "confirmed": True}, None)):
        for place, utterance in enumerate(review.utterances):
            if change is None:
                review.undo(place, version)
            else:
                review.correct(place, version, utterance.was.model_copy(update=change))


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
    commands = ("{}", "cat '{}' |", "sox '{}' -r 16k -t wav - remix 1 |", "ffmpeg -i '{}' -f wav - |")
    paths = [(n, commands[place % 4].format(p)) for place, (n, p, *_) in enumerate(rows)]
    (kaldi / "wav.scp").write_text("".join(f"r{n} {command}\n" for n, command in paths))
    (kaldi / "spk2gender").write_text("".join(f"{s} f\n" for s in {s for _, _, _, s, *_ in rows}))
    (kaldi / "reco2dur").write_text("".join(f"r{n} {d:.3f}\n" for n, *_, d in rows))
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
    asr.score(out / "model" / "decode")
    asr.compare([out / "model" / "decode", folder / "model" / "decode"])


def _posteriors(folder: Path, out: Path) -> None:
    read_posteriors(folder / "model" / "decode" / "posteriors.safetensors")


def _tune(folder: Path, out: Path) -> None:
    shutil.copytree(folder / "model", out / "model")
    asr.tune(out / "model", folder / "data" / "train.jsonl", jobs=1)


def _journal(folder: Path, out: Path) -> None:
    shutil.copytree(folder / "text", out / "text")
    audio = sorted((folder / "audio").iterdir())
    tasks = tasks_of({path: out / "text" / f"{path.stem}.txt" for path in audio}, "other model")
    for task in unfinished(tasks)[:2]:
        finish(task, {task.output: "text"})


def read_again(report: asr.AppliedReview) -> None:
    """Load the audio of what was written: what is used is sound."""
    for cut in read_manifest(*report.written.values()) if report.written else ():
        load_cut(cut)


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
    "csv": Kind("table/table.csv", damaged_bytes, reads(asr.import_csv, "table/table.csv")),
    "jsonl": Kind("table/lines.jsonl", damaged_lines, reads(asr.import_jsonl, "table/lines.jsonl")),
    **{
        f"kaldi {name}": Kind(f"kaldi/{name}", damaged_bytes, reads(asr.import_kaldi, "kaldi"))
        for name in ("wav.scp", "text", "segments", "utt2spk", "spk2gender", "reco2dur")
    },
    **IMPORT_KINDS,
    "checkpoint": Kind("run/checkpoints/last.safetensors", damaged_checkpoint, (_resume,)),
    "log.jsonl": Kind("run/log.jsonl", damaged_lines, (_resume,)),
    "log.jsonl, read": Kind("run/log.jsonl", damaged_lines, (lambda folder, _: read_epochs(folder / "run"),)),
    "posteriors": Kind("model/decode/posteriors.safetensors", damaged_bytes, (_posteriors,)),
    "hyp.jsonl": Kind("model/decode/hyp.jsonl", damaged_lines, (_score,)),
    "ref.trn": Kind("model/decode/ref.trn", damaged_bytes, (_score,)),
    "run.json": Kind("model/decode/run.json", damaged_document, (_score,)),
    "review": Kind(
        "data/review.dev.jsonl",
        damaged_lines,
        (lambda folder, out: read_again(asr.apply_review(folder / "data" / "dev.jsonl.gz", out / "new")),),
    ),
    "journal": Kind(f"text/{RECORD}", damaged_lines, (_journal,)),
}
