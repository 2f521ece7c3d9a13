"""Free Spoken Digit Dataset: six people saying the digits, 50 times each, at 8 kHz. Corpus → manifests."""

from __future__ import annotations

import re

from asr.errors import ManifestError
from asr.importing.material import Material, Utterance
from asr.preparing.download import RemoteFile
from asr.preparing.recipes import Corpus, CorpusRequest, write_published

CORPUS = Corpus(
    recipe="fsdd",
    title="Free Spoken Digit Dataset",
    source="get it with `git clone https://github.com/Jakobovski/free-spoken-digit-dataset`",
    # GitHub makes the archive when it is asked for, so it has neither a size nor a checksum that would last.
    files=(
        RemoteFile(
            "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.tar.gz",
            name="free-spoken-digit-dataset-1.0.10.tar.gz",
        ),
    ),
)
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<number>\d+)\.wav")
FIRST_DEV, FIRST_TRAIN = 5, 10  # recordings with lower numbers are of test


def prepare(request: CorpusRequest) -> list[str]:
    """Write the manifests of train, dev and test and return a line for each split.

    Test is as published: recordings 0 to 4 of each digit and speaker. Dev is 5 to 9, of the published training set. The
    six speakers are in every split.

    Args:
        request: its corpus holds `recordings/{digit}_{speaker}_{number}.wav`.

    Raises:
        ManifestError: the corpus is not there, or a recording is damaged or has another name.
    """
    folder = CORPUS.find(request.corpus_dir, "recordings") / "recordings"
    material = Material()
    for path in sorted(folder.glob("*.wav")):
        with material.at(str(path)):
            match = NAME.fullmatch(path.name)
            if match is None:
                raise ManifestError("its name is not DIGIT_SPEAKER_NUMBER.wav")
            text, split = DIGITS[int(match["digit"])], split_of(int(match["number"]))
            material.utterances.append(Utterance(path.stem, path, text, str(path), match["speaker"], split))
    material.or_refuse(f"{folder}: no recordings; {CORPUS.where}")
    return write_published(material, request, CORPUS, "en")


def split_of(number: int) -> str:
    """Return the split of a recording by its number among those of a digit and a speaker."""
    return "test" if number < FIRST_DEV else "dev" if number < FIRST_TRAIN else "train"
