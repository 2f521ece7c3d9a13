"""A microphone → mono blocks while somebody speaks. sounddevice records: PortAudio, on every system."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.audio.live import LIVE_BLOCK_S
from asr.errors import AudioError, DependencyError

_OTHERWISE = "or pipe what another program records, such as arecord, into asr transcribe --stream -"


def microphone(sample_rate_hz: int = 16000) -> Iterator[NDArray[np.float32]]:
    """Begin to record from the system's microphone; return its blocks, for `Recognizer.stream`.

    It records until the iterator is closed. Take blocks without pauses, or some are lost.

    Args:
        sample_rate_hz: of the blocks.

    Returns:
        Blocks `(sample,)` of a tenth of a second, mono float32 in [-1, 1].

    Raises:
        DependencyError: the package sounddevice or the library PortAudio is not installed.
        AudioError: there is no microphone, or it cannot record; also while blocks are taken.
    """
    try:
        import sounddevice
    except ImportError:
        raise DependencyError(
            f"a microphone needs the package sounddevice: pip install 'asr[microphone]', {_OTHERWISE}"
        ) from None
    except OSError:  # the package has the library for Windows and macOS only
        raise DependencyError(
            f"a microphone needs the library PortAudio: apt-get install libportaudio2, {_OTHERWISE}"
        ) from None
    samples = max(1, round(LIVE_BLOCK_S * sample_rate_hz))
    # sounddevice raises ValueError where there is no such device, and its own error where it cannot record.
    faults = (sounddevice.PortAudioError, ValueError)
    try:
        stream = sounddevice.InputStream(sample_rate_hz, samples, channels=1, dtype="float32")
        stream.start()
    except faults as error:
        raise AudioError(f"no microphone can be recorded from ({error}); connect one, {_OTHERWISE}") from None
    return _blocks(stream, samples, faults)


def _blocks(stream: Any, samples: int, faults: tuple[type[Exception], ...]) -> Iterator[NDArray[np.float32]]:
    with stream:
        while True:
            try:
                block, _ = stream.read(samples)
            except faults as error:
                raise AudioError(f"the microphone cannot be recorded from any more ({error})") from None
            yield block[:, 0].copy()
