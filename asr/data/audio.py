"""Audio files → waveforms, with every way in which a file can be bad told apart and named.

Decoding is libsndfile's, through soundfile: wav, flac, ogg, opus, mp3, NIST sphere, aiff.
Resampling is soxr's, through librosa.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from asr.errors import AudioError

AUDIO_SUFFIXES: frozenset[str] = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3", ".sph", ".aiff", ".aif"})

_CONVERT_SUFFIXES = frozenset(
    {".m4a", ".mp4", ".m4b", ".aac", ".webm", ".mkv", ".mov", ".avi", ".wma", ".amr", ".3gp", ".raw", ".pcm"}
)
# Programs that write to a pipe cannot go back to fill in the length, so they declare the largest possible one
# (ffmpeg 0xFFFFFFFF, sox 0x7FFFF000 or so). Nothing is missing from such files.
_STREAMING_BYTES = 0x7FFF0000
# How far a request may run past a file's end: manifests round durations, mp3 decoders disagree about padding.
_OVERRUN_S = 0.025
# An mp3's declared length counts encoder padding, which not every decoder returns: two MPEG frames of leeway.
_MP3_LEEWAY_SAMPLES = 2 * 1152


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
    with _open(Path(path)) as file:
        return AudioInfo(file.samplerate, file.channels, file.frames)


def audio_files(folder: Path, on_error: Callable[[OSError], None]) -> Iterator[Path]:
    """Yield the audio files of a folder and its sub-folders in the order of names; hidden ones are passed over.

    Args:
        folder: where to search, for files with one of `AUDIO_SUFFIXES`.
        on_error: is told of each folder that cannot be read.
    """
    for parent, folders, names in os.walk(folder, onerror=on_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in AUDIO_SUFFIXES:
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
    with _open(path) as file:
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
        samples: NDArray[np.float32] = file.read(wanted, dtype="float32", always_2d=True)
        leeway = _MP3_LEEWAY_SAMPLES if file.format == "MP3" else 0
        if len(samples) == 0 or len(samples) < wanted - leeway:
            raise AudioError(
                f"{path}: truncated: {wanted} samples were expected and {len(samples)} could be decoded; "
                "copy or convert the file again"
            )
    if not np.isfinite(samples).all():
        bad = int(np.count_nonzero(~np.isfinite(samples).all(axis=1)))
        raise AudioError(
            f"{path}: {bad} of {len(samples)} samples are NaN or infinite; write the file again from its source"
        )
    return np.ascontiguousarray(samples.T), rate


def mix_down(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average the channels: `(channel, sample)` → `(sample,)`."""
    mono: NDArray[np.float32] = waveform[0] if len(waveform) == 1 else waveform.mean(axis=0, dtype=np.float32)
    return mono


def resample(waveform: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Change the sample rate of the last axis; the waveform itself if the rates are equal.

    Source: the SoX resampler at its high quality setting (soxr_hq), through librosa.
    """
    if from_hz == to_hz:
        return waveform
    import librosa

    resampled = librosa.resample(waveform, orig_sr=from_hz, target_sr=to_hz, res_type="soxr_hq", axis=-1)
    result: NDArray[np.float32] = resampled.astype(np.float32, copy=False)
    return result


def load_audio(path: str | Path, sample_rate_hz: int) -> NDArray[np.float32]:
    """Return a whole audio file as `(sample,)` mono float32 at `sample_rate_hz`.

    Raises:
        AudioError: as `read_audio`.
    """
    waveform, rate = read_audio(path)
    return resample(mix_down(waveform), rate, sample_rate_hz)


def load_cut(cut: Any, sample_rate_hz: int) -> NDArray[np.float32]:
    """Return the samples of a lhotse cut as `(sample,)` mono float32 at `sample_rate_hz`.

    A cut of a plain file is read here; lhotse reads the rest: archives, mixed or transformed cuts.

    Raises:
        AudioError: the audio cannot be read; the message names the cut.
    """
    path = _plain_file(cut)
    try:
        if path is not None:
            waveform, rate = read_audio(path, start_s=cut.start, duration_s=cut.duration)
            waveform = waveform[_channels(cut, path, len(waveform))]
        else:
            waveform, rate = np.atleast_2d(np.asarray(cut.load_audio(), dtype=np.float32)), cut.sampling_rate
            if waveform.size == 0 or not np.isfinite(waveform).all():
                raise AudioError("no samples, or samples that are NaN or infinite")
    except AudioError as error:
        raise AudioError(f"utterance {cut.id}: {error}") from None
    except Exception as error:  # lhotse's backends raise whatever the library beneath them does
        reason = str(error).partition("\n")[0].removesuffix(" Details:")
        raise AudioError(f"utterance {cut.id}: lhotse cannot load its audio ({reason})") from error
    return resample(mix_down(waveform), rate, sample_rate_hz)


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


@contextmanager
def _open(path: Path) -> Iterator[soundfile.SoundFile]:
    """Open an audio file or refuse it with a reason; decoding errors inside the block get one as well."""
    if path.is_dir():
        raise AudioError(f"{path}: is a folder, not an audio file")
    if not path.exists():
        raise AudioError(f"{path}: no such file")
    if path.suffix.lower() in _CONVERT_SUFFIXES:
        raise AudioError(
            f"{path}: {path.suffix} files cannot be decoded; convert it first, e.g. "
            f"ffmpeg -i {path.name} {path.stem}.wav (or .flac)"
        )
    try:
        with path.open("rb") as raw:  # libsndfile would not say why it cannot open a file
            header = raw.read(1024)
        if not header:
            raise AudioError(f"{path}: the file is empty (0 bytes)")
        with soundfile.SoundFile(str(path)) as file:
            reason = _truncation(file, header)
            if reason:
                raise AudioError(f"{path}: truncated: {reason}; copy or convert the file again")
            if file.frames == 0:
                raise AudioError(f"{path}: holds no samples (0 s of audio)")
            yield file
    except soundfile.LibsndfileError as error:
        raise AudioError(f"{path}: {_explain(error.error_string)}") from None
    except OSError as error:
        raise AudioError(f"{path}: cannot be read ({error.strerror})") from None


def _truncation(file: soundfile.SoundFile, header: bytes) -> str | None:
    """Return how a file is shorter than its header says, or None.

    libsndfile itself shortens such a file silently and only notes the difference in its log (`extra_info`).
    """
    log: str = file.extra_info
    match = re.search(r"^\s*(data|SSND) : (\d+) \(should be (\d+)\)", log, re.MULTILINE)
    if match and int(match[3]) < int(match[2]) < _STREAMING_BYTES:
        return f"{match[2]} bytes of audio are declared, {match[3]} are there"
    if file.format == "NIST":
        declared = re.search(rb"^sample_count -i (\d+)", header, re.MULTILINE)
        if declared and file.frames < int(declared[1]):
            return f"{int(declared[1])} samples are declared, {file.frames} are there"
    # A stream without an end mark is legal (recordings of broadcasts); one that stops within a page is not.
    if file.format == "OGG" and "Junk after the last page" in log:
        return "the stream breaks off within a page"
    return None


def _explain(message: str) -> str:
    text = message.strip().rstrip(".")
    if "SF_INFO struct incomplete" in text:
        return "damaged: its header declares a sample rate of 0 Hz or no channels; write the file again"
    if "Format not recognised" in text or "unknown format" in text.lower():
        known = " ".join(sorted(AUDIO_SUFFIXES))
        return f"not audio in a known format ({known}); convert it first, e.g. with ffmpeg, to wav or flac"
    return f"damaged or truncated ({text}); copy or convert the file again"


def _length(file: soundfile.SoundFile) -> str:
    return f"{file.frames / file.samplerate:g} s"
