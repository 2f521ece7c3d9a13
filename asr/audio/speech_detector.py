"""Recordings that arrive in blocks → the probability of speech in each window: the network of Silero VAD, in numpy.

The package silero-vad ships its weights as safetensors. They are read without importing the package, because that would
load TorchScript (a pickle) and set torch to one thread. Windows go through the convolutions together, not one by one.

The network misses speech that is much quieter than usual, or that has an offset. So it hears each window without its
mean, and at a usual level: the running level of the recording becomes `_LEVEL`.

Source: Silero VAD 6, https://github.com/snakers4/silero-vad (MIT licence).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from asr.audio.resample import Resampler, StreamResampler
from asr.errors import DependencyError

WINDOW_S = 0.032
# Speech begins in a window whose probability reaches the first number. It ends in one that falls below the second.
_BEGINS, _ENDS = 0.5, 0.35
RATE_HZ = 16000
WINDOW = 512
CONTEXT = 64  # samples before a window that it also hears
_FFT = 256
_UNITS = 128
_AT_ONCE = 1000  # windows; so memory does not grow with the block

_LEVEL = 10**-2.8  # mean power that the network hears: -28 dBFS
_QUIETEST = 1e-9  # mean power; anything below counts as this, so that silence stays silence: one 16-bit step
# The level is that of the loudest windows so far, over about a fifth of a second. It falls, so that a quiet speaker is
# heard after a loud one, but not without end: else the noise of a long pause would become as loud as speech.
_SMOOTHED_WINDOWS = 6
_FALL_DB_PER_S = 6.0
_DEEPEST_DB = 30.0

# Strides of the convolutions after the short-time spectrum. Their kernels have 3 frames and are padded by 1.
STRIDES = {"conv1": 1, "conv2": 2, "conv3": 2, "conv4": 1}

# Of the weights, by the names that the package gives them.
SHAPES: dict[str, tuple[int, ...]] = {
    "stft_conv.weight": (_FFT + 2, 1, _FFT),
    "conv1.weight": (128, _FFT // 2 + 1, 3),
    "conv1.bias": (128,),
    "conv2.weight": (64, 128, 3),
    "conv2.bias": (64,),
    "conv3.weight": (64, 64, 3),
    "conv3.bias": (64,),
    "conv4.weight": (_UNITS, 64, 3),
    "conv4.bias": (_UNITS,),
    "lstm_cell.weight_ih": (4 * _UNITS, _UNITS),
    "lstm_cell.weight_hh": (4 * _UNITS, _UNITS),
    "lstm_cell.bias_ih": (4 * _UNITS,),
    "lstm_cell.bias_hh": (4 * _UNITS,),
    "final_conv.weight": (1, _UNITS, 1),
    "final_conv.bias": (1,),
}

Array: TypeAlias = NDArray[np.float32]
Weights: TypeAlias = Mapping[str, Array]


class Detector(Protocol):
    """Returns the probability of speech in each window of `WINDOW_S` of a recording that arrives in blocks."""

    def __call__(self, block: Array, *, last: bool = False) -> Array:
        """Return the probabilities of the windows that the block `(sample,)` completes."""


class RunningLevel:
    """Mean powers of consecutive windows → the level at each of them, by what was heard until then.

    The levels do not depend on how many windows come in one call, to the last digit.
    """

    def __init__(self, window_s: float) -> None:
        """Begin a recording, whose windows have `window_s` seconds each."""
        self._keeps = 10 ** (-_FALL_DB_PER_S * window_s / 10)
        self._recent: list[float] = []
        self._loudest = self._level = 0.0

    def __call__(self, powers: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return `(window,)` levels, as mean powers, from the `(window,)` powers of the next windows."""
        levels = np.empty(len(powers))
        for place, power in enumerate(powers.tolist()):
            self._recent = [*self._recent[1 - _SMOOTHED_WINDOWS :], power]
            smoothed = math.fsum(self._recent) / len(self._recent)
            self._loudest = max(self._loudest, smoothed)
            least = max(self._loudest * 10 ** (-_DEEPEST_DB / 10), _QUIETEST)
            levels[place] = self._level = max(smoothed, self._level * self._keeps, least)
        return levels


class SpeechDetector:
    """The probability of speech in each window of `WINDOW_S` of a recording that arrives in blocks."""

    def __init__(self, rate_hz: int, network: Network | None = None, resampler: Resampler | None = None) -> None:
        """Begin a recording.

        Args:
            rate_hz: sample rate of the blocks; the network works at `RATE_HZ`.
            network: by default the one that silero-vad ships.
            resampler: from `rate_hz` to `RATE_HZ`; by default soxr's.

        Raises:
            DependencyError: silero-vad is missing, or its weights cannot be read.
        """
        self._network = network or _shipped_network()
        self._resample = resampler or StreamResampler(rate_hz, RATE_HZ)
        self._samples = np.zeros(0, np.float32)  # those not yet in a window, after their context
        self._level = RunningLevel(WINDOW_S)
        self._state = np.zeros((2, _UNITS), np.float32)

    def __call__(self, block: Array, *, last: bool = False) -> Array:
        """Return the probabilities of the windows that the block `(sample,)` completes.

        Args:
            block: the recording's next samples.
            last: whether the recording ends with it. Its last window is then filled up with its last sample.

        Returns:
            `(window,)`. Window i of the recording lasts from `i · WINDOW_S` to `(i + 1) · WINDOW_S`. It comes once the
            resampler has returned all its samples.
        """
        block = self._resample(block, last=last)
        if len(self._samples) == 0 and len(block):
            self._samples = np.full(CONTEXT, block[0])
        self._samples = np.concatenate([self._samples, block])
        if last and len(self._samples):
            self._samples = np.pad(self._samples, (0, (CONTEXT - len(self._samples)) % WINDOW), mode="edge")
        windows = (len(self._samples) - CONTEXT) // WINDOW
        if windows <= 0:
            return np.zeros(0, np.float32)
        heard = sliding_window_view(self._samples, CONTEXT + WINDOW)[::WINDOW]
        self._samples = self._samples[windows * WINDOW :]
        found = []
        for first in range(0, windows, _AT_ONCE):
            levelled = self._levelled(heard[first : first + _AT_ONCE])
            probabilities, self._state = self._network(levelled, self._state)
            found.append(probabilities)
        return np.concatenate(found)

    def _levelled(self, heard: Array) -> Array:
        """Return windows with their context, `(window, sample)`, without their means and at the usual level."""
        samples = heard.astype(np.float64)
        centred = samples - samples.mean(axis=1, keepdims=True)
        levels = self._level(np.square(centred[:, CONTEXT:]).mean(axis=1))
        levelled: Array = (centred * np.sqrt(_LEVEL / levels)[:, None]).astype(np.float32)
        return levelled


def is_speech(probability: float, before: bool) -> bool:
    """Return whether somebody speaks in a window, given whether somebody did in the one before."""
    return probability >= (_ENDS if before else _BEGINS)


class Network:
    """Short-time spectrum → four convolutions → LSTM → probability, for windows that follow each other."""

    def __init__(self, weights: Weights) -> None:
        """Arrange the weights, which have the names that the package gives them.

        Raises:
            KeyError: a weight is missing.
            ValueError: a weight has another shape.
        """
        # sigmoid(x) = tanh(x / 2) / 2 + 1 / 2, so one call of tanh serves all gates.
        halves = np.repeat(np.array([0.5, 0.5, 1.0, 0.5], np.float32), _UNITS)
        self._spectrum = weights["stft_conv.weight"].reshape(-1, _FFT).T
        self._convolutions = [
            (_matrix(weights[f"{name}.weight"]), weights[f"{name}.bias"], stride) for name, stride in STRIDES.items()
        ]
        self._input = weights["lstm_cell.weight_ih"].T * halves
        self._bias = (weights["lstm_cell.bias_ih"] + weights["lstm_cell.bias_hh"]) * halves
        self._recurrent = np.ascontiguousarray(weights["lstm_cell.weight_hh"].T * halves)
        self._output = weights["final_conv.weight"].reshape(_UNITS), weights["final_conv.bias"]
        # So that weights of other shapes are found here, and not in the middle of a recording.
        self(np.zeros((1, CONTEXT + WINDOW), np.float32), np.zeros((2, _UNITS), np.float32))

    def __call__(self, windows: Array, state: Array) -> tuple[Array, Array]:
        """Return `(window,)` probabilities of `(window, sample)`, and the state after them.

        The state is `(2, unit)`, hidden and cell, and 0 at first.
        """
        padded = np.pad(windows, ((0, 0), (0, CONTEXT)), mode="reflect")
        spectrum = sliding_window_view(padded, _FFT, axis=1)[:, :: _FFT // 2] @ self._spectrum
        real, imaginary = np.split(spectrum, 2, axis=-1)
        x = np.sqrt(real * real + imaginary * imaginary)  # (window, frame, feature)
        for kernel, bias, stride in self._convolutions:
            around = sliding_window_view(np.pad(x, ((0, 0), (1, 1), (0, 0))), 3, axis=1)[:, ::stride]
            x = np.maximum(around.reshape(*around.shape[:2], -1) @ kernel + bias, 0)
        gates = x[:, 0] @ self._input + self._bias
        hidden, cell = state
        outputs = np.empty((len(windows), _UNITS), np.float32)
        half = np.float32(0.5)
        for place, gate in enumerate(gates):
            tangents = np.tanh(gate + hidden @ self._recurrent).reshape(4, _UNITS)
            into, keep, _, out = half * tangents + half
            cell = keep * cell + into * tangents[2]
            outputs[place] = hidden = out * np.tanh(cell)
        weight, bias = self._output
        probabilities: Array = half * np.tanh(half * (np.maximum(outputs, 0) @ weight + bias)) + half
        return probabilities, np.stack([hidden, cell])


def _matrix(kernel: Array) -> Array:
    """Return the kernel `(out, in, 3)` of a convolution as a matrix `(in·3, out)`."""
    return np.ascontiguousarray(kernel.reshape(len(kernel), -1).T)


@cache
def _shipped_network() -> Network:
    return Network(shipped_weights())


def shipped_weights() -> Weights:
    """Return the weights that the package silero-vad ships.

    Raises:
        DependencyError: it is missing, or they cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    spec = find_spec("silero_vad")  # finds it without importing it
    if spec is None or spec.origin is None:
        raise DependencyError(
            "the package silero-vad is missing: pip install silero-vad, or transcribe with --segment fixed"
        )
    path = Path(spec.origin).parent / "data" / "silero_vad_16k.safetensors"
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise DependencyError(f"{path}: cannot be read ({error}); install silero-vad 6.2.1 or later again") from None
