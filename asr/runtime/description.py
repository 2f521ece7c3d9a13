"""`model.json` of an exported folder: all that the runtime has to know besides the network and the n-grams.

    {"format": 2, "sample_rate_hz": 16000, "frame_shift_s": 0.03, "token_kind": "char", "tokens": ["<blank>", " ", …],
     "text": {how hotwords are written}, "calibration": {…}, "search": {settings of the beam search}}

`asr/bundle/files.py` lists the other files.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from asr.bundle.files import ONNX_DESCRIPTION
from asr.decoding.beam import BeamOptions
from asr.decoding.folder_scorers import NgramUse
from asr.errors import AsrError, ModelError
from asr.files import visible_json, write_text
from asr.paths import ReadablePath
from asr.reading import read_json, shown
from asr.text.tokens import BLANK, BLANK_SYMBOL, WORD_START, TokenTable, WordTable
from asr.transcript.confidence import Calibration

_FORMAT = 2
# The settings of `text` that say how transcripts, and so hotwords, are written; see `TextSettings`.
TEXT_SETTINGS = ("case", "language", "clean", "apostrophes", "replace", "numbers", "space", "remove")
_LISTS = {"char": TokenTable, "words": WordTable}


@dataclass(frozen=True)
class PieceTexts(TokenTable):
    """Tokens that are pieces, without the sentencepiece model that cuts texts into them: a search only joins them."""

    def __post_init__(self) -> None:
        """Take any symbols; `Description.load` has looked at them."""

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """What each token adds to a text; see `TokenTable`."""
        return tuple(symbol.replace(WORD_START, " ") for symbol in self.symbols)


@dataclass(frozen=True)
class Description:
    """What the runtime knows of an exported model.

    Attributes:
        sample_rate_hz: of the audio that the network takes.
        frame_shift_s: time between its output frames.
        token_kind: `char`, `pieces` or `words`.
        tokens: the symbol of each token; token 0 is the blank.
        text: how transcripts are written: `TEXT_SETTINGS`.
        calibration: how evidence becomes confidence.
        search: the settings of the beam search.
        ngram: which n-gram it uses.
    """

    sample_rate_hz: int
    frame_shift_s: float
    tokens: tuple[str, ...]
    token_kind: str = "char"
    text: Mapping[str, Any] = field(default_factory=dict)
    calibration: Calibration = field(default_factory=Calibration)
    search: BeamOptions = field(default_factory=lambda: BeamOptions(16))
    ngram: NgramUse = field(default_factory=lambda: NgramUse("tokens", 0.0))

    @cached_property
    def table(self) -> TokenTable:
        """The tokens as a table."""
        return _LISTS.get(self.token_kind, PieceTexts)(self.tokens)

    def save(self, folder: Path) -> None:
        """Write `model.json`."""
        content = {
            "format": _FORMAT,
            "sample_rate_hz": self.sample_rate_hz,
            "frame_shift_s": self.frame_shift_s,
            "token_kind": self.token_kind,
            "tokens": self.tokens,
            "text": dict(self.text),
            "calibration": asdict(self.calibration),
            "search": asdict(self.search) | asdict(self.ngram),
        }
        text = visible_json(json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False))
        write_text(folder / ONNX_DESCRIPTION, f"{text}\n")

    @classmethod
    def load(cls, folder: ReadablePath) -> Description:
        """Read `model.json`.

        Raises:
            ModelError: `asr export` did not write the folder, or the file is damaged.
        """
        path = folder / ONNX_DESCRIPTION
        way_out = "the runtime needs a folder that `asr export` wrote; export it again"
        content = read_json(path, ModelError, "the model's description", way_out=way_out)
        if not isinstance(content, dict):
            raise ModelError(f"{path}: not the description of an exported model; export it again")
        if (format := content.get("format")) != _FORMAT:
            raise ModelError(
                f"{path}: format {shown(format)} is not {_FORMAT}, which this version reads; export it again"
            )
        fault = _fault(content)
        if fault:
            raise ModelError(f"{path}: {fault}; export the model again")
        search = content["search"]
        try:
            loaded = cls(
                content["sample_rate_hz"],
                content["frame_shift_s"],
                tuple(content["tokens"]),
                content["token_kind"],
                content["text"],
                Calibration(**content["calibration"]),
                BeamOptions(**{item.name: search[item.name] for item in fields(BeamOptions)}),
                NgramUse(**{item.name: search[item.name] for item in fields(NgramUse)}),
            )
            _ = loaded.table
        except AsrError as error:
            raise ModelError(f"{path}: {error}; export the model again") from None
        return loaded


def _fault(content: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a description; None if nothing is."""
    rate_hz: Any = content.get("sample_rate_hz")
    shift_s: Any = content.get("frame_shift_s")
    kind = content.get("token_kind")
    if type(rate_hz) is not int or not 4000 <= rate_hz <= 48000:
        return f"sample_rate_hz is {shown(rate_hz)}, not an integer from 4000 to 48000"
    if type(shift_s) not in (int, float) or not 0 < shift_s <= 1:
        return f"frame_shift_s is {shown(shift_s)}, not above 0 and at most 1"
    if kind not in ("char", "pieces", "words"):
        return f"token_kind is {shown(kind)}, not char, pieces or words"
    return _fault_of_tokens(content.get("tokens")) or _fault_of_sections(content)


def _fault_of_tokens(tokens: object) -> str | None:
    if (
        not isinstance(tokens, list)
        or not all(isinstance(token, str) for token in tokens)
        or tokens[: BLANK + 1] != [BLANK_SYMBOL]
    ):
        return f"tokens are not a list of texts that begins with {BLANK_SYMBOL!r}"
    if len(set(tokens)) < len(tokens):
        return "tokens hold a text twice"
    if any("\ud800" <= character <= "\udfff" for token in tokens for character in token):
        return "tokens hold half of a surrogate pair, which is no character"
    return None


def _fault_of_sections(content: Mapping[str, Any]) -> str | None:
    """Look at the sections' names and types; their ranges are looked at where they are used."""
    text, calibration, search = (content.get(name) for name in ("text", "calibration", "search"))
    if not isinstance(text, dict) or set(text) != set(TEXT_SETTINGS):
        return f"text does not say {', '.join(TEXT_SETTINGS)}"
    if not isinstance(text["clean"], bool) or not _is_table(text["replace"]):
        return "text has a setting of another type"
    if not all(isinstance(text[name], str) for name in TEXT_SETTINGS if name not in ("clean", "replace")):
        return "text has a setting of another type"
    names = {item.name for item in fields(Calibration)}
    if not isinstance(calibration, dict) or set(calibration) != names or not all(map(_is_number, calibration.values())):
        return f"calibration does not have the numbers {', '.join(sorted(names))}"
    settings = {item.name for item in (*fields(BeamOptions), *fields(NgramUse))}
    if not isinstance(search, dict) or set(search) != settings:
        return "search does not have the settings of a search"
    numbers = [value for name, value in search.items() if name != "lm" and (name, value) != ("oov_penalty", None)]
    if search["lm"] not in ("tokens", "words") or not all(map(_is_number, numbers)):
        return "search has a setting that it cannot have"
    if type(search["beam_size"]) is not int or not 1 <= search["beam_size"] <= 1024:
        return f"search: beam_size is {shown(search['beam_size'])}, not an integer from 1 to 1024"
    return None


def _is_table(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) for pair in value.items() for one in pair)


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]
