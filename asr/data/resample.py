"""From one sample rate to another, at once or block by block with the same result.

Source: the SoX resampler at its high quality setting (soxr_hq).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def resample(waveform: NDArray[np.float32], from_hz: int, to_hz: int) -> NDArray[np.float32]:
    """Change the sample rate of the last axis of `(sample,)` or `(channel, sample)`; itself if the rates are equal."""
    if from_hz == to_hz:
        return waveform
    import soxr

    resampled: NDArray[np.float32] = soxr.resample(waveform.T, from_hz, to_hz, "HQ").T
    missing = _length(waveform.shape[-1], from_hz, to_hz) - resampled.shape[-1]
    if missing > 0:
        resampled = np.pad(resampled, [(0, 0)] * (resampled.ndim - 1) + [(0, missing)])
    return np.ascontiguousarray(resampled, dtype=np.float32)


class StreamResampler:
    """Changes the rate of a recording `(sample,)` that arrives in blocks; together they are `resample` of the whole."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        """Begin a recording."""
        self._rates_hz = from_hz, to_hz
        self._taken = self._given = 0
        self._stream = None
        if from_hz != to_hz:
            import soxr

            self._stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="float32", quality="HQ")

    def __call__(self, block: NDArray[np.float32], *, last: bool = False) -> NDArray[np.float32]:
        """Return the samples that can be told by now: fewer than the block's at first, the rest with the `last`."""
        if self._stream is None:
            return block
        result: NDArray[np.float32] = self._stream.resample_chunk(block, last)
        self._taken += len(block)
        self._given += len(result)
        missing = _length(self._taken, *self._rates_hz) - self._given if last else 0
        return np.pad(result, (0, missing)) if missing > 0 else result


def _length(samples: int, from_hz: int, to_hz: int) -> int:
    """Return the samples after the change; soxr leaves the last one off where it would stand beyond the end."""
    return math.ceil(samples * to_hz / from_hz)
