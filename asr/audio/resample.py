"""Samples at one rate → samples at another, at once or block by block with the same result.

`resample` and `StreamResampler` use the SoX resampler at its high quality setting (soxr_hq). `FourierResampler` and
`SincResampler` need only numpy; `asr.runtime` uses the first for files, the second for streams.

Resamplers take what is beyond a recording's ends for 0. With an offset that would be a step, which sounds like a loud
click. So the first sample is subtracted before and added afterwards: beyond the ends the recording stays as it began.
"""

from __future__ import annotations

import math
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
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


# Half the length of the filter, in samples of the lower rate, and its window: 100 dB in the band that it must stop.
_HALF_FILTER = 74
_KAISER_BETA = 10.0
_MOST_COEFFICIENTS = 1 << 22  # that are kept; a rate that shares no factor with the other one may need more
_OUTPUTS_AT_ONCE = 4000


class SincResampler:
    """Changes the rate of a recording `(sample,)` that arrives in blocks, with numpy alone and a delay of 5 to 10 ms.

    Each output is a weighted sum of the inputs around it. The weights are a sine cardinal under a Kaiser window. They
    depend on where between two inputs the output is, of which there are as many cases as the ratio has.

    Source: Oppenheim & Schafer, "Discrete-Time Signal Processing", sections 4.6 and 7.5.3.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        """Begin a recording."""
        common = math.gcd(from_hz, to_hz)
        self._up, self._down = to_hz // common, from_hz // common
        ratio = min(1.0, to_hz / from_hz)
        self._cutoff = ratio * (1 + _PASSED) / 2
        self._half = math.ceil(_HALF_FILTER / ratio)
        kept = 2 * self._half * self._up <= _MOST_COEFFICIENTS
        self._table = self._coefficients(np.arange(self._up)) if kept else None
        self._waiting = np.zeros(0, np.float32)
        self._start = -self._half  # the input that `_waiting` begins with
        self._taken = self._given = 0

    def __call__(self, block: NDArray[np.float32], *, last: bool = False) -> NDArray[np.float32]:
        """Return the samples that are known by now, the rest with the `last`."""
        if self._up == self._down:
            return block
        if self._taken == 0 and len(block):
            self._waiting = np.full(self._half, block[0])
        self._taken += len(block)
        self._waiting = np.concatenate([self._waiting, block])
        known = self._taken if last else max(0, self._taken - self._half)
        if last and self._taken:
            self._waiting = np.pad(self._waiting, (0, self._half), mode="edge")
        count = -(-known * self._up // self._down)
        steps = [np.arange(n, min(n + _OUTPUTS_AT_ONCE, count)) for n in range(self._given, count, _OUTPUTS_AT_ONCE)]
        result = np.concatenate([np.zeros(0, np.float32), *map(self._outputs, steps)])
        self._given = max(count, self._given)
        needed_from = self._given * self._down // self._up - self._half + 1
        self._waiting = self._waiting[max(0, needed_from - self._start) :]
        self._start = max(self._start, needed_from)
        return result

    def _outputs(self, numbers: NDArray[np.integer]) -> NDArray[np.float32]:
        before, phases = np.divmod(numbers * self._down, self._up)
        around = sliding_window_view(self._waiting, 2 * self._half)[before - self._half + 1 - self._start]
        weights = self._coefficients(phases) if self._table is None else self._table[phases]
        result: NDArray[np.float32] = np.einsum("ij,ij->i", around, weights)
        return result

    def _coefficients(self, phases: NDArray[np.integer]) -> NDArray[np.float32]:
        """Return `(phase, input)` weights of the inputs around outputs that are `phase / up` after an input."""
        inputs = np.arange(2 * self._half) - self._half + 1
        distances = inputs - phases[:, None] / self._up
        inside = np.clip(1 - (distances / self._half) ** 2, 0, None)
        window = np.i0(_KAISER_BETA * np.sqrt(inside)) / np.i0(_KAISER_BETA)
        weights = self._cutoff * np.sinc(self._cutoff * distances) * window
        result: NDArray[np.float32] = (weights / weights.sum(1, keepdims=True)).astype(np.float32)
        return result  # their sum is 1, so that an offset stays an offset


class Resampler(Protocol):
    """Changes the rate of a recording that arrives in blocks."""

    def __call__(self, block: NDArray[np.float32], *, last: bool = False) -> NDArray[np.float32]:
        """Return the samples that are known by now; all that are left if the block is the `last`."""
