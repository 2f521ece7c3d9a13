"""A decode folder → all figures of a system: error rates with intervals, errors, calibration, comparison. No torch.

References and hypotheses are in the trn format of NIST's sclite: one line per utterance, `text (utterance-id)`, UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from asr.bundle.files import HYPOTHESES, RECOGNISED, REFERENCES, WEIGHTS
from asr.errors import ScoringError
from asr.files import write_text
from asr.reading import read_lines
from asr.scoring.calibration import CalibrationScore, score_calibration
from asr.scoring.error_counts import (
    Confusions,
    ErrorCounts,
    Unit,
    WordPair,
    align_words,
    count_confusions,
    count_corpus,
    main_unit,
    words_right,
)
from asr.scoring.intervals import Interval, PairedComparison, compare_rates, rate_interval, speakers_of
from asr.scoring.matched_pairs import matched_pairs_test
from asr.scoring.recognised import RecognisedUtterance, read_recognised
from asr.scoring.spellings import Rule, RuleUse, plain_reading, respell
from asr.text.normalise import is_utterance_id
from asr.text.units import words_of

FieldValue: TypeAlias = str | int | float | bool | None
Fields: TypeAlias = Mapping[str, Mapping[str, FieldValue]]
"""Utterance id → name of a field → its value."""

_LINE = re.compile(r"(?P<text>.*)\((?P<id>[^()]+)\)")


@dataclass(frozen=True)
class UtteranceErrors:
    """One utterance's word errors and where they are."""

    id: str
    counts: ErrorCounts
    alignment: tuple[WordPair, ...]


@dataclass(frozen=True)
class CorpusScore:
    """All figures of one system on one set of utterances.

    Attributes:
        words: each utterance's errors in words, by utterance id, in the order of the references.
        characters: the same in characters.
        word_interval: of the word error rate; over speakers where at least five are known, else over utterances.
        character_interval: of the character error rate.
        wrong: the utterances with errors: most errors first, then the higher WER.
        confusions: how often each word was deleted, inserted or taken for another.
        references: each utterance's reference text, by utterance id.
        calibration: how well the hypotheses' confidences agree with the facts; None if they have none.
        speakers: each utterance's speaker by utterance id; only those that are known.
        recognised: what else a decode folder has of its utterances, by id; nothing if they come from elsewhere.
        fields: what else is known of the utterances, by id and name of the field, e.g. from their manifest.
        groups: the errors by field and group, of those fields that were asked for.
        missing: ids of the utterances without a hypothesis, whose words all count as deleted.
        surplus: ids of the hypotheses without a reference, which do not count.
        respelled: how many words each rule for spellings replaced.
        case_errors: how many word errors fewer there would be if capital and small letters were the same.
    """

    words: Mapping[str, ErrorCounts]
    characters: Mapping[str, ErrorCounts]
    word_interval: Interval
    character_interval: Interval
    wrong: tuple[UtteranceErrors, ...]
    confusions: Confusions
    references: Mapping[str, str]
    calibration: CalibrationScore | None = None
    speakers: Mapping[str, str] = field(default_factory=dict)
    recognised: Mapping[str, RecognisedUtterance] = field(default_factory=dict)
    fields: Fields = field(default_factory=dict)
    groups: Mapping[str, Mapping[str, ErrorCounts]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    surplus: tuple[str, ...] = ()
    respelled: tuple[RuleUse, ...] = ()
    case_errors: int = 0

    @property
    def word_total(self) -> ErrorCounts:
        """The errors in words, summed over the corpus."""
        return sum(self.words.values(), ErrorCounts())

    @property
    def character_total(self) -> ErrorCounts:
        """The errors in characters, summed over the corpus."""
        return sum(self.characters.values(), ErrorCounts())

    @cached_property
    def unit(self) -> Unit:
        """In what the errors of the main figure are counted: words, or in scripts without spaces characters."""
        return main_unit(self.references.values())

    @property
    def by_unit(self) -> Mapping[str, ErrorCounts]:
        """Each utterance's errors in that unit."""
        return self.words if self.unit == "word" else self.characters

    @property
    def wer(self) -> float:
        """The word error rate: 0.05 is 5 %."""
        return self.word_total.rate

    @property
    def cer(self) -> float:
        """The character error rate: 0.05 is 5 %."""
        return self.character_total.rate


def score_texts(
    references: Mapping[str, str], hypotheses: Mapping[str, str], speakers: Mapping[str, str] | None = None
) -> CorpusScore:
    """Return the figures of hypotheses against references, both by utterance id.

    Args:
        references: each utterance's reference text.
        hypotheses: each utterance's recognised text.
        speakers: each utterance's speaker, of those that are known.

    Raises:
        ScoringError: the ids differ, or all references are empty.
    """
    words = count_corpus(references, hypotheses, unit="word")
    characters = count_corpus(references, hypotheses, unit="character")
    wrong = [
        UtteranceErrors(name, counts, align_words(references[name], hypotheses[name]))
        for name, counts in words.items()
        if counts.errors
    ]
    wrong.sort(key=lambda utterance: (-utterance.counts.errors, -utterance.counts.rate, utterance.id))
    known = speakers or {}
    groups = speakers_of(list(words), known)
    return CorpusScore(
        words=words,
        characters=characters,
        word_interval=rate_interval(list(words.values()), speakers=groups),
        character_interval=rate_interval(list(characters.values()), speakers=groups),
        wrong=tuple(wrong),
        confusions=count_confusions(utterance.alignment for utterance in wrong),
        references=references,
        speakers=known,
    )


def read_score(folder: Path, rules: Sequence[Rule] = ()) -> CorpusScore:
    """Return the figures of a decode folder: its texts, and the speakers and confidences of `hyp.jsonl`; write nothing.

    Args:
        folder: as `asr.decode` wrote it.
        rules: for spellings that count as the same.

    Raises:
        ScoringError: a file is missing or malformed, or the files do not belong together.
    """
    if not (folder / REFERENCES).exists():
        if inside := sorted(path.parent for path in folder.glob(f"*/{REFERENCES}")):
            raise ScoringError(f"{folder}: holds decode folders and is none itself; `asr score {inside[0]}` scores one")
        if (folder / WEIGHTS).exists():
            raise ScoringError(
                f"{folder}: a model folder, not a decode folder; `asr decode {folder} MANIFEST --out "
                f"{folder / 'decode'}` writes one, and `asr score {folder / 'decode'}` scores it"
            )
        raise ScoringError(f"{folder / REFERENCES}: no such file; `asr decode` writes a decode folder that has it")
    references, hypotheses = read_trn(folder / REFERENCES), read_trn(folder / HYPOTHESES)
    recognised = read_recognised(folder)
    try:
        respelled: tuple[RuleUse, ...] = ()
        if rules and references.keys() == hypotheses.keys():
            said = {name: plain_reading(text) for name, text in references.items()}
            heard = {name: plain_reading(text) for name, text in hypotheses.items()}
            references, hypotheses, respelled = respell(said, heard, rules)
        speakers = {name: item.speaker for name, item in recognised.items() if item.speaker is not None}
        score = score_texts(references, hypotheses, speakers)
        return replace(
            score,
            calibration=_calibration(recognised, references, hypotheses),
            recognised=recognised,
            fields={name: {**item.fields, "duration_s": item.duration_s} for name, item in recognised.items()},
            respelled=respelled,
        )
    except ScoringError as error:
        raise ScoringError(f"{folder}: {error}") from None


def compare_scores(score_a: CorpusScore, score_b: CorpusScore) -> PairedComparison:
    """Return how the main figure of system B differs from that of system A, on the same references.

    It is the word error rate, or in scripts without spaces the character error rate. The matched pairs test compares
    the words in either case.

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
            "only systems that decoded the same manifest can be compared"
        )
    names = list(score_b.words)
    comparison = compare_rates(
        [score_a.by_unit[name] for name in names],
        [score_b.by_unit[name] for name in names],
        speakers=speakers_of(names, {**score_a.speakers, **score_b.speakers}),
    )
    return replace(comparison, unit=score_b.unit, matched_pairs=matched_pairs_test(_alignments(score_a, score_b)))


def _alignments(
    score_a: CorpusScore, score_b: CorpusScore
) -> Iterator[tuple[tuple[WordPair, ...], tuple[WordPair, ...]]]:
    """Yield the alignments of both systems of each utterance that one of them has wrong."""
    of_a = {utterance.id: utterance.alignment for utterance in score_a.wrong}
    of_b = {utterance.id: utterance.alignment for utterance in score_b.wrong}
    for name, reference in score_b.references.items():
        if name in of_a or name in of_b:
            right = tuple(WordPair(word, word) for word in words_of(reference))
            yield of_a.get(name, right), of_b.get(name, right)


def _calibration(
    recognised: Mapping[str, RecognisedUtterance], references: Mapping[str, str], hypotheses: Mapping[str, str]
) -> CalibrationScore | None:
    """Return how confidences agree with the facts; None if there are none, or no word was recognised."""
    confidences: list[float] = []
    right: list[bool] = []
    for name, utterance in recognised.items():
        if name not in references:
            raise ScoringError(f"{RECOGNISED} has an utterance {name!r} that {REFERENCES} has not; decode again")
        is_right = words_right(references[name], hypotheses[name])
        was_replaced = utterance.text is not None and utterance.text != hypotheses[name]
        if was_replaced and len(is_right) != len(utterance.confidences):
            continue  # `text.replace` made other words of those that have confidences
        confidences += utterance.confidences
        right += is_right
    return score_calibration(confidences, right) if confidences else None


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
