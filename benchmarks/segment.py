"""A corpus joined into one recording, its text with faults: what `asr segment` finds, and what it takes for right.

    python benchmarks/segment.py MODEL MANIFEST [--seeds 5] [--hard] [--hours 3]
    python benchmarks/segment.py --bootstrap DATA --config conf/an4.yaml --out DIR [--minutes 5] [--rounds 3]

The utterances stand in the manifest's order, after pauses of 0.5 to 2 s, drawn with seed 0. A pause is the quietest
fifth of a second of the utterance after it, forwards and backwards in turn. Of the words of the text a tenth is
replaced, dropped or followed by another word, by seed.

An utterance is clean if none of its words has a fault. It is found if all its words are in utterances that were
written. Its start is right if the distance from the utterance's file's start, its speech's start, or what is between
both, is at most 200 ms; so is its end. `strict` counts the distance from the speech alone. What is accepted is wrong if
its words are not a part of what was said between its start and its end; counted in seconds.

--hard also exchanges two parts of the text, takes a page out of it, adds a heading that nobody read, and music to the
recording. --hours 3 repeats recording and text to that length, and measures a fresh process: time and peak memory,
compared with the same for a minute.

--bootstrap takes DATA's train set apart: utterances of some minutes keep their times, the others are joined, one
recording for each speaker. `asr.segment` without a model trains on the first and finds the others, round by round.
Then a model is trained on what was found, and one on DATA, with the same settings; printed is the dev WER of both.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
import soundfile
from lhotse.cut import Cut
from machine import describe
from numpy.typing import NDArray

import asr
from asr.audio.segment import speech_extent
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import cut_speaker, cut_text, load_manifest, read_manifest, write_manifest

RATE_HZ = 16000
PAUSE_S = (0.5, 2.0)
CLOSE_S = 0.2
FAULTY_SHARE = 0.1
MUSIC_S = 20.0
HEADING = "chapter twelve which nobody has read aloud"


@dataclass(frozen=True)
class Said:
    """An utterance in the joined recording: where its file is, where its speech is, and what is said."""

    start_s: float
    end_s: float
    speech_s: tuple[float, float]
    text: str


def join(cuts: Sequence[Cut], path: Path, seed: int = 0, music_after: int | None = None) -> list[Said]:
    """Write the recording; return its utterances."""
    rng = np.random.default_rng(seed)
    said, samples = [], 0
    with soundfile.SoundFile(path, "w", RATE_HZ, 1) as file:
        for number, cut in enumerate(cuts):
            waveform = load_cut(cut, RATE_HZ)
            pause = noise_of(waveform, round(rng.uniform(*PAUSE_S) * RATE_HZ))
            file.write(np.concatenate([pause, waveform]))
            start_s = (samples + len(pause)) / RATE_HZ
            speech = speech_extent(waveform, RATE_HZ)
            ends = start_s + speech.start_s, start_s + speech.end_s
            said.append(Said(start_s, start_s + len(waveform) / RATE_HZ, ends, cut_text(cut)))
            samples += len(pause) + len(waveform)
            if number == music_after:
                file.write(music(MUSIC_S, rng))
                samples += round(MUSIC_S * RATE_HZ)
    return said


def noise_of(waveform: NDArray[np.float32], samples: int) -> NDArray[np.float32]:
    step = RATE_HZ // 5
    energy = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    start = int(np.argmin(energy[step:] - energy[:-step]))
    quiet = waveform[start : start + step]
    return np.resize(np.concatenate([quiet, quiet[::-1]]), samples)


def music(seconds: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return chords of plucked strings, four a second."""
    times_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    sound = np.zeros(len(times_s))
    for beat_s in np.arange(0, seconds, 0.25):
        since_s = times_s - beat_s
        root_hz = 220 * 2 ** (rng.choice([0, 2, 4, 5, 7, 9, 12]) / 12)
        loudness = np.where((since_s >= 0) & (since_s < 1), np.exp(-3 * since_s), 0)
        for hz in (root_hz, root_hz * 5 / 4, root_hz * 3 / 2):
            sound += sum(loudness * np.sin(2 * np.pi * hz * part * since_s) / part for part in range(1, 6))
    return (0.05 * sound / sound.std()).astype(np.float32)


def with_faults(said: Sequence[Said], seed: int) -> tuple[list[str], list[bool]]:
    """Return each utterance's text with faults, and whether it has none."""
    rng = random.Random(seed)
    vocabulary = sorted({word for one in said for word in one.text.split()})
    texts, clean = [], []
    for one in said:
        words: list[str] = []
        for word in one.text.split():
            kind = rng.choice(["replaced", "dropped", "added"]) if rng.random() < FAULTY_SHARE else "right"
            if kind in ("right", "added"):
                words.append(word)
            if kind in ("replaced", "added"):
                words.append(rng.choice([other for other in vocabulary if other != word]))
        texts.append(" ".join(words))
        clean.append(texts[-1] == one.text)
    return texts, clean


@dataclass(frozen=True)
class Share:
    """What was found of a recording."""

    clean: int
    found: int
    close: int
    strict: int
    accepted_s: float
    wrong_s: float

    def __str__(self) -> str:
        return (
            f"found {self.found / self.clean:.1%} of {self.clean} clean utterances, {self.close / self.clean:.1%} with "
            f"starts and ends within {1000 * CLOSE_S:.0f} ms (of the speech alone: {self.strict / self.clean:.1%}); "
            f"wrong {self.wrong_s / max(self.accepted_s, 1e-9):.2%} of {self.accepted_s:.0f} s that were accepted"
        )


def added(shares: Sequence[Share]) -> Share:
    names = ("clean", "found", "close", "strict", "accepted_s", "wrong_s")
    return Share(*(sum(getattr(share, name) for share in shares) for name in names))


def judge(said: Sequence[Said], clean: Sequence[bool], cuts: Sequence[Cut]) -> Share:
    """Compare the utterances that were written with what was said; by time, because texts recur."""
    cuts = sorted(cuts, key=lambda cut: cut.start)
    ends = [cut.start + cut.duration for cut in cuts]
    wrong_s = 0.0
    for cut, end_s in zip(cuts, ends, strict=True):
        words = cut_text(cut).lower().split()
        heard = " ".join(
            one.text for one in said if one.speech_s[0] < end_s - 0.05 and one.speech_s[1] > cut.start + 0.05
        )
        spoken = heard.lower().split()
        if not any(spoken[at : at + len(words)] == words for at in range(len(spoken) - len(words) + 1)):
            wrong_s += cut.duration
    found = close = strict = 0
    for one, is_clean in zip(said, clean, strict=True):
        inside = [
            place
            for place, cut in enumerate(cuts)
            if cut.start < one.speech_s[1] - 0.05 and ends[place] > one.speech_s[0] + 0.05
        ]
        text = " ".join(cut_text(cuts[place]) for place in inside).lower()
        if not is_clean or f" {one.text.lower()} " not in f" {text} ":
            continue
        found += 1
        start_s, end_s = cuts[inside[0]].start, ends[inside[-1]]
        close += (
            one.start_s - CLOSE_S <= start_s <= one.speech_s[0] + CLOSE_S
            and one.speech_s[1] - CLOSE_S <= end_s <= one.end_s + CLOSE_S
        )
        strict += max(abs(start_s - one.speech_s[0]), abs(end_s - one.speech_s[1])) <= CLOSE_S
    return Share(sum(clean), found, close, strict, sum(cut.duration for cut in cuts), wrong_s)


def segmented(model: Path, audio: Path, text: str, folder: Path) -> tuple[asr.SegmentReport, list[Cut]]:
    (folder / "text.txt").write_text(text, encoding="utf-8")
    whole = asr.SplitRule(dev_share=0.0, test_share=0.0)
    report = asr.segment(model, [(audio, folder / "text.txt")], folder / "data", split=whole, accelerator="cpu")
    return report, list(load_manifest(report.manifests.manifests["train"]))


def measure_faults(model: Path, manifest: Path, seeds: int, folder: Path) -> None:
    said = join(list(read_manifest(manifest)), folder / "joined.wav")
    shares = []
    for seed in range(seeds):
        texts, clean = with_faults(said, seed)
        _, cuts = segmented(model, folder / "joined.wav", "\n".join(texts), folder)
        shares.append(judge(said, clean, cuts))
        print(f"seed {seed}: {shares[-1]}", flush=True)
    print(f"all    : {added(shares)}")


def measure_hard(model: Path, manifest: Path, folder: Path) -> None:
    cuts = list(read_manifest(manifest))
    count = len(cuts)
    said = join(cuts, folder / "hard.wav", music_after=count // 4)
    texts, clean = with_faults(said, 0)
    a, b, c = (round(share * count) for share in (0.4, 0.5, 0.6))
    order = [*range(a), *range(b, c), *range(a, b), *range(c, count)]
    page = range(round(0.8 * count), round(0.85 * count))
    lines = [texts[place] for place in order if place not in page]
    lines.insert(10, HEADING)
    clean = [is_clean and place not in page for place, is_clean in enumerate(clean)]
    report, written = segmented(model, folder / "hard.wav", "\n".join(lines), folder)
    print(f"hard   : {judge(said, clean, written)}")
    moved = judge(said[a:c], clean[a:c], [cut for cut in written if said[a].start_s < cut.start < said[c - 1].end_s])
    print(f"of the parts that changed places: {moved}")
    for stretch in report.skipped:
        if stretch.reason == "no speech recognised" or HEADING.split()[2] in stretch.text:
            print(f"{stretch.start_s:8.1f} {stretch.end_s:8.1f}  {stretch.reason}  {stretch.text}")
    print(f"music is at {said[count // 4].end_s:.1f} to {said[count // 4].end_s + MUSIC_S:.1f} s")


def measure_length(model: Path, manifest: Path, hours: float, folder: Path) -> None:
    said = join(list(read_manifest(manifest)), folder / "joined.wav")
    text = " ".join(one.text for one in said)
    joined, _ = soundfile.read(folder / "joined.wav", dtype="float32")
    rng = random.Random(0)
    for name, length_s in (("1 minute", 60.0), (f"{hours:g} hours", 3600 * hours)):
        times = max(1, round(length_s * RATE_HZ / len(joined)))
        with soundfile.SoundFile(folder / "long.wav", "w", RATE_HZ, 1) as file:
            for _ in range(times):
                file.write(joined[: round(length_s * RATE_HZ)])
        words = [word for _ in range(times) for word in text.split() if rng.random() >= 0.05]
        (folder / "long.txt").write_text(" ".join(words[: round(3 * length_s)]), encoding="utf-8")
        command = [sys.executable, __file__, str(model), str(folder), "--measure"]
        cost = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        audio_s = soundfile.info(folder / "long.wav").duration
        print(
            f"{name:<9} {audio_s:7.0f} s of audio, {cost['words']} words, {cost['found']} of them found: "
            f"{cost['wall_s'] / audio_s:.4f} × real time (CPU {cost['cpu_s'] / audio_s:.4f}), "
            f"peak memory {cost['peak_mb']:.0f} MB",
            flush=True,
        )


def measure_once(model: Path, folder: Path) -> None:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    report, _ = segmented(model, folder / "long.wav", (folder / "long.txt").read_text(encoding="utf-8"), folder)
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    cost = {"wall_s": wall_s, "cpu_s": cpu_s, "peak_mb": peak_mb}
    print(json.dumps({**cost, "words": report.words, "found": report.utterance_words}))


def bootstrap(data: Path, config: Path, out: Path, minutes: float, rounds: int) -> None:
    cuts = list(read_manifest(data / "train.jsonl.gz"))
    speakers = sorted({cut_speaker(cut) for cut in cuts})
    random.Random(0).shuffle(cuts)
    ends_s = accumulate(cut.duration for cut in cuts)
    timed = [cut for cut, end_s in zip(cuts, ends_s, strict=True) if end_s <= 60 * minutes]
    out.mkdir(parents=True, exist_ok=True)
    write_manifest(timed, out / "timed" / "train.jsonl.gz")
    write_manifest(read_manifest(data / "dev.jsonl.gz"), out / "timed" / "dev.jsonl.gz")
    kept = {cut.id for cut in timed}
    pairs = []
    for number, speaker in enumerate(speakers):
        others = [cut for cut in cuts if cut_speaker(cut) == speaker and cut.id not in kept]
        if others:
            audio, text = out / f"{speaker}.wav", out / f"{speaker}.txt"
            text.write_text("\n".join(one.text for one in join(others, audio, number)), encoding="utf-8")
            pairs.append((audio, text))
    whole = asr.SplitRule(dev_share=0.0, test_share=0.0)
    report = asr.segment(
        None, pairs, out / "data", data=out / "timed", rounds=rounds, config=config, split=whole, accelerator="cpu"
    )
    print(f"{len(timed)} utterances with times; found {report.utterance_words} of {report.words} words", flush=True)
    found = [*timed, *read_manifest(report.manifests.manifests["train"])]
    write_manifest(found, out / "all" / "train.jsonl.gz")
    write_manifest(read_manifest(data / "dev.jsonl.gz"), out / "all" / "dev.jsonl.gz")
    sets = (("what was found", out / "all"), ("the original utterances", data))
    for number, (name, folder) in enumerate(sets):
        settings = asr.load_config(config, ["training.accelerator=cpu"])
        result = asr.train(settings, folder, out / f"model-{number}", resume=True)
        print(f"trained on {name}: dev WER {result.dev_score:.2%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, nargs="?")
    parser.add_argument("manifest", type=Path, nargs="?")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--hard", action="store_true")
    parser.add_argument("--hours", type=float, default=0.0)
    parser.add_argument("--bootstrap", type=Path, metavar="DATA")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure_once(arguments.model, arguments.manifest)
        return
    print(describe("silero-vad"))
    if arguments.bootstrap:
        bootstrap(arguments.bootstrap, arguments.config, arguments.out, arguments.minutes, arguments.rounds)
        return
    with tempfile.TemporaryDirectory() as folder:
        if arguments.seeds:
            measure_faults(arguments.model, arguments.manifest, arguments.seeds, Path(folder))
        if arguments.hard:
            measure_hard(arguments.model, arguments.manifest, Path(folder))
        if arguments.hours:
            measure_length(arguments.model, arguments.manifest, arguments.hours, Path(folder))


if __name__ == "__main__":
    main()
