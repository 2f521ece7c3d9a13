"""Long recordings → pieces short enough for the network, cut where it is quiet."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_STEP_S = 0.02
_QUIET_S = 0.2


def segments(waveform: NDArray[np.float32], rate_hz: int, *, longest_s: float) -> Iterator[tuple[int, int]]:
    """Yield (start, end) samples of consecutive pieces that cover the recording without overlap.

    Each piece is at most `longest_s` long and ends at the quietest fifth of a second in its second half.

    Args:
        waveform: `(sample,)` mono.
        rate_hz: its sample rate.
        longest_s: seconds; a recording that is not longer stays whole.
    """
    longest = int(longest_s * rate_hz)
    start = 0
    while len(waveform) - start > longest:
        cut = start + longest // 2 + _quietest(waveform[start + longest // 2 : start + longest], rate_hz)
        yield start, cut
        start = cut
    yield start, len(waveform)


def _quietest(waveform: NDArray[np.float32], rate_hz: int) -> int:
    """Return the sample in the middle of the stretch with the least energy."""
    step = int(_STEP_S * rate_hz)
    energies = np.square(waveform[: len(waveform) // step * step], dtype=np.float64).reshape(-1, step).sum(1)
    width = round(_QUIET_S / _STEP_S)
    sums = np.convolve(energies, np.ones(width), mode="valid")
    return int((np.argmin(sums) + width / 2) * step)
