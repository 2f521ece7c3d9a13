"""yesno (OpenSLR 1): one man saying Hebrew for yes and no, eight a recording. Corpus → manifests."""

from __future__ import annotations

import random
import re
from pathlib import Path

from asr.corpus.manifest import make_cut, write_manifest
from asr.errors import ManifestError
from asr.machine import Progress, silent

WHERE = (
    "get waves_yesno.tar.gz from OpenSLR, resource 1 (openslr.org/1), unpack it and name that folder with "
    "--corpus-dir, or set ASR_CORPORA to the folder that holds it as yesno/"
)
RECORDINGS = 60
DEV_RECORDINGS = 6
WORDS = {"1": "yes", "0": "no"}  # the digits of a file's name, e.g. 0_1_1_0_0_1_1_0.wav
NAME = re.compile(r"[01](_[01]){7}\.wav")


def prepare(corpus_dir: Path | None, out: Path, seed: int = 0, progress: Progress = silent) -> None:
    """Write `out`/{train,dev,test}.jsonl.gz.

    Of the sorted recordings, every other is for testing, as in icefall and lhotse; dev is part of the rest.
    There is one speaker, so the splits share him.

    Args:
        corpus_dir: holds `waves_yesno/`, or the recordings themselves.
        out: where the manifests go.
        seed: chooses the dev recordings.
        progress: not used, since 60 recordings take no time.

    Raises:
        ManifestError: the corpus is not there or incomplete.
        AudioError: a recording is damaged.
    """
    if corpus_dir is None or not corpus_dir.is_dir():
        raise ManifestError(f"no yesno corpus {f'at {corpus_dir}' if corpus_dir else 'was named'}; {WHERE}")
    folder = corpus_dir / "waves_yesno" if (corpus_dir / "waves_yesno").is_dir() else corpus_dir
    recordings = sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))
    if len(recordings) != RECORDINGS:
        raise ManifestError(f"{folder}: {len(recordings)} yesno recordings instead of {RECORDINGS}; {WHERE}")
    train, test = recordings[::2], recordings[1::2]
    dev = sorted(random.Random(seed).sample(train, DEV_RECORDINGS))
    train = [path for path in train if path not in dev]
    for split, paths in (("train", train), ("dev", dev), ("test", test)):
        write_manifest(
            [make_cut(path.stem, path, transcript(path.stem), "yesno", language="he") for path in paths],
            out / f"{split}.jsonl.gz",
        )


def transcript(name: str) -> str:
    """Return the words that a recording's name encodes."""
    return " ".join(WORDS[digit] for digit in name.split("_"))
