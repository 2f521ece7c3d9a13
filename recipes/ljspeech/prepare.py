"""LJ Speech: one woman reading 24 hours of non-fiction in English. Corpus → manifests."""

from __future__ import annotations

import re
from dataclasses import replace

from asr.errors import ManifestError
from asr.importing.ljspeech import read_ljspeech
from asr.importing.material import Material
from asr.preparing.download import RemoteFile
from asr.preparing.recipes import Corpus, CorpusRequest, write_published

CORPUS = Corpus(
    recipe="ljspeech",
    title="LJ Speech",
    source="get https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2, unpack it",
    files=(
        RemoteFile(
            "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
            size_bytes=2_748_572_632,  # TensorFlow Datasets', as is the checksum, which is torchaudio's too
            checksum="sha256:be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
        ),
    ),
)
SPEAKER = "LJ"
SPLIT_OF_CHAPTER = {"049": "dev", "050": "test"}
ID = re.compile(r"LJ(?P<chapter>\d{3})-\d{4}")


def prepare(request: CorpusRequest) -> list[str]:
    """Write the manifests of train, dev and test and return a line for each split.

    No split is published. Here the last chapter, LJ050, is test, the one before, LJ049, is dev, and the rest is train.
    There is one speaker, so the splits share her.

    Args:
        request: its corpus holds `metadata.csv`, whose normalised text is the transcript, and `wavs/`.

    Raises:
        ManifestError: the corpus is not there, metadata.csv is malformed, or a recording is missing or damaged.
    """
    folder = CORPUS.find(request.corpus_dir, "metadata.csv")
    found = read_ljspeech(folder)
    material = Material(left_out=found.left_out)
    for utterance in found.utterances:
        with material.at(utterance.where):
            match = ID.fullmatch(utterance.id)
            if match is None:
                raise ManifestError(
                    f"the ID {utterance.id!r} is not LJ and a chapter's and a clip's number, LJ001-0001"
                )
            split = SPLIT_OF_CHAPTER.get(match["chapter"], "train")
            material.utterances.append(replace(utterance, speaker=SPEAKER, split=split))
    return write_published(material, request, CORPUS, "en")
