"""How much does `asr serve` transcribe, how long do clients wait, and is each answer the one of `asr transcribe`?

    python benchmarks/serving.py exp/an4-seed1 data/an4/test.jsonl.gz [--clients 50] [--requests 2000]

The files are the test utterances and recordings of about a minute, joined from them. All processes of this machine's
cores transcribe them, first without a server: by `asr.transcribe_files` with the trained model, and by the same
workers with the exported one. Then 50 clients, in this process, send the same files to a server of the exported model,
as fast as answers come. Throughput counts seconds of audio in a second, from the first result of each worker on.

Each answer is compared with what the exported model gives without a server: texts, times, confidences. Its texts are
compared with those of the trained model in float32 too. At last utterances go on until 2,000 requests are done, and the
memory of the server and its workers is shown on the way. No more is sent after `--seconds`; then the output says so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import soundfile
from machine import describe

import asr
import asr.runtime
from asr.bulk.workers import Result, Transcribe, in_processes
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import read_manifest
from asr.machine import cores
from asr.transcript.transcript import Transcript

RATE_HZ = 16000
PAUSE_S = 0.8  # between joined utterances
MINUTES = 8  # number of long recordings
WAIT_S = 120.0  # for the server to be ready
BOUNDARY = "benchmark-boundary"


def write_files(manifest: Path, folder: Path) -> tuple[list[Path], list[Path]]:
    """Write the utterances, and recordings of about a minute of them."""
    waveforms = [load_cut(cut, RATE_HZ) for cut in read_manifest(manifest)]
    pause = np.zeros(round(PAUSE_S * RATE_HZ), np.float32)
    short, long = [], []
    for place, waveform in enumerate(waveforms):
        short.append(folder / f"utterance-{place:04d}.wav")
        soundfile.write(short[-1], waveform, RATE_HZ)
    rest = iter(waveforms * 20)
    for place in range(MINUTES):
        parts: list[np.ndarray] = []
        while sum(map(len, parts)) < 60 * RATE_HZ:
            parts += [next(rest), pause]
        long.append(folder / f"minute-{place:02d}.wav")
        soundfile.write(long[-1], np.concatenate(parts), RATE_HZ)
    return short, long


def load_exported(folder: Path) -> Transcribe:
    recognizer = asr.runtime.load(folder)
    return lambda path: (recognizer.transcribe(path),)


class Clock:
    """Throughput from the first result of each worker on, so that loading the model does not count."""

    def __init__(self, workers: int) -> None:
        self._results: list[tuple[float, float]] = []
        self._workers = workers

    def add(self, audio_s: float) -> None:
        self._results.append((time.perf_counter(), audio_s))

    def throughput(self) -> float:
        rest = self._results[self._workers :]
        return sum(audio_s for _, audio_s in rest) / (rest[-1][0] - self._results[self._workers - 1][0])


def bulk_trained(model: Path, paths: Sequence[Path], jobs: int, precision: str) -> tuple[dict[Path, Transcript], float]:
    clock, found = Clock(jobs), dict[Path, Transcript]()

    def keep(path: Path, result: Result) -> None:
        assert not isinstance(result, asr.AudioError), result
        (found[path],) = result
        clock.add(found[path].duration_s)

    asr.transcribe_files(model, paths, jobs=jobs, on_result=keep, accelerator="cpu", precision=precision)
    return found, clock.throughput()


def bulk_exported(model: Path, paths: Sequence[Path], jobs: int) -> tuple[dict[Path, Transcript], float]:
    clock, found = Clock(jobs), dict[Path, Transcript]()
    for path, result in in_processes(partial(load_exported, model), paths, jobs):
        assert not isinstance(result, asr.AudioError), result
        (found[path],) = result
        clock.add(found[path].duration_s)
    return found, clock.throughput()


@dataclass
class Answers:
    """What clients got."""

    waits_s: dict[Path, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    different: int = 0
    done: int = 0

    def shares(self, paths: Sequence[Path]) -> str:
        waits_s = sorted(wait_s for path in paths for wait_s in self.waits_s.get(path, []))
        p50, p95, p99 = np.percentile(waits_s, (50, 95, 99))
        return f"p50 {p50:.2f} s, p95 {p95:.2f} s, p99 {p99:.2f} s of {len(waits_s)}"


@contextmanager
def served(model: Path, jobs: int, log: Path) -> Iterator[tuple[str, int]]:
    """Serve a model by a process of its own; yield its address and its number."""
    command = [sys.executable, "-m", "asr", "serve", f"m={model}", "--port", "0", "--jobs", str(jobs)]
    with log.open("wb") as errors, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline().decode()  # comes once the models are loaded
            assert "http" in line, log.read_text()
            yield line.split()[2].rstrip(";"), process.pid
        finally:
            process.terminate()
            print(f"the server ended with exit status {process.wait(WAIT_S)}")


def request_of(path: Path, address: str) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n\r\n'
    form = f'\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name="response_format"\r\n\r\nverbose_json'
    body = head.encode() + path.read_bytes() + form.encode() + f"\r\n--{BOUNDARY}--\r\n".encode()
    lines = [
        "POST /v1/audio/transcriptions HTTP/1.1",
        f"Host: {urlsplit(address).netloc}",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY}",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def answer_to(request: bytes, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> tuple[int, bytes]:
    reader, writer = streams
    writer.write(request)
    await writer.drain()
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.split("content-length:")[1].split("\r\n")[0])
    return int(head.split()[1]), await reader.readexactly(length)


def words_of(transcript: Transcript) -> list[tuple[str, float, float, float]]:
    return [(w.text, round(w.start_s, 3), round(w.end_s, 3), round(w.confidence, 4)) for w in transcript.words]


async def ask(
    address: str,
    paths: Sequence[Path],
    expected: dict[Path, Transcript],
    clients: int,
    end: float,
    on_done: Callable[[int], object] = lambda _: None,
) -> Answers:
    """Let clients send files, one after the other each, until all are done or the time is over."""
    parts = urlsplit(address)
    answers, waiting = Answers(), iter(paths)

    async def client() -> None:
        streams = await asyncio.open_connection(parts.hostname, parts.port)
        for path in waiting:
            if time.perf_counter() > end:
                break
            request, start = request_of(path, address), time.perf_counter()
            try:
                status, body = await answer_to(request, streams)
            except (OSError, asyncio.IncompleteReadError) as error:
                answers.errors.append(repr(error))
                streams = await asyncio.open_connection(parts.hostname, parts.port)
                continue
            answers.waits_s.setdefault(path, []).append(time.perf_counter() - start)
            answers.done += 1
            if status != 200:
                answers.errors.append(f"{status} {body[:200]!r}")
            else:
                words = [(w["word"], w["start"], w["end"], w["confidence"]) for w in json.loads(body)["words"]]
                answers.different += words != words_of(expected[path])
            on_done(answers.done)
        streams[1].close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return answers


def memory_mb(process: int) -> str:
    """Return the memory of a process and of its children, each, in MB; the first is the server's."""
    numbers = [process]
    for task in Path(f"/proc/{process}/task").iterdir():
        numbers += map(int, (task / "children").read_text().split())
    kb = []
    for number in numbers:
        lines = Path(f"/proc/{number}/status").read_text().splitlines()
        kb.append(next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")))
    return " ".join(f"{size / 1024:.0f}" for size in kb)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="a trained model folder")
    parser.add_argument("manifest", type=Path, help="test utterances")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=cores())
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=90.0, help="most for each of the two parts with clients")
    arguments = parser.parse_args()
    print(describe("onnxruntime", "starlette", "uvicorn"), f"{arguments.jobs} workers", sep=", ")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        short, long = write_files(arguments.manifest, folder)
        exported = asr.export(arguments.model, folder / "exported").folder
        paths = random.Random(0).sample([*short, *long], len(short) + len(long))
        _, throughput = bulk_trained(arguments.model, paths, arguments.jobs, "auto")
        trained, _ = bulk_trained(arguments.model, paths, arguments.jobs, "fp32")
        print(f"bulk, trained model: {throughput:.1f} s of audio in a second")
        expected, bulk = bulk_exported(exported, paths, arguments.jobs)
        print(f"bulk, exported model: {bulk:.1f} s of audio in a second")
        other = sum(trained[path].text != expected[path].text for path in paths)
        print(f"texts of the exported model that differ from the trained one's in fp32: {other} of {len(paths)}")
        with served(exported, arguments.jobs, folder / "log") as (address, process):
            print(f"memory before, server and children: {memory_mb(process)} MB")
            start = time.perf_counter()
            answers = asyncio.run(ask(address, paths * 2, expected, arguments.clients, start + arguments.seconds))
            wall_s = time.perf_counter() - start
            audio_s = sum(expected[path].duration_s * len(waits) for path, waits in answers.waits_s.items())
            print(
                f"{arguments.clients} clients: {audio_s / wall_s:.1f} s of audio in a second, "
                f"{audio_s / wall_s / bulk:.2f} × bulk's of the exported model, "
                f"{audio_s / wall_s / throughput:.2f} × bulk's of the trained one"
            )
            print(f"utterances: {answers.shares(short)}\nminutes: {answers.shares(long)}")
            report(answers, 2 * len(paths))

            def show(done: int) -> None:
                if done % 200 == 0:
                    print(f"memory after {answers.done + done} requests: {memory_mb(process)} MB", flush=True)

            left = max(0, arguments.requests - answers.done)
            more = (short * (left // len(short) + 1))[:left]
            end = time.perf_counter() + arguments.seconds
            report(asyncio.run(ask(address, more, expected, arguments.clients, end, show)), left)
            print(f"memory at the end: {memory_mb(process)} MB; open files: {len(os.listdir(f'/proc/{process}/fd'))}")


def report(answers: Answers, wanted: int) -> None:
    over = "" if answers.done + len(answers.errors) >= wanted else f" of {wanted}; the time was over"
    print(f"{answers.done} answers{over}, {len(answers.errors)} errors, {answers.different} other than expected")
    for error in answers.errors[:5]:
        print(f"  {error}")


if __name__ == "__main__":
    main()
