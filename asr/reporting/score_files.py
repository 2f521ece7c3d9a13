"""Two files of transcripts, or a decode folder → error rates and reports; what `asr score` does. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from asr.errors import ScoringError
from asr.reporting.report import ScoreReport, write_reports
from asr.scoring.error_counts import count_errors
from asr.scoring.groups import with_groups
from asr.scoring.score import score_texts
from asr.scoring.spellings import Reading, read_rules, reading_of, respell
from asr.scoring.transcript_files import SpokenText, TranscriptFile, hypotheses_of, read_transcripts


def score_files(
    reference: str | os.PathLike[str],
    hypothesis: str | os.PathLike[str],
    *,
    out: str | os.PathLike[str] | None = None,
    by: Sequence[str] = (),
    equivalences: str | os.PathLike[str] | None = None,
    ignore_case: bool = False,
) -> ScoreReport:
    """Return the error rates of a file of recognised texts against a file of references.

    The formats are trn, stm, ctm, Kaldi's text and jsonl, see `asr/scoring/transcript_files.py`. Texts are compared as
    they are, with their case and punctuation. The words of a ctm file are divided by time among the segments of an stm
    file; else utterances belong together by their ids.

    All words of an utterance without a hypothesis count as deleted. A hypothesis without a reference does not count.
    `figures.missing` and `figures.surplus` name both.

    Args:
        reference: the references.
        hypothesis: the recognised texts.
        out: a folder to write `wer.json`, `wer.txt` and `report.html` into; None writes nothing.
        by: fields by which errors are also counted in groups: `speaker`, `length`, or any that a file has.
        equivalences: a file of spellings that count as the same, see `asr/scoring/spellings.py`.
        ignore_case: write all texts in small letters first, as sclite does if nothing else is said.

    Raises:
        ScoringError: a file is missing or malformed, no utterance is in both, or no utterance has such a field.
    """
    references = read_transcripts(Path(reference))
    recognised = read_transcripts(Path(hypothesis))
    found = hypotheses_of(recognised, references)
    missing = tuple(name for name in references.texts if name not in found)
    surplus = tuple(name for name in found if name not in references.texts)
    _require_common(references, recognised, found, missing)
    rules = [] if equivalences is None else read_rules(Path(equivalences))
    heard = {name: found.get(name, SpokenText("", str(hypothesis))) for name in references.texts}
    texts = respell(
        _readings(references, references.texts, ignore_case), _readings(recognised, heard, ignore_case), rules
    )
    figures = replace(
        score_texts(texts[0], texts[1], _speakers(references.texts, heard)),
        fields={name: {**heard[name].fields, **said.fields} for name, said in references.texts.items()},
        missing=missing,
        surplus=surplus,
        respelled=texts[2],
        case_errors=_case_errors(*texts[:2]),
    )
    figures = with_groups(figures, by)
    folder = None if out is None else Path(out)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        write_reports(figures, folder, title=f"{hypothesis} against {reference}")
    return ScoreReport(folder, figures)


def _require_common(
    reference: TranscriptFile, hypothesis: TranscriptFile, found: Mapping[str, SpokenText], missing: Sequence[str]
) -> None:
    if len(missing) < len(reference.texts):
        return
    raise ScoringError(
        f"{hypothesis.path}, read as {hypothesis.format}, has no utterance of {reference.path}, read as "
        f"{reference.format}: {next(iter(found))!r} here, {missing[0]!r} there; give both the same ids"
    )


def _readings(file: TranscriptFile, texts: Mapping[str, SpokenText], ignore_case: bool) -> dict[str, Reading]:
    """Return texts as words and alternatives, as they are written in a file of this format."""
    return {
        name: reading_of(
            said.text.lower() if ignore_case else said.text,
            said.where,
            alternatives=file.has_alternatives,
            optional=file.format == "stm",
        )
        for name, said in texts.items()
    }


def _case_errors(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> int:
    """Return how many word errors fewer there are if capital and small letters are the same."""
    gained = 0
    for name, reference in references.items():
        hypothesis = hypotheses[name]
        if reference != hypothesis and (reference.lower(), hypothesis.lower()) != (reference, hypothesis):
            gained += count_errors(reference, hypothesis, unit="word").errors
            gained -= count_errors(reference.lower(), hypothesis.lower(), unit="word").errors
    return gained


def _speakers(references: Mapping[str, SpokenText], heard: Mapping[str, SpokenText]) -> dict[str, str]:
    """Return the speakers by utterance id: of the references, or else of the hypotheses."""
    speakers = {name: said.speaker or heard[name].speaker for name, said in references.items()}
    return {name: speaker for name, speaker in speakers.items() if speaker}
