"""A corpus laid out in each format of `asr import`, with other packages where there are some, and imported again."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pympi
import pysubs2
import soundfile
from lhotse import Recording, RecordingSet, SupervisionSegment, SupervisionSet
from praatio import textgrid
from praatio.utilities.constants import Interval

import asr
from asr.corpus.manifest import cut_speaker, cut_text, read_manifest

ALL = asr.SplitRule("utterance", 0, 0)  # what names no splits is all train


class Spoken(NamedTuple):
    """An utterance as it is, whatever the format: an audio file or a part of one."""

    id: str
    audio: Path
    start_s: float
    end_s: float
    text: str
    speaker: str
    split: str


@dataclass(frozen=True)
class Layout:
    """How a corpus is laid out in a format, and imported."""

    write: Callable[[Sequence[Spoken], Path], None]
    run: Callable[[Path, Path], asr.ImportReport]
    has_parts: bool = False  # several utterances of one audio file
    has_speakers: bool = True
    has_splits: bool = True


def by_audio(corpus: Sequence[Spoken]) -> Iterator[tuple[Path, list[Spoken]]]:
    for audio, spoken in groupby(sorted(corpus, key=lambda one: (one.audio, one.start_s)), lambda one: one.audio):
        yield audio, list(spoken)


def link(audio: Path, place: Path) -> Path:
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        place.symlink_to(audio)
    return place


def write_text(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_csv(corpus: Sequence[Spoken], folder: Path) -> None:
    with (folder / "all.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "path", "sentence", "speaker", "split"])
        table.writerows([one.id, one.audio, one.text, one.speaker, one.split] for one in corpus)


def write_jsonl(corpus: Sequence[Spoken], folder: Path) -> None:
    write_text(
        folder / "all.jsonl",
        [
            json.dumps(
                {
                    "audio_filepath": str(one.audio), "offset": one.start_s, "duration": one.end_s - one.start_s,
                    "text": one.text, "speaker": one.speaker, "split": one.split,
                }
            )
            for one in corpus
        ],
    )  # fmt: skip


def write_kaldi(corpus: Sequence[Spoken], folder: Path) -> None:
    for split in {one.split for one in corpus}:
        here = [one for one in corpus if one.split == split]
        audio = {path: f"rec{number:05}" for number, path in enumerate(sorted({one.audio for one in here}))}
        write_text(folder / split / "wav.scp", [f"{name} cat '{path}' |" for path, name in audio.items()])
        write_text(folder / split / "text", [f"{one.id} {one.text}" for one in here])
        write_text(folder / split / "utt2spk", [f"{one.id} {one.speaker}" for one in here])
        times = [f"{one.id} {audio[one.audio]} {one.start_s:.3f} {one.end_s:.3f}" for one in here]
        write_text(folder / split / "segments", times)


def write_folder(corpus: Sequence[Spoken], folder: Path) -> None:
    for number, one in enumerate(corpus):
        place = folder / one.split / one.speaker / f"{one.id}{one.audio.suffix}"
        link(one.audio, place)
        write_text(place.with_suffix(".lab" if number % 2 else ".txt"), [one.text])


def write_ljspeech(corpus: Sequence[Spoken], folder: Path) -> None:
    for one in corpus:
        link(one.audio, folder / "wavs" / f"{one.id}.wav")
    write_text(folder / "metadata.csv", [f"{one.id}|(raw) {one.text}|{one.text}" for one in corpus])


def write_librispeech(corpus: Sequence[Spoken], folder: Path) -> None:
    for (split, speaker), spoken in groupby(sorted(corpus, key=lambda one: one[-1:-3:-1]), lambda one: one[-1:-3:-1]):
        place = folder / f"{split}-clean" / speaker / "1"
        here = list(spoken)
        write_text(place / f"{speaker}-1.trans.txt", [f"{one.id} {one.text}" for one in here])
        for one in here:
            link(one.audio, place / f"{one.id}{one.audio.suffix}")


def write_stm(corpus: Sequence[Spoken], folder: Path) -> None:
    for audio, spoken in by_audio(corpus):
        place = folder / spoken[0].split / f"{audio.stem}.stm"
        link(audio, place.with_suffix(audio.suffix))
        write_text(
            place,
            [
                ";; LABEL",
                *(f"{audio.stem} A {s.speaker} {s.start_s:.3f} {s.end_s:.3f} <o,f0,male> {s.text}" for s in spoken),
            ],
        )


def write_lhotse(corpus: Sequence[Spoken], folder: Path) -> None:
    for split in {one.split for one in corpus}:
        here = [one for one in corpus if one.split == split]
        recordings = [Recording.from_file(audio, recording_id=str(audio)) for audio, _ in by_audio(here)]
        supervisions = [
            SupervisionSegment(s.id, str(s.audio), s.start_s, s.end_s - s.start_s, 0, s.text, speaker=s.speaker)
            for s in here
        ]
        RecordingSet.from_recordings(recordings).to_file(folder / f"mine_recordings_{split}.jsonl.gz")
        SupervisionSet.from_segments(supervisions).to_file(folder / f"mine_supervisions_{split}.jsonl.gz")


def write_subtitles(corpus: Sequence[Spoken], folder: Path) -> None:
    for audio, spoken in by_audio(corpus):
        place = link(audio, folder / audio.name)
        events = [pysubs2.SSAEvent(round(1000 * s.start_s), round(1000 * s.end_s), s.text) for s in spoken]
        subtitles = pysubs2.SSAFile()
        subtitles.events = events
        subtitles.save(str(place.with_suffix(".srt")))


def write_textgrid(corpus: Sequence[Spoken], folder: Path) -> None:
    for audio, spoken in by_audio(corpus):
        place = link(audio, folder / audio.name)
        grid = textgrid.Textgrid(0, soundfile.info(audio).duration)
        entries = [Interval(s.start_s, s.end_s, s.text) for s in spoken]
        grid.addTier(textgrid.IntervalTier("words", entries, 0, grid.maxTimestamp))
        grid.save(str(place.with_suffix(".TextGrid")), "long_textgrid", includeBlankSpaces=True)


def write_elan(corpus: Sequence[Spoken], folder: Path) -> None:
    for audio, spoken in by_audio(corpus):
        place = link(audio, folder / audio.name)
        file = pympi.Eaf(author="")
        file.remove_tier("default")
        file.add_linked_file(f"file://{place}", relpath=place.name, mimetype="audio/x-wav")
        file.add_tier("said", part=spoken[0].speaker)
        for one in spoken:
            file.add_annotation("said", round(1000 * one.start_s), round(1000 * one.end_s), one.text)
        file.to_file(str(place.with_suffix(".eaf")))


def write_labelstudio(corpus: Sequence[Spoken], folder: Path) -> None:
    tasks = []
    for number, (audio, spoken) in enumerate(by_audio(corpus)):
        link(audio, folder / "audio" / audio.name)
        results = []
        for place, one in enumerate(spoken):
            times = {"start": one.start_s, "end": one.end_s, "channel": 0}
            shared = {"id": f"r{place}", "to_name": "audio", "original_length": soundfile.info(audio).duration}
            labels, texts = {**times, "labels": [one.speaker]}, {**times, "text": [one.text]}
            results.append({**shared, "from_name": "labels", "type": "labels", "value": labels})
            results.append({**shared, "from_name": "transcription", "type": "textarea", "value": texts})
        annotation = {"id": number, "result": results, "was_cancelled": False, "ground_truth": False}
        data = {"audio": f"/data/upload/1/0a1b2c3d-{audio.name}"}
        tasks.append({"id": number, "annotations": [annotation], "data": data})
    (folder / "export.json").write_text(json.dumps(tasks))


def write_parquet(corpus: Sequence[Spoken], folder: Path) -> None:
    audio = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for split in {one.split for one in corpus}:
        here = [one for one in corpus if one.split == split]
        sounds = [{"bytes": one.audio.read_bytes(), "path": one.audio.name} for one in here]
        table = pa.table(
            {
                "audio": pa.array(sounds, audio),
                "transcription": [one.text for one in here],
                "speaker_id": [one.speaker for one in here],
            }
        )
        pq.write_table(table, folder / f"{split}-00000-of-00001.parquet", row_group_size=100)


LAYOUTS = {
    "csv": Layout(write_csv, lambda folder, out: asr.import_csv(folder / "all.csv", out, split=ALL)),
    "jsonl": Layout(write_jsonl, lambda folder, out: asr.import_jsonl(folder / "all.jsonl", out, split=ALL), True),
    "kaldi": Layout(write_kaldi, lambda folder, out: asr.import_kaldi(folder, out, split=ALL), True),
    "folder": Layout(
        write_folder, lambda folder, out: asr.import_folder(folder, out, speaker_from="parent", split=ALL)
    ),
    "ljspeech": Layout(
        write_ljspeech,
        lambda folder, out: asr.import_ljspeech(folder, out, split=ALL),
        has_speakers=False,
        has_splits=False,
    ),
    "librispeech": Layout(write_librispeech, lambda folder, out: asr.import_librispeech(folder, out, split=ALL)),
    "stm": Layout(write_stm, lambda folder, out: asr.import_stm(folder, out, split=ALL), True),
    "lhotse": Layout(write_lhotse, lambda folder, out: asr.import_lhotse(folder, out, split=ALL), True),
    "subtitles": Layout(
        write_subtitles, lambda folder, out: asr.import_subtitles(folder, out, split=ALL), True, False, False
    ),
    "textgrid": Layout(
        write_textgrid, lambda folder, out: asr.import_textgrid(folder, out, split=ALL), True, False, False
    ),
    "elan": Layout(write_elan, lambda folder, out: asr.import_elan(folder, out, split=ALL), True, has_splits=False),
    "labelstudio": Layout(
        write_labelstudio,
        lambda folder, out: asr.import_labelstudio(folder / "export.json", out, split=ALL),
        True,
        has_splits=False,
    ),
    "parquet": Layout(write_parquet, lambda folder, out: asr.import_parquet(folder, out, split=ALL)),
}


def content(path: str | Path) -> Path:
    """Return what is the same for copies of a file and links to it."""
    return _digest(Path(path).resolve())


@cache
def _digest(path: Path) -> Path:
    return Path(hashlib.sha256(path.read_bytes()).hexdigest())


def imported(layout: Layout, corpus: Sequence[Spoken], folder: Path) -> list[Spoken]:
    """Write a corpus in a format, import it, and return what the manifests say, without ids, sorted."""
    source, out = folder / "source", folder / "out"
    source.mkdir(parents=True)
    layout.write(corpus, source)
    report = layout.run(source, out)
    assert (report.skipped, report.passed_over) == ((), {})
    return sorted(
        Spoken(
            "",
            content(cut.recording.sources[0].source),
            cut.start,
            cut.end,
            cut_text(cut),
            cut_speaker(cut) if layout.has_speakers else "",
            split if layout.has_splits else "",
        )
        for split, path in report.manifests.items()
        for cut in read_manifest(path)
    )


def expected(layout: Layout, corpus: Sequence[Spoken]) -> list[Spoken]:
    """Return what `imported` should return."""
    return sorted(
        one._replace(
            id="",
            audio=content(one.audio),
            speaker=one.speaker if layout.has_speakers else "",
            split=one.split if layout.has_splits else "",
        )
        for one in corpus
    )
