"""TED-LIUM 3: talks of TED conferences. Corpus → manifests of its "legacy" distribution.

Sources: openslr.org/51; Hernandez et al. 2018, arXiv:1805.04699. The checksum is that of torchaudio 2.11's
`torchaudio.datasets.TEDLIUM`. Transcripts become words as in Kaldi's recipe (egs/tedlium/s5_r3/local) and in
`lhotse.recipes.utils.normalize_text_tedlium`.
"""

from __future__ import annotations

import re
from dataclasses import replace

from asr.importing.material import LeftOut, Material
from asr.importing.stm import read_stm
from asr.preparing.download import RemoteFile
from asr.preparing.recipes import Corpus, CorpusRequest, write_published

CORPUS = Corpus(
    recipe="tedlium3",
    title="TED-LIUM 3",
    source="get TEDLIUM_release-3.tgz from OpenSLR, resource 51 (openslr.org/51), unpack it",
    files=(
        RemoteFile(
            "https://www.openslr.org/resources/51/TEDLIUM_release-3.tgz",
            checksum="sha256:ad1e454d14d1ad550bc2564c462d87c7a7ec83d4dc2b9210f22ab4973b9eccdb",
        ),
    ),
)
LABEL = re.compile(r"^<F0_[MF]>", re.IGNORECASE)  # of the oldest transcripts; the reader drops the newer <o,f0,male>
NO_WORDS = re.compile(r"<unk>|<sil>|\{[^{}]*\}|\[[^][]*\]|\([^()]*\)$|\(\d\)", re.IGNORECASE)


def prepare(request: CorpusRequest) -> list[str]:
    """Write the manifests of train, dev and test as published, and return a line for each split.

    Args:
        request: its corpus holds legacy/{train,dev,test}/{sph,stm}/.

    Raises:
        ManifestError: a set is missing or malformed, or a recording is missing or damaged.
    """
    folder = CORPUS.find(request.corpus_dir, "legacy/train/stm") / "legacy"
    material = Material()
    for split in ("train", "dev", "test"):
        material.extend(read_stm(folder / split / "stm", folder / split / "sph"), split)
    said = [replace(one, text=spoken(one.text)) for one in material.utterances]
    silent = [LeftOut(one.where, "holds no word", is_fault=False) for one in said if not one.text]
    material = replace(material, utterances=[one for one in said if one.text], left_out=[*material.left_out, *silent])
    return write_published(material, request, CORPUS, "en")


def spoken(text: str) -> str:
    """Return the words of a transcript.

    Marks of noise, of what is not in the transcript (`<unk>`) and of pronunciations are dropped. A word that begins
    with an apostrophe joins the one before, as in "it 's". An apostrophe alone joins the word after it, as in "' 60s".
    """
    words = " ".join(NO_WORDS.sub(" ", LABEL.sub("", text)).split())
    return re.sub(r"(?<!\S)' (?=\S)", "'", re.sub(r"(?<=\S) (?='\S)", "", words))
