"""A command of a Kaldi wav.scp that does nothing but decode a file → that file and channel. No command is ever run.

| command                                                   | it is                           |
| --------------------------------------------------------- | ------------------------------- |
| `cat F`, `flac -c -d -s F`, `sox F -t wav -`,             | the file F                      |
| `ffmpeg -i F -f wav -`, `sph2pipe -f wav -p F`            |                                 |
| `sph2pipe -f wav -p -c 2 F`, `sox F -t wav - remix 2`     | the file F, channel 1 from 0    |
| `… -r 16000`, `… -ar 16000`, `… rate 16k`                 | the file F at its own rate      |
| one of these into another, e.g. `flac … F | sox - …`      | likewise                        |
| any other command, or one of these with any other option  | refused                         |

Sources: the manuals of flac 1.4, sph2pipe 2.5, SoX 14.4 and ffmpeg 6.
"""

from __future__ import annotations

import re
import shlex
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from asr.errors import ManifestError

_WAY_OUT = "commands are not run. Write its output to a wav or flac file and put that file's path here"


class PipedFile(NamedTuple):
    """What a command decodes."""

    path: str  # "-": what the command before it writes
    channel: int | None = None  # from 0; None: it writes all, or their average
    is_resampled: bool = False


class _OtherError(Exception):
    """Part of a command is something else than decoding; the message says which."""


def piped_file(command: str) -> PipedFile:
    """Return what a command decodes.

    Args:
        command: what a line of wav.scp holds, with the `|` at its end.

    Raises:
        ManifestError: the command does, or could do, something else than decode one file.
    """
    try:
        first, *others = [_decoder(words) for words in _stages(command)]
        if first.path == "-" or any(other.path != "-" for other in others):
            raise _OtherError("of which it is not clear which file it decodes")
        channels = [stage.channel for stage in (first, *others) if stage.channel is not None]
        if len(channels) > 1:
            raise _OtherError("which chooses a channel twice")
    except _OtherError as reason:
        raise ManifestError(f"a command ({command}), {reason}; {_WAY_OUT}") from None
    is_resampled = any(stage.is_resampled for stage in (first, *others))
    return PipedFile(first.path, channels[0] if channels else None, is_resampled)


def _stages(command: str) -> list[deque[str]]:
    """Return the words of each command of a pipeline, as a shell splits them."""
    if not command.endswith("|"):
        raise _OtherError("which is to get the audio, not to give it")
    if re.search(r"[$`\n]", command):
        raise _OtherError("in which a shell would replace something")
    quiet = re.sub(r"\s(2>\s?/dev/null|<\s?/dev/null)(?=[\s|])", " ", command[:-1] + " ")
    lexer = shlex.shlex(quiet, posix=True, punctuation_chars=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    stages: list[deque[str]] = [deque()]
    try:
        for word in lexer:
            if word == "|":
                stages.append(deque())
            elif re.fullmatch(r"[();<>|&]+", word):
                raise _OtherError(f"with {word!r}")
            else:
                stages[-1].append(word)
    except ValueError:
        raise _OtherError("in which a quotation mark is not closed") from None
    return stages


def _decoder(words: deque[str]) -> PipedFile:
    tool = Path(words.popleft()).name if words else ""
    if tool not in _TOOLS:
        raise _OtherError(f"and what {tool or 'nothing'!r} does is not known")
    found = _TOOLS[tool](words)
    if words:
        raise _OtherError(f"whose {words[0]!r} changes the audio or is not known")
    return found


def _options(words: deque[str], known: dict[str, str]) -> dict[str, str]:
    """Take options from the front and return their values.

    Args:
        words: what is left of the command.
        known: the pattern of each option's value; an empty one: it has none.

    Raises:
        _OtherError: an option or a value is not known.
    """
    found = {}
    while words and words[0].startswith("-") and words[0] != "-":
        option = words.popleft()
        if option not in known:
            raise _OtherError(f"whose option {option} changes the audio or is not known")
        found[option] = words.popleft() if known[option] and words else ""
        if not re.fullmatch(known[option], found[option]):
            raise _OtherError(f"whose option {option} {found[option]} changes the audio or is not known")
    return found


def _operand(words: deque[str]) -> str:
    if not words:
        raise _OtherError("which names no file")
    return words.popleft()


def _require_output(words: deque[str], *names: str) -> None:
    if _operand(words) not in names:
        raise _OtherError("which does not write to its standard output")


def _cat(words: deque[str]) -> PipedFile:
    return PipedFile(_operand(words))


def _flac(words: deque[str]) -> PipedFile:
    given: set[str] = set()
    paths = []
    while words:
        word = words.popleft()
        if re.fullmatch(r"-[cdsfF]+", word):
            given.update(word[1:])
        elif word in _FLAC_LONG:
            given.add(_FLAC_LONG[word])
        elif word.startswith("-") and word != "-":
            raise _OtherError(f"whose option {word} changes the audio or is not known")
        else:
            paths.append(word)
    if not {"c", "d"} <= given or len(paths) != 1:
        raise _OtherError("which is not flac -c -d with one file")
    return PipedFile(paths[0])


_FLAC_LONG = {"--stdout": "c", "--decode": "d", "--silent": "s", "--totally-silent": "s", "--force": "f"}


def _sph2pipe(words: deque[str]) -> PipedFile:
    apart = [part for word in words for part in (re.findall(r"^-[cf]|.+", word) if word != "-" else [word])]
    words.clear()
    words.extend(apart)
    options = _options(words, {"-f": "wav|rif|riff|sph|au|aif|aiff", "-p": "", "-c": "[1-9]"})
    return PipedFile(_operand(words), int(options["-c"]) - 1 if "-c" in options else None)


_SOX_FORM = {
    "-b": "16|24|32",
    "-e": "signed|signed-integer|float|floating-point",
    "-c": "1",
    **dict.fromkeys(("-s", "-2", "-3", "-4", "-L"), ""),
}
_SOX_INPUT = {
    **dict.fromkeys(("-V", "-V0", "-V1", "-V2", "-V3", "-V4", "-q", "-D", "-R", "--no-dither"), ""),
    **_SOX_FORM,
    "-t": "wav|wavpcm|sph|nist|flac|mp3|ogg|vorbis|opus|aiff|aif|au|snd|caf|w64",
}
_SOX_OUTPUT = {**_SOX_FORM, "-t": "wav|wavpcm", "-r": r"[\d.]+k?"}


def _sox(words: deque[str]) -> PipedFile:
    _options(words, _SOX_INPUT)
    path = _operand(words)
    is_resampled = "-r" in _options(words, _SOX_OUTPUT)
    _require_output(words, "-", "/dev/stdout")
    channel = None
    while words and words[0] in ("remix", "rate", "channels"):
        effect = words.popleft()
        if effect == "rate":
            _options(words, dict.fromkeys(("-q", "-l", "-m", "-h", "-v", "-s"), ""))
        pattern = {"remix": "[1-9]", "rate": r"[\d.]+k?", "channels": "1"}[effect]
        value = _operand(words)
        if not re.fullmatch(pattern, value) or (effect != "rate" and channel is not None):
            raise _OtherError(f"whose '{effect} {value}' changes the audio")
        channel = int(value) - 1 if effect == "remix" else channel
        is_resampled |= effect == "rate"
    return PipedFile(path, channel, is_resampled)


_FFMPEG_QUIET = {
    **dict.fromkeys(("-nostdin", "-y", "-n", "-hide_banner", "-nostats", "-vn", "-bitexact"), ""),
    **dict.fromkeys(("-loglevel", "-v"), r"[\w+]+"),
    "-threads": r"\d+",
}
_FFMPEG_INPUT = {**_FFMPEG_QUIET, "-f": "wav|flac|mp3|ogg|mov|mp4|matroska|aiff|au|w64"}
_FFMPEG_CODEC = "pcm_s16le|pcm_s24le|pcm_s32le|pcm_f32le"
_FFMPEG_OUTPUT = {
    **_FFMPEG_QUIET,
    **dict.fromkeys(("-acodec", "-c:a", "-codec:a"), _FFMPEG_CODEC),
    "-f": "wav",
    "-ar": r"\d+k?",
    "-ac": "1",
    "-sample_fmt": "s16|s32|flt",
    "-map": "0:a|0:a:0",
    "-map_metadata": "-1",
}


def _ffmpeg(words: deque[str]) -> PipedFile:
    before: deque[str] = deque()
    while words and words[0] != "-i":
        before.append(words.popleft())
    _options(before, _FFMPEG_INPUT)
    if before or not words:
        raise _OtherError("which names no file with -i")
    words.popleft()
    path = _operand(words).removeprefix("file:")
    if path in ("pipe:", "pipe:0"):
        path = "-"
    if re.match(r"\w+:", path):
        raise _OtherError(f"which reads {path}")
    is_resampled = "-ar" in _options(words, _FFMPEG_OUTPUT)
    _require_output(words, "-", "pipe:", "pipe:1", "/dev/stdout")
    return PipedFile(path, is_resampled=is_resampled)


_TOOLS: dict[str, Callable[[deque[str]], PipedFile]] = {
    "cat": _cat,
    "flac": _flac,
    "sph2pipe": _sph2pipe,
    "sox": _sox,
    "ffmpeg": _ffmpeg,
}
