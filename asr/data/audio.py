"""Audio files and cuts → waveforms, whole. Long recordings are read block by block: `blocks.py`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.data.resample import resample
from asr.data.sound_file import (
    AUDIO_SUFFIXES,
    LOUDEST,
    UNUSABLE,
    check_complete,
    check_finite,
    open_sound,
    read_blocks,
    usable,
)
from asr.errors import AudioError, UtteranceAudioError

# How far a request may run past a file's end: manifests round durations, mp3 decoders disagree about padding.
_OVERRUN_S = 0.025
# Of lhotse's kinds of sources those that hold audio; others are shell commands and addresses.
_SOURCES = ("file", "memory", "shar")


@dataclass(frozen=True)
class AudioInfo:
    """What an audio file's header says."""

    sample_rate_hz: int
    channels: int
    samples: int

    @property
    def duration_s(self) -> float:
        """Length of each channel."""
        return self.samples / self.sample_rate_hz


def audio_info(path: str | Path) -> AudioInfo:
    """Return an audio file's rate, channels and length without decoding it.

    Raises:
        AudioError: the file is missing, is not audio, is empty, or is shorter than its header declares.
    """
    with open_sound(Path(path)) as file:
        return AudioInfo(file.samplerate, file.channels, file.frames)


def audio_files(
    folder: Path, on_error: Callable[[OSError], None], suffixes: frozenset[str] = AUDIO_SUFFIXES
) -> Iterator[Path]:
    """Yield the audio files of a folder and its sub-folders in the order of names; hidden ones are passed over.

    Args:
        folder: where to search.
        on_error: is told of each folder that cannot be read.
        suffixes: what the names of audio files end in, in lower case.
    """
    for parent, folders, names in os.walk(folder, onerror=on_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes:
                yield Path(parent, name)


def read_audio(
    path: str | Path, *, start_s: float = 0.0, duration_s: float | None = None
) -> tuple[NDArray[np.float32], int]:
    """Return the samples of an audio file, or of a part of it, and their rate in Hz.

    Args:
        path: a file in one of the formats of `AUDIO_SUFFIXES`, any rate and number of channels.
        start_s: where to begin.
        duration_s: how much to read; None for everything to the end.

    Returns:
        `(channel, sample)` float32 within [-1, 1] for integer formats, and the sample rate in Hz.

    Raises:
        AudioError: the file is missing, not audio, empty, truncated or damaged, holds samples that are not
            finite, or ends before the part asked for.
    """
    path = Path(path)
    with open_sound(path) as file:
        rate = file.samplerate
        start = round(start_s * rate)
        if start_s < 0 or start >= file.frames:
            raise AudioError(f"{path}: the part asked for starts at {start_s:g} s, but the file lasts {_length(file)}")
        wanted = file.frames - start
        if duration_s is not None:
            wanted = round(duration_s * rate)
            if wanted <= 0:
                raise AudioError(f"{path}: the part asked for lasts {duration_s:g} s; it must be longer than 0 s")
            if start + wanted > file.frames + round(_OVERRUN_S * rate):
                raise AudioError(
                    f"{path}: the part asked for ends at {start_s + duration_s:g} s, but the file lasts "
                    f"{_length(file)}; it was cut off or the manifest belongs to another version of it"
                )
            wanted = min(wanted, file.frames - start)
        if start:
            file.seek(start)
        blocks = list(read_blocks(file, wanted, wanted))
        check_complete(str(path), file, wanted, sum(map(len, blocks)))
    samples = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
    check_finite(str(path), samples)
    return np.ascontiguousarray(samples.T), rate


def checked_waveform(audio: NDArray[Any]) -> NDArray[np.float32]:
    """Return samples that came as an array as `(channel, sample)` float32.

    Args:
        audio: floats in [-1, 1], `(sample,)` or `(channel, sample)`.

    Raises:
        AudioError: it is something else, is empty or holds samples that are not finite.
    """
    if audio.ndim not in (1, 2) or audio.size == 0:
        raise AudioError(f"a waveform is (sample,) or (channel, sample) and not empty; got shape {audio.shape}")
    if audio.ndim == 2 and audio.shape[0] > audio.shape[1]:
        raise AudioError(
            f"a waveform of shape {audio.shape} would have more channels than samples; soundfile, for one, gives "
            "(sample, channel): pass waveform.T"
        )
    if not np.issubdtype(audio.dtype, np.floating):
        raise AudioError(f"a waveform holds floats in [-1, 1]; got {audio.dtype}: divide integers by their full scale")
    if not usable(audio).all():
        raise AudioError(f"the waveform holds samples that are not finite numbers or larger than {LOUDEST:g}")
    return np.atleast_2d(audio).astype(np.float32)


def mix_down(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average the channels: `(channel, sample)` → `(sample,)`."""
    mono: NDArray[np.float32] = waveform[0] if len(waveform) == 1 else waveform.mean(axis=0, dtype=np.float32)
    return mono


def load_cut(cut: Any, sample_rate_hz: int) -> NDArray[np.float32]:
    """Return the samples of a lhotse cut as `(sample,)` mono float32 at `sample_rate_hz`.

    A cut of a plain file is read here; lhotse reads the rest: archives, mixed or transformed cuts. A manifest is data:
    commands in it are not run, and nothing is fetched from the network.

    Raises:
        UtteranceAudioError: the audio cannot be read; the message names the cut.
    """
    path = _plain_file(cut)
    try:
        if path is not None:
            waveform, rate = read_audio(path, start_s=cut.start, duration_s=cut.duration)
            waveform = waveform[_channels(cut, path, len(waveform))]
        else:
            _refuse_foreign_sources(cut.to_dict())
            waveform, rate = np.atleast_2d(np.asarray(cut.load_audio(), dtype=np.float32)), cut.sampling_rate
            if waveform.size == 0 or not usable(waveform).all():
                raise AudioError(f"no samples, or samples that are {UNUSABLE}")
    except AudioError as error:
        raise UtteranceAudioError(f"utterance {cut.id}: {error}") from None
    except Exception as error:  # lhotse's backends raise whatever the library beneath them does
        reason = str(error).partition("\n")[0].removesuffix(" Details:")
        raise UtteranceAudioError(f"utterance {cut.id}: lhotse cannot load its audio ({reason})") from error
    return resample(mix_down(waveform), rate, sample_rate_hz)


def _refuse_foreign_sources(manifest: Any) -> None:
    """Refuse audio that lhotse would get from a shell command or the network, wherever in the manifest it stands."""
    values = manifest.values() if isinstance(manifest, dict) else manifest if isinstance(manifest, list) else ()
    for source in manifest.get("sources", ()) if isinstance(manifest, dict) else ():
        if source["type"] not in _SOURCES:
            raise AudioError(
                f"its audio is to come from a source of type {source['type']!r} ({source['source']}), which is not "
                "used; write the audio to a file first"
            )
    for value in values:
        _refuse_foreign_sources(value)


def _plain_file(cut: Any) -> Path | None:
    """Return the file that holds the cut unaltered, or None if lhotse has to assemble it."""
    recording = getattr(cut, "recording", None)
    if recording is None or recording.transforms or len(recording.sources) != 1:
        return None
    source = recording.sources[0]
    return Path(source.source) if source.type == "file" else None


def _channels(cut: Any, path: Path, channels_in_file: int) -> list[int]:
    """Return the rows of the file's waveform that the cut asks for."""
    wanted = cut.channel if isinstance(cut.channel, list) else [cut.channel]
    in_source = list(cut.recording.sources[0].channels)
    rows = [in_source.index(channel) for channel in wanted if channel in in_source]
    if len(rows) != len(wanted) or max(rows) >= channels_in_file:
        raise AudioError(f"{path}: channel {wanted} was asked for, but the file has {channels_in_file}")
    return rows


def _length(file: soundfile.SoundFile) -> str:
    return f"{file.frames / file.samplerate:g} s"
