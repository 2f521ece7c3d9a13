"""The exception tree, and the exit statuses of commands.

Every error that a user can cause is an `AsrError` that names the file, the value and the way out.
"""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """What the exit status of a command means.

    | status | meaning |
    | --- | --- |
    | 0 | done |
    | 1 | failed, for the reason on stderr; `asr check`: the data have faults |
    | 2 | some files were skipped, which stderr names; or the command line is wrong |
    | 75 | training was asked to stop and wrote a checkpoint; `--resume` continues (EX_TEMPFAIL of sysexits.h) |
    | 130 | interrupted by Ctrl-C (128 + SIGINT, as shells report it) |
    """

    DONE = 0
    FAILED = 1
    SKIPPED = 2
    STOPPED = 75
    INTERRUPTED = 130


class AsrError(Exception):
    """Base of all errors that this package raises on purpose; the command line prints them without a traceback."""


def explained(error: AsrError | OSError) -> str:
    """Return an error's message, which for an error of the system names the file."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.filename}: {error.strerror}"
    return str(error)


class AudioError(AsrError):
    """An audio file is missing, damaged, empty or in a format that cannot be decoded."""


class UtteranceAudioError(AudioError):
    """The audio of an utterance of a manifest cannot be used."""


class ManifestError(AsrError):
    """A corpus, table or manifest is missing, malformed or inconsistent."""


class TokenError(AsrError):
    """A text holds a character that the token table does not know, or a token table is malformed."""


class ConfigError(AsrError):
    """A settings file or override has an unknown key, a wrong type or a value out of range."""


class ModelError(AsrError):
    """A model folder or checkpoint is missing, incomplete or corrupt."""


class LanguageModelError(AsrError):
    """A language model file or its training text cannot be used."""


class ShapeError(AsrError):
    """A tensor's shape, or a length, does not fit the others."""


class TrainingError(AsrError):
    """Training cannot go on: no usable data, a loss that is not finite, a device that is not there."""


class DeviceError(AsrError):
    """A device is asked for that this machine does not have."""


class ScoringError(AsrError):
    """References and hypotheses cannot be compared: missing utterances, malformed lines."""


class DependencyError(AsrError):
    """A package that this one stands on is missing or does not load."""
