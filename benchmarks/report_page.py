"""report.html of a large test set: time to write it, its size, and what a browser needs to show it.

    python benchmarks/report_page.py DECODE_FOLDER [--utterances 5000] [--out FOLDER]

DECODE_FOLDER is one that `asr decode` wrote, e.g. of AN4's test set. Its utterances are repeated under other names
until there are enough. In a third of the copies words are dropped, doubled or exchanged, so that there are as many
errors as a large test set has. `asr score` runs in a fresh process; the page is opened in headless Chromium
(playwright), scrolled from end to end, filtered, and an utterance is opened. Memory is the resident memory of the
page's own process after that, and the heap of its scripts. The times mean something on a quiet machine only.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from asr.bundle.files import HYPOTHESES, POSTERIORS, RECOGNISED, REFERENCES, SCORES_PAGE
from asr.scoring.score import read_trn, write_trn
from asr.transcript.posteriors import read_posteriors, write_posteriors

WRONG_SHARE = 0.33


def changed(words: list[dict[str, Any]], vocabulary: list[str], chance: random.Random) -> list[dict[str, Any]]:
    """Return recognised words, some of them dropped, doubled or exchanged."""
    found = []
    for word in words:
        way = chance.random()
        if way < 0.1:
            continue
        found.append(word if way < 0.8 else word | {"text": chance.choice(vocabulary), "confidence": chance.random()})
        if way > 0.95:
            found.append(word | {"confidence": chance.random()})
    return found


def repeated(source: Path, folder: Path, utterances: int) -> None:
    """Write a decode folder with as many utterances, made of those of another."""
    chance = random.Random(1)
    references = read_trn(source / REFERENCES)
    lines = [json.loads(line) for line in (source / RECOGNISED).read_text(encoding="utf-8").splitlines()]
    known = read_posteriors(source / POSTERIORS)
    vocabulary = sorted({word for text in references.values() for word in text.split()})
    said, recognised, posteriors, records = {}, {}, {}, []
    for number in range(utterances):
        line = lines[number % len(lines)]
        words = line["words"]
        if chance.random() < WRONG_SHARE:
            words = changed(words, vocabulary, chance)
        name = f"{line['id']}-{number // len(lines):03d}"
        text = " ".join(word["text"] for word in words)
        said[name], recognised[name], posteriors[name] = references[line["id"]], text, known.utterances[line["id"]]
        fields = line["fields"] | {"snr_db": chance.randrange(40), "room": chance.choice(["kitchen", "car", "office"])}
        speaker = f"{line['speaker']}-{number // len(lines):03d}"
        changes = {"id": name, "speaker": speaker, "text": text, "words": words, "fields": fields}
        records.append(json.dumps(line | changes) + "\n")
    folder.mkdir(parents=True)
    write_trn(said, folder / REFERENCES)
    write_trn(recognised, folder / HYPOTHESES)
    write_posteriors(folder / POSTERIORS, known.models, posteriors)
    (folder / RECOGNISED).write_text("".join(records), encoding="utf-8")


def scored(folder: Path, *options: str) -> dict[str, float]:
    """Run `asr score` on a folder; return its time and the size of its page."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "asr", "score", str(folder), *options], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    return {"asr score, s": seconds, "page, MB": (folder / SCORES_PAGE).stat().st_size / 1e6}


def browsed(page_file: Path) -> dict[str, float]:
    """Return what a browser needs for a page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        others = set(renderers())
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        began = time.perf_counter()
        page.goto(page_file.as_uri(), wait_until="load")
        loaded_s = time.perf_counter() - began
        paint_s = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime / 1000")
        scrolled_s = page.evaluate(SCROLL) / 1000
        began = time.perf_counter()
        page.get_by_label("Search").fill("seven")
        filtered_s = time.perf_counter() - began
        page.get_by_label("Search").fill("")
        page.keyboard.press("Escape")
        page.evaluate("document.activeElement.blur()")
        page.keyboard.press("j")
        page.wait_for_function("player.durationS > 0")
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        metrics = {item["name"]: item["value"] for item in session.send("Performance.getMetrics")["metrics"]}
        resident_mb = max(resident_bytes(process) for process in set(renderers()) - others) / 1e6
        browser.close()
    return {
        "first paint, s": paint_s,
        "loaded, s": loaded_s,
        "scrolled from end to end, s": scrolled_s,
        "filtered, s": filtered_s,
        "resident memory of the page's process, MB": resident_mb,
        "heap of the scripts, MB": metrics["JSHeapUsedSize"] / 1e6,
        "elements": metrics["Nodes"],
    }


SCROLL = """() => new Promise((resolve) => {
    const began = performance.now();
    const step = () => {
        scrollBy(0, innerHeight);
        if (scrollY + innerHeight < document.documentElement.scrollHeight - 1) requestAnimationFrame(step);
        else resolve(performance.now() - began);
    };
    step();
})"""


def renderers() -> Iterator[int]:
    """Yield the processes of this machine that show a page."""
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if b"--type=renderer" in (folder / "cmdline").read_bytes():
                    yield int(folder.name)
            except OSError:
                continue


def resident_bytes(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text(encoding="utf-8")
    return next(1024 * int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("source", type=Path)
    parser.add_argument("--utterances", type=int, default=5000)
    parser.add_argument("--out", type=Path, help="where to keep the decode folder; by default it is removed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.out or Path(temporary)) / "decode"
        repeated(arguments.source, folder, arguments.utterances)
        print(f"{arguments.utterances} utterances\n")
        print("| what | with audio | `--no-audio` |\n| --- | --- | --- |")
        without = scored(folder, "--no-audio")
        figures = scored(folder)
        for name, value in (figures | browsed(folder / SCORES_PAGE)).items():
            print(f"| {name} | {value:.2f} | {f'{without[name]:.2f}' if name in without else ''} |")


if __name__ == "__main__":
    main()
