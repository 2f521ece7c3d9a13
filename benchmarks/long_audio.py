"""A test set joined into one recording, against its utterances alone; and what three hours of audio cost.

    python benchmarks/long_audio.py MODEL MANIFEST [--method greedy] [--segment vad] [--hours 3] [--pause background]
                                    [--files-s 10]

Joined, the utterances stand in the manifest's order with pauses of 0.3 to 3 s between them, drawn with seed 0. A pause
is noise with level and spectrum of the quietest fifth of a second of the utterance after it; with `--pause white` it is
white noise of that level, with `--pause zeros` digital silence.
Printed are the word error rate of both ways, and how far the times of the words that both recognise lie apart.
With --files-s, the joined recording is also transcribed as files of at most so many seconds, and their word error rate
is printed without any cut and with those of --segment.

The joined recording, cut to one minute and repeated to three hours, is then transcribed from a file by a fresh process
each, which tells its peak resident memory and its real-time factor; so does one that transcribes the utterances' files
one by one. CPU time stands beside wall time, since only that means something on a busy machine. --hours 0 skips this.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile
from machine import describe
from numpy.typing import NDArray
from scipy.signal import fftconvolve

import asr
from asr.corpus.cut_audio import load_cut
from asr.corpus.manifest import cut_text, read_manifest
from asr.inference.recognizer import Recognizer
from asr.scoring.error_counts import ErrorCounts, align_words, count_errors
from asr.text.normalise import normalise

PAUSE_S = (0.3, 3.0)
CLOSE_MS = 60
MINUTE_S = 60.0


@dataclass(frozen=True)
class Joined:
    """Utterances in one recording, each after a pause."""

    waveform: NDArray[np.float32]
    starts_s: list[float]
    ends_s: list[float]


def join(waveforms: list[NDArray[np.float32]], rate_hz: int, pause: str) -> Joined:
    rng = np.random.default_rng(0)
    parts: list[NDArray[np.float32]] = []
    starts_s, ends_s, samples = [], [], 0
    for waveform in waveforms:
        between = draw_pause(round(rng.uniform(*PAUSE_S) * rate_hz), quietest(waveform, rate_hz // 5), pause, rng)
        parts += [between.astype(np.float32), waveform]
        starts_s.append((samples + len(between)) / rate_hz)
        samples += len(between) + len(waveform)
        ends_s.append(samples / rate_hz)
    return Joined(np.concatenate(parts), starts_s, ends_s)


def quietest(waveform: NDArray[np.float32], samples: int) -> NDArray[np.float32]:
    """Return the stretch of so many samples that has the least energy."""
    energy = np.concatenate([[0.0], np.cumsum(np.square(waveform, dtype=np.float64))])
    start = int(np.argmin(energy[samples:] - energy[:-samples]))
    return waveform[start : start + samples]


def draw_pause(
    samples: int, background: NDArray[np.float32], kind: str, rng: np.random.Generator
) -> NDArray[np.floating]:
    if kind == "zeros":
        return np.zeros(samples)
    noise = rng.standard_normal(samples)
    if kind == "background":  # filtered by the stretch itself, noise takes its spectrum
        noise = fftconvolve(rng.standard_normal(samples + len(background) - 1), background, "valid")
    return noise * float(np.sqrt(np.square(background).mean() / np.square(noise).mean()))


def files_of(joined: Joined, longest_s: float) -> list[tuple[int, int]]:
    """Return the files of at most so many seconds: the first utterance and one past the last of each."""
    firsts = [0]
    for place, end_s in enumerate(joined.ends_s):
        if end_s - joined.starts_s[firsts[-1]] > longest_s and place > firsts[-1]:
            firsts.append(place)
    return list(pairwise([*firsts, len(joined.ends_s)]))


def compare_files(recognizer: Recognizer, joined: Joined, references: list[str], arguments: argparse.Namespace) -> None:
    rate_hz = recognizer.sample_rate_hz
    files = files_of(joined, arguments.files_s)
    for segment in ("none", arguments.segment):
        counts = ErrorCounts()
        for first, beyond in files:
            start, end = round(joined.starts_s[first] * rate_hz), round(joined.ends_s[beyond - 1] * rate_hz)
            transcript = recognizer.transcribe(
                joined.waveform[start:end], sample_rate_hz=rate_hz, method=arguments.method, segment=segment
            )
            counts += count_errors(" ".join(references[first:beyond]), transcript.text, unit="word")
        print(f"WER in {len(files)} files of at most {arguments.files_s:g} s {counts.rate:.2%}, segments: {segment}")


def compare(arguments: argparse.Namespace) -> Joined:
    method, segment, pause = arguments.method, arguments.segment, arguments.pause
    recognizer = asr.load(arguments.model, accelerator="cpu")
    rate_hz = recognizer.sample_rate_hz
    cuts = list(read_manifest(arguments.manifest))
    references = [normalise(cut_text(cut), recognizer.decoder.bundle.config.text) for cut in cuts]
    waveforms = [load_cut(cut, rate_hz) for cut in cuts]
    single = [recognizer.transcribe(waveform, sample_rate_hz=rate_hz, method=method) for waveform in waveforms]
    joined = join(waveforms, rate_hz, pause)
    whole = recognizer.transcribe(joined.waveform, sample_rate_hz=rate_hz, method=method, segment=segment)
    alone = ErrorCounts()
    for reference, transcript in zip(references, single, strict=True):
        alone += count_errors(reference, transcript.text, unit="word")
    together = count_errors(" ".join(references), whole.text, unit="word")
    print(f"{len(cuts)} utterances, joined to {whole.duration_s:.0f} s with pauses of {pause}, segments: {segment}")
    print(f"WER utterance by utterance {alone.rate:.2%}, joined {together.rate:.2%}, {together.rate - alone.rate:+.2%}")

    if arguments.files_s:
        compare_files(recognizer, joined, references, arguments)

    apart_ms = []
    alone_words = [
        (word, start_s) for item, start_s in zip(single, joined.starts_s, strict=True) for word in item.words
    ]
    pairs = align_words(" ".join(word.text for word, _ in alone_words), whole.text)
    ours, theirs = iter(alone_words), iter(whole.words)
    for pair in pairs:
        word, start_s = next(ours) if pair.reference is not None else (None, 0.0)
        other = next(theirs) if pair.hypothesis is not None else None
        if word and other and pair.mark == "C":
            apart_ms.append((other.start_s - word.start_s - start_s, other.end_s - word.end_s - start_s))
    distances_ms = 1000 * np.abs(np.array(apart_ms))
    for name, distance_ms in zip(("starts", "ends"), distances_ms.T, strict=True):
        share = np.mean(distance_ms <= CLOSE_MS)
        print(
            f"{name:<6} of {len(distance_ms)} words of {len(alone_words)}: {share:.1%} within {CLOSE_MS} ms of those "
            f"alone, mean {distance_ms.mean():.0f} ms, 99 % within {np.percentile(distance_ms, 99):.0f} ms, "
            f"largest {distance_ms.max():.0f} ms"
        )
    return joined


@dataclass(frozen=True)
class Cost:
    """What a process took to transcribe files; loading the model is not in the times."""

    audio_s: float
    wall_s: float
    cpu_s: float
    peak_mb: float
    words: int


def measure(model: Path, method: str | None, segment: str, paths: list[Path]) -> Cost:
    recognizer = asr.load(model, accelerator="cpu")
    recognizer.transcribe(np.zeros(16000, np.float32), sample_rate_hz=16000, method=method)
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    audio_s, words = 0.0, 0
    for path in paths:
        transcript = recognizer.transcribe(path, method=method, segment=segment)
        audio_s += transcript.duration_s
        words += len(transcript.words)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 1024**2)
    return Cost(audio_s, time.perf_counter() - wall_s, time.process_time() - cpu_s, peak_mb, words)


def in_fresh_process(arguments: argparse.Namespace, paths: list[Path]) -> Cost:
    command = [sys.executable, __file__, str(arguments.model), str(arguments.manifest), "--segment", arguments.segment]
    command += ["--method", arguments.method] if arguments.method else []
    listed = subprocess.run(
        [*command, "--measure"],
        input=json.dumps([str(path) for path in paths]),
        capture_output=True,
        text=True,
        check=True,
    )
    return Cost(**json.loads(listed.stdout))


def costs(arguments: argparse.Namespace, joined: Joined, rate_hz: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        minute, hours = Path(folder, "minute.wav"), Path(folder, "hours.wav")
        soundfile.write(minute, joined.waveform[: round(MINUTE_S * rate_hz)], rate_hz)
        with soundfile.SoundFile(hours, "w", rate_hz, 1) as file:
            while file.frames < 3600 * arguments.hours * rate_hz:
                file.write(joined.waveform)
        utterances = []
        for number, (start_s, end_s) in enumerate(zip(joined.starts_s, joined.ends_s, strict=True)):
            utterances.append(Path(folder, f"{number}.wav"))
            soundfile.write(utterances[-1], joined.waveform[round(start_s * rate_hz) : round(end_s * rate_hz)], rate_hz)
        for name, paths in (
            ("utterances", utterances),
            ("1 minute", [minute]),
            (f"{arguments.hours:g} hours", [hours]),
        ):
            cost = in_fresh_process(arguments, paths)
            print(
                f"{name:<10} {cost.audio_s:7.0f} s of audio: RTF {cost.wall_s / cost.audio_s:.4f} "
                f"(CPU {cost.cpu_s / cost.audio_s:.4f}), peak memory {cost.peak_mb:.0f} MB, {cost.words} words"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--method", choices=("greedy", "beam"))
    parser.add_argument("--segment", choices=("vad", "fixed", "none"), default="vad")
    parser.add_argument("--hours", type=float, default=3.0)
    parser.add_argument("--files-s", type=float, help="also as files of at most so many seconds")
    parser.add_argument("--pause", choices=("background", "white", "zeros"), default="background")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        paths = [Path(path) for path in json.load(sys.stdin)]
        print(json.dumps(asdict(measure(arguments.model, arguments.method, arguments.segment, paths))))
        return
    print(describe("silero-vad"))
    joined = compare(arguments)
    if arguments.hours:
        costs(arguments, joined, asr.load(arguments.model, accelerator="cpu").sample_rate_hz)


if __name__ == "__main__":
    main()
