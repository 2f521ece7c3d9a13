"""Where somebody speaks: the network of Silero VAD, run block by block.

The package silero-vad ships its weights as safetensors; they are read here without importing it, since that would load
TorchScript (a pickle) and set torch to one thread. Windows go through the convolutions together, not one by one.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from asr.data.resample import StreamResampler
from asr.errors import DependencyError

WINDOW_S = 0.032
# Speech begins in a window whose probability reaches the first, and ends in one that falls below the second.
_BEGINS, _ENDS = 0.5, 0.35
_RATE_HZ = 16000
_WINDOW = 512
_CONTEXT = 64  # samples of the window before that a window also hears
_FFT = 256


class SpeechDetector:
    """The probability of speech in each window of `WINDOW_S` of a recording that arrives in blocks."""

    def __init__(self, rate_hz: int) -> None:
        """Begin a recording of `rate_hz`; the network itself works at 16 kHz."""
        self._network = _network()
        self._resample = StreamResampler(rate_hz, _RATE_HZ)
        self._samples = np.zeros(_CONTEXT, np.float32)  # those not yet in a window, after their context
        self._state: tuple[Tensor, Tensor] | None = None

    @torch.inference_mode()
    def __call__(self, block: NDArray[np.float32], *, last: bool = False) -> NDArray[np.float32]:
        """Return the probabilities of the windows that the block `(sample,)` completes.

        Args:
            block: the recording's next samples.
            last: whether the recording ends with it; its last window is then filled up with zeros.

        Returns:
            `(window,)`; the recording's window i lasts from `i · WINDOW_S` to `(i + 1) · WINDOW_S`.
        """
        self._samples = np.concatenate([self._samples, self._resample(block, last=last)])
        if last:
            self._samples = np.pad(self._samples, (0, (_CONTEXT - len(self._samples)) % _WINDOW))
        windows = (len(self._samples) - _CONTEXT) // _WINDOW
        if windows == 0:
            return np.zeros(0, np.float32)
        heard = torch.from_numpy(self._samples).unfold(0, _CONTEXT + _WINDOW, _WINDOW)
        self._samples = self._samples[windows * _WINDOW :]
        probabilities, self._state = self._network(heard, self._state)
        result: NDArray[np.float32] = probabilities.numpy()
        return result


def is_speech(probability: float, before: bool) -> bool:
    """Return whether somebody speaks in a window, given whether somebody did in the one before."""
    return probability >= (_ENDS if before else _BEGINS)


class _Silero(nn.Module):
    """Short-time spectrum → four convolutions → LSTM → probability, for windows that follow each other.

    Source: Silero VAD 6, https://github.com/snakers4/silero-vad (MIT licence), whose weights these names fit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stft_conv = nn.Conv1d(1, _FFT + 2, _FFT, stride=_FFT // 2, bias=False)
        self.conv1 = nn.Conv1d(_FFT // 2 + 1, 128, 3, padding=1)
        self.conv2 = nn.Conv1d(128, 64, 3, stride=2, padding=1)
        self.conv3 = nn.Conv1d(64, 64, 3, stride=2, padding=1)
        self.conv4 = nn.Conv1d(64, 128, 3, padding=1)
        self.lstm = nn.LSTM(128, 128)
        self.final_conv = nn.Conv1d(128, 1, 1)

    def forward(self, windows: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return `(window,)` probabilities of `(window, sample)` and the state after them."""
        padded = nn.functional.pad(windows, (0, _CONTEXT), mode="reflect")
        real, imaginary = self.stft_conv(padded[:, None]).chunk(2, dim=1)
        hidden = (real.square() + imaginary.square()).sqrt()
        for conv in (self.conv1, self.conv2, self.conv3, self.conv4):
            hidden = conv(hidden).relu()
        output, state = self.lstm(hidden[..., 0], state)
        probability: Tensor = self.final_conv(output.relu()[..., None])[:, 0, 0].sigmoid()
        return probability, state


@cache
def _network() -> _Silero:
    spec = find_spec("silero_vad")  # finds it without importing it
    if spec is None or spec.origin is None:
        raise DependencyError(
            "the package silero-vad is missing: pip install silero-vad, or transcribe with --segment fixed"
        )
    path = Path(spec.origin).parent / "data" / "silero_vad_16k.safetensors"
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise DependencyError(f"{path}: cannot be read ({error}); install silero-vad 6.2.1 or later again") from None
    network = _Silero()
    network.load_state_dict({_RENAMED.get(name, name): weight for name, weight in weights.items()})
    return network.eval()


_RENAMED = {f"lstm_cell.{part}": f"lstm.{part}_l0" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
