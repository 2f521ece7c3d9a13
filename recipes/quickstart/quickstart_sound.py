"""Synthetic speech → a recording of it: silence around, a level, background noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PAD_S = (0.1, 0.4)
LEVEL_DB = (-32.0, -18.0)  # RMS of the speech, against full scale
SNR_DB = (15.0, 35.0)
_PEAK = 0.99


@dataclass(frozen=True)
class Recorded:
    """A recording `waveform (sample,)` in which the speech begins at `speech_start_s`."""

    waveform: NDArray[np.float32]
    speech_start_s: float


def record(speech: NDArray[np.float32], sample_rate_hz: int, rng: np.random.Generator) -> Recorded:
    """Pad speech `(sample,)` with silence, bring it to a level and add noise, all drawn from `rng`.

    The noise is white or pink, over the whole recording; its level is a signal-to-noise ratio in `SNR_DB` against
    the RMS of the speech.
    """
    before, after = (round(rng.uniform(*PAD_S) * sample_rate_hz) for _ in range(2))
    speech_rms = float(np.sqrt(np.mean(speech.astype(np.float64) ** 2)))
    level = 10 ** (rng.uniform(*LEVEL_DB) / 20)
    waveform = np.pad(speech * (level / speech_rms), (before, after)).astype(np.float64)
    noise = _pink(len(waveform), rng) if rng.random() < 0.5 else rng.standard_normal(len(waveform))
    waveform += noise * (level * 10 ** (-rng.uniform(*SNR_DB) / 20))
    waveform *= min(1.0, _PEAK / float(np.abs(waveform).max()))
    return Recorded(waveform.astype(np.float32), before / sample_rate_hz)


def _pink(samples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise whose power falls by 3 dB an octave, with an RMS of 1."""
    bins = samples // 2 + 1
    spectrum = rng.standard_normal(bins) + 1j * rng.standard_normal(bins)
    spectrum /= np.sqrt(np.maximum(np.arange(bins), 1))
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, n=samples)
    return np.asarray(noise / np.sqrt(np.mean(noise**2)))
