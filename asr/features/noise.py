"""A waveform with noise, or in a room.

Noise: an excerpt of a recording, or generated coloured noise, at a signal-to-noise ratio. Room: a measured or a
synthetic impulse response, convolved with the speech.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.audio.channels import mix_down
from asr.audio.resample import resample
from asr.audio.sound_file import audio_info, read_audio
from asr.errors import AudioError

# A waveform below this power, that of the smallest step of a 24-bit recording, is silent: it has no ratio to noise.
SILENT_POWER = 1e-14
# Generated noise is flat below this frequency. Speech has nothing there, and a spectrum that rises down to 0 Hz would
# have nearly all of its power where nobody hears it.
_FLAT_BELOW_HZ = 50.0
# The level of generated noise moves between independent values this far apart, four a second like syllables.
_LEVEL_EVERY_S = 0.25
# Ranges from which `generated_noise` draws: white to brown, steady to wavering.
_EXPONENTS = (0.0, 2.0)
_WAVERING_DB = (0.0, 6.0)
# Ranges from which `generated_room` draws: a furnished cabin to a bare meeting room, near to far from the microphone.
_RT60_S = (0.1, 0.6)
_DIRECT_TO_REVERBERANT_DB = (-3.0, 12.0)
# A room has died away by then; a longer file is a recording of something else, or ends in silence.
_LONGEST_RESPONSE_S = 4.0


def add_noise(waveform: NDArray[np.float32], noise: NDArray[np.float32], snr_db: float) -> NDArray[np.float32]:
    """Return the waveform with noise at a signal-to-noise ratio.

    The ratio is that of the powers over the whole utterance with its pauses. Power is the variance of the samples, so a
    constant offset, which nobody hears, does not count. Nothing is clipped.

    Args:
        waveform: `(sample,)`; returned unchanged if it, or the noise, is silent.
        noise: `(sample,)`, as long as the waveform, at any level.
        snr_db: 0 is as loud as the speech.
    """
    signal_power = float(waveform.var(dtype=np.float64))
    noise_power = float(noise.var(dtype=np.float64))
    if signal_power < SILENT_POWER or noise_power < SILENT_POWER:
        return waveform
    factor = math.sqrt(signal_power / noise_power / 10 ** (snr_db / 10))
    noisy: NDArray[np.float32] = waveform + np.float32(factor) * (noise - noise.mean())
    return noisy


def coloured_noise(
    samples: int, rate_hz: int, *, exponent: float, wavering_db: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Return `(sample,)` Gaussian noise with a power density of 1 / frequency^exponent, at any level.

    Args:
        samples: its length.
        rate_hz: its sample rate.
        exponent: 0 is white, 1 pink, 2 brown noise; the spectrum is flat below 50 Hz.
        wavering_db: standard deviation of the level, which changes within a quarter of a second; 0 is steady.
        rng: decides every draw.

    Source: Timmer & König 1995, On generating power law noise (independent Gaussian Fourier coefficients).
    """
    size = fft_size(samples)  # longer than needed, so that the end does not continue into the start
    bins = size // 2 + 1
    frequency_hz = np.arange(bins, dtype=np.float32) * (rate_hz / size)
    amplitude = np.maximum(frequency_hz / _FLAT_BELOW_HZ, 1.0) ** np.float32(-exponent / 2)
    amplitude[0] = 0.0  # no offset
    spectrum = rng.standard_normal((bins, 2), dtype=np.float32).view(np.complex64)[:, 0]
    noise: NDArray[np.float32] = np.fft.irfft(amplitude * spectrum, size)[:samples].astype(np.float32, copy=False)
    if wavering_db:
        knot_samples = _LEVEL_EVERY_S * rate_hz
        levels_db = wavering_db * rng.standard_normal(int(samples / knot_samples) + 2)
        level_db = np.interp(np.arange(samples) / knot_samples, np.arange(len(levels_db)), levels_db)
        noise *= np.exp(level_db.astype(np.float32) * np.float32(math.log(10) / 20))
    return noise


def generated_noise(samples: int, rate_hz: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return `(sample,)` coloured noise, drawn between white and brown and between steady and wavering."""
    exponent, wavering_db = rng.uniform(*_EXPONENTS), rng.uniform(*_WAVERING_DB)
    return coloured_noise(samples, rate_hz, exponent=exponent, wavering_db=wavering_db, rng=rng)


def recorded_noise(path: Path, samples: int, rate_hz: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Return `(sample,)` of a recording from a random place, mono, resampled to `rate_hz`.

    If the recording is long enough, only the excerpt is read. A shorter one is repeated.

    Raises:
        AudioError: as `read_audio`.
    """
    info = audio_info(path)
    needed = math.ceil(samples * info.sample_rate_hz / rate_hz)
    longer = needed < info.samples
    place = int(rng.integers(info.samples - needed + 1 if longer else info.samples))
    if longer:
        start_s, duration_s = place / info.sample_rate_hz, needed / info.sample_rate_hz
        channels, file_hz = read_audio(path, start_s=start_s, duration_s=duration_s)
    else:
        channels, file_hz = read_audio(path)
        channels = np.roll(channels, -place, axis=-1)
    return np.resize(resample(mix_down(channels), file_hz, rate_hz), samples)


def fft_size(samples: int) -> int:
    """Return the next power of two: a Fourier transform of another length can take many times as long."""
    return 1 << (samples - 1).bit_length()


def reverberate(waveform: NDArray[np.float32], response: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the waveform as heard in a room, with the same length, power and word times.

    The response's largest sample counts as the direct path; samples before it are left out. Echoes beyond the
    waveform's end are cut off. Nothing is clipped.

    Args:
        waveform: `(sample,)`; returned unchanged if it is silent.
        response: `(sample,)` impulse response at the same rate, at any level and of either polarity; not all zero.
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
    """Return `(sample,)` impulse response: a direct path of 1, then Gaussian noise that decays exponentially.

    It has no separate early echoes, and all frequencies decay alike.

    Args:
        rt60_s: reverberation time, in which the tail falls by 60 dB; the response ends there.
        direct_to_reverberant_db: energy of the direct path ÷ energy of the tail.
        rate_hz: sample rate.
        rng: decides the tail.

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
    """Return the impulse response `(sample,)` of a room with a drawn reverberation time, 0.1 to 0.6 s, and distance."""
    return synthetic_room(rng.uniform(*_RT60_S), rng.uniform(*_DIRECT_TO_REVERBERANT_DB), rate_hz, rng)


def recorded_room(path: Path, rate_hz: int) -> NDArray[np.float32]:
    """Return `(sample,)` of an impulse response's first channel, resampled to `rate_hz`.

    Channels of an array are not averaged, because their direct paths arrive at different times.

    Raises:
        AudioError: as `read_audio`, or the response is silent.
    """
    channels, file_hz = read_audio(path, duration_s=min(audio_info(path).duration_s, _LONGEST_RESPONSE_S))
    response = resample(channels[0], file_hz, rate_hz)
    if not response.any():
        raise AudioError(f"{path}: this impulse response is all zeros, which would silence speech; remove the file")
    return response
