"""Speech Commands 0.02: 35 English words, one a recording, by thousands of volunteers. Corpus → manifests."""

from __future__ import annotations

import re
from pathlib import Path

from asr.errors import ManifestError
from asr.importing.material import Material, Utterance
from asr.preparing.download import RemoteFile
from asr.preparing.recipes import Corpus, CorpusRequest, write_published
from asr.reading import counted, read_lines

CORPUS = Corpus(
    recipe="speechcommands",
    title="Speech Commands",
    source=("get http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz, unpack it into a folder of its own"),
    files=(
        RemoteFile(
            "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz",
            size_bytes=2_428_923_189,  # TensorFlow Datasets', as is the checksum, which is torchaudio's too
            checksum="sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58",
        ),
    ),
)
LISTS = {"dev": "validation_list.txt", "test": "testing_list.txt"}
NOISE = "_background_noise_"
NAME = re.compile(r"(?P<speaker>[^_]+)_nohash_\d+")


def prepare(request: CorpusRequest) -> list[str]:
    """Write the manifests of train, dev and test and return a line for each split.

    The splits are the published ones: dev is `validation_list.txt`, test is `testing_list.txt`, train is the rest. No
    speaker is in two of them. The recordings of noise are in none.

    Args:
        request: its corpus holds `{word}/{speaker}_nohash_{number}.wav` and the two lists.

    Raises:
        ManifestError: the corpus is not there, a list is missing, or a recording is missing or damaged.
    """
    folder = CORPUS.find(request.corpus_dir, LISTS["test"])
    split_of = {name: split for split, path in LISTS.items() for name in read_list(folder / path)}
    material = Material()
    for path in sorted(folder.glob("*/*.wav")):
        word = path.parent.name
        if word == NOISE:
            continue
        with material.at(str(path)):
            match = NAME.fullmatch(path.stem)
            if match is None:
                raise ManifestError("its name is not SPEAKER_nohash_NUMBER.wav")
            split = split_of.pop(f"{word}/{path.name}", "train")
            id = f"{word}-{path.stem}"
            material.utterances.append(Utterance(id, path, word, str(path), match["speaker"], split))
    if split_of:
        name, split = next(iter(split_of.items()))
        raise ManifestError(
            f"{folder / LISTS[split]}: {counted(len(split_of), 'recording of dev and test')} missing, the first: "
            f"{name}; {CORPUS.where}"
        )
    return write_published(material, request, CORPUS, "en")


def read_list(path: Path) -> list[str]:
    """Return the names in a list of recordings, `word/file.wav` a line.

    Raises:
        ManifestError: the list is missing.
    """
    return [line.strip() for line in read_lines(path, ManifestError, "the list of recordings") if line.strip()]
