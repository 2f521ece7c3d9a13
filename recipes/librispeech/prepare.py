"""LibriSpeech: people reading public-domain books aloud. Corpus → manifests of one of three training sets.

Sources: openslr.org/12 (the corpus), openslr.org/31 (its small part), openslr.org/11 (language models). The checksums
of resource 12 are those of torchaudio 2.11's `torchaudio.datasets.LIBRISPEECH`, those of resource 31 its md5sum.txt.
"""

from __future__ import annotations

import shutil
from dataclasses import replace

from asr.bundle.files import WORD_LANGUAGE_MODEL
from asr.corpus.splits import SplitRule
from asr.errors import ManifestError
from asr.files import atomic_path
from asr.importing.librispeech import read_librispeech
from asr.importing.material import Material
from asr.preparing.download import RemoteFile
from asr.preparing.recipes import Corpus, CorpusRequest, write_published

SETS = {
    "mini": {"train": ["train-clean-5"], "test": ["dev-clean-2"]},
    "100": {
        "train": ["train-clean-100"],
        "dev": ["dev-clean", "dev-other"],
        "test": ["test-clean"],
        "test-other": ["test-other"],
    },
    "960": {
        "train": ["train-clean-100", "train-clean-360", "train-other-500"],
        "dev": ["dev-clean", "dev-other"],
        "test": ["test-clean"],
        "test-other": ["test-other"],
    },
}
OPENSLR = "https://www.openslr.org/resources"
CHECKSUMS = {
    "dev-clean": "sha256:76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3",
    "dev-other": "sha256:12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365",
    "test-clean": "sha256:39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23",
    "test-other": "sha256:d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29",
    "train-clean-100": "sha256:d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2",
    "train-clean-360": "sha256:146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf",
    "train-other-500": "sha256:ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2",
    "train-clean-5": "md5:5df7d4e78065366204ca6845bb08f490",
    "dev-clean-2": "md5:6d7ab67ac6a1d2c993d050e16d61080d",
}
SIZES_BYTES = {  # of TensorFlow Datasets, whose checksums are the same
    "dev-clean": 337_926_286,
    "dev-other": 314_305_928,
    "test-clean": 346_663_984,
    "test-other": 328_757_843,
    "train-clean-100": 6_387_309_499,
    "train-clean-360": 23_049_477_885,
    "train-other-500": 30_593_501_606,
}
NGRAM = "3-gram.pruned.1e-7.arpa.gz"
MINI_DEV_SHARE = 0.1  # of train-clean-5, as whole speakers


def archive(name: str) -> RemoteFile:
    """Return the archive of a set."""
    resource = 31 if name in ("train-clean-5", "dev-clean-2") else 12
    url = f"{OPENSLR}/{resource}/{name}.tar.gz"
    return RemoteFile(url, size_bytes=SIZES_BYTES.get(name), checksum=CHECKSUMS[name])


CORPUS = Corpus(
    recipe="librispeech",
    title="LibriSpeech",
    source=(
        f"get its archives from OpenSLR, resources 12 and 31 (openslr.org/12), and {NGRAM} from resource 11, unpack "
        "the archives into one folder"
    ),
    files=(RemoteFile(f"{OPENSLR}/11/{NGRAM}", is_archive=False),),
    parts={part: tuple(archive(name) for names in sets.values() for name in names) for part, sets in SETS.items()},
)


def prepare(request: CorpusRequest) -> list[str]:
    """Write the manifests of a part, and return a line for each split.

    The parts 100 and 960 have two test sets: test is test-clean, and the folder `test-other` gets a test set of its
    own. Their dev set is dev-clean and dev-other. The part mini is tested on dev-clean-2, as Kaldi does, and its dev
    set is drawn from the training speakers. The published word n-gram, if it is there, goes beside the manifests.

    Args:
        request: its corpus holds LibriSpeech/train-clean-5/SPEAKER/CHAPTER/*.flac and so on, and the n-gram.

    Raises:
        ManifestError: a set is missing or malformed, or a recording is missing or damaged.
    """
    sets = SETS[request.part]
    folder = CORPUS.find(request.corpus_dir, sets["train"][0])
    for name in (name for names in sets.values() for name in names):
        if not (folder / name).is_dir():
            raise ManifestError(f"{folder}: no {name}, which the part {request.part} needs; {CORPUS.where}")
    materials = {split: Material() for split in sets}
    for split, names in sets.items():
        for name in names:
            materials[split].extend(read_librispeech(folder / name), split.partition("-")[0])
    other = materials.pop("test-other", None)
    published = Material()
    for material in materials.values():
        published.extend(material)
    rule = SplitRule(dev_share=MINI_DEV_SHARE, test_share=0, seed=request.seed)
    lines = write_published(published, request, CORPUS, "en", rule)
    if other:
        further = replace(request, out=request.out / "test-other")
        lines += [f"test-other: {line}" for line in write_published(other, further, CORPUS, "en")]
    return [*lines, take_ngram(request)]


def take_ngram(request: CorpusRequest) -> str:
    """Copy the published word n-gram beside the manifests, where the run finds it; return a line about it."""
    target = request.out / WORD_LANGUAGE_MODEL
    for place in (request.corpus_dir, request.corpus_dir.parent):
        if (place / NGRAM).is_file():
            with atomic_path(target) as temporary:
                shutil.copyfile(place / NGRAM, temporary)
            return f"word n-gram: {NGRAM}"
    target.unlink(missing_ok=True)
    return f"word n-gram: that of the training text, because {request.corpus_dir} holds no {NGRAM}"
