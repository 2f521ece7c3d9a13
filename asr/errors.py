"""The exception tree. Every error a user can cause is an `AsrError` that names the file, the value and the way out."""


class AsrError(Exception):
    """Base of all errors that this package raises on purpose; the command line prints them without a traceback."""


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
