"""How soon does `asr serve` answer people who speak, one or twenty at once? First partial and final results, CPU share.

    python benchmarks/live.py exp/an4-seed1 data/an4/test.jsonl.gz [--streams 1 5 10 20] [--seconds 40]

The model is exported and served by a process of its own. Clients, in this process, send utterances in random order with
pauses of 1 to 2 s between them, in blocks of 0.1 s, each once it has been spoken. So what a client adds is at most the
length of a block, and it counts. The trained model aligns each utterance with its text: that says when its first word
and its last one have been spoken. From there on the clock runs:

* first partial: to the first text of the utterance, whatever it says. Below 0, it came while the word was spoken.
* first word: to the first text that begins with the word with which the final result begins. Later ones may change it.
* final: to the final result with the utterance's last word. It waits for the pause that ends an utterance.

CPU is that of the server and its workers, in cores. At the end each stream's final results are compared with those of
`OnnxRecognizer.stream` for the same samples.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import websockets
from machine import describe

import asr
import asr.runtime
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import read_manifest, transcripts
from asr.serving.live_worker import PARTIAL_S
from asr.serving.live_worker import PAUSE_S as END_S

BLOCK_S = 0.1
PAUSE_S = (1.0, 2.0)
EARLY_S = 0.5  # a result belongs to an utterance if its first word begins at most so long before
SEED = 1
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Utterance:
    """An utterance and when its first and last words end, in seconds from its first sample."""

    samples: np.ndarray
    first_word_s: float
    last_word_s: float


@dataclass
class Recording:
    """What a client sends, and what it heard when: messages with the seconds since the first sample was spoken."""

    samples: np.ndarray
    begins_s: list[float]
    utterances: list[Utterance]
    heard: list[tuple[float, dict[str, Any]]] = field(default_factory=list)
    behind_s: float = 0.0  # the most by which the client itself was late


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 5, 10, 20])
    parser.add_argument("--seconds", type=float, default=40.0, help="length of each stream")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="worker processes of the server")
    arguments = parser.parse_args()
    recognizer = asr.load(arguments.model, accelerator="cpu")
    rate_hz = recognizer.sample_rate_hz
    print(describe("onnxruntime", "websockets"))
    print(
        f"an utterance ends after {END_S:g} s of silence; a partial result each {PARTIAL_S:g} s at most; "
        f"{arguments.jobs} workers"
    )
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "exported"
        asr.export(arguments.model, exported)
        utterances = aligned(recognizer, arguments.manifest, Path(folder) / "utterance.wav")
        print(f"{len(utterances)} utterances; streams of {arguments.seconds:g} s\n")
        sent = []
        with served(exported, arguments.jobs) as (url, process):
            asyncio.run(at_once([joined(utterances, 5.0, rate_hz, 0)] * arguments.jobs, url, rate_hz))  # warms up
            for count in arguments.streams:
                recordings = [joined(utterances, arguments.seconds, rate_hz, SEED + n) for n in range(count)]
                before_s, began_s = cpu_s(process), time.monotonic()
                asyncio.run(at_once(recordings, url, rate_hz))
                share = (cpu_s(process) - before_s) / (time.monotonic() - began_s)
                report(count, recordings, share)
                sent += recordings
        print_sameness(exported, sent, rate_hz)


def aligned(recognizer: asr.Recognizer, manifest: Path, path: Path) -> list[Utterance]:
    cuts = list(read_manifest(manifest))
    texts = transcripts(cuts, recognizer.decoder.bundle.config.text)
    found = []
    for cut in cuts:
        samples = load_cut(cut, recognizer.sample_rate_hz)
        soundfile.write(path, samples, recognizer.sample_rate_hz)
        words = recognizer.align(path, texts[cut.id]).words
        if words:
            found.append(Utterance(samples, words[0].end_s, words[-1].end_s))
    return found


def joined(utterances: Sequence[Utterance], seconds: float, rate_hz: int, seed: int) -> Recording:
    """Return utterances in random order, with pauses that hold the quiet end of the one before, again."""
    rng = np.random.default_rng(seed)
    recording = Recording(np.zeros(0, np.float32), [], [])
    parts = [np.resize(utterances[0].samples[-rate_hz // 20 :], round(rng.uniform(0.5, 1.5) * rate_hz))]
    while (length := sum(map(len, parts))) < seconds * rate_hz:
        utterance = utterances[rng.integers(len(utterances))]
        recording.begins_s.append(length / rate_hz)
        recording.utterances.append(utterance)
        quiet = utterance.samples[-rate_hz // 20 :]
        pause = np.resize(np.concatenate([quiet, quiet[::-1]]), round(rng.uniform(*PAUSE_S) * rate_hz))
        parts += [utterance.samples, pause]
    recording.samples = (np.clip(np.concatenate(parts), -1, 1 - 2**-15) * 2**15).astype("<i2")
    return recording


@contextmanager
def served(model: Path, jobs: int) -> Iterator[tuple[str, int]]:
    """Serve a model by a process of its own; yield its address and its number."""
    command = [sys.executable, "-m", "asr", "serve", f"m={model}", "--port", "0", "--jobs", str(jobs)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().decode()  # comes once the models are loaded
            yield line.split()[2].rstrip(";").replace("http", "ws", 1) + "v1/stream", process.pid
        finally:
            process.terminate()


async def at_once(recordings: Sequence[Recording], url: str, rate_hz: int) -> None:
    """Send recordings at the same time, each begun at another moment of the first second."""
    delays_s = np.random.default_rng(SEED).uniform(0, 1, len(recordings))
    await asyncio.gather(*(send(one, url, rate_hz, delay) for one, delay in zip(recordings, delays_s, strict=True)))


async def send(recording: Recording, url: str, rate_hz: int, delay_s: float) -> None:
    await asyncio.sleep(delay_s)
    async with websockets.connect(url, proxy=None, compression=None) as connection:
        await connection.send(json.dumps({"sample_rate_hz": rate_hz}))
        assert json.loads(await connection.recv())["type"] == "ready"
        start_s = time.monotonic()
        sending = asyncio.create_task(speak(recording, connection, rate_hz, start_s))
        async for message in connection:
            recording.heard.append((time.monotonic() - start_s, json.loads(message)))
        await sending
    assert recording.heard[-1][1]["type"] == "end", recording.heard[-1]


async def speak(recording: Recording, connection: Any, rate_hz: int, start_s: float) -> None:
    """Send each block once its last sample has been spoken."""
    block = round(BLOCK_S * rate_hz)
    for place in range(0, len(recording.samples), block):
        part = recording.samples[place : place + block]
        due_s = start_s + (place + len(part)) / rate_hz
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        recording.behind_s = max(recording.behind_s, time.monotonic() - due_s)
        await connection.send(part.tobytes())
    await connection.send(json.dumps({"type": "end"}))


@dataclass
class Waits:
    """Seconds from the moment at which something was spoken to the message about it."""

    first_partial: list[float] = field(default_factory=list)
    first_word: list[float] = field(default_factory=list)
    final: list[float] = field(default_factory=list)
    unheard: int = 0


def add_waits(recording: Recording, waits: Waits) -> None:
    """Take each utterance's messages apart: those up to its first final result, and its last final result."""
    groups: list[list[tuple[float, dict[str, Any]]]] = [[]]
    for at_s, message in recording.heard:
        if message["type"] in ("partial", "final"):
            groups[-1].append((at_s, message))
        if message["type"] == "final":
            groups.append([])
    ended = [group for group in groups if group and group[-1][1]["type"] == "final" and group[-1][1]["words"]]
    ends_s = [*recording.begins_s[1:], len(recording.samples)]
    for utterance, begin_s, end_s in zip(recording.utterances, recording.begins_s, ends_s, strict=True):
        mine = [group for group in ended if begin_s - EARLY_S <= group[-1][1]["start_s"] < end_s - EARLY_S]
        if not mine:
            waits.unheard += 1
            continue
        texts = [(at_s, message["text"]) for at_s, message in mine[0] if message["text"]]
        word = mine[0][-1][1]["words"][0]["text"]
        waits.first_partial.append(texts[0][0] - begin_s - utterance.first_word_s)
        right_s = next(at_s for at_s, text in texts if text.startswith(word))
        waits.first_word.append(right_s - begin_s - utterance.first_word_s)
        waits.final.append(mine[-1][-1][0] - begin_s - utterance.last_word_s)


def report(count: int, recordings: Sequence[Recording], share: float) -> None:
    waits = Waits()
    for recording in recordings:
        add_waits(recording, waits)
    print(
        f"{count} streams, {len(waits.final)} utterances and {waits.unheard} not heard; server {share:.2f} "
        f"cores; client late by {max(recording.behind_s for recording in recordings):.3f} s at most"
    )
    for name in ("first_partial", "first_word", "final"):
        values = np.array(getattr(waits, name))
        p50, p95 = np.percentile(values, (50, 95))
        print(f"  {name.replace('_', ' '):<14} p50 {p50:6.3f} s   p95 {p95:6.3f} s   most {values.max():6.3f} s")


def print_sameness(model: Path, recordings: Sequence[Recording], rate_hz: int) -> None:
    recognizer, different = asr.runtime.load(model), 0
    known: dict[bytes, list[str]] = {}
    for recording in recordings:
        key = recording.samples.tobytes()
        if key not in known:
            samples = recording.samples.astype(np.float32) / np.float32(2**15)
            results = recognizer.stream([samples], sample_rate_hz=rate_hz, end_silence_s=END_S)
            known[key] = [one.text for one in results if one.is_final]
        found = [message["text"] for _, message in recording.heard if message["type"] == "final"]
        different += found != known[key]
    print(f"\n{different} of {len(recordings)} streams have other final results than OnnxRecognizer.stream")


def cpu_s(process: int) -> float:
    """Return the seconds of processor time that a process and its children have taken."""
    total = 0.0
    for number in (process, *children(process)):
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / TICK
    return total


def children(process: int) -> list[int]:
    found = [Path(f"/proc/{process}/task/{task}/children").read_text() for task in os.listdir(f"/proc/{process}/task")]
    direct = [int(number) for text in found for number in text.split()]
    return [*direct, *(grandchild for child in direct for grandchild in children(child))]


if __name__ == "__main__":
    main()
