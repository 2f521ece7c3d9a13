"""How early `asr review` shows wrong transcripts, and whether anything is lost if it is killed again and again.

    python benchmarks/review.py MODEL MANIFEST… [--utterances 200] [--errors 30] [--first 45] [--kills 20] [--draws 10]

As many utterances of each manifest are taken. Into some texts an error is planted: one word is replaced, dropped or
added. The ranking is drawn several times with other errors. Once, a scripted browser then goes through the first ones:
where the text is not the true one it types that, by keys. Meanwhile the process that serves is killed with SIGKILL at
random moments, and started again. Every correction that the page called kept must be in the journal.

The model must not have been trained on these utterances, or it may know their texts by heart.
"""

from __future__ import annotations

import argparse
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lhotse.cut import Cut
from lhotse.utils import fastcopy
from machine import describe

import asr
from asr.corpus.manifest import cut_text, load_manifest, write_manifest
from asr.errors import AsrError
from asr.inference.decoder import Decoder
from asr.machine import silent
from asr.reviewing.journal import Journal, journal_of
from asr.reviewing.review import in_order


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL")
    parser.add_argument("manifests", type=Path, metavar="MANIFEST", nargs="+")
    parser.add_argument("--utterances", type=int, default=200)
    parser.add_argument("--errors", type=int, default=30)
    parser.add_argument("--first", type=int, default=45)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--draws", type=int, default=10)
    given = parser.parse_args()
    print(describe())
    share = given.utterances // len(given.manifests)
    cuts = [cut for manifest in given.manifests for cut in list(load_manifest(manifest))[:share]]
    truth = {cut.id: cut_text(cut) for cut in cuts}
    decoder = Decoder.load(given.model)
    print(f"{len(cuts)} utterances, {given.errors} planted errors; places of the last three of them, by draw")
    drawn = []
    for draw in range(given.draws):
        wrong = with_errors(truth, given.errors, random.Random(draw))
        order = [one.cut.id for one in in_order({"train": [with_text(cut, wrong) for cut in cuts]}, decoder, silent)]
        places = sorted(order.index(name) + 1 for name in wrong)
        drawn.append((wrong, order))
        found = sum(place <= given.first for place in places)
        print(f"draw {draw}: {found} of {len(wrong)} among the first {given.first}; last at {places[-3:]}", flush=True)
    wrong, order = drawn[0]
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder, "train.jsonl.gz")
        write_manifest([with_text(cut, wrong) for cut in cuts], manifest)
        correct_and_kill(manifest, truth, order[: given.first], given.kills)
        asr.apply_review(manifest, Path(folder, "new"))
        after = {cut.id: cut_text(cut) for cut in load_manifest(Path(folder, "new", manifest.name))}
        left = sorted(name for name in truth if after.get(name) != truth[name])
    print(f"after asr review apply, {len(left)} texts are not the true ones: {', '.join(left) or 'none'}")


def with_errors(truth: Mapping[str, str], count: int, chance: random.Random) -> dict[str, str]:
    """Return some texts with one word replaced, dropped or added, in turn, by utterance id."""
    vocabulary = sorted({word for text in truth.values() for word in text.split()})
    fit = [name for name, text in truth.items() if len(text.split()) > 1]
    wrong = {}
    for number, name in enumerate(chance.sample(fit, count)):
        words = truth[name].split()
        place = chance.randrange(len(words))
        if number % 3 == 0:
            words[place] = chance.choice([word for word in vocabulary if word != words[place]])
        elif number % 3 == 1:
            del words[place]
        else:
            words.insert(place, chance.choice(vocabulary))
        wrong[name] = " ".join(words)
    return wrong


def with_text(cut: Cut, texts: Mapping[str, str]) -> Cut:
    """Return a cut with the text of its id, if there is one."""
    if cut.id not in texts:
        return cut
    return fastcopy(cut, supervisions=[fastcopy(cut.supervisions[0], text=texts[cut.id])])


class Server:
    """`asr review`, which can be killed and started again."""

    def __init__(self, manifest: Path) -> None:
        self.command = [sys.executable, "-m", "asr", "review", "open", str(manifest)]

    def start(self) -> str:
        """Return the address of the page."""
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, text=True)
        for line in self.process.stdout:
            if match := re.match(r"open (\S+)", line):
                return match[1]
        raise AsrError("asr review did not start")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def correct_and_kill(manifest: Path, truth: Mapping[str, str], names: Sequence[str], kills: int) -> None:
    """Type the true text of each utterance that has another one, and kill the server again and again meanwhile."""
    from playwright.sync_api import sync_playwright

    chance = random.Random(0)
    places = {cut.id: place for place, cut in enumerate(load_manifest(manifest))}
    # Seconds after the key that asks for the correction; on a quiet machine it is on disk after some milliseconds.
    to_kill_at = {place: chance.uniform(0.0, 0.2) for place in chance.sample(range(len(names)), kills)}
    confirmed: list[tuple[str, str]] = []
    unconfirmed = 0
    server = Server(manifest)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(server.start())
        for number, name in enumerate(names):
            timer = threading.Timer(to_kill_at.get(number, 0.0), server.kill)
            timers = [timer] if number in to_kill_at else []
            kept = correct(page, places[name], truth[name], timers)
            unconfirmed += not kept
            for timer in timers:
                timer.join()
                missing = lost(manifest, confirmed + [(name, truth[name])] * kept)
                if missing:
                    raise AsrError(f"after a kill, {missing} are lost")
                page.goto(server.start())
            if not (kept or correct(page, places[name], truth[name], [])):
                raise AsrError(f"{name} cannot be corrected")
            confirmed.append((name, truth[name]))
        browser.close()
    server.kill()
    missing = lost(manifest, confirmed)
    print(f"{kills} kills, {unconfirmed} of them before the page said that a correction is kept:")
    print(f"of {len(confirmed)} that it called kept, {len(missing)} are lost")


def correct(page: Any, place: int, text: str, timers: Sequence[threading.Timer]) -> bool:
    """Correct an utterance by keys; return whether the page says that it is kept. Timers start with the last key."""
    try:
        page.locator("#number").fill(str(place + 1))
        page.locator("#number").press("Enter")
        wait(page, f"current && current.place === {place}")
        page.locator("#text").press("Control+a")
        page.keyboard.type(text)
        for timer in timers:
            timer.start()
        page.keyboard.press("Enter")
        # The last one stays after it was kept, and says so.
        wait(page, f"current.place !== {place} || byId('status').textContent.match(/^(Not kept|This was)/)")
    except TimeoutError:
        return False
    return page.evaluate("byId('status').className") != "refused"


def wait(page: Any, expression: str) -> None:
    for _ in range(200):
        if page.evaluate(f"Boolean({expression})"):
            return
        page.wait_for_timeout(20)
    raise TimeoutError(expression)


def lost(manifest: Path, confirmed: Sequence[tuple[str, str]]) -> list[str]:
    """Return the utterances whose confirmed text is not in the journal."""
    found = Journal.open(journal_of(manifest)).histories
    return [name for name, text in confirmed if name not in found or found[name].now.text != text]


if __name__ == "__main__":
    main()
