"""TIMIT: American English sentences with every phone labelled by hand. Corpus → manifests of phones.

The phones are the 39 that Lee and Hon 1989 ("Speaker-independent phone recognition using hidden Markov models", IEEE
Transactions on ASSP 37, 1641–1648) score, with `sil` for all pauses and closures. Their word error rate is the phone
error rate, if tokens are words (`text.tokens=words`).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from asr.errors import ManifestError
from asr.importing.material import Material, Utterance
from asr.preparing.recipes import Corpus, CorpusRequest, write_published
from asr.reading import counted, read_lines

CORPUS = Corpus(
    recipe="timit",
    title="TIMIT",
    source="buy a licence from the Linguistic Data Consortium (catalog.ldc.upenn.edu/LDC93S1), unpack the corpus",
)

# The 61 labels that are not one of the 39 phones themselves, by the phone that they become.
FOLDED = {
    "aa": "ao",
    "ah": "ax ax-h",
    "er": "axr",
    "hh": "hv",
    "ih": "ix",
    "l": "el",
    "m": "em",
    "n": "en nx",
    "ng": "eng",
    "sh": "zh",
    "uw": "ux",
    "sil": "bcl dcl gcl pcl tcl kcl h# pau epi",
}
KEPT = "aa ae ah aw ay b ch d dh dx eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v w y z"
GLOTTAL_STOP = "q"  # left out
PHONE_OF = {phone: phone for phone in KEPT.split()} | {
    label: phone for phone, labels in FOLDED.items() for label in labels.split()
}

# The core test set of the corpus's documentation, and Kaldi's dev set (egs/timit/s5/conf/dev_spk.list), both of TEST.
CORE_TEST_SPEAKERS = (
    "fdhc0 felc0 fjlm0 fmgd0 fmld0 fnlp0 fpas0 fpkt0 mbpm0 mcmj0 mdab0 mgrt0 mjdh0 mjln0 mjmp0 mklt0 mlll0 mlnt0 mnjm0 "
    "mpam0 mtas1 mtls0 mwbt0 mwew0"
)
DEV_SPEAKERS = (
    "fadg0 faks0 fcal1 fcmh0 fdac1 fdms0 fdrw0 fedw0 fgjd0 fjem0 fjmg0 fjsj0 fkms0 fmah0 fmml0 fnmr0 frew0 fsem0 majc0 "
    "mbdg0 mbns0 mbwm0 mcsh0 mdlf0 mdls0 mdvc0 mers0 mgjf0 mglb0 mgwt0 mjar0 mjfc0 mjsw0 mmdb1 mmdm2 mmjr0 mmwh0 mpdf0 "
    "mrcs0 mreb0 mrjm4 mrjr0 mroa0 mrtk0 mrws1 mtaa0 mtdt0 mteb0 mthc0 mwjg0"
)
CORE_TEST, DEV = frozenset(CORE_TEST_SPEAKERS.split()), frozenset(DEV_SPEAKERS.split())


def prepare(request: CorpusRequest) -> list[str]:
    """Write the manifests of train, dev and test and return a line for each split.

    Train is TRAIN, dev Kaldi's 50 speakers of TEST, and test the core test set, 24 other speakers of TEST. The two
    dialect sentences (SA), which every speaker reads, are left out everywhere.

    Args:
        request: its corpus holds TRAIN/DRn/SPEAKER/ID.WAV with ID.PHN beside it, and TEST likewise, in capitals or not.

    Raises:
        ManifestError: the corpus is not there, or a file or speaker is missing or malformed.
    """
    corpus_dir = find_corpus(request.corpus_dir)
    material = Material()
    for folder, speakers in (("train", None), ("test", DEV | CORE_TEST)):
        found = read_set(corpus_dir, folder, material, speakers)
        if speakers and (missing := speakers - found):
            raise ManifestError(
                f"{corpus_dir}: TEST lacks {counted(len(missing), 'speaker')}: {', '.join(sorted(missing))}, so the "
                f"corpus is incomplete; {CORPUS.where}"
            )
    return write_published(material, request, CORPUS, "en")


def find_corpus(folder: Path) -> Path:
    """Return the folder that holds TRAIN and TEST: `folder`, or one up to two levels below."""
    for place in (folder, *sorted(folder.glob("*/")), *sorted(folder.glob("*/*/"))):
        if {"train", "test"} <= {path.name.lower() for path in subfolders(place)}:
            return place
    raise ManifestError(f"no TIMIT corpus at {folder}; {CORPUS.where}")


def subfolders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted; none if it does not exist."""
    return sorted(path for path in folder.glob("*") if path.is_dir())


def read_set(corpus_dir: Path, name: str, material: Material, speakers: frozenset[str] | None) -> set[str]:
    """Add the utterances of TRAIN or TEST to the material, and return their speakers.

    Args:
        corpus_dir: holds TRAIN and TEST.
        name: "train" or "test".
        material: gets the utterances.
        speakers: those that are used; None: all.
    """
    found = set()
    for folder in speaker_folders(corpus_dir, name):
        speaker = folder.name.lower()
        if speakers is not None and speaker not in speakers:
            continue
        files = {path.name.lower(): path for path in folder.iterdir()}
        for labels in sorted(path for name, path in files.items() if name.endswith(".phn") and name[:2] != "sa"):
            stem = labels.stem.lower()
            with material.at(str(labels)):
                if f"{stem}.wav" not in files:
                    raise ManifestError(f"there is no {labels.stem}.WAV beside it")
                material.utterances.append(
                    Utterance(
                        id=f"{speaker}-{stem}",
                        audio_path=files[f"{stem}.wav"],
                        text=" ".join(read_phones(labels)),
                        where=str(labels),
                        speaker=speaker,
                        split="train" if name == "train" else "dev" if speaker in DEV else "test",
                        gender=speaker[0],
                    )
                )
            found.add(speaker)
    return found


def speaker_folders(corpus_dir: Path, name: str) -> Iterator[Path]:
    """Yield the folders of the speakers of TRAIN or TEST, which are sorted by dialect region: DR1 to DR8."""
    for part in subfolders(corpus_dir):
        if part.name.lower() == name:
            for region in subfolders(part):
                yield from subfolders(region)


def read_phones(path: Path) -> Iterator[str]:
    """Yield the phones of a file of lines `begin end label`, pauses in a row as one.

    Raises:
        ManifestError: a line is malformed or its label unknown.
    """
    phones = []
    for number, line in enumerate(read_lines(path, ManifestError, "the phones"), 1):
        match line.split():
            case [begin, end, label] if begin.isdecimal() and end.isdecimal() and label in PHONE_OF:
                phones.append(PHONE_OF[label])
            case [_, _, label] if label == GLOTTAL_STOP:
                pass
            case []:
                pass
            case _:
                raise ManifestError(f"{path}:{number}: expected 'begin end phone', found {line!r}")
    for phone, repeated in groupby(phones):
        yield from [phone] if phone == "sil" else repeated
