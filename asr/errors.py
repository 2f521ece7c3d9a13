"""The errors that users can cause, and the exit statuses of commands.

Every error names the file, the value and the way out. `except asr.AsrError` catches them all.

| error | what is wrong |
| --- | --- |
| `AudioError` | an audio file, or samples |
| `UnknownFormatError`, an `AudioError` | an audio file is in a format that nothing here decodes |
| `UtteranceAudioError`, an `AudioError` | the audio of an utterance in a manifest |
| `ManifestError` | a corpus, a table or a manifest |
| `DownloadError`, a `ManifestError` | a corpus that cannot be downloaded |
| `TokenError` | a text or hotword with characters that the model does not know, or a token table |
| `ConfigError` | a setting or an argument |
| `ModelError` | a model folder, an export or a checkpoint |
| `LanguageModelError`, a `ModelError` | a language model, or the text to estimate one from |
| `ShapeError` | arrays that do not fit each other, or a text that is too long for its audio |
| `TrainingError` | a training run, which cannot begin or continue |
| `ScoringError` | references and hypotheses that do not belong together |
| `RecipeError` | a recipe or stage that does not exist, or options that contradict each other |
| `StageError` | a command of a recipe's stage, which failed |
| `DeviceError` | a device that this machine does not have |
| `DependencyError` | a package that is not installed, or does not load |
"""

from __future__ import annotations

from enum import IntEnum

_LONGEST_LINE = 1000  # characters of a message


class ExitStatus(IntEnum):
    """What the exit status of a command means.

    | status | meaning |
    | --- | --- |
    | 0 | done |
    | 1 | failed, for the reason on stderr; `asr check`: the data have faults |
    | 2 | some files or utterances were left out, which stderr names; or the command line is wrong |
    | 75 | training was asked to stop and wrote a checkpoint; `--resume` continues (EX_TEMPFAIL of sysexits.h) |
    | 130 | interrupted by Ctrl-C (128 + SIGINT, as shells report it) |
    """

    DONE = 0
    FAILED = 1
    SKIPPED = 2
    STOPPED = 75
    INTERRUPTED = 130


class AsrError(Exception):
    """Base of all errors that this package raises on purpose; commands print them without a traceback.

    Raised as such where nothing but the message helps: an output that would replace another file, a full disk, a run
    that is at work in the same folder.

    Its text is lines of a message, mostly one. A line break in a line, such as one of a file's name, is shown as `\\n`,
    or the name could forge a line. Of a line of more than 1,000 characters, such as one with a damaged value in it, the
    middle is left out.
    """

    def __init__(self, *lines: str) -> None:
        """Keep the lines of the message."""
        super().__init__(*map(one_line, lines))

    def __str__(self) -> str:
        """Return the message."""
        return "\n".join(self.args)


def one_line(text: str) -> str:
    """Return a line of a message: its line breaks become `\\n`, and the middle of a very long one is left out."""
    line = text.replace("\n", r"\n")
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE // 2]} … {line[3 - _LONGEST_LINE // 2 :]}"


def explained(error: AsrError | OSError) -> str:
    """Return an error's message, which for an error of the system names the file."""
    if isinstance(error, OSError) and error.strerror:
        return one_line(error.strerror if error.filename is None else f"{error.filename}: {error.strerror}")
    return str(error)


def unreached(host: str, error: BaseException) -> str | None:
    """Return in plain words why a server could not be reached, and the way out; None if `error` says something else.

    Args:
        host: the server.
        error: what was raised by the network, or by a library around it.
    """
    import errno
    import socket
    import ssl

    no_way = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)
    way_out = "check the network and, if there is a proxy, the variable https_proxy (http_proxy)"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate of the server {host} is not valid ({cause.verify_message})"
        if isinstance(cause, socket.gaierror):
            return f"the server {host} is not found; {way_out}"
        if isinstance(cause, ConnectionError | TimeoutError) or (isinstance(cause, OSError) and cause.errno in no_way):
            return f"the server {host} does not answer ({without_number(cause)}); {way_out}"
        cause = cause.__cause__ or cause.__context__
    return None


def without_number(error: BaseException) -> str:
    """Return what an error says, without the number that the system has for it."""
    return str(getattr(error, "strerror", None) or error) or type(error).__name__


class AudioError(AsrError):
    """An audio file is missing, damaged, empty or in an unknown format, or samples are not a waveform."""


class AudioWarning(UserWarning):
    """Audio was used in another way than asked for; a warning of Python's module `warnings`, not an error."""


class FontWarning(UserWarning):
    """A figure has characters that no font of this machine has; a warning of Python's module `warnings`, no error."""


class GrammarWarning(UserWarning):
    """A grammar was used without a threshold of its own; a warning of Python's module `warnings`, not an error."""


class ModelWarning(UserWarning):
    """A model of the hub was named without saying which revision; a warning of Python's module `warnings`, no error."""


class UnknownFormatError(AudioError):
    """An audio file is in a format that nothing here decodes."""


class UtteranceAudioError(AudioError):
    """The audio of an utterance in a manifest cannot be used; the message names the utterance."""


class ManifestError(AsrError):
    """A corpus, table or manifest is missing, malformed or inconsistent."""


class DownloadError(ManifestError):
    """A corpus cannot be downloaded: no network, no such file, another file than the published one, a full disk."""


class TokenError(AsrError):
    """A text or hotword holds a character that the model does not know, or a token table is malformed."""


class ConfigError(AsrError):
    """A setting or an argument has an unknown name, a wrong type or value, or contradicts another one."""


class ModelError(AsrError):
    """A model folder, export or checkpoint is missing, incomplete or damaged."""


class LanguageModelError(ModelError):
    """A language model is damaged or does not fit the acoustic model, or one cannot be estimated from a text."""


class ShapeError(AsrError):
    """Arrays do not fit each other, or a text has more tokens than its audio has frames for."""


class TrainingError(AsrError):
    """Training cannot begin or continue: no usable data, a loss that is not finite, a folder that holds another run."""


class DeviceError(AsrError):
    """A device is asked for that this machine does not have."""


class ScoringError(AsrError):
    """References and hypotheses cannot be compared: missing utterances, malformed lines."""


class RecipeError(AsrError):
    """A recipe cannot be run as asked: there is no such recipe or stage, or the options contradict each other."""


class StageError(AsrError):
    """A command of a recipe's stage failed; `status` is its exit status."""

    def __init__(self, message: str, status: int) -> None:
        """Say what failed, and with which status."""
        super().__init__(message)
        self.status = status

    def __reduce__(self) -> tuple[type[StageError], tuple[str, int]]:
        """Return what `pickle` stores, with which an error comes back from another process."""
        return type(self), (str(self), self.status)


class DependencyError(AsrError):
    """A package that is needed is not installed, or does not load."""
