"""A small manifest to review: parts of one recording, a hostile text, a damaged file; and a server of its page."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile

from asr.corpus.manifest import load_manifest, make_cut, write_manifest
from asr.reviewing.corrections import Review, Utterance
from asr.reviewing.journal import Journal, journal_of
from asr.reviewing.server import app

TOKEN = "a-token-of-a-test"
RATE_HZ = 16000
RECORDING_S = 12.0
HOSTILE = "<script>alert(1)</script> [red] &amp; \u202eright to left\u202c עברית 🎉"
# Start and length of each utterance in the recording, and its text.
PARTS = [("one", 1.0, 2.0, "first words"), ("two", 4.0, 2.0, "second words"), ("three", 9.0, 2.5, HOSTILE)]


def write_reviewable(folder: Path, *, damaged: bool = True) -> Path:
    """Write `train.jsonl.gz`, its audio, and after the second utterance one whose file is damaged; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    times = np.arange(round(RECORDING_S * RATE_HZ)) / RATE_HZ
    soundfile.write(folder / "long.wav", 0.3 * np.sin(2 * np.pi * (200 + 50 * times) * times), RATE_HZ)
    cuts = [
        make_cut(name, folder / "long.wav", text, "somebody", start_s=start_s, duration_s=duration_s)
        for name, start_s, duration_s, text in PARTS
    ]
    if damaged:
        soundfile.write(folder / "short.wav", 0.1 * np.sin(times[:RATE_HZ]), RATE_HZ)
        cuts.insert(2, make_cut("damaged", folder / "short.wav", "lost words", "somebody"))
        (folder / "short.wav").write_bytes((folder / "short.wav").read_bytes()[:9000])
    write_manifest(cuts, folder / "train.jsonl.gz")
    return folder / "train.jsonl.gz"


def open_review(manifest: Path) -> Review:
    """Return a review of a manifest in its order."""
    cuts = load_manifest(manifest)
    return Review([Utterance("train", cut) for cut in cuts], {"train": Journal.open(journal_of(manifest))})


@contextmanager
def served(review: Review, title: str = "train") -> Iterator[str]:
    """Serve a review in a thread; yield the address of its page."""
    import uvicorn

    page = app(review, TOKEN, title, lambda: server.should_exit)
    server = uvicorn.Server(uvicorn.Config(page, port=0, log_level="warning", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/{TOKEN}/"
    finally:
        server.should_exit = True
        thread.join()
