"""The files of a decode folder: their names, how transcripts and recognised words are written and read. No torch.

ref.trn      the references        written by `asr decode`, like the next three
hyp.trn      the hypotheses
hyp.jsonl    each utterance's speaker, words with times and confidences, n-best hypotheses
run.json     which manifest was decoded, how, and how fast
wer.json     the error rates       written by `asr score`, like the next two
wer.txt      the same to read, with every error
report.html  the same as a page for the browser

The trn format is that of NIST's sclite: one line per utterance, `text (utterance-id)`, UTF-8.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from asr.errors import ScoringError
from asr.files import read_lines, write_text
from asr.text.normalise import is_utterance_id

REFERENCES, HYPOTHESES, RECOGNISED, RUN = "ref.trn", "hyp.trn", "hyp.jsonl", "run.json"
FIGURES, TEXT_REPORT, PAGE = "wer.json", "wer.txt", "report.html"
REPORTS = (FIGURES, TEXT_REPORT, PAGE)

_LINE = re.compile(r"(?P<text>.*)\((?P<id>[^()]+)\)")


def read_trn(path: Path) -> dict[str, str]:
    """Return the texts of a trn file by utterance id, in file order.

    White space within a text becomes one space between words. Blank lines are skipped.

    Raises:
        ScoringError: the file cannot be read, a line is malformed, or two lines have the same id.
    """
    texts: dict[str, str] = {}
    line_of: dict[str, int] = {}
    for number, raw in enumerate(read_lines(path, ScoringError, "the transcripts"), start=1):
        line = _single_spaced(raw)
        if not line:
            continue
        match = _LINE.fullmatch(line)
        name = match["id"].strip() if match else ""
        if match is None or not name:
            raise ScoringError(f"{path}:{number}: {line!r} does not have the form 'text (utterance-id)'")
        if name in texts:
            raise ScoringError(f"{path}:{number}: utterance {name!r} is already on line {line_of[name]}")
        texts[name] = match["text"].strip()
        line_of[name] = number
    return texts


def write_trn(texts: Mapping[str, str], path: Path) -> None:
    """Write texts by utterance id as a trn file, whole or not at all.

    White space within a text becomes one space between words.

    Raises:
        ScoringError: as `check_ids`.
    """
    check_ids(texts, path)
    write_text(path, "".join(f"{_single_spaced(text)} ({name})\n".lstrip() for name, text in texts.items()))


def check_ids(names: Iterable[str], path: Path) -> None:
    """Refuse utterance ids that a trn file cannot hold.

    Raises:
        ScoringError: an id is empty, or has parentheses, line breaks or doubled spaces.
    """
    for name in names:
        if not is_utterance_id(name):
            raise ScoringError(
                f"{path}: utterance id {name!r} cannot be written to a trn file: "
                "give it an id without parentheses, line breaks or doubled spaces"
            )


def _single_spaced(text: str) -> str:
    return " ".join(text.split())


@dataclass(frozen=True)
class RecognisedUtterance:
    """What scoring needs from an utterance's line of `hyp.jsonl`.

    Attributes:
        speaker: None if the manifest named none.
        confidences: of the recognised words in their order, 0 to 1.
    """

    speaker: str | None
    confidences: tuple[float, ...]


def read_recognised(folder: Path) -> dict[str, RecognisedUtterance]:
    """Return the utterances of a folder's `hyp.jsonl` by id; nothing if the folder has no such file.

    Raises:
        ScoringError: the file is not one that `asr decode` wrote.
    """
    path = folder / RECOGNISED
    if not path.is_file():
        return {}
    utterances: dict[str, RecognisedUtterance] = {}
    try:
        for line in read_lines(path, ScoringError, "the recognised words", way_out="decode again"):
            record = json.loads(line)
            confidences = tuple(float(word["confidence"]) for word in record["words"])
            speaker = record.get("speaker")  # folders from before speakers were kept have none
            utterances[record["id"]] = RecognisedUtterance(None if speaker is None else str(speaker), confidences)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ScoringError(f"{path}: not written by `asr decode` ({error!r}); decode again") from None
    return utterances
