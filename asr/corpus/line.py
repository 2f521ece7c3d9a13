"""A manifest's line, decoded from JSON → a lhotse cut; an impossible value is refused by name.

lhotse takes whatever a line holds, and would fail later, far from the line. What is refused here: other types, numbers
that are not finite or out of range, characters that control a terminal, more parts than any corpus has, and
transforms other than those that this package's own cuts can have.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from lhotse import Recording, SupervisionSegment
from lhotse.augmentation import AudioTransform
from lhotse.cut import Cut, MixedCut
from lhotse.cut.data import DataCut
from lhotse.serialization import decode_json_line, deserialize_item

from asr.audio.sound_file import HIGHEST_RATE_HZ, LOWEST_RATE_HZ
from asr.corpus.shar import Shard, in_tar
from asr.errors import ManifestError
from asr.files import printable
from asr.reading import require_shallow
from asr.records import require_characters

Parsed = TypeVar("Parsed")

# Times beyond 30 years are broken numbers.
MOST_S = 1e9
WAY_OUT = "mend the line or take it out"
# Times and counts of samples are rounded by many tools, some to hundredths.
_ROUNDING_S = 0.025
# A long recording with a supervision for each word has some ten thousand.
_MOST_PARTS = 20_000
_MOST_CHANNELS = 1024
# What a transform's factor may be; beyond, a cut of a minute would fill the memory.
_LEAST_FACTOR, _MOST_FACTOR = 0.1, 10.0
_FACTORS = ("Speed", "Tempo")
_OTHER_TRANSFORMS = ("Volume", "Resample")

# White space is none of them: it is collapsed wherever a text is used.
_HALVES = "\ud800-\udfff"  # of surrogate pairs
_CONTROL = re.compile(rf"[\0-\x08\x0e-\x1b\x7f-\x84\x86-\x9f{_HALVES}]")
_CONTROL_OR_BREAK = re.compile(rf"[\0-\x1f\x7f-\x9f{_HALVES}]")


def parse_line(line: bytes, parse: Callable[[dict[str, Any]], Parsed], what: str) -> Parsed:
    """Return what `parse` makes of a line's JSON.

    Args:
        line: of a manifest.
        parse: such as `cut_of_line`.
        what: what the line should be, for the message, e.g. "cut".

    Raises:
        ManifestError: it is no JSON, or `parse` refuses it.
    """
    try:
        content = decode_json_line(line)
        require_shallow(content, line.count(b"[") + line.count(b"{"))
        if b"\\ud" in line or b"\\uD" in line:
            refuse_half_characters(content)
        return parse(content)
    except ManifestError:
        raise
    except Exception as error:  # lhotse and its JSON decoder raise many kinds
        reason = f"{type(error).__name__}: {error}"
        raise ManifestError(f"not a lhotse {what} ({reason:.200}); {WAY_OUT}") from None


def recording_of_line(line: dict[str, Any]) -> Recording:
    """Return the recording that a line of JSON describes; errors are those of `cut_of_line`."""
    recording = deserialize_item(line)
    if not isinstance(recording, Recording):
        raise ValueError(f"a {type(recording).__name__}, not a recording")
    require_name("id", recording.id)
    _check_recording(recording)
    return recording


def supervision_of_line(line: dict[str, Any]) -> SupervisionSegment:
    """Return the supervision that a line of JSON describes; errors are those of `cut_of_line`."""
    supervision = deserialize_item(line)
    if not isinstance(supervision, SupervisionSegment):
        raise ValueError(f"a {type(supervision).__name__}, not a supervision")
    _check_supervision(supervision)
    require_name("recording_id", supervision.recording_id)
    return supervision


class ManifestLine(NamedTuple):
    """A line that is not yet decoded, so that another process can do it."""

    shard: Shard
    number: int
    line: bytes

    def cut(self) -> Cut:
        """Return the line's cut.

        Raises:
            ManifestError: the line is no cut or holds an impossible value.
        """
        return self.parsed(self._cut)

    def parsed(self, parse: Callable[[dict[str, Any]], Parsed]) -> Parsed:
        """Return what `parse` makes of the line's JSON.

        Raises:
            ManifestError: the line is no cut or holds an impossible value; the message names file and line.
        """
        try:
            return parse_line(self.line, parse, "cut")
        except ManifestError as error:
            raise ManifestError(f"{self.shard.cuts}:{self.number}: {error}") from None

    def _cut(self, content: dict[str, Any]) -> Cut:
        cut = cut_of_line(content)
        return cut if self.shard.tar is None else in_tar(cut, self.shard.tar)


def cut_of_line(line: dict[str, Any]) -> Cut:
    """Return the cut that a line of JSON describes.

    Raises:
        ManifestError: a value is impossible; the message names it.
        Exception: lhotse cannot make a cut of it; it raises many kinds.
    """
    _refuse_many(line, "supervisions", "tracks")
    for track in line.get("tracks", ()) if line.get("type") == "MixedCut" else ():
        _refuse_many(track["cut"], "supervisions", "tracks")
    cut = deserialize_item(line)
    if not isinstance(cut, Cut):
        raise ValueError(f"a {type(cut).__name__}, not a cut")
    require_name("id", cut.id)
    if isinstance(cut, MixedCut):
        _check_mixed(cut)
    elif isinstance(cut, DataCut):
        _check_plain(cut)
    require_seconds("duration", cut.duration)
    return cut


def _refuse_many(line: dict[str, Any], *names: str) -> None:
    for name in names:
        parts = line.get(name)
        if isinstance(parts, list) and len(parts) > _MOST_PARTS:
            raise ManifestError(f"it has {len(parts):,} {name}, but at most {_MOST_PARTS:,} are read; {WAY_OUT}")


def _check_mixed(cut: MixedCut) -> None:
    _check_transforms(cut.transforms or ())
    for track in cut.tracks:
        require_seconds("track's offset", track.offset)
        if track.snr is not None:
            _require_number("track's snr", track.snr)
        require_seconds("track's duration", track.cut.duration)
        require_rate("track's sampling_rate", track.cut.sampling_rate)
        if isinstance(track.cut, DataCut):
            _check_plain(track.cut)


def _check_plain(cut: DataCut) -> None:
    require_seconds("start", cut.start)
    require_seconds("duration", cut.duration)
    _require_channels("channel", cut.channel)
    for supervision in cut.supervisions:
        _check_supervision(supervision)
    if cut.has_recording:
        _check_recording(cut.recording)


def _check_supervision(supervision: SupervisionSegment) -> None:
    require_name("supervision's id", supervision.id)
    require_seconds("supervision's start", supervision.start, least=-MOST_S)
    require_seconds("supervision's duration", supervision.duration)
    _require_channels("supervision's channel", supervision.channel)
    if supervision.text is not None:
        require_text("text", supervision.text)
    for name in ("speaker", "language"):
        value = getattr(supervision, name)
        if value is not None:
            require_name(name, value)


def _check_recording(recording: Recording) -> None:
    require_rate("recording's sampling_rate", recording.sampling_rate)
    require_count("recording's num_samples", recording.num_samples)
    require_seconds("recording's duration", recording.duration)
    require_agreement(recording.duration, recording.num_samples, recording.sampling_rate)
    _require_channels("recording's channel_ids", recording.channel_ids)
    for source in recording.sources:
        require_text("source's type", source.type)
        _require_channels("source's channels", source.channels)
        if source.type == "file":
            require(isinstance(source.source, str), "source", source.source, "a text")
            require("\0" not in source.source, "source", source.source, "the path of a file")
    _check_transforms(recording.transforms or ())


def _check_transforms(transforms: Sequence[AudioTransform]) -> None:
    for transform in transforms:
        kind = type(transform).__name__
        if kind not in (*_FACTORS, *_OTHER_TRANSFORMS):
            known = ", ".join((*_FACTORS, *_OTHER_TRANSFORMS))
            raise ManifestError(
                f"its transform {kind!r:.80} is not used here (known: {known}); write the audio to a file first"
            )
        if kind in _FACTORS:
            factor = transform.factor
            _require_number(f"transform {kind}'s factor", factor)
            needed = f"a number from {_LEAST_FACTOR} to {_MOST_FACTOR:g}"
            require(_LEAST_FACTOR <= factor <= _MOST_FACTOR, f"transform {kind}'s factor", factor, needed)
        elif kind == "Volume":
            _require_number("transform Volume's factor", transform.factor)
        else:
            for name in ("source_sampling_rate", "target_sampling_rate"):
                require_rate(f"transform Resample's {name}", getattr(transform, name))


def require_agreement(duration_s: float, samples: int, rate_hz: int) -> None:
    """Refuse a recording whose duration and number of samples contradict each other.

    Raises:
        ManifestError: they differ by more than rounding.
    """
    if abs(samples / rate_hz - duration_s) > _ROUNDING_S + 1e-6 * duration_s:
        raise ManifestError(
            f"its recording's num_samples {samples} at {rate_hz} Hz are {samples / rate_hz:g} s, but its duration is "
            f"{duration_s:g} s; {WAY_OUT}"
        )


def refuse_half_characters(line: Any) -> None:
    """Refuse half a surrogate pair anywhere in decoded JSON, which can escape it, but no text can hold it.

    Raises:
        ManifestError: there is one.
    """
    try:
        require_characters(json.dumps(line, ensure_ascii=False))
    except ValueError as error:
        raise ManifestError(str(error)) from None


def require_text(name: str, value: Any) -> None:
    """Refuse what is not a text, or holds a character that is neither visible nor white space.

    Raises:
        ManifestError: it is such a value.
    """
    _require_without(_CONTROL, name, value)


def require_name(name: str, value: Any) -> None:
    """Refuse what is not a text on one line without control characters.

    Raises:
        ManifestError: it is such a value.
    """
    _require_without(_CONTROL_OR_BREAK, name, value)


def _require_without(characters: re.Pattern[str], name: str, value: Any) -> None:
    require(isinstance(value, str), name, value, "a text")
    if not value.isprintable() and (found := characters.search(value)):
        kind = "half a surrogate pair," if found[0] >= "\ud800" else "the control character"
        require(False, name, value, f"a text without {kind} U+{ord(found[0]):04X}")


def require_path(path: str | os.PathLike[str]) -> None:
    """Refuse a path that no file can have, or that a manifest, which is UTF-8, cannot hold.

    Raises:
        ManifestError: it is such a path.
    """
    name = os.fspath(path)
    if "\0" in name:
        raise ManifestError(f"{name!r} cannot be the path of a file")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise ManifestError(f"{printable(name)}: a name that is not UTF-8 cannot be written down; rename it") from None


def require_seconds(name: str, value: Any, *, least: float = 0.0) -> None:
    """Refuse what is not a number of seconds from `least` to `MOST_S`.

    Raises:
        ManifestError: it is such a value.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    require(is_number and least <= value <= MOST_S, name, value, f"a number of seconds from {least:g} to {MOST_S:g}")


def require_count(name: str, value: Any) -> None:
    """Refuse what is not a whole number above 0.

    Raises:
        ManifestError: it is such a value.
    """
    require(_is_whole(value) and 0 < value < 2**53, name, value, "a whole number above 0")


def require_rate(name: str, value: Any) -> None:
    """Refuse what is not a sample rate.

    Raises:
        ManifestError: it is such a value.
    """
    require_count(name, value)
    needed = f"a sample rate from {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz"
    require(LOWEST_RATE_HZ <= value <= HIGHEST_RATE_HZ, name, value, needed)


def _require_number(name: str, value: Any) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    require(is_number and abs(value) <= MOST_S, name, value, "a number")


def _require_channels(name: str, value: Any) -> None:
    channels = value if isinstance(value, list) else [value]
    known = all(_is_whole(channel) and 0 <= channel < _MOST_CHANNELS for channel in channels)
    require(0 < len(channels) <= _MOST_CHANNELS and known, name, value, "a channel or a list of channels")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def require(holds: bool, name: str, value: Any, needed: str) -> None:
    """Refuse a value unless the condition holds.

    Raises:
        ManifestError: it does not hold; the message names the value and what is needed.
    """
    if not holds:
        raise ManifestError(f"its {name} is {value!r:.80}, but {needed} is needed; {WAY_OUT}")
