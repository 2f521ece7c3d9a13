"""Abuse of `asr serve` on loopback: what an attack gets, what it leaves behind, and what another client notices.

python benchmarks/abuse.py MODEL AUDIO [--jobs 2] [--seconds 8] [--files 2000] [--only NAME…] [--from 127.0.0.2]

Starts a server as a process and makes each attack of `abuse_http.py`, `abuse_connections.py` and `abuse_audio.py`, one
after the other. A well-behaved client sends AUDIO every second from 127.0.0.1, in a process of its own. The attacks
come from another address of this machine, because the server gives each address its turns: 127.0.0.2, which only Linux
has without being told. With `--from 127.0.0.1` the server cannot tell the attacker from the client, who then waits for
all that the attacker has sent.

The table has for each attack:

* answers: how often each status came; `closed`: the connection was closed without an answer, `silent`: none came.
* good: answers to the well-behaved client; all must be 200 with the same text.
* slower: the median of its times over the median without attack; at most 2 is asked for. The attackers and the client
  share the cores with the server, so this holds only on a machine with nothing else to do.
* left: what there is more than before: file descriptors, threads, processes, temporary files, MB of memory.

Exits with 1 if the server died, the client had a wrong answer, something was left, or a line of the log is no JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import httpx
from abuse_audio import AUDIO_ATTACKS, FILE_S
from abuse_connections import CONNECTION_ATTACKS
from abuse_http import HTTP_ATTACKS, TRANSCRIPTIONS, Answers, Target

ATTACKS = HTTP_ATTACKS | CONNECTION_ATTACKS | AUDIO_ATTACKS
TOKEN = "a-token-for-the-abuse-of-loopback"
SETTLE_S = 30.0  # within which what an attack took must be given back
MEMORY_MB = 200  # more than before are no leak yet: allocators keep memory


@dataclass(frozen=True)
class Held:
    """What a server and its workers hold."""

    files: int
    threads: int
    processes: int
    temporary: int
    memory_mb: float

    def more_than(self, before: Held) -> dict[str, float]:
        """Return what there is more of; of memory only what is worth a word."""
        more = {name: value - getattr(before, name) for name, value in vars(self).items()}
        if more["memory_mb"] < MEMORY_MB:
            del more["memory_mb"]
        return {name: round(value) for name, value in more.items() if value > 0}


@dataclass(frozen=True)
class Server:
    """A server that runs."""

    process: subprocess.Popen[bytes]
    target: Target
    log: Path
    folder: Path

    def processes(self) -> list[int]:
        """Return its number and those of all its descendants."""
        parents = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal():
                try:
                    parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                except OSError:
                    continue
        found = [self.process.pid]
        for number in found:
            found += [child for child, parent in parents.items() if parent == number]
        return found

    def held(self) -> Held:
        """Return what it holds now."""
        files = threads = memory_kb = 0
        numbers = self.processes()
        for number in numbers:
            try:
                files += len(os.listdir(f"/proc/{number}/fd"))
                status = Path(f"/proc/{number}/status").read_text()
            except OSError:
                continue
            threads += int(re.search(r"Threads:\s+(\d+)", status)[1])
            memory_kb += int((re.search(r"VmRSS:\s+(\d+)", status) or [0, 0])[1])
        temporary = sum(len(names) for _, _, names in os.walk(self.folder))
        return Held(files, threads, len(numbers), temporary, memory_kb / 1024)


@contextmanager
def serving(
    model: Path, jobs: int, folder: Path, token: str | None = None, port: int = 0, source: str = ""
) -> Iterator[Server]:
    """Serve a model on a free port until the `with` statement ends."""
    temporary, log = folder / "tmp", folder / "log"
    temporary.mkdir(parents=True)
    environment = {**os.environ, "TMPDIR": str(temporary), **({"ASR_TOKEN": token} if token else {})}
    command = [sys.executable, "-m", "asr", "serve", f"served={model}", "--port", str(port), "--jobs", str(jobs)]
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        if not found:
            sys.exit(f"the server does not start: {line}{log.read_text()[-2000:]}")
        try:
            yield Server(process, Target("127.0.0.1", int(found[1]), token, source), log, temporary)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                print("the server does not end 60 s after SIGTERM")
                process.kill()


def good_client(connection: Connection, url: str, audio: bytes, every_s: float) -> None:
    """Send a recording again and again; report the time, the status and the text of each answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        start = time.monotonic()
        try:
            answer = httpx.post(url, files={"file": ("good.wav", audio)}, timeout=60)
            found = (answer.status_code, answer.text)
        except httpx.HTTPError as error:
            found = (type(error).__name__, "")
        took_s = time.monotonic() - start
        try:
            connection.send((took_s, *found))
        except OSError:
            return
        time.sleep(max(0.05, every_s - took_s))


class Good:
    """The well-behaved client's answers."""

    def __init__(self, target: Target, audio: bytes, every_s: float) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        url = f"http://{target.host}:{target.port}{TRANSCRIPTIONS}"
        self.process = context.Process(target=good_client, args=(theirs, url, audio, every_s), daemon=True)
        self.process.start()
        self._text: str | None = None

    def during(self, seconds: float) -> list[tuple[float, object, str]]:
        """Return the answers of the next seconds."""
        time.sleep(seconds)
        return self.since()

    def since(self) -> list[tuple[float, object, str]]:
        """Return the answers since the last call, one at least."""
        found = [self._connection.recv()]
        while self._connection.poll():
            found.append(self._connection.recv())
        return found

    def faults(self, answers: list[tuple[float, object, str]]) -> list[str]:
        """Return what is wrong with answers."""
        wrong = []
        for _, status, text in answers:
            if status != 200:
                wrong.append(str(status))
            elif self._text is None:
                self._text = text
            elif text != self._text:
                wrong.append(f"another text: {text[:60]}")
        return wrong


def settled(server: Server, before: Held) -> dict[str, float]:
    """Return what is left of an attack, once nothing is or the time for it is over.

    The least of each is taken, because the well-behaved client's requests hold something as well.
    """
    end, least = time.monotonic() + SETTLE_S, server.held()
    while (left := least.more_than(before)) and time.monotonic() < end:
        time.sleep(0.5)
        now = server.held()
        least = Held(**{name: min(value, getattr(now, name)) for name, value in vars(least).items()})
    return left


def bad_lines(log: Path) -> list[str]:
    """Return the lines of a log that are no object with a time."""
    bad = []
    for line in log.read_bytes().decode("utf-8", "replace").splitlines():
        try:
            assert "time" in json.loads(line)
        except (ValueError, AssertionError, TypeError):
            bad.append(line)
    return bad


def attack(name: str, server: Server, seconds: float, audio: bytes, files: int) -> Answers:
    """Make an attack in a thread of low priority; return what it got."""
    answers = Answers()

    def make() -> None:
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 10)
        ATTACKS[name](server.target, answers, seconds, audio, files)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    thread.join(max(60.0, 10 * seconds) + FILE_S * files)
    if thread.is_alive():
        answers.add("UNENDED")
    return answers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("audio", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=8.0, help="longest time of an attack that could last forever")
    parser.add_argument(
        "--files", type=int, default=2000, help=f"number of damaged files, for each of which there are {FILE_S} s"
    )
    parser.add_argument("--from", dest="source", default="127.0.0.2", help="address that the attacks come from")
    parser.add_argument("--only", nargs="*", default=list(ATTACKS), help=f"of {', '.join(ATTACKS)}")
    given = parser.parse_args()
    audio, failed = given.audio.read_bytes(), False
    print(f"{'attack':22}{'good':>6}{'slower':>8}  left, answers")
    with tempfile.TemporaryDirectory() as folder:
        for token, names in (
            (None, [name for name in given.only if "token" not in name]),
            (TOKEN, [name for name in given.only if "token" in name]),
        ):
            if names:
                place = Path(folder, "token" if token else "open")
                with serving(given.model, given.jobs, place, token, given.port, given.source) as server:
                    failed |= series(server, names, given, audio)
                for line in bad_lines(server.log)[:20]:
                    print(f"not a line of JSON in the log: {line[:300]}")
                    failed = True
    sys.exit(1 if failed else 0)


def series(server: Server, names: list[str], given: argparse.Namespace, audio: bytes) -> bool:
    """Make attacks one after the other, print a row for each, and return whether something went wrong."""
    client, failed, usual_s = None, False, 1.0
    if server.target.token is None:
        client = Good(server.target, audio, 1.0)
        client.since()
        quiet = client.during(given.seconds)
        client.faults(quiet)
        usual_s = statistics.median(seconds for seconds, _, _ in quiet)
        print(f"{'none':22}{len(quiet):6}{usual_s:7.2f}s")
    before = server.held()
    for name in names:
        if client:
            client.since()
        start = time.monotonic()
        answers = attack(name, server, given.seconds, audio, given.files)
        wall_s = time.monotonic() - start
        met = client.since() if client else []
        wrong = client.faults(met) if client else []
        left = settled(server, before)
        dead = server.process.poll() is not None
        slower = statistics.median(seconds for seconds, _, _ in met) / usual_s if met else 0.0
        notes = [*(["SERVER DIED"] if dead else []), *map(str, [left] if left else []), *sorted(set(wrong))]
        print(f"{name:22}{len(met):6}{slower:8.2f}  {'; '.join([*notes, str(answers)])} ({wall_s:.0f} s)", flush=True)
        failed |= bool(dead or left or wrong or "UNENDED" in str(answers))
        if dead:
            break
    if client:
        client.process.kill()
    return failed


if __name__ == "__main__":
    main()
