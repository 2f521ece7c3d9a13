"""Manifests: JSON lines of lhotse cuts. A cut says where an utterance's audio lies, its text, its speaker."""

from __future__ import annotations

import gzip
import io
import json
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource
from lhotse.cut import Cut, MultiCut
from lhotse.serialization import deserialize_item

from asr.config import TextSettings
from asr.data.audio import audio_info
from asr.data.files import atomic_path
from asr.data.text import normalise
from asr.errors import ManifestError

SPLITS = ("train", "dev", "test")
_SUFFIXES = (".jsonl", ".jsonl.gz")
# How far a cut may run past its recording's end before that is an error: tables round times to hundredths.
_OVERRUN_S = 0.025


class _Lines:
    """The cuts of a manifest, read afresh on each pass; a bad line is named."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __iter__(self) -> Iterator[Cut]:
        number = 0
        try:
            with _open_text(self.path) as lines:
                for number, line in enumerate(lines, 1):  # noqa: B007 (named in the error below)
                    if line.strip():
                        cut = deserialize_item(json.loads(line))
                        if not isinstance(cut, Cut):
                            raise ValueError(f"a {type(cut).__name__}, not a cut")
                        yield cut
        except (OSError, EOFError, zlib.error) as error:
            raise ManifestError(f"{self.path}: damaged after line {number} ({error}); write it again") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ManifestError(f"{self.path}:{number}: not a lhotse cut ({type(error).__name__}: {error})") from None


def read_manifest(path: str | Path) -> CutSet:
    """Return the cuts of a `.jsonl` or `.jsonl.gz` manifest, lazily.

    Raises:
        ManifestError: the file is missing, empty or does not begin with a cut; later: a line is malformed.
    """
    path = Path(path)
    if not path.is_file():
        raise ManifestError(f"{path}: no such manifest; make it with `asr prepare` or `asr import`")
    if not path.name.endswith(_SUFFIXES):
        raise ManifestError(f"{path}: a manifest's name ends in {' or '.join(_SUFFIXES)}")
    lines = _Lines(path)
    if next(iter(lines), None) is None:
        raise ManifestError(f"{path}: the manifest holds no utterances")
    return CutSet(lines)


def write_manifest(cuts: Iterable[Cut], path: str | Path) -> None:
    """Write cuts as JSON lines, gzipped if the name ends in `.gz`; the same cuts give the same bytes.

    Raises:
        ManifestError: there are no cuts, or two have the same id.
    """
    path = Path(path)
    lines: dict[str, str] = {}
    for cut in cuts:
        if cut.id in lines:
            raise ManifestError(
                f"{path}: two utterances have the id {cut.id!r}; ids name utterances, so they must differ"
            )
        lines[cut.id] = json.dumps(cut.to_dict(), ensure_ascii=False) + "\n"
    if not lines:
        raise ManifestError(f"{path}: not written, since it would hold no utterances")
    data = "".join(lines.values()).encode()
    with atomic_path(path) as temporary:
        temporary.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def make_cut(
    id: str,
    audio_path: str | Path,
    text: str,
    speaker: str,
    *,
    start_s: float = 0.0,
    duration_s: float | None = None,
    language: str | None = None,
) -> MonoCut | MultiCut:
    """Return the cut of one utterance: an audio file, or the part of it that begins at `start_s`.

    A file with several channels gives a `MultiCut` of all of them; they are averaged when it is loaded.

    Raises:
        AudioError: the file's header cannot be read.
        ManifestError: the part does not lie within the file.
    """
    path = Path(os.path.abspath(audio_path))
    info = audio_info(path)
    duration = info.duration_s - start_s if duration_s is None else duration_s
    if start_s < 0 or duration <= 0 or start_s + duration > info.duration_s + _OVERRUN_S:
        raise ManifestError(
            f"utterance {id}: {start_s:g} s to {start_s + duration:g} s is not a part of {path}, "
            f"which lasts {info.duration_s:g} s"
        )
    duration = min(duration, info.duration_s - start_s)
    channels = list(range(info.channels))
    recording = Recording(
        id=id,
        sources=[AudioSource(type="file", channels=channels, source=str(path))],
        sampling_rate=info.sample_rate_hz,
        num_samples=info.samples,
        duration=info.duration_s,
        channel_ids=channels,
    )
    kind, channel = (MonoCut, 0) if info.channels == 1 else (MultiCut, channels)
    supervision = SupervisionSegment(
        id=id,
        recording_id=id,
        start=0.0,
        duration=duration,
        channel=channel,
        text=text,
        speaker=speaker,
        language=language,
    )
    return kind(
        id=id,
        start=start_s,
        duration=duration,
        channel=channel,
        recording=recording,
        supervisions=[supervision],
    )


def cut_text(cut: Cut) -> str:
    """Return a cut's transcript: its supervisions' texts in order of time; "" if there is none."""
    ordered = sorted(cut.supervisions, key=lambda supervision: supervision.start)
    return " ".join(supervision.text for supervision in ordered if supervision.text)


def transcripts(cuts: Iterable[Cut], settings: TextSettings) -> dict[str, str]:
    """Return each utterance's normalised transcript, by utterance id."""
    return {cut.id: normalise(cut_text(cut), settings) for cut in cuts}


def cut_speaker(cut: Cut) -> str:
    """Return a cut's speaker.

    Raises:
        ManifestError: no supervision names one.
    """
    for supervision in cut.supervisions:
        if supervision.speaker:
            return str(supervision.speaker)
    raise ManifestError(f"utterance {cut.id}: no speaker; each supervision of the manifest needs one")


def _open_text(path: Path) -> io.TextIOBase:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8")
    return path.open(encoding="utf-8")
