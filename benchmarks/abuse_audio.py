"""Attacks of `benchmarks/abuse.py` with recordings: bombs, lies, damage, noise, and prompts that slow the search."""

from __future__ import annotations

import gzip
import io
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile
from abuse_http import Answers, Target, form

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from damaged_audio import damaged_files

FILE_S = 0.2  # for each damaged file; most take a start of ffmpeg, 0.04 s of a core


def bombs(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """Small files that become large: zip, gzip, hours of silence, many channels at high rates."""
    zeros = bytes(50_000_000)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.wav", zeros)
    target.post(answers, form(packed.getvalue(), "a.zip"))
    target.post(answers, form(gzip.compress(zeros), "a.wav.gz"))
    body = gzip.compress(form(audio))
    target.send(answers, target.head(len(body), "Content-Encoding: gzip") + body)
    for suffix, rate, channels, hours in (
        (".flac", 16_000, 1, 8.0),
        (".flac", 192_000, 8, 0.4),
        (".flac", 655_350, 8, 0.1),
        (".ogg", 192_000, 64, 0.004),
        (".ogg", 192_000, 255, 0.001),
        (".mp3", 16_000, 1, 3.0),
    ):
        sent = silence(suffix, rate, channels, hours)
        target.post(answers, form(sent, f"a{suffix}"))
        if suffix == ".flac":  # an hour and more whose header says that it has a second, or nothing of its length
            for count in (0, rate):
                short = bytearray(sent)
                short[21:26] = bytes([short[21] & 0xF0]) + struct.pack(">I", count)
                target.post(answers, form(bytes(short), "a.flac"))


def silence(suffix: str, rate: int, channels: int, hours: float) -> bytes:
    """Return silence as a file."""
    file = io.BytesIO()
    kind, coding = {".flac": ("FLAC", "PCM_16"), ".ogg": ("OGG", "VORBIS"), ".mp3": ("MP3", "MPEG_LAYER_III")}[suffix]
    with soundfile.SoundFile(file, "w", rate, channels, coding, format=kind) as writer:
        block = np.zeros((rate, channels), np.int16)
        for _ in range(round(3600 * hours)):
            writer.write(block)
    return file.getvalue()


def lying_audio(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """WAV headers with impossible numbers, and files one after the other in one."""

    def wav(channels: int, rate: int, bits: int, length: int, kind: int = 1) -> bytes:
        width = channels * bits // 8
        layout = struct.pack("<HHIIHH", kind, channels, rate, rate * width & 0xFFFFFFFF, width & 0xFFFF, bits)
        head = b"WAVEfmt " + struct.pack("<I", 16) + layout + b"data" + struct.pack("<I", length)
        return b"RIFF" + struct.pack("<I", (length + 36) & 0xFFFFFFFF) + head + bytes(64_000)

    for file in (
        wav(1, 16_000, 16, 0xFFFFFFFF),
        wav(0, 16_000, 16, 64_000),
        wav(1, 0, 16, 64_000),
        wav(1, 1 << 31, 16, 64_000),
        wav(65_535, 16_000, 16, 64_000),
        wav(1024, 192_000, 8, 64_000),
        wav(64, 192_000, 16, 0xFFFFFFF0),
        wav(1, 16_000, 0, 64_000),
        wav(1, 16_000, 64, 64_000, 3),
        wav(1, 1, 16, 64_000),
        wav(1, 1000, 8, 64_000),
        wav(1, 16_000, 16, 64_000, 0x55),
        wav(1, 1_000_000, 16, 64_000),
        audio + audio,
        audio + bytes(1_000_000),
        b"#EXTM3U\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"<svg><image href='file:///etc/passwd'/></svg>",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=audio 9 RTP/AVP 0\n",
    ):
        target.post(answers, form(file))
        target.post(answers, form(file, "a.m3u8"))


def damaged(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """Damaged audio files, and damaged WebM and MP4 files where ffmpeg is installed; none after a time for each."""
    end = time.monotonic() + FILE_S * files

    def send(body: bytes) -> None:
        if time.monotonic() < end:
            target.post(answers, body)
        else:
            answers.add("not sent, the time was over")

    waveform, rate = soundfile.read(io.BytesIO(audio), dtype="float32")
    recordings = [(waveform[: 2 * rate], rate), (waveform[:rate], rate)]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(4) as threads:
        made = damaged_files(recordings, Path(folder), files)
        sent = [threads.submit(send, form(path.read_bytes(), path.name)) for path, _ in made]
        if program := shutil.which("ffmpeg"):
            rng = np.random.default_rng(0)
            for suffix in (".webm", ".mp4"):
                path = Path(folder, f"a{suffix}")
                command = [program, "-v", "quiet", "-y", "-f", "s16le", "-ar", str(rate), "-i", "-", str(path)]
                subprocess.run(command, input=(waveform * 32767).astype("<i2").tobytes(), check=True)
                whole = path.read_bytes()
                for _ in range(files // 40):
                    broken = bytearray(whole)
                    for place in rng.integers(0, len(broken), 5):
                        broken[place] ^= 1 << rng.integers(8)
                    cut = rng.integers(1, len(broken)) if rng.integers(2) else len(broken)
                    sent.append(threads.submit(send, form(bytes(broken[:cut]), f"a{suffix}")))
        for done in sent:
            done.result()


def many_hotwords(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """Prompts that make the search slow: a thousand phrases, very long ones, all beginnings of one."""
    for prompt in (
        ",".join(
            f"a{chr(97 + number % 26)}{chr(97 + number // 26 % 26)}{'e' * (number % 7)}" for number in range(1000)
        ),
        "a" * 60_000,
        ",".join("ab" * number for number in range(1, 240)),
        ",".join("a b c d e f g h i j k l m n o p q r s t u v w x y z"[number:] for number in range(51)),
        "," * 60_000,
        "one " * 15_000,
    ):
        target.post(answers, form(audio, prompt=prompt))


def noise(target: Target, answers: Answers, seconds: float, audio: bytes, files: int) -> None:
    """A minute of white noise, of clicks, and of the loudest square wave."""
    rng = np.random.default_rng(0)
    for samples in (
        rng.integers(-32768, 32767, 960_000),
        np.where(rng.random(960_000) < 0.01, 32767, 0),
        np.where(np.arange(960_000) // 40 % 2, 32767, -32768),
    ):
        file = io.BytesIO()
        soundfile.write(file, samples.astype(np.int16), 16_000, format="WAV")
        target.post(answers, form(file.getvalue()))


AUDIO_ATTACKS: dict[str, Callable[[Target, Answers, float, bytes, int], None]] = {
    "lying audio": lying_audio,
    "bombs": bombs,
    "many hotwords": many_hotwords,
    "noise": noise,
    "damaged": damaged,
}
