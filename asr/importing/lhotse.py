"""lhotse's manifests → manifests: cuts, or recordings and supervisions as lhotse's recipes write them.

Each supervision is an utterance: a part of an audio file, or of one of its channels. Manifests are data, so commands in
them are not run and nothing is fetched from the network.

Source: lhotse.readthedocs.io, "Representing a corpus" and "Cuts".
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from asr.corpus.line import cut_of_line, parse_line, recording_of_line, supervision_of_line
from asr.corpus.names import split_in_name
from asr.corpus.splits import SplitRule
from asr.errors import ManifestError
from asr.importing.material import LeftOut, Material, Utterance
from asr.importing.utterances import ImportReport, write_splits
from asr.machine import Progress, silent
from asr.reading import read_raw_lines

if TYPE_CHECKING:
    from lhotse import Recording, SupervisionSegment
    from lhotse.cut import Cut

_SUFFIXES = (".jsonl", ".jsonl.gz")
_RECORDINGS, _SUPERVISIONS, _CUTS = "recordings", "supervisions", "cuts"
# A supervision may reach this far beyond its cut, because both are rounded.
_ROUNDING_S = 0.05


class _Source(NamedTuple):
    """An audio source of a recording: its kind ("file", "command", …), its path, and its channels in their order."""

    kind: str
    path: str
    channels: tuple[int, ...]


class _Audio(NamedTuple):
    """What is needed of a recording."""

    sources: tuple[_Source, ...]
    transforms: tuple[str, ...]


def import_lhotse(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    audio_dir: str | os.PathLike[str] | None = None,
    split: SplitRule | None = None,
    language: str | None = None,
    progress: Progress = silent,
) -> ImportReport:
    """Write the manifests of lhotse's cuts, or of its recordings and supervisions, into the folder `out`.

    Args:
        source: a manifest of cuts (.jsonl, .jsonl.gz), or a folder of manifests: those with "recordings" and
            "supervisions" in their names belong together, and if there are none, those with "cuts" are read. Splits
            are in the names, as in librispeech_recordings_train-clean-5.jsonl.gz.
        out: the folder for train.jsonl.gz, dev.jsonl.gz and test.jsonl.gz.
        audio_dir: the folder that relative paths start from; None: the working directory, as in lhotse, or else the
            folder of the manifest.
        split: how splits are drawn that the source does not give; None: dev and test get a tenth each, by speaker.
        language: noted in the manifests, e.g. "en"; None: what the supervisions say.
        progress: shows how far the import is.

    Raises:
        ManifestError: a manifest is missing or damaged, or nothing is left for training.
    """
    material = read_lhotse(Path(source), Path(audio_dir) if audio_dir else None)
    return write_splits(material, Path(out), split or SplitRule(), language=language, progress=progress)


def read_lhotse(source: Path, audio_dir: Path | None = None) -> Material:
    """Return what is in lhotse's manifests; arguments and errors are those of `import_lhotse`."""
    material = Material()
    for part in _parts(source, material):
        reader = _Reader(part.path, audio_dir)
        if part.recordings is None:
            reader.read_cuts()
        else:
            reader.read_supervisions(part.recordings)
        if reader.material.utterances:
            reader.material.note_speakers(str(part.path))
        material.extend(reader.material, split_in_name(part.path.name))
    return material.or_refuse(f"{source}: no supervisions")


class _Part(NamedTuple):
    path: Path  # of the cuts, or of the supervisions
    recordings: Path | None = None  # of the supervisions


def _parts(source: Path, material: Material) -> list[_Part]:
    """Return the manifests that are read; others are left out."""
    if source.is_file():
        if not source.name.endswith(_SUFFIXES):
            raise ManifestError(
                f"{source}: a manifest's name ends in {' or '.join(_SUFFIXES)}; `lhotse copy` makes one"
            )
        return _pairs([source]) or [_Part(source)]
    if not source.is_dir():
        raise ManifestError(f"{source}: no such manifest or folder")
    manifests = [path for path in sorted(source.iterdir()) if path.name.endswith(_SUFFIXES)]
    cuts = [_Part(path) for path in manifests if _CUTS in path.name]
    pairs = _pairs(manifests)
    if not pairs and not cuts:
        needed = f"*{_RECORDINGS}* and *{_SUPERVISIONS}*, or *{_CUTS}*"
        raise ManifestError(f"{source}: no manifests of lhotse here; looked for {needed}, as {' or '.join(_SUFFIXES)}")
    if pairs:
        reason = "recordings and supervisions are read, and not cuts"
        material.left_out.extend(LeftOut(str(part.path), reason, False) for part in cuts)
    return pairs or cuts


def _pairs(manifests: Iterable[Path]) -> list[_Part]:
    """Return the manifests of supervisions and of recordings that belong to the given ones, each pair once."""
    pairs = {}
    for path in manifests:
        if _RECORDINGS in path.name or _SUPERVISIONS in path.name:
            supervisions = path.with_name(path.name.replace(_RECORDINGS, _SUPERVISIONS))
            pairs[supervisions] = path.with_name(path.name.replace(_SUPERVISIONS, _RECORDINGS))
    return [_Part(supervisions, recordings) for supervisions, recordings in pairs.items()]


class _Reader:
    """Reads the utterances of one split."""

    def __init__(self, path: Path, audio_dir: Path | None) -> None:
        self.path = path
        self.material = Material()
        self._audio_dir = audio_dir
        self._relative_to = str(audio_dir or f"the working directory {Path.cwd()}, or to {path.parent}")

    def read_cuts(self) -> None:
        for number, line in _lines(self.path, "the cuts"):
            with self.material.at(where := f"{self.path}:{number}"):
                self._add_cut(parse_line(line, cut_of_line, "cut"), where)

    def read_supervisions(self, recordings: Path) -> None:
        audio: dict[str, _Audio] = {}
        for number, line in _lines(recordings, "the recordings"):
            with self.material.at(f"{recordings}:{number}"):
                recording = parse_line(line, recording_of_line, "recording")
                if recording.id in audio:
                    raise ManifestError(f"the recording {recording.id!r} occurs already before")
                audio[recording.id] = _audio(recording)
        for number, line in _lines(self.path, "the supervisions"):
            with self.material.at(where := f"{self.path}:{number}"):
                supervision = parse_line(line, supervision_of_line, "supervision")
                if supervision.recording_id not in audio:
                    raise ManifestError(f"its recording {supervision.recording_id!r} is not in {recordings}")
                channels = _channels(supervision.channel)
                self._add(supervision, audio[supervision.recording_id], supervision.start, channels, where)

    def _add_cut(self, cut: Cut, where: str) -> None:
        from lhotse.cut import MonoCut
        from lhotse.cut.data import DataCut

        if not isinstance(cut, DataCut):
            raise ManifestError(f"a {type(cut).__name__}, whose audio is in no file; import the cuts it is made of")
        if not cut.has_recording:
            raise ManifestError("the cut has no recording")
        if not cut.supervisions:
            self.material.left_out.append(LeftOut(where, "a cut without a supervision", False))
        for supervision in cut.supervisions:
            with self.material.at(where):
                if supervision.start < -_ROUNDING_S or supervision.end > cut.duration + _ROUNDING_S:
                    raise ManifestError(f"the supervision {supervision.id!r} reaches beyond its cut")
                channels = _channels(cut.channel if isinstance(cut, MonoCut) else supervision.channel)
                start_s = max(0.0, cut.start + supervision.start)
                self._add(supervision, _audio(cut.recording), start_s, channels, where)

    def _add(
        self, supervision: SupervisionSegment, audio: _Audio, start_s: float, channels: tuple[int, ...], where: str
    ) -> None:
        path, channel = _file(audio, channels)
        self.material.utterances.append(
            Utterance(
                id=supervision.id,
                audio_path=self._found(path),
                text=supervision.text or "",
                where=where,
                speaker=supervision.speaker or None,
                start_s=start_s,
                duration_s=supervision.duration,
                relative_to="" if Path(path).is_absolute() else self._relative_to,
                channel=channel,
                gender=supervision.gender,
                language=supervision.language,
            )
        )

    def _found(self, name: str) -> Path:
        path = Path(name)
        if self._audio_dir:
            return self._audio_dir / path
        return path if os.path.exists(path) else self.path.parent / path


def _lines(path: Path, what: str) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, with their numbers."""
    for number, line in enumerate(read_raw_lines(path, ManifestError, what), 1):
        if not line.isspace():
            yield number, line


def _audio(recording: Recording) -> _Audio:
    return _Audio(
        tuple(_Source(source.type, source.source, _channels(source.channels)) for source in recording.sources),
        tuple(type(transform).__name__ for transform in recording.transforms or ()),
    )


def _channels(channel: Any) -> tuple[int, ...]:
    return tuple(channel) if isinstance(channel, list) else (channel,)


def _file(audio: _Audio, channels: tuple[int, ...]) -> tuple[str, int | None]:
    """Return the file that holds channels of a recording, and which of the file's channels is meant, None for all.

    Raises:
        ManifestError: no file holds just these channels, or it is not to be used as it is.
    """
    if audio.transforms:
        raise ManifestError(f"its recording is changed by {', '.join(audio.transforms)}; import it as it was before")
    holding = [source for source in audio.sources if set(channels) & set(source.channels)]
    if not holding:
        there_are = sorted(channel for source in audio.sources for channel in source.channels)
        raise ManifestError(f"its recording has no channel {', '.join(map(str, channels))}; there are: {there_are}")
    source = holding[0]
    if source.kind != "file":
        raise ManifestError(
            f"its audio source is of type {source.kind!r} ({source.path!r:.80}), which is not used; write the audio "
            "to a file first"
        )
    if len(channels) == 1:
        return source.path, source.channels.index(channels[0])
    if len(holding) > 1 or set(channels) != set(source.channels):
        raise ManifestError(f"its channels {list(channels)} are neither one nor all of a file; name one channel")
    return source.path, None
