"""OpenAI's fields → what is wanted of a recording; transcripts and errors → answers of OpenAI's form.

`docs/serving.md` lists what each field does here.

Source: https://platform.openai.com/docs/api-reference/audio/createTranscription.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

from asr.files import printable, to_json
from asr.reading import shown
from asr.transcript.subtitles import break_into_cues, joined

if TYPE_CHECKING:
    from starlette.responses import Response

    from asr.serving.worker import FileResult
    from asr.transcript.transcript import Transcript
    from asr.transcript.words import Word

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
GRANULARITIES = ("segment", "word")
MOST_HOTWORDS = 1000
MOST_HOTWORD_CHARACTERS = 20_000  # of all together
WARNINGS_HEADER = "X-Warnings"
_LISTS = ("timestamp_granularities", "include", "keywords", "languages")
# Fields that change nothing: a recording is always cut at pauses, and the search makes no random choices.
_HARMLESS = ("language", "languages", "chunking_strategy", "temperature")
_KNOWN = ("model", "prompt", "keywords", "response_format", "timestamp_granularities", *_HARMLESS)
# Why a field that OpenAI knows is refused.
_REFUSED = {
    "stream": "answers are not sent in parts; leave it out, or send the audio itself as a stream to /v1/stream",
    "include": "there are no log-probabilities of tokens; verbose_json has a confidence for each word",
    "known_speaker_names": "speakers are not told apart",
    "known_speaker_references": "speakers are not told apart",
}
_LEAST_CONFIDENCE = 1e-4  # of which a logarithm is taken


class RefusalError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: of the answer.
        param: the field at fault.
        code: a word for programs.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Keep the answer."""
        super().__init__(message)
        self.status, self.param, self.code, self.headers = status, param, code, dict(headers or {})


@dataclass(frozen=True)
class Wish:
    """What a request asks for.

    Attributes:
        model: the name of a model; empty for the first.
        language: as the request says; it is repeated in the answer.
        hotwords: of the prompt.
        format: one of `FORMATS`.
        granularities: what verbose_json has.
    """

    model: str
    language: str
    hotwords: tuple[str, ...]
    format: str
    granularities: frozenset[str]

    @classmethod
    def of(cls, fields: Iterable[tuple[str, str]]) -> Wish:
        """Return what the fields of a form ask for.

        Raises:
            RefusalError: a field is unknown, given twice, or has a value that it cannot have.
        """
        single: dict[str, str] = {}
        lists: dict[str, list[str]] = {name: [] for name in _LISTS}
        for given, value in fields:
            name = given.removesuffix("[]")
            if name in lists:
                lists[name].append(value)
            elif name in single:
                raise RefusalError(400, f"the field {name} is given twice", name)
            else:
                single[name] = value
        _require_known([*single, *(name for name, values in lists.items() if values)], single)
        _require_temperature(single.get("temperature", "0"))
        wanted = single.get("response_format") or "json"
        if wanted not in FORMATS:
            raise RefusalError(
                400, f"response_format is {shown(wanted)}, not one of {', '.join(FORMATS)}", "response_format"
            )
        granularities = lists["timestamp_granularities"]
        for name in granularities:
            if name not in GRANULARITIES or wanted != "verbose_json":
                message = f"timestamp_granularities is {shown(name)}; word or segment, with the format verbose_json"
                raise RefusalError(400, message, "timestamp_granularities")
        hotwords = hotwords_of([single.get("prompt", ""), *lists["keywords"]])
        return cls(
            single.get("model", ""),
            single.get("language", ""),
            hotwords,
            wanted,
            frozenset(granularities or GRANULARITIES),
        )


def hotwords_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the words and phrases of prompts, which commas, semicolons or line ends separate; each once.

    Raises:
        RefusalError: there are more than `MOST_HOTWORDS`, or they have more than `MOST_HOTWORD_CHARACTERS`.
    """
    phrases = (phrase.strip() for text in texts for phrase in re.split(r"[,;\n\r]", text))
    hotwords = tuple(dict.fromkeys(phrase for phrase in phrases if phrase))
    require_few(hotwords)
    return hotwords


def require_few(hotwords: Collection[str]) -> None:
    """Refuse words and phrases that would take a search long to prepare.

    Raises:
        RefusalError: there are more than `MOST_HOTWORDS`, or they have more than `MOST_HOTWORD_CHARACTERS`.
    """
    if len(hotwords) > MOST_HOTWORDS:
        raise RefusalError(
            400, f"the prompt has {len(hotwords)} words and phrases; the most are {MOST_HOTWORDS}", "prompt"
        )
    if (characters := sum(map(len, hotwords))) > MOST_HOTWORD_CHARACTERS:
        raise RefusalError(
            400, f"the prompt has {characters} characters; the most are {MOST_HOTWORD_CHARACTERS}", "prompt"
        )


def _require_known(names: Iterable[str], single: Mapping[str, str]) -> None:
    for name in names:
        if name == "stream" and single[name].lower() in ("", "false", "0"):
            continue
        if name in _REFUSED:
            raise RefusalError(400, f"{name}: {_REFUSED[name]}", name)
        if name not in _KNOWN:
            raise RefusalError(
                400, f"the field {shown(name)} is unknown; known are file, {', '.join(_KNOWN)}", printable(name)
            )


def _require_temperature(given: str) -> None:
    try:
        value = float(given or 0)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise RefusalError(400, f"temperature is {shown(given)}, not a number from 0 to 1", "temperature")


def error_response(error: RefusalError) -> Response:
    """Return the answer to a request that is refused."""
    return json_response(error_content(error), error.status, error.headers)


def error_content(error: RefusalError) -> dict[str, Any]:
    """Return the JSON object of an error."""
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    return {"error": {"message": str(error), "type": kind, "param": error.param, "code": error.code}}


def json_response(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return JSON as an answer."""
    from starlette.responses import Response

    return Response(to_json(content), status, headers, media_type="application/json")


_MEDIA_TYPES = {"text": "text/plain", "srt": "application/x-subrip", "vtt": "text/vtt"}


def written(transcript: Transcript, warnings: Sequence[str], wish: Wish) -> str:
    """Return a transcript in the form that was asked for.

    JSON has the key `warnings`, where there are any. With a grammar, `rejected` says where something was said that is
    none of its texts.
    """
    if wish.format == "text":
        return transcript.to_txt()
    if wish.format == "srt":
        return transcript.to_srt()
    if wish.format == "vtt":
        return transcript.to_vtt()
    content: dict[str, Any] = {"text": transcript.text} if wish.format == "json" else verbose(transcript, wish)
    if transcript.rejected is not None:
        content["rejected"] = [
            {"start": round(extent.start_s, 3), "end": round(extent.end_s, 3)} for extent in transcript.rejected
        ]
    return to_json({**content, **({"warnings": list(warnings)} if warnings else {})})


def transcript_response(result: FileResult, wish: Wish) -> Response:
    """Return the answer with a transcript. Forms that are no JSON have warnings in a header."""
    from starlette.responses import Response

    if wish.format in ("json", "verbose_json"):
        return Response(result.content, media_type="application/json")
    headers = {WARNINGS_HEADER: header_value(result.warnings)} if result.warnings else {}
    return Response(result.content, headers=headers, media_type=f"{_MEDIA_TYPES[wish.format]}; charset=utf-8")


def header_value(texts: Sequence[str]) -> str:
    """Return texts as one line of ASCII, at most 4,000 characters."""
    return "; ".join(texts).encode("ascii", "backslashreplace").decode()[:4000]


def verbose(transcript: Transcript, wish: Wish) -> dict[str, Any]:
    """Return the JSON object of verbose_json."""
    content: dict[str, Any] = {
        "task": "transcribe",
        "language": wish.language,
        "duration": round(transcript.duration_s, 3),
        "text": transcript.text,
        "confidence": round(transcript.confidence, 4),
    }
    if "segment" in wish.granularities:
        content["segments"] = [_segment(number, words) for number, words in enumerate(_segments(transcript.words))]
    if "word" in wish.granularities:
        content["words"] = [
            {
                "word": word.text,
                "start": round(word.start_s, 3),
                "end": round(word.end_s, 3),
                "confidence": round(word.confidence, 4),
            }
            for word in transcript.words
        ]
    return content


def _segments(words: Sequence[Word]) -> list[list[Word]]:
    """Return the words of each subtitle cue: a segment is what is shown at once in srt and vtt."""
    starts_ms = [cue.start_ms for cue in break_into_cues(words)]
    place = 0

    def cue_of(word: Word) -> int:
        nonlocal place
        while place + 1 < len(starts_ms) and starts_ms[place + 1] <= round(1000 * word.start_s):
            place += 1
        return place

    return [list(group) for _, group in groupby(words, cue_of)]


def _segment(number: int, words: Sequence[Word]) -> dict[str, Any]:
    text = joined(words)
    raw = text.encode()
    logarithms = [math.log(max(word.confidence, _LEAST_CONFIDENCE)) for word in words]
    return {
        "id": number,
        "start": round(words[0].start_s, 3),
        "end": round(words[-1].end_s, 3),
        "text": text,
        "avg_logprob": round(sum(logarithms) / len(words), 4),
        "compression_ratio": round(len(raw) / len(zlib.compress(raw)), 4),
        # Clients expect the rest. There is no such value here.
        "no_speech_prob": 0.0,
        "seek": 0,
        "temperature": 0.0,
        "tokens": [],
    }
