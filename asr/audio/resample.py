"""Samples at one rate → samples at another, at once or block by block with the same result.

`resample` and `StreamResampler` use the SoX resampler at its high quality setting (soxr_hq). `FourierResampler` needs
only numpy; `asr.runtime` uses it.

Resamplers take what is beyond a recording's ends for 0. With an offset that would be a step, which sounds like a loud
click. So the first sample is subtracted before and added afterwards: beyond the ends the recording stays as it began.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


def resample(waveform: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Return `(sample,)` or `(channel, sample)` at another sample rate; the same array if the rates are equal."""
    if from_hz == to_hz:
        return waveform
    import soxr

    first = waveform[..., :1]
    resampled: NDArray[np.float32] = soxr.resample((waveform - first).T, from_hz, to_hz, "HQ").T
    missing = _length(waveform.shape[-1], from_hz, to_hz) - resampled.shape[-1]
    if missing > 0:
        resampled = np.pad(resampled, [(0, 0)] * (resampled.ndim - 1) + [(0, missing)])
    return np.ascontiguousarray(resampled + first, dtype=np.float32)


class StreamResampler:
    """Changes the rate of a recording `(sample,)` that arrives in blocks. Together they are `resample` of the whole."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        """Begin a recording."""
        self._rates_hz = from_hz, to_hz
        self._taken = self._given = 0
        self._first = np.float32(0)
        self._stream = None
        if from_hz != to_hz:
            import soxr

            self._stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")

    def __call__(self, block: NDArray[np.float32], *, last: bool = False) -> NDArray[np.float32]:
        """Return the samples that are known by now: fewer than the block's at first, the rest with the `last`."""
        if self._stream is None:
            return block
        if self._taken == 0 and len(block):
            self._first = block[0]
        result: NDArray[np.float32] = self._stream.resample_chunk(block - self._first, last)
        self._taken += len(block)
        self._given += len(result)
        missing = _length(self._taken, *self._rates_hz) - self._given if last else 0
        padded = np.pad(result, (0, missing)) if missing > 0 else result
        return np.asarray(padded + self._first, np.float32)


def _length(samples: int, from_hz: int, to_hz: int) -> int:
    """Return the number of samples after the change. soxr leaves out the last one if it is beyond the end."""
    return math.ceil(samples * to_hz / from_hz)


# Up to this share of the lower rate's band nothing changes. From there to its end the gain falls to 0, as in soxr_hq.
_PASSED = 0.913
_STRETCH_S = 10
# Whole seconds on either side of a stretch. The filter's response has decayed to nothing after 0.1 s.
_OVERLAP_S = 1


class FourierResampler:
    """Changes the rate of a recording `(sample,)` that arrives in blocks, with numpy alone.

    A stretch of whole seconds becomes its spectrum. The bins that both rates have are kept, and the inverse transform
    of another length gives the samples at the other rate. A transform treats its input as if it repeated itself, so
    stretches overlap, and the samples of the overlap are dropped.

    Source: overlap-save, Oppenheim & Schafer, "Discrete-Time Signal Processing", section 8.7.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        """Begin a recording."""
        self._rates_hz = from_hz, to_hz
        self._overlap, self._stretch = _OVERLAP_S * from_hz, _STRETCH_S * from_hz
        self._waiting = np.zeros(0, np.float32)

    def __call__(self, block: NDArray[np.float32], *, last: bool = False) -> NDArray[np.float32]:
        """Return the samples that are known by now: none for some seconds, the rest with the `last`."""
        from_hz, to_hz = self._rates_hz
        if from_hz == to_hz:
            return block
        if len(self._waiting) == 0 and len(block):
            self._waiting = np.full(self._overlap, block[0])
        self._waiting = np.concatenate([self._waiting, block])
        known = [np.zeros(0, np.float32)]
        while len(self._waiting) >= self._stretch + 2 * self._overlap:
            known.append(_middle(self._waiting[: self._stretch + 2 * self._overlap], from_hz, to_hz))
            self._waiting = self._waiting[self._stretch :]
        rest = len(self._waiting) - self._overlap
        if last and rest > 0:
            seconds = math.ceil(rest / from_hz) + 2 * _OVERLAP_S
            padded = np.pad(self._waiting, (0, seconds * from_hz - len(self._waiting)), mode="edge")
            known.append(_middle(padded, from_hz, to_hz)[: math.ceil(rest * to_hz / from_hz)])
        return np.concatenate(known)


def _middle(waveform: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Return whole seconds of audio at the other rate, without the overlap on either side."""
    seconds = len(waveform) // from_hz
    spectrum = np.fft.rfft(waveform)[: seconds * min(from_hz, to_hz) // 2 + 1]
    share = np.arange(len(spectrum)) / seconds / (min(from_hz, to_hz) / 2)  # of the lower rate's band
    fall = np.clip((share - _PASSED) / (1 - _PASSED), 0, 1)
    gain = to_hz / from_hz * np.cos(np.pi / 2 * fall) ** 2
    whole = np.fft.irfft(spectrum * gain, seconds * to_hz)
    return whole[_OVERLAP_S * to_hz : -_OVERLAP_S * to_hz].astype(np.float32)


class Resampler(Protocol):
    """Changes the rate of a recording that arrives in blocks."""

    def __call__(self, block: NDArray[np.float32], *, last: bool = False) -> NDArray[np.float32]:
        """Return the samples that are known by now; all that are left if the block is the `last`."""
