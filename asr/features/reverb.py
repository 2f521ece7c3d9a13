"""Rooms for waveforms: measured impulse responses, or synthetic ones, convolved with the speech."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.data.audio import audio_info, read_audio
from asr.data.resample import resample
from asr.errors import AudioError
from asr.features.noise import fft_size

# Ranges from which `generated_room` draws: a furnished cabin to a bare meeting room, near to far from the microphone.
_RT60_S = (0.1, 0.6)
_DIRECT_TO_REVERBERANT_DB = (-3.0, 12.0)
# A room has died away by then; what is longer is a recording of something else, or silence.
_LONGEST_RESPONSE_S = 4.0


def reverberate(waveform: NDArray[np.float32], response: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the waveform as heard in a room: same length, same power, words where they were.

    The direct path is taken to be the response's largest sample, and what comes before it is left out. The echoes
    beyond the waveform's end are cut off. Nothing is clipped.

    Args:
        waveform: `(sample,)`; returned as it is if it is silent.
        response: `(sample,)` impulse response at the same rate, any level and either polarity; not all zero.
    """
    direct = int(np.abs(response).argmax())
    echoes = response[direct : direct + len(waveform)] / response[direct]
    size = fft_size(len(waveform) + len(echoes) - 1)
    spectrum = np.fft.rfft(waveform, size) * np.fft.rfft(echoes, size)
    wet: NDArray[np.float32] = np.fft.irfft(spectrum, size)[: len(waveform)].astype(np.float32, copy=False)
    dry_norm, wet_norm = np.linalg.norm(waveform), np.linalg.norm(wet)
    if dry_norm == 0 or wet_norm == 0:
        return waveform
    wet *= np.float32(dry_norm / wet_norm)
    return wet


def synthetic_room(
    rt60_s: float, direct_to_reverberant_db: float, rate_hz: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return `(sample,)` impulse response: a direct path of 1, then Gaussian noise that dies away exponentially.

    It has no separate early echoes, and all frequencies die away alike.

    Args:
        rt60_s: reverberation time, in which the tail falls by 60 dB; there the response ends.
        direct_to_reverberant_db: energy of the direct path ÷ energy of the tail.
        rate_hz: sample rate.
        rng: decides on the tail.

    Source: Polack 1988, La transmission de l'énergie sonore dans les salles (the statistical model of a room).
    """
    samples = max(round(rt60_s * rate_hz), 2)
    decay = 10.0 ** (-3.0 * np.arange(samples) / (rt60_s * rate_hz))
    response = rng.standard_normal(samples) * decay
    response[0] = 0.0
    response *= 10 ** (-direct_to_reverberant_db / 20) / np.linalg.norm(response)
    response[0] = 1.0
    return response.astype(np.float32)


def generated_room(rate_hz: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return a synthetic room with a reverberation time of 0.1 to 0.6 s, from near to far, as drawn."""
    return synthetic_room(rng.uniform(*_RT60_S), rng.uniform(*_DIRECT_TO_REVERBERANT_DB), rate_hz, rng)


def recorded_room(path: Path, rate_hz: int) -> NDArray[np.float32]:
    """Return `(sample,)` of an impulse response's first channel, resampled to `rate_hz`.

    Microphones of an array must not be averaged: their direct paths arrive at different times.

    Raises:
        AudioError: as `read_audio`, or the response is silent.
    """
    channels, file_hz = read_audio(path, duration_s=min(audio_info(path).duration_s, _LONGEST_RESPONSE_S))
    response = resample(channels[0], file_hz, rate_hz)
    if not response.any():
        raise AudioError(f"{path}: an impulse response of zeros only would silence all speech; take it out")
    return response
