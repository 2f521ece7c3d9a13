"""Long recordings with their whole texts → manifests of utterances, and a list of what was skipped, with the reason."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from asr.audio.sound_file import audio_info
from asr.corpus.line import require_name, require_path
from asr.corpus.splits import SplitRule
from asr.errors import ManifestError, ModelError
from asr.files import visible_json, write_text
from asr.importing.material import Material, Utterance
from asr.importing.table import Columns, read_table
from asr.importing.utterances import ImportReport, require_id, require_language, write_splits
from asr.inference.decoder import Decoder
from asr.inference.heard import hear
from asr.inference.long_alignment import align_words
from asr.machine import Accelerator, Progress, silent
from asr.reading import counted, read_text
from asr.segmenting.planted import suitable_strictness
from asr.segmenting.skipped import Reason, skipped_stretches
from asr.segmenting.utterances import Edges, cut_utterances
from asr.text.written import WrittenWord, written, written_words

if TYPE_CHECKING:
    from asr.config import Config

AnyPath: TypeAlias = str | os.PathLike[str]

SKIPPED = "skipped_stretches.jsonl"
ROUNDS = "rounds"
_TEXT_SUFFIX = ".txt"


@dataclass(frozen=True)
class SkippedStretch:
    """A stretch that became no utterance.

    Attributes:
        recording: the audio file.
        start_s: its start, in seconds from the start of the recording.
        end_s: its end.
        reason: why it was skipped.
        text: what is written for it; empty if nothing is.
    """

    recording: Path
    start_s: float
    end_s: float
    reason: Reason
    text: str


@dataclass(frozen=True)
class SegmentReport:
    """What `segment` wrote.

    Attributes:
        manifests: what was written of each split, and notes.
        recordings_s: audio of all recordings, in seconds.
        utterances_s: audio of all utterances.
        words: words of all texts.
        utterance_words: words of all utterances.
        skipped: what became no utterance, as in the file `skipped_stretches.jsonl`.
        model: the model that was used last; the last round's, if there were rounds.
    """

    manifests: ImportReport
    recordings_s: float
    utterances_s: float
    words: int
    utterance_words: int
    skipped: tuple[SkippedStretch, ...]
    model: Path


def segment(
    model: AnyPath | None,
    recordings: AnyPath | Iterable[tuple[AnyPath, AnyPath]],
    out: AnyPath,
    *,
    data: AnyPath | None = None,
    rounds: int | None = None,
    config: Config | AnyPath | None = None,
    speaker: str | None = None,
    split: SplitRule | None = None,
    language: str | None = None,
    columns: Columns | None = None,
    accelerator: Accelerator = "auto",
    progress: Progress = silent,
) -> SegmentReport:
    """Cut long recordings into utterances of 1 to 20 s, by their texts; write manifests into the folder `out`.

    Words are looked up where the model is sure, the stretches between are aligned, and the rest is skipped. So a text
    may have faults: wrong, missing or added words, parts in another order, a page that was not read.

    A round trains a model on what was found, and cuts the recordings again with it. That makes good use of a poor
    model. Without a model, the first round trains on `data`, a few minutes that have times already.

    Args:
        model: a model folder; None: train the first model on `data`.
        recordings: pairs of an audio file and a text file, or a table with a row for each recording. Its text column
            holds the text, or the name of a .txt file beside the table.
        out: the folder for train.jsonl.gz, dev.jsonl.gz, test.jsonl.gz and skipped_stretches.jsonl.
        data: a data folder of utterances with times. Rounds train on them as well. Its dev set chooses the best
            weights, if it has one.
        rounds: how many models are trained. None: none with a model, one without.
        config: settings of these models, or a YAML file with some of them. None: those of `model`, or the defaults.
        speaker: who speaks in all recordings. None: what the table says, or the recording's name.
        split: how dev and test are drawn; None: a tenth each, by speaker. With fewer speakers than splits, it is by
            utterance.
        language: noted in the manifests, e.g. "en".
        columns: which columns of the table hold what.
        accelerator: auto takes a GPU if there is one.
        progress: shows how far it is.

    Returns:
        What was written and what was skipped.

    Raises:
        AudioError: a recording cannot be read.
        ConfigError: a setting cannot be used.
        ManifestError: a text or the table cannot be read, or no utterance was found.
        ModelError: there is neither a model nor `data`, or the model cannot be used.
        TrainingError: a round cannot train; `out` holds rounds that began otherwise.
    """
    if model is None and data is None:
        raise ModelError("segment: give a model, or a data folder of utterances with times to train the first one on")
    require_language(language)
    work = long_recordings(recordings, speaker, columns or Columns())
    count = rounds if rounds is not None else int(model is None)
    if count < int(model is None) or count < 0:
        raise ModelError(f"rounds={count}: without a model at least one is needed, which trains it")
    target = _Target(Path(out), split, language, progress)
    used = None if model is None else Path(model)
    report = None if used is None else _segment_once(used, work, target, accelerator)
    if count:
        from asr.segmenting.rounds import Round, train_round

        for number in range(1, count + 1):
            plan = Round(Path(out) / ROUNDS / str(number), None if model is None else Path(model), config, progress)
            found = None if report is None else report.manifests.manifests
            used = train_round(plan, found, None if data is None else Path(data))
            report = _segment_once(used, work, target, accelerator)
    assert report is not None
    return report


@dataclass(frozen=True)
class LongRecording:
    """A recording, its whole text, who speaks, and the split it belongs to, if that is known."""

    id: str
    audio: Path
    text: str
    speaker: str | None
    split: str | None
    where: str


def long_recordings(
    recordings: AnyPath | Iterable[tuple[AnyPath, AnyPath]], speaker: str | None, columns: Columns
) -> list[LongRecording]:
    """Return the recordings and texts of pairs or of a table.

    Raises:
        AudioError: a recording is missing or no audio.
        ManifestError: a text or the table cannot be read; a text is empty; two recordings have the same name; a
            recording has a name or a speaker that no utterance can have.
    """
    if isinstance(recordings, str | os.PathLike):
        table = Path(recordings)
        rows = read_table(table, columns)
        if rows.left_out:
            raise ManifestError(f"{rows.left_out[0].where}: {rows.left_out[0].reason}")
        found = [_of_row(row, table.parent) for row in rows.utterances]
    else:
        found = [_of_pair(Path(audio), Path(text)) for audio, text in recordings]
    seen: dict[str, str] = {}
    for one in found:
        if one.id in seen:
            raise ManifestError(f"{one.where}: the recording {one.id!r} occurs already at {seen[one.id]}")
        seen[one.id] = one.where
        if not one.text.strip():
            raise ManifestError(f"{one.where}: the text is empty")
        try:  # or it would be known only when all has been heard
            require_id(one.id)
            require_name("speaker", speaker or one.speaker or "")
        except ManifestError as error:
            raise ManifestError(f"{one.where}: {error}") from None
        require_path(os.path.abspath(one.audio))
        audio_info(one.audio)
    return [replace(one, speaker=speaker or one.speaker) for one in found]


def _of_row(row: Utterance, folder: Path) -> LongRecording:
    text = row.text
    if text.strip().lower().endswith(_TEXT_SUFFIX) and "\n" not in text.strip():
        text = read_text(folder / text.strip(), ManifestError, "the text")
    return LongRecording(row.id, row.audio_path, text, row.speaker, row.split, row.where)


def _of_pair(audio: Path, text: Path) -> LongRecording:
    name = "_".join(audio.stem.replace("(", " ").replace(")", " ").split()) or "recording"
    return LongRecording(name, audio, read_text(text, ManifestError, "the text"), None, None, str(text))


@dataclass(frozen=True)
class _Target:
    """Where and how manifests are written."""

    out: Path
    split: SplitRule | None
    language: str | None
    progress: Progress


def _segment_once(
    model: Path, work: Sequence[LongRecording], target: _Target, accelerator: Accelerator
) -> SegmentReport:
    decoder = Decoder.load(model, accelerator=accelerator, precision="fp32")  # small posteriors count
    utterances: list[Utterance] = []
    skipped: list[SkippedStretch] = []
    durations = [audio_info(one.audio).duration_s for one in work]
    words = utterance_words = 0
    with target.progress("listen", sum(durations)) as advance:
        for one in work:
            found = _segment_recording(decoder, one, advance)
            utterances += found.utterances
            skipped += found.skipped
            words += found.words
            utterance_words += found.utterance_words
    if not utterances:
        raise ManifestError(
            f"{model}: of {words} words in {sum(durations) / 60:.1f} minutes none was found for sure, so no manifest "
            "was written; do the texts belong to the recordings, and the model to the language?"
        )
    rule, notes = _possible(target.split or SplitRule(), utterances)
    material = Material(utterances, notes=notes)
    manifests = write_splits(material, target.out, rule, language=target.language, progress=target.progress)
    lines = [visible_json(json.dumps(_as_json(one), ensure_ascii=False)) + "\n" for one in skipped]
    write_text(target.out / SKIPPED, "".join(lines))
    total_s = sum(utterance.duration_s or 0.0 for utterance in utterances)
    return SegmentReport(manifests, sum(durations), total_s, words, utterance_words, tuple(skipped), model)


def _possible(rule: SplitRule, utterances: Sequence[Utterance]) -> tuple[SplitRule, list[str]]:
    """Return the rule, or that of drawing by utterance where there are too few speakers, and a note that says so."""
    speakers = len({utterance.speaker for utterance in utterances})
    splits = 1 + sum(0 < share < 1 for share in (rule.dev_share, rule.test_share))
    if rule.by == "utterance" or speakers >= splits:
        return rule, []
    voices = counted(speakers, "speaker")
    note = f"{voices}, so the splits are drawn by utterance, and error rates are those of known voices"
    return replace(rule, by="utterance"), [note]


@dataclass(frozen=True)
class _Found:
    utterances: list[Utterance]
    skipped: list[SkippedStretch]
    words: int
    utterance_words: int


def _segment_recording(decoder: Decoder, recording: LongRecording, advance: Callable[[float], object]) -> _Found:
    heard = hear(decoder, recording.audio, on_progress=advance)
    text, table = written_words(recording.text, decoder.bundle.config.text), decoder.bundle.tokens
    alignment = align_words(heard, text, table)
    edges = Edges(heard, alignment)
    strictness = suitable_strictness(heard, edges, text, table)
    cuts = cut_utterances(edges, strictness)
    skipped = skipped_stretches(edges, cuts, strictness)
    words = alignment.words
    utterances = [
        Utterance(
            id=f"{recording.id}-{round(1000 * cut.start_s):07d}-{round(1000 * cut.end_s):07d}",
            audio_path=recording.audio,
            text=written(recording.text, words[cut.first_word : cut.last_word + 1]),
            where=recording.where,
            speaker=recording.speaker or recording.id,
            split=recording.split,
            start_s=round(cut.start_s, 3),
            duration_s=round(cut.end_s - cut.start_s, 3),
        )
        for cut in cuts
    ]
    stretches = [
        SkippedStretch(recording.audio, one.start_s, one.end_s, one.reason, _text_of(one.words, recording.text, words))
        for one in skipped
    ]
    return _Found(utterances, stretches, len(words), sum(cut.last_word + 1 - cut.first_word for cut in cuts))


def _text_of(numbers: Sequence[int], text: str, words: Sequence[WrittenWord]) -> str:
    """Return words as they are written; " … " is where some between them are elsewhere."""
    rows: list[list[WrittenWord]] = []
    for before, number in zip([-2, *numbers], numbers, strict=False):
        if number == before + 1:
            rows[-1].append(words[number])
        else:
            rows.append([words[number]])
    return " … ".join(written(text, row) for row in rows)


def _as_json(stretch: SkippedStretch) -> dict[str, object]:
    return {
        "recording": str(stretch.recording),
        "start_s": round(stretch.start_s, 3),
        "end_s": round(stretch.end_s, 3),
        "reason": stretch.reason,
        "text": stretch.text,
    }
