"""Several channels → one: their average, of inverted stereo the first, or a channel that is asked for."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from asr.errors import AudioError, AudioWarning

_INVERTED = 0.9  # stereo of two microphones stays far from a correlation of -0.9
_FIRST_SAMPLES = 2048  # of fewer samples a correlation says nothing
_MIXED_SAMPLES = 1 << 16


def mixed(
    blocks: Iterable[NDArray[np.float32]], name: str, *, channel: int | None = None
) -> Iterator[NDArray[np.float32]]:
    """Yield blocks `(channel, sample)` of a recording as mono `(sample,)`: one channel, or what `MixDown` makes of all.

    An `AudioWarning` at the end says where stereo was inverted, so that one channel was taken.

    Args:
        blocks: consecutive.
        name: the recording's name in messages.
        channel: the one to take, counted from 0; None mixes.

    Raises:
        AudioError: there is no such channel.
    """
    mix = MixDown()
    for block in blocks:
        yield mix(block) if channel is None else _one_channel(block, channel, name)
    if mix.inverted:
        message = f"{name}: its two channels are inverted copies, whose average is silent; the first channel was taken"
        warnings.warn(message, AudioWarning, stacklevel=2)


def _one_channel(waveform: NDArray[np.float32], channel: int, name: str) -> NDArray[np.float32]:
    if not 0 <= channel < len(waveform):
        raise AudioError(f"{name}: channel {channel} was asked for, but its {len(waveform)} are counted from 0")
    chosen: NDArray[np.float32] = waveform[channel]
    return chosen


def mix_down(waveform: NDArray[np.float32]) -> NDArray[np.float32]:
    """Average the channels: `(channel, sample)` → `(sample,)`, of inverted stereo one; see `MixDown`."""
    return MixDown()(waveform)


class MixDown:
    """Consecutive blocks `(channel, sample)` → their averages `(sample,)`; of inverted stereo the first channel.

    Some devices and faulty cables deliver the second channel as the negative of the first; the average is silent. Such
    stereo is recognised by the correlation of all that was heard up to a sample, so that the result does not depend on
    how the recording is cut into blocks.

    Attributes:
        inverted: whether stereo has been inverted on the whole so far.
    """

    def __init__(self) -> None:
        """Begin a recording."""
        self.inverted = False
        self._heard = 0
        self._sums = np.zeros((3, 1))  # of the squares of both channels, and of their products

    def __call__(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the next block, mono.

        Channels are added one after the other, so that a sample's value does not depend on the shape of its block;
        numpy's own sums do.
        """
        mono: NDArray[np.float32] = waveform[0]
        if len(waveform) > 1:
            mono = mono.copy()
            for channel in waveform[1:]:
                mono += channel
            mono /= len(waveform)
        if len(waveform) == 2:
            for start in range(0, len(mono), _MIXED_SAMPLES):  # so that the sums do not take much memory
                part = slice(start, start + _MIXED_SAMPLES)
                inverted = self._inverted(waveform[:, part])
                mono[part][inverted] = waveform[0, part][inverted]
        return mono

    def _inverted(self, stereo: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Return after which samples what was heard so far is inverted."""
        left, right = stereo.astype(np.float64)
        sums = np.concatenate([self._sums, np.stack([left * left, right * right, left * right])], axis=1)
        np.cumsum(sums, axis=1, out=sums)
        self._sums = sums[:, -1:].copy()
        power_left, power_right, product = sums[:, 1:]
        inverted: NDArray[np.bool_] = (product < 0) & (product**2 > _INVERTED**2 * power_left * power_right)
        inverted[: max(0, _FIRST_SAMPLES - self._heard)] = False
        self._heard += len(left)
        self.inverted = bool(inverted[-1]) if len(inverted) else self.inverted
        return inverted
