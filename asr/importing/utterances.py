"""Where all importers meet: utterances as a source describes them → manifests of train, dev and test."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from asr.config import FeatureSettings
from asr.corpus.cut_audio import seekable_copies
from asr.corpus.limits import low_rate_note
from asr.corpus.line import require_name, require_path, require_text
from asr.corpus.manifest import SPLITS, cut_speaker, make_cut
from asr.corpus.splits import SplitRule, complete, require_others, write_manifests
from asr.errors import AudioError, ManifestError, one_line
from asr.importing.material import MOST_LISTED, LeftOut, Material, Utterance, listed
from asr.machine import Progress, silent
from asr.reading import counted
from asr.text.normalise import is_utterance_id

if TYPE_CHECKING:
    from lhotse.cut import Cut

_SAME_LENGTH_S = 0.1  # tables round, and codecs pad


@dataclass(frozen=True)
class SplitSize:
    """What an import wrote of one split. `share` is that of the audio of all splits."""

    audio_s: float
    speakers: int
    share: float
    sample_rates_hz: tuple[int, ...]  # those that occur, lowest first


@dataclass(frozen=True)
class ImportReport:
    """What an import wrote, and what it left out."""

    manifests: dict[str, Path]  # by split
    utterances: dict[str, int]  # by split
    sizes: dict[str, SplitSize]  # by split
    skipped: tuple[str, ...]  # one line each: where, and the reason
    notes: tuple[str, ...]  # what the user should know about the source and the splits
    passed_over: dict[str, tuple[str, ...]]  # by reason, where: what the source itself says is no utterance


def read_parts(
    read: Callable[[Path], Material],
    source: str | os.PathLike[str],
    dev: str | os.PathLike[str] | None,
    test: str | os.PathLike[str] | None,
) -> Material:
    """Return what is in a source, and in the files that hold its dev and its test split."""
    material = Material()
    material.extend(read(Path(source)))
    for split, path in (("dev", dev), ("test", test)):
        if path is not None:
            material.extend(read(Path(path)), split)
    return material


def write_splits(
    material: Material,
    out: Path,
    rule: SplitRule,
    *,
    language: str | None = None,
    progress: Progress = silent,
) -> ImportReport:
    """Write `out`/{train,dev,test}.jsonl.gz and return what was written.

    Left out are utterances without a transcript, without readable audio or without an id of their own. A split that the
    source names is kept. A split that it does not name is drawn from its training utterances. With a share of 0 that
    split is not written, and is removed if an earlier import wrote it. A source without a training set, such as a test
    set of its own, is written as it is. Recordings that can only be decoded from their start are copied to
    `out`/audio if several utterances are parts of one.

    Args:
        material: what is in the source.
        out: folder of the manifests.
        rule: how to draw splits.
        language: recorded in the manifests, e.g. "en"; None: what the source names.
        progress: shows how far the import is.

    Raises:
        ManifestError: nothing is usable, nothing is left for training though the source has a training set, the
            splits cannot be drawn, a manifest would replace a file of the source, or the language is no name.
    """
    require_language(language)
    manifests = {split: out / f"{split}.jsonl.gz" for split in SPLITS}
    require_others({_file_and_line(one.where)[0] for one in material.utterances}, manifests.values())
    material = _with_seekable_audio(material, out / "audio", progress)
    given, faults = _cuts(material, language, progress)
    skipped = tuple(fault.line for fault in faults)
    reasons = listed(faults) if faults else []
    has_training_set = any(utterance.split in (None, "train") for utterance in material.utterances)
    if not given["train"] and (has_training_set or not any(given.values())):
        elsewhere = sum(map(len, given.values()))
        found = f"{elsewhere} are of dev or test, " if elsewhere else ""
        first = f"; the first reason: {reasons[0]}" if reasons else ""
        raise ManifestError(f"no utterance for training: {found}{len(faults)} cannot be used{first}", *reasons[1:])
    used = {cut.id: cut for cuts in given.values() for cut in cuts}
    notes = [*_unknown_speakers(material, used), *material.notes, *_other_lengths(material, used)]
    try:
        splits, split_notes = complete(given, rule)
    except ManifestError as error:
        raise ManifestError(f"{error}{'; left out were:' if reasons else ''}", *reasons) from None
    notes += split_notes
    if not splits["train"]:
        _require_no_training_set(out)
        notes.append("no training set: these utterances are for `asr decode` and `asr score`")
    write_manifests({manifests[split]: splits[split] for split in SPLITS})
    sizes = _sizes({split: cuts for split, cuts in splits.items() if cuts})
    low_rate = low_rate_note(
        (rate for size in sizes.values() for rate in size.sample_rates_hz), FeatureSettings().sample_rate_hz
    )
    return ImportReport(
        {split: manifests[split] for split in sizes},
        {split: len(splits[split]) for split in sizes},
        sizes,
        skipped,
        tuple(map(one_line, [*notes, *([low_rate] if low_rate else [])])),
        _passed_over(material),
    )


def _with_seekable_audio(material: Material, folder: Path, progress: Progress) -> Material:
    """Return material whose utterances can be read from the middle of recordings, which needs copies of some."""
    parts = Counter(one.audio_path for one in material.utterances if one.start_s or one.duration_s is not None)
    copies = seekable_copies([path for path, count in parts.items() if count > 1], folder, progress)
    if not copies:
        return material
    utterances = [replace(one, audio_path=copies.get(one.audio_path, one.audio_path)) for one in material.utterances]
    size_mb = sum(path.stat().st_size for path in copies.values()) / 1e6
    what = f"{counted(len(copies), 'recording')} that can only be decoded from the start"
    note = f"{what}: copied to FLAC in {folder} ({size_mb:.0f} MB)"
    return replace(material, utterances=utterances, notes=[*material.notes, note])


def _cuts(material: Material, language: str | None, progress: Progress) -> tuple[dict[str, list[Cut]], list[LeftOut]]:
    """Return the cuts of each split and the faults, file by file and line by line."""
    given: dict[str, list[Cut]] = {split: [] for split in SPLITS}
    where_of: dict[str, str] = {}
    faults = [fault for fault in material.left_out if fault.is_fault]
    with progress("import", len(material.utterances)) as advance:
        for utterance in material.utterances:
            try:
                require_path(os.path.abspath(utterance.audio_path))
                _check_id(utterance, where_of)
                given[utterance.split or "train"].append(_cut(utterance, language))
            except (AudioError, ManifestError) as error:
                faults.append(LeftOut(utterance.where, f"{error}{_start_of_path(utterance)}"))
            advance(1)
    return given, _in_file_order(faults, material)


def _in_file_order(faults: Sequence[LeftOut], material: Material) -> list[LeftOut]:
    """Return faults file by file, first files without utterances, and line by line."""
    places = [_file_and_line(fault.where) for fault in faults]
    described = dict.fromkeys(_file_and_line(one.where)[0] for one in material.utterances)
    files = dict.fromkeys([*(file for file, _ in places if file not in described), *described])
    ranks = {file: rank for rank, file in enumerate(files)}
    order = sorted(range(len(faults)), key=lambda number: (ranks[places[number][0]], places[number][1]))
    return [faults[number] for number in order]


def _file_and_line(where: str) -> tuple[str, int]:
    """Return the file and the line of a place such as `talk.stm:7`; the line is 0 where there is none."""
    file, _, line = where.rpartition(":")
    number = re.fullmatch(r"\D{0,10}(\d{1,18})", line)  # `: row 7` too
    return (file, int(number[1])) if file and number else (where, 0)


def _unknown_speakers(material: Material, used: Mapping[str, Cut]) -> list[str]:
    unknown = {utterance.id for utterance in material.utterances if utterance.speaker is None} & used.keys()
    if not unknown:
        return []
    return [
        f"no speaker is named for {counted(len(unknown), 'utterance')}; each counts as a speaker of its own. So one "
        "person may be in two splits, and the error rate is then that of known voices"
    ]


def _other_lengths(material: Material, used: Mapping[str, Cut]) -> list[str]:
    """Return a note that lists the recordings whose audio has another length than the source says."""
    found = {}
    for utterance in material.utterances:
        if utterance.declared and utterance.id in used:
            real_s = used[utterance.id].recording.duration
            if abs(real_s - utterance.declared.duration_s) > _SAME_LENGTH_S:
                found[utterance.declared] = (
                    f"{real_s:g} s ({utterance.declared.where} says {utterance.declared.duration_s:g} s)"
                )
    shown = ", ".join(list(found.values())[:MOST_LISTED])
    more = f" and {len(found) - MOST_LISTED} more" if len(found) > MOST_LISTED else ""
    what = f"{counted(len(found), 'recording')} longer or shorter than the source says"
    return [f"{what}: {shown}{more}"] if found else []


def _passed_over(material: Material) -> dict[str, tuple[str, ...]]:
    places: dict[str, list[str]] = {}
    for where, reason, is_fault in material.left_out:
        if not is_fault:
            places.setdefault(reason, []).append(one_line(where))
    return {reason: tuple(where) for reason, where in places.items()}


def _require_no_training_set(out: Path) -> None:
    """Keep an import of a test set alone from removing the training set of an earlier import."""
    if (out / "train.jsonl.gz").exists():
        raise ManifestError(
            f"{out}: holds a training set, which an import without one would remove; choose another folder"
        )


def _sizes(splits: dict[str, list[Cut]]) -> dict[str, SplitSize]:
    seconds = {split: sum(cut.duration for cut in cuts) for split, cuts in splits.items()}
    return {
        split: SplitSize(
            audio_s=seconds[split],
            speakers=len({cut_speaker(cut) for cut in cuts}),
            share=seconds[split] / sum(seconds.values()),
            sample_rates_hz=tuple(sorted({cut.sampling_rate for cut in cuts})),
        )
        for split, cuts in splits.items()
    }


def _cut(utterance: Utterance, language: str | None) -> Cut:
    text = " ".join(utterance.text.split())
    if not text:
        raise ManifestError(f"utterance {utterance.id}: its transcript is empty")
    try:
        require_text("text", text)
        require_name("speaker", utterance.speaker or "")
        require_name("gender", utterance.gender or "")
        require_name("language", utterance.language or "")
    except ManifestError as error:
        raise ManifestError(f"utterance {utterance.id}: {error}") from None
    return make_cut(
        utterance.id,
        utterance.audio_path,
        text,
        utterance.speaker or utterance.id,
        start_s=utterance.start_s,
        duration_s=utterance.duration_s,
        channel=utterance.channel,
        language=language or utterance.language,
        gender=utterance.gender,
    )


def _start_of_path(utterance: Utterance) -> str:
    """Return what to add to an error of a file that does not exist: where its path starts from."""
    if not utterance.relative_to or os.path.exists(utterance.audio_path):
        return ""
    return f"; the path is relative to {utterance.relative_to}, and --audio-dir names another folder"


def require_language(language: str | None) -> None:
    """Refuse what cannot be noted as the language of utterances.

    Raises:
        ManifestError: it is such a text.
    """
    try:
        require_name("language", language or "")
    except ManifestError:
        raise ManifestError(f"language={language!r:.80}: holds what is no character of a name; give e.g. en") from None


def require_id(name: str) -> None:
    """Refuse what cannot be an utterance's id.

    Raises:
        ManifestError: it is such a name.
    """
    if not is_utterance_id(name):
        raise ManifestError(
            f"{name!r} cannot be an utterance id; ids hold no parentheses, line breaks or doubled spaces"
            if name
            else "its id is empty"
        )
    require_name("id", name)


def _check_id(utterance: Utterance, where_of: dict[str, str]) -> None:
    name = utterance.id
    require_id(name)
    if name in where_of:
        raise ManifestError(f"the utterance id {name!r} occurs already at {where_of[name]}")
    where_of[name] = utterance.where
