"""Common Voice: sentences that volunteers read in one of many languages. Corpus → manifests of one language."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from asr.corpus.splits import SplitRule
from asr.errors import ManifestError
from asr.importing.material import Material
from asr.importing.table import Columns, read_table
from asr.importing.utterances import write_splits
from asr.preparing.recipes import Corpus, CorpusRequest, note_lines, split_lines

CORPUS = Corpus(
    recipe="commonvoice",
    title="Common Voice",
    source=(
        "download the archive of a language from commonvoice.mozilla.org/datasets, which needs an account, unpack it"
    ),
    has_languages=True,
)
COLUMNS = Columns(audio="path", text="sentence", speaker="client_id")


def prepare(request: CorpusRequest) -> list[str]:
    """Write the manifests of train, dev and test of one language and return lines that describe them.

    The splits are the published ones: whatever is in them was validated by listeners, and no speaker is in two.
    Utterances whose clip is missing or damaged are left out and named.

    Args:
        request: its corpus holds LANGUAGE/{train,dev,test}.tsv and LANGUAGE/clips/, as the archive does.

    Raises:
        ManifestError: the corpus or the language is not there, a table is malformed, or no clip can be used.
    """
    folder = find_language(request.corpus_dir, request.language)
    read = partial(read_table, columns=COLUMNS, audio_dir=folder / "clips")
    material = Material()
    for split in ("train", "dev", "test"):
        material.extend(read(folder / f"{split}.tsv"), split)
    rule = SplitRule(dev_share=0, test_share=0)  # an empty split is not drawn from train
    report = write_splits(material, request.out, rule, language=request.language, progress=request.progress)
    for split in sorted({"dev", "test"} - set(report.sizes)):
        reasons = [line for line in report.skipped if line.startswith(str(folder / split))]
        raise ManifestError(f"{folder}: no usable utterance in {split}; {reasons[0]}; {CORPUS.where}")
    left_out = [f"left out {len(report.skipped)}, the first: {report.skipped[0]}"] if report.skipped else []
    return [*split_lines(report), *left_out, *note_lines(report)]


def find_language(folder: Path, language: str) -> Path:
    """Return the folder of a language: LANGUAGE in `folder`, or cv-corpus-…/LANGUAGE of the newest release there.

    Raises:
        ManifestError: there is none; the message names the languages that are there.
    """
    releases = [folder, *sorted(folder.glob("cv-corpus-*/"), key=version, reverse=True)]
    for place in releases:
        if (place / language / "train.tsv").is_file():
            return place / language
    if (folder / "train.tsv").is_file() and folder.name == language:
        return folder
    others = sorted({path.parent.name for place in releases for path in place.glob("*/train.tsv")})
    known = f"; it holds {', '.join(others)}" if others else ""
    raise ManifestError(f"no Common Voice corpus of the language {language!r} at {folder}{known}; {CORPUS.where}")


def version(release: Path) -> list[int]:
    """Return the version and the date in a release's name, cv-corpus-9.0-2022-04-27, as numbers."""
    return [int(part) for part in release.name.replace(".", "-").split("-") if part.isdecimal()]
