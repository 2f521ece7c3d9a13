"""Label Studio's exports, JSON and JSON_MIN, and the recordings → manifests.

A region with a text is an utterance, and so is a whole recording that has one text. The label of a region is its
speaker, unless it says what kind of sound the region is (`NO_SPEAKERS`), as in Label Studio's template for speech
recognition. Of several annotations of a task, the ground truth counts, or else the one that was updated last; cancelled
ones do not.

The recordings are on Label Studio's server, and here in a folder. So they are found by name. If several have the name,
it is the one whose folders are those of the address. What Label Studio puts before the name of an uploaded file may be
there or not.

Sources: Label Studio's documentation, "Export annotations", "Audio" and "TextArea"; its converter for JSON_MIN.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from asr.audio.sound_file import RECORDING_SUFFIXES, audio_files
from asr.corpus.names import id_from_path, id_of_part
from asr.corpus.splits import SplitRule
from asr.errors import ManifestError
from asr.importing.material import LeftOut, Material, Utterance
from asr.importing.table import USUAL_NAMES, Columns
from asr.importing.timed_text import require_times
from asr.importing.utterances import ImportReport, write_splits
from asr.machine import Progress, silent
from asr.reading import read_json, shown

NO_SPEAKERS = frozenset({"speech", "voice", "noise", "silence", "music", "segment", "transcription"})
"""Labels, in lower case, that say what kind of sound a region is."""

_UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-")


@dataclass
class _Region:
    """A part of a recording, or all of it, as an annotation describes it."""

    id: str
    start_s: float | None = None  # None: it is the whole recording
    end_s: float | None = None
    text: str = ""
    labels: tuple[str, ...] = ()


def import_labelstudio(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    audio_dir: str | os.PathLike[str] | None = None,
    columns: Columns | None = None,
    split: SplitRule | None = None,
    language: str | None = None,
    progress: Progress = silent,
) -> ImportReport:
    """Write the manifests of an export of Label Studio into the folder `out`.

    Args:
        source: the export, as JSON or JSON_MIN.
        out: the folder for train.jsonl.gz, dev.jsonl.gz and test.jsonl.gz.
        audio_dir: the folder with the recordings, at any depth; None: the export's folder.
        columns: the names that the labelling configuration gives: `audio` is the key of the task with the recording,
            `text` the TextArea, `speaker` the Labels; None: the only ones, or those with usual names.
        split: how splits are drawn; None: dev and test get a tenth each, by speaker.
        language: noted in the manifests, e.g. "en".
        progress: shows how far the import is.

    Raises:
        ManifestError: it is no such export, or nothing is left for training.
    """
    material = read_labelstudio(Path(source), Path(audio_dir) if audio_dir else None, columns or Columns())
    return write_splits(material, Path(out), split or SplitRule(), language=language, progress=progress)


def read_labelstudio(path: Path, audio_dir: Path | None = None, columns: Columns | None = None) -> Material:
    """Return what is in an export; arguments and errors are those of `import_labelstudio`."""
    tasks = read_json(path, ManifestError, "the export", way_out="export as JSON, in parts if it is large")
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise ManifestError(f"{path}: not an export of Label Studio, which is a list of tasks; choose JSON or JSON-MIN")
    columns = columns or Columns()
    recordings = _Recordings(audio_dir or path.parent)
    material = Material()
    for number, task in enumerate(tasks, 1):
        where = f"{path}: task {shown(task.get('id', f'no. {number}'))}"
        with material.at(where):
            is_whole = isinstance(task.get("data"), dict)
            data = task["data"] if is_whole else task
            address = _audio_address(data, columns)
            regions = _regions(task, columns) if is_whole else _regions_of_min(task, columns)
            _add(regions, recordings.find(address), where, audio_dir or path.parent, material)
    material.or_refuse(f"{path}: no transcripts")
    material.note_speakers(f"{path}: " + (f"{columns.speaker!r}" if columns.speaker else "the labels"))
    return material


def _add(regions: list[_Region], recording: Path, where: str, folder: Path, material: Material) -> None:
    if not regions:
        material.left_out.append(LeftOut(where, "a task that is not annotated", False))
    name = id_from_path(str(recording.relative_to(folder)))
    for region in regions:
        place = f"{where}, region {shown(region.id)}" if region.start_s is not None else where
        if not region.text.strip():
            material.left_out.append(LeftOut(place, "a region without a text", False))
            continue
        with material.at(place):
            is_part = region.start_s is not None and region.end_s is not None
            start_s, end_s = region.start_s or 0.0, region.end_s or 0.0
            if is_part:
                require_times(start_s, end_s)
            speakers = [label for label in region.labels if label.strip().lower() not in NO_SPEAKERS]
            material.utterances.append(
                Utterance(
                    id=id_of_part(name, start_s, end_s) if is_part else name,
                    audio_path=recording,
                    text=region.text,
                    where=place,
                    speaker=speakers[0].strip() or None if len(speakers) == 1 else None,
                    start_s=start_s,
                    duration_s=end_s - start_s if is_part else None,
                )
            )


def _audio_address(data: dict[str, Any], columns: Columns) -> str:
    """Return the path or address of a task's recording."""
    found = {key: value for key, value in data.items() if isinstance(value, str) and _is_recording(value)}
    return found[_one(list(found), columns.audio, USUAL_NAMES["audio"], "path of a recording", "--audio-column")]


def _one(found: list[str], wanted: str | None, usual: tuple[str, ...], what: str, option: str) -> str:
    """Return the name that the user wants, or else the only one found, or the one with a usual name.

    Raises:
        ManifestError: there is none, or it cannot be chosen.
    """
    named = [wanted] if wanted is not None else [name for name in usual if name in found]
    choice = named[0] if named else found[0] if len(found) == 1 else None
    if choice is None or (choice not in found):
        raise ManifestError(f"no {what}: {option} names it; there are: {', '.join(map(shown, found)) or 'none'}")
    return choice


def _regions(task: dict[str, Any], columns: Columns) -> list[_Region]:
    """Return the regions of a task of JSON."""
    annotation = _annotation(task)
    results = annotation.get("result", [])
    if not isinstance(results, list):
        raise ManifestError(f"its result is {shown(results)}, but a list is needed")
    texts = [one for one in results if isinstance(one, dict) and one.get("type") == "textarea"]
    labels = [one for one in results if isinstance(one, dict) and one.get("type") == "labels"]
    regions: dict[str, _Region] = {}
    if columns.speaker is not None:
        labels = [one for one in labels if one.get("from_name") == columns.speaker]
    for one in labels:
        _region_of(one, regions).labels += _labels(_value(one))
    if texts:
        found = list(dict.fromkeys(str(one.get("from_name")) for one in texts))
        name = _one(found, columns.text, USUAL_NAMES["text"], "TextArea", "--text-column")
        for one in texts:
            if str(one.get("from_name")) == name:
                region = _region_of(one, regions)
                region.text = " ".join([region.text, _text(_value(one).get("text", ""))]).strip()
    return list(regions.values())


def _region_of(result: dict[str, Any], regions: dict[str, _Region]) -> _Region:
    """Return the region that a result belongs to, which is added if it is new.

    Raises:
        ManifestError: an earlier result says that the region has other times, or its times are not in seconds.
    """
    name = str(result.get("id"))
    found = _region(name, _value(result))
    region = regions.setdefault(name, found)
    if region.start_s is None:
        region.start_s, region.end_s = found.start_s, found.end_s
    if found.start_s is not None and (region.start_s, region.end_s) != (found.start_s, found.end_s):
        raise ManifestError(
            f"region {shown(name)} is from {region.start_s:g} s to {region.end_s:g} s and from {found.start_s:g} s to "
            f"{found.end_s:g} s; give each region an id of its own"
        )
    return region


def _annotation(task: dict[str, Any]) -> dict[str, Any]:
    """Return the annotation that counts, or an empty one."""
    given = task.get("annotations", task.get("completions", []))
    if not isinstance(given, list):
        raise ManifestError(f"its annotations are {shown(given)}, but a list is needed")
    used = [one for one in given if isinstance(one, dict) and not one.get("was_cancelled")]
    return max(used, key=lambda one: (bool(one.get("ground_truth")), str(one.get("updated_at", ""))), default={})


def _value(result: dict[str, Any]) -> dict[str, Any]:
    value = result.get("value")
    if not isinstance(value, dict):
        raise ManifestError(f"the value of a region is {shown(value)}, but an object is needed")
    return value


def _region(id: str, value: dict[str, Any]) -> _Region:
    start_s, end_s = _seconds(value, "start"), _seconds(value, "end")
    if (start_s is None) != (end_s is None):
        raise ManifestError(f"region {shown(id)} has only one of start and end")
    if (unit := value.get("unit", "seconds")) not in ("seconds", "s"):
        raise ManifestError(f"region {shown(id)} has times in {shown(unit)}, but seconds are needed")
    return _Region(id, start_s, end_s)


def _labels(value: dict[str, Any]) -> tuple[str, ...]:
    labels = value.get("labels", [])
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        raise ManifestError(f"the labels of a region are {shown(labels)}, but a list of texts is needed")
    return tuple(labels)


def _regions_of_min(record: dict[str, Any], columns: Columns) -> list[_Region]:
    """Return the regions of a record of JSON_MIN, which holds texts and regions in lists of their own, in one order."""
    lists = {
        key: [one for one in value if isinstance(one, dict) and isinstance(one.get("labels"), list)]
        for key, value in record.items()
        if isinstance(value, list)
    }
    label_keys = [key for key, regions in lists.items() if regions]
    label_key = columns.speaker if columns.speaker is not None else label_keys[0] if label_keys else None
    labelled = lists.get(label_key, []) if label_key is not None else []
    regions = [replace(_region(str(number), one), labels=_labels(one)) for number, one in enumerate(labelled, 1)]
    texts = _texts_of_min(record, columns, label_keys)
    if texts and isinstance(texts[0], dict):
        by_times = {(region.start_s, region.end_s): region for region in regions}
        if len(by_times) < len(regions):
            raise ManifestError("two regions have the same times, so their texts cannot be told apart; export as JSON")
        for number, one in enumerate(texts, 1):
            region = _region(str(number), one)
            by_times.setdefault((region.start_s, region.end_s), region).text = _text(one["text"])
        return list(by_times.values())
    if not regions and len(texts) == 1:
        return [_Region("", text=texts[0])]
    if len(regions) != len(texts):
        raise ManifestError(
            f"{len(texts)} texts of {len(regions)} regions, which JSON-MIN does not assign to each other; use JSON"
        )
    for region, text in zip(regions, texts, strict=True):
        region.text = text
    return regions


def _texts_of_min(record: dict[str, Any], columns: Columns, label_keys: list[str]) -> list[Any]:
    """Return the texts of a record: all are texts, or all are objects with times."""
    found = [
        key
        for key, value in record.items()
        if key not in label_keys
        and not (isinstance(value, str) and _is_recording(value))
        and (
            (isinstance(value, str) and key in (*USUAL_NAMES["text"], columns.text))
            or (isinstance(value, list) and value and all(map(_is_text_of_min, value)))
        )
    ]
    if not found and columns.text is None:
        return []
    value = record[_one(found, columns.text, USUAL_NAMES["text"], "TextArea", "--text-column")]
    values = value if isinstance(value, list) else [value]
    if len({type(one) for one in values}) > 1:
        raise ManifestError("some of its texts have times, and some have not; export as JSON")
    return values


def _is_text_of_min(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, dict) and "text" in value)


def _text(value: Any) -> str:
    texts = value if isinstance(value, list) else [value]
    for text in texts:
        if not isinstance(text, str):
            raise ManifestError(f"its text is {shown(text)}, but a text is needed")
    return " ".join(texts)


def _seconds(value: dict[str, Any], name: str) -> float | None:
    number = value.get(name)
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise ManifestError(f"its {name} is {shown(number)}, but a number of seconds is needed")
    return float(number)


def _is_recording(address: str) -> bool:
    return Path(_path_of(address)).suffix.lower() in RECORDING_SUFFIXES


def _path_of(address: str) -> str:
    """Return the path in an address: of local storage (`/data/local-files/?d=…`), of the web, of a bucket, or plain."""
    try:
        parts = urllib.parse.urlsplit(address) if "://" in address or "?" in address else None
    except ValueError:  # a text in which a bracket follows `//`
        parts = None
    if parts is None:
        return urllib.parse.unquote(address)
    local = urllib.parse.parse_qs(parts.query).get("d")
    return local[0] if local else urllib.parse.unquote(parts.path)


class _Recordings:
    """Finds recordings below a folder by their names."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._by_name: dict[str, list[Path]] = {}
        for path in self._all():
            self._by_name.setdefault(path.name, []).append(path)

    def _all(self) -> Iterator[Path]:
        return audio_files(self._folder, lambda error: None, RECORDING_SUFFIXES)

    def find(self, address: str) -> Path:
        """Return the recording of an address.

        Raises:
            ManifestError: there is none here, or there are several.
        """
        parts = Path(_path_of(address).replace("\\", "/")).parts
        name = parts[-1] if parts else ""
        for candidate in (name, _UPLOAD_PREFIX.sub("", name, count=1)):
            found = self._by_name.get(candidate, [])
            tail = len(parts)
            while len(found) > 1 and tail > 1:  # by as many folders of the address as one of them has
                wanted = (*parts[-tail:-1], candidate)
                fitting = [path for path in found if path.parts[-len(wanted) :] == wanted]
                found, tail = fitting or found, tail - 1
            if len(found) > 1:
                listed = ", ".join(str(path.relative_to(self._folder)) for path in found[:3])
                raise ManifestError(f"{shown(address)}: several recordings have its name: {listed}; rename them")
            if found:
                return found[0]
        raise ManifestError(
            f"{shown(address)}: no recording {name!r:.80} in {self._folder}; --audio-dir names its folder"
        )
