"""Good files in the formats that `asr import` reads, and what damages and reads each kind of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pympi
import pysubs2
from damages import Kind, damaged_bytes, damaged_document, damaged_lines
from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet
from praatio import textgrid
from praatio.utilities.constants import Interval

import asr

Row = tuple[str, Path, str, str, str, float]  # name, audio, text, speaker, split, duration in seconds
RULE = asr.SplitRule(by="utterance", dev_share=0.2, test_share=0.2)


def write_imports(folder: Path, rows: Sequence[Row]) -> None:
    """Write one utterance for each row, in each format into a folder of its own."""
    for name in ("srt", "vtt", "ass", "textgrid", "elan", "lhotse", "labelstudio", "parquet"):
        (folder / name).mkdir()
    tasks = []
    for name, audio, text, speaker, _, duration_s in rows:
        for format in ("srt", "vtt", "ass", "textgrid", "elan", "labelstudio"):
            (folder / format / f"{name}.wav").symlink_to(audio)
        end_ms = round(1000 * duration_s) - 10
        subtitles = pysubs2.SSAFile()
        subtitles.append(
            pysubs2.SSAEvent(10, end_ms // 2, f"{{\\i1}}{speaker.upper()}: {text}\\N[noise]", name=speaker)
        )
        subtitles.append(pysubs2.SSAEvent(end_ms // 2 + 1, end_ms, f"- {text}\\N- <v Ben>{text}"))
        for format in ("srt", "vtt", "ass"):
            subtitles.save(str(folder / format / f"{name}.{format}"))
        grid = textgrid.Textgrid(0, duration_s)
        grid.addTier(textgrid.IntervalTier(speaker, [Interval(0.01, duration_s - 0.01, text)], 0, duration_s))
        grid.save(str(folder / "textgrid" / f"{name}.TextGrid"), "long_textgrid", includeBlankSpaces=True)
        eaf = pympi.Elan.Eaf(author="me")
        eaf.add_annotation("default", 10, end_ms, text)
        eaf.add_tier("words", "default-lt", "default", part=speaker)
        eaf.add_ref_annotation("words", "default", 20, text)
        eaf.to_file(str(folder / "elan" / f"{name}.eaf"))
        value = {"start": 0.01, "end": duration_s - 0.01, "channel": 0}
        result = [
            {"id": "r", "from_name": "labels", "type": "labels", "value": {**value, "labels": [speaker]}},
            {"id": "r", "from_name": "transcription", "type": "textarea", "value": {**value, "text": [text]}},
        ]
        tasks.append({"id": name, "annotations": [{"result": result}], "data": {"audio": f"/data/upload/1/{name}.wav"}})
    _write_layouts(folder, rows)
    (folder / "labelstudio" / "export.json").write_text(json.dumps(tasks))
    _write_lhotse(folder / "lhotse", rows)
    _write_parquet(folder / "parquet" / "data.parquet", rows)


def _write_layouts(folder: Path, rows: Sequence[Row]) -> None:
    (folder / "stm").mkdir()
    (folder / "ljspeech" / "wavs").mkdir(parents=True)
    for name, audio, text, speaker, split, _ in rows:
        beside, chapter = folder / "folder" / split / speaker, folder / "librispeech" / f"{split}-clean" / speaker / "1"
        for place in (beside, chapter, folder / "ljspeech" / "wavs", folder / "stm"):
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{name}.wav").symlink_to(audio)
        (beside / f"{name}.txt").write_text(f"{text}\n")
        (chapter / f"{speaker}-1.trans.txt").write_text(f"{name} {text}\n")
    (folder / "ljspeech" / "metadata.csv").write_text("".join(f"{row[0]}|{row[2]}|{row[2]}\n" for row in rows))
    lines = [f"{n} A {s} 0.01 {d - 0.01:.2f} <o,f0,male> {t}\n" for n, _, t, s, _, d in rows]
    (folder / "stm" / "all.stm").write_text(";; made here\n" + "".join(lines))


def _write_lhotse(folder: Path, rows: Sequence[Row]) -> None:
    recordings = [Recording.from_file(audio, recording_id=name) for name, audio, *_ in rows]
    supervisions = [
        SupervisionSegment(name, name, 0.01, duration_s - 0.02, text=text, speaker=speaker)
        for name, _, text, speaker, _, duration_s in rows
    ]
    RecordingSet.from_recordings(recordings).to_file(folder / "recordings.jsonl")
    SupervisionSet.from_segments(supervisions).to_file(folder / "supervisions.jsonl")


def _write_parquet(path: Path, rows: Sequence[Row]) -> None:
    audio = [{"bytes": audio.read_bytes(), "path": audio.name} for _, audio, *_ in rows]
    table = {"audio": audio, "text": [row[2] for row in rows], "speaker": [row[3] for row in rows]}
    pq.write_table(pa.table(table), path, row_group_size=3)


def reads(importer: Callable[..., asr.ImportReport], source: str) -> tuple[Callable[[Path, Path], object]]:
    return (lambda folder, out: _refused(importer(folder / source, out, split=RULE)),)


def _refused(report: asr.ImportReport) -> None:
    """Raise the first reason for which something was left out."""
    for line in report.skipped:
        raise asr.ManifestError(line)


IMPORT_KINDS = {
    **{
        format: Kind(f"{format}/train0.{format}", damaged_bytes, reads(asr.import_subtitles, format))
        for format in ("srt", "vtt", "ass")
    },
    "folder": Kind("folder/train/s0/train0.txt", damaged_bytes, reads(asr.import_folder, "folder")),
    "ljspeech": Kind("ljspeech/metadata.csv", damaged_bytes, reads(asr.import_ljspeech, "ljspeech")),
    "librispeech": Kind(
        "librispeech/train-clean/s0/1/s0-1.trans.txt", damaged_bytes, reads(asr.import_librispeech, "librispeech")
    ),
    "stm": Kind("stm/all.stm", damaged_bytes, reads(asr.import_stm, "stm")),
    "TextGrid": Kind("textgrid/train0.TextGrid", damaged_bytes, reads(asr.import_textgrid, "textgrid")),
    "eaf": Kind(
        "elan/train0.eaf",
        damaged_bytes,
        (lambda folder, out: _refused(asr.import_elan(folder / "elan", out, tiers=["default", "words"], split=RULE)),),
    ),
    **{
        f"lhotse {name}": Kind(f"lhotse/{name}.jsonl", damaged_lines, reads(asr.import_lhotse, "lhotse"))
        for name in ("recordings", "supervisions")
    },
    "labelstudio": Kind(
        "labelstudio/export.json", damaged_document, reads(asr.import_labelstudio, "labelstudio/export.json")
    ),
    "parquet": Kind("parquet/data.parquet", damaged_bytes, reads(asr.import_parquet, "parquet")),
}
