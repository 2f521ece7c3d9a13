"""TODO asr/scoring/score.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from asr.errors import ScoringError
from asr.scoring.bootstrap import Interval, PairedComparison, bootstrap_interval, paired_bootstrap
from asr.scoring.calibration import CalibrationScore, score_calibration
from asr.scoring.errors_count import (
    Confusions,
    ErrorCounts,
    WordPair,
    align_words,
    count_confusions,
    count_corpus,
    words_right,
)
from asr.scoring.trn import read_trn


@dataclass(frozen=True)
class CorpusScore:
    """All figures of one system on one set of utterances."""

    words: Mapping[str, ErrorCounts]
    """By utterance id, in reference order."""
    characters: Mapping[str, ErrorCounts]
    word_interval: Interval
    character_interval: Interval
    wrong: tuple[UtteranceErrors, ...]
    """The utterances with errors: most errors first, then the higher WER."""
    confusions: Confusions
    references: Mapping[str, str]
    calibration: CalibrationScore | None = None
    """Of the hypotheses' confidences; None if they have none."""

    @property
    def word_total(self) -> ErrorCounts:
        """Summed over the corpus; its `rate` is the word error rate."""
        return sum(self.words.values(), ErrorCounts())

    @property
    def character_total(self) -> ErrorCounts:
        """Summed over the corpus; its `rate` is the character error rate."""
        return sum(self.characters.values(), ErrorCounts())


def score_texts(references: Mapping[str, str], hypotheses: Mapping[str, str]) -> CorpusScore:
    """Score hypotheses against references, both by utterance id.

    Raises:
        ScoringError: the ids differ, or no reference holds any text.
    """
    words = count_corpus(references, hypotheses, unit="word")
    characters = count_corpus(references, hypotheses, unit="character")
    wrong = [
        UtteranceErrors(name, counts, align_words(references[name], hypotheses[name]))
        for name, counts in words.items()
        if counts.errors
    ]
    wrong.sort(key=lambda utterance: (-utterance.counts.errors, -utterance.counts.rate, utterance.id))
    return CorpusScore(
        words=words,
        characters=characters,
        word_interval=bootstrap_interval(list(words.values())),
        character_interval=bootstrap_interval(list(characters.values())),
        wrong=tuple(wrong),
        confusions=count_confusions(utterance.alignment for utterance in wrong),
        references=references,
    )


def read_score(folder: Path) -> CorpusScore:
    """Score the `ref.trn` and `hyp.trn` of a decode folder, and the confidences of its `hyp.jsonl`; write nothing.

    Raises:
        ScoringError: a file is missing or malformed, or the two do not belong together.
    """
    if not (folder / "ref.trn").exists():
        raise ScoringError(f"{folder / 'ref.trn'}: not there; a decode folder is what `asr decode` writes")
    references, hypotheses = read_trn(folder / "ref.trn"), read_trn(folder / "hyp.trn")
    try:
        score = score_texts(references, hypotheses)
        return replace(score, calibration=_calibration(folder / "hyp.jsonl", references, hypotheses))
    except ScoringError as error:
        raise ScoringError(f"{folder}: {error}") from None


def compare(score_a: CorpusScore, score_b: CorpusScore) -> PairedComparison:
    """Compare the word error rates of two systems on the same references.

    Raises:
        ScoringError: the references differ.
    """
    differing = sorted(
        name
        for name in score_a.references.keys() | score_b.references.keys()
        if score_a.references.get(name) != score_b.references.get(name)
    )
    if differing:
        raise ScoringError(
            f"the systems have different references ({len(differing)} utterances, e.g. {differing[0]!r}): "
            "only systems decoded on the same manifest can be compared"
        )
    return paired_bootstrap([score_a.words[name] for name in score_b.words], [*score_b.words.values()])


def _calibration(path: Path, references: Mapping[str, str], hypotheses: Mapping[str, str]) -> CalibrationScore | None:
    """Score the confidences that `asr decode` writes; None if the folder has none, or no word was recognised."""
    if not path.is_file():
        return None
    confidences: list[float] = []
    right: list[bool] = []
    try:
        for line in path.read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            confidences += [float(word["confidence"]) for word in record["words"]]
            right += words_right(references[record["id"]], hypotheses[record["id"]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ScoringError(f"{path.name}: not what `asr decode` writes ({error!r}); decode again") from None
    return score_calibration(confidences, right) if confidences else None


@dataclass(frozen=True)
class UtteranceErrors:
    """One utterance's word errors and where they are."""

    id: str
    counts: ErrorCounts
    alignment: tuple[WordPair, ...]
