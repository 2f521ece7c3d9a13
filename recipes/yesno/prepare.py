"""yesno (OpenSLR 1): one man saying Hebrew for yes and no, eight a recording. Corpus → manifests."""

from __future__ import annotations

import random
import re

from asr.corpus.manifest import make_cut
from asr.corpus.splits import write_manifests
from asr.errors import ManifestError
from asr.preparing.download import RemoteFile
from asr.preparing.recipes import Corpus, CorpusRequest

CORPUS = Corpus(
    recipe="yesno",
    title="yesno",
    source="get waves_yesno.tar.gz from OpenSLR, resource 1 (openslr.org/1), unpack it",
    files=(
        RemoteFile(
            "https://www.openslr.org/resources/1/waves_yesno.tar.gz",
            checksum="sha256:c3f49e0cca421f96b75b41640749167b52118f232498667ca7a5f9416aef8e73",  # torchaudio's
        ),
    ),
)
RECORDINGS = 60
DEV_RECORDINGS = 6
WORDS = {"1": "yes", "0": "no"}  # the digits of a file's name, e.g. 0_1_1_0_0_1_1_0.wav
NAME = re.compile(r"[01](_[01]){7}\.wav")


def prepare(request: CorpusRequest) -> None:
    """Write the manifests of train, dev and test.

    Of the sorted recordings, every other is for testing, as in icefall and lhotse; dev is part of the rest, drawn by
    the seed. There is one speaker, so the splits share him.

    Args:
        request: its corpus holds `waves_yesno/`, or the recordings themselves.

    Raises:
        ManifestError: the corpus is not there or incomplete.
        AudioError: a recording is damaged.
    """
    folder = request.corpus_dir / "waves_yesno"
    folder = folder if folder.is_dir() else request.corpus_dir
    if not folder.is_dir():
        raise ManifestError(f"no yesno corpus at {folder}; {CORPUS.where}")
    recordings = sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))
    if len(recordings) != RECORDINGS:
        raise ManifestError(f"{folder}: {len(recordings)} yesno recordings instead of {RECORDINGS}; {CORPUS.where}")
    train, test = recordings[::2], recordings[1::2]
    dev = sorted(random.Random(request.seed).sample(train, DEV_RECORDINGS))
    train = [path for path in train if path not in dev]
    splits = {"train": train, "dev": dev, "test": test}
    write_manifests(
        {
            request.out / f"{split}.jsonl.gz": [
                make_cut(path.stem, path, transcript(path.stem), "yesno", language="he") for path in paths
            ]
            for split, paths in splits.items()
        }
    )


def transcript(name: str) -> str:
    """Return the words that a recording's name encodes."""
    return " ".join(WORDS[digit] for digit in name.split("_"))
