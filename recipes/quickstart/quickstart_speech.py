"""The speech engine espeak-ng, through ctypes: text → synthetic speech and the time at which each word starts.

The library, its voices and its dictionaries come inside the wheel `espeakng_loader`. It is GPL-3.0; nothing but this
recipe uses it. Types, constants and event layout follow its public header `espeak-ng/speak_lib.h`.
"""

from __future__ import annotations

import ctypes
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.errors import AsrError

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: espeak_Synth returns when the speech is complete
_DO_NOT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT: report missing data instead of ending the process
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_UTF8, _PHONEMES = 0x1, 0x100  # espeakCHARS_UTF8; espeakPHONEMES: [[…]] holds phonemes
_FROM_CHARACTER = 1  # POS_CHARACTER
_END_OF_LIST, _WORD, _END = 0, 1, 5  # espeak_EVENT_TYPE

# Two words are given as phonemes: a lone "a" would be spoken as the article instead of the letter, and the engine's
# dictionary fuses "in the", "on the" and the like into one word, with one word event.
_PHONEMES_OF = {"a": "[['eI]]", "the": "[[D@2]]"}


@dataclass(frozen=True)
class Speech:
    """Synthetic speech: `waveform (sample,)` within [-1, 1], and the times its engine reports."""

    waveform: NDArray[np.float32]
    sample_rate_hz: int
    word_starts_s: tuple[float, ...]
    end_s: float


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),  # ms
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


class SpeechEngine:
    """One engine of its own. The same seed and the same calls in the same order give the same samples."""

    def __init__(self, seed: int) -> None:
        """Load the engine; `seed` drives its breath and flutter noise.

        Raises:
            AsrError: the engine is not installed, or does not start.
        """
        library, data = _installed()
        self._library = _load_private_copy(library)
        self._samples: list[NDArray[np.int16]] = []
        self._events: list[tuple[int, int]] = []
        self._callback = _Callback(self._receive)  # kept: the library holds only a pointer to it
        self.sample_rate_hz = int(self._library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), _DO_NOT_EXIT))
        if self.sample_rate_hz <= 0:
            raise AsrError(f"{library}: the speech engine did not start with its data in {data}")
        self._library.espeak_SetSynthCallback(self._callback)
        self._library.espeak_ng_SetRandSeed(seed)

    def has_voice(self, voice: str) -> bool:
        """Whether a voice such as "en-us+f3" (accent + variant) can be set."""
        return self._set_voice(voice) == 0

    def speak(self, words: Sequence[str], voice: str, *, words_per_minute: int, pitch: int, pitch_range: int) -> Speech:
        """Speak words in a voice.

        The engine decides what it reports as a word: `word_starts_s` may have another length than `words`.

        Args:
            words: without spaces or punctuation.
            voice: accent + variant.
            words_per_minute: 80 to 450.
            pitch: 0 to 99; 50 is the voice's own.
            pitch_range: 0 (monotone) to 99; 50 is the voice's own.

        Raises:
            AsrError: the engine refuses the voice, a value or the text.
        """
        self._check(self._set_voice(voice), f"voice {voice!r}")
        for parameter, value in ((_RATE, words_per_minute), (_PITCH, pitch), (_RANGE, pitch_range)):
            self._check(self._library.espeak_SetParameter(parameter, value, 0), f"parameter {parameter} = {value}")
        text = " ".join(_PHONEMES_OF.get(word, word) for word in words).encode()
        self._samples.clear()
        self._events.clear()
        self._check(
            self._library.espeak_Synth(text, len(text) + 1, 0, _FROM_CHARACTER, 0, _UTF8 | _PHONEMES, None, None),
            f"text {' '.join(words)!r}",
        )
        if not self._samples:
            raise AsrError(f"the speech engine gave no sound for {' '.join(words)!r} in voice {voice!r}")
        samples = np.concatenate(self._samples)
        ends_s = [time_ms / 1000 for kind, time_ms in self._events if kind == _END]
        return Speech(
            waveform=samples.astype(np.float32) / np.float32(32768),
            sample_rate_hz=self.sample_rate_hz,
            word_starts_s=tuple(time_ms / 1000 for kind, time_ms in self._events if kind == _WORD),
            end_s=ends_s[-1] if ends_s else len(samples) / self.sample_rate_hz,
        )

    def _set_voice(self, voice: str) -> int:
        return int(self._library.espeak_SetVoiceByName(voice.encode()))

    def _receive(self, samples: ctypes._Pointer[ctypes.c_short], count: int, events: ctypes._Pointer[_Event]) -> int:
        if samples and count > 0:
            self._samples.append(np.ctypeslib.as_array(samples, (count,)).copy())
        position = 0
        while events[position].type != _END_OF_LIST:
            self._events.append((events[position].type, events[position].audio_position))
            position += 1
        return 0  # continue

    @staticmethod
    def _check(code: int, what: str) -> None:
        if code != 0:
            raise AsrError(f"the speech engine refused {what} (error code {code})")


def variant_names() -> tuple[str, ...]:
    """Return the names of the voice variants that the engine brings, sorted.

    Raises:
        AsrError: the engine is not installed.
    """
    _, data = _installed()
    return tuple(sorted(path.name for path in (data / "voices" / "!v").iterdir() if path.is_file()))


def _installed() -> tuple[Path, Path]:
    """The engine's library and its data folder."""
    try:
        import espeakng_loader
    except ImportError:
        raise AsrError(
            "the quickstart recipe makes synthetic speech with an engine that is not installed: "
            "pip install 'asr[quickstart]'"
        ) from None
    return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())


def _load_private_copy(library: Path) -> ctypes.CDLL:
    """Load a copy of the library.

    The engine keeps the state of its oscillators in static variables that no call resets, so a second run in one
    process would begin where the first ended. The system gives another file fresh static variables.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            loaded = ctypes.CDLL(shutil.copy(library, folder))
        except OSError as error:
            raise AsrError(
                f"{library}: a copy of the speech engine cannot be loaded from {folder} ({error}); "
                "set TMPDIR to a folder from which programs may run"
            ) from None
    pointer = ctypes.c_void_p
    loaded.espeak_Initialize.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_int]
    loaded.espeak_SetSynthCallback.argtypes = [_Callback]
    loaded.espeak_SetSynthCallback.restype = None
    loaded.espeak_SetVoiceByName.argtypes = [ctypes.c_char_p]
    loaded.espeak_SetParameter.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int]
    loaded.espeak_Synth.argtypes = [
        *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int),
        *(ctypes.c_uint, ctypes.c_uint, pointer, pointer),
    ]
    loaded.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    return loaded
