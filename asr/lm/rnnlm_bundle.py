"""A recurrent language model on disk: `rnnlm.safetensors`, with settings and units as JSON in its header."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from asr.data.files import atomic_path
from asr.data.tokens import TokenTable
from asr.errors import LanguageModelError
from asr.lm.ngram import SENTENCE_END, UNKNOWN
from asr.lm.rnnlm import RnnLm
from asr.lm.rnnlm_settings import RnnLmSettings

RNN_LM = "rnnlm.safetensors"
_UNKNOWN_WORD = 1


@dataclass(frozen=True)
class LmUnits:
    """What the units of a model are; `symbols[0]` is the sentence boundary.

    Of an acoustic model's tokens, ids are token ids, and the boundary takes the blank's place. Of words, id 1 is
    `<unk>` and the rest are sorted by frequency, as the adaptive softmax needs them.
    """

    kind: Literal["tokens", "words"]
    symbols: tuple[str, ...]

    @classmethod
    def of_tokens(cls, tokens: TokenTable) -> LmUnits:
        """Return the units of a model over an acoustic model's tokens."""
        return cls("tokens", (SENTENCE_END, *tokens.symbols[1:]))

    @classmethod
    def of_words(cls, texts: Iterable[str], min_count: int = 1) -> LmUnits:
        """Return the words that occur at least `min_count` times, the most frequent first.

        Raises:
            LanguageModelError: there is none.
        """
        counts = Counter(word for text in texts for word in text.split())
        words = sorted((w for w in counts if counts[w] >= min_count), key=lambda w: (-counts[w], w))
        words = [word for word in words if word not in (SENTENCE_END, UNKNOWN)]
        if not words:
            raise LanguageModelError(f"the text holds no word {min_count} times; lower min_count or give more text")
        return cls("words", (SENTENCE_END, UNKNOWN, *words))

    @property
    def oov(self) -> int | None:
        """The id of words outside the vocabulary; None for tokens, since texts consist of them."""
        return _UNKNOWN_WORD if self.kind == "words" else None

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {symbol: index for index, symbol in enumerate(self.symbols) if index > _UNKNOWN_WORD}

    def encode_words(self, text: str) -> list[int]:
        """Return the ids of a text's words, for a model over words."""
        return [self._ids.get(word, _UNKNOWN_WORD) for word in text.split()]

    def require_tokens(self, tokens: TokenTable) -> None:
        """Refuse an acoustic model whose tokens are not these units.

        Raises:
            LanguageModelError: the model is over words, or over other tokens.
        """
        if self != LmUnits.of_tokens(tokens):
            raise LanguageModelError(
                f"the recurrent language model's units are {len(self.symbols)} {self.kind}, not the acoustic model's "
                f"{len(tokens)} tokens; train one with `asr lm rnn --model`"
            )


@dataclass(frozen=True)
class RnnLmBundle:
    """A language model and what its units are."""

    units: LmUnits
    lm: RnnLm

    def save(self, folder: Path) -> None:
        """Write `rnnlm.safetensors` into the folder."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.lm.state_dict().items()}
        content = {
            "settings": self.lm.settings.model_dump(mode="json"),
            "kind": self.units.kind,
            "symbols": list(self.units.symbols),
        }
        with atomic_path(folder / RNN_LM) as temporary:
            save_file(tensors, temporary, metadata={"rnnlm": json.dumps(content, ensure_ascii=False)})

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> RnnLmBundle:
        """Read what `save` wrote; the model is in evaluation mode on the CPU.

        Raises:
            LanguageModelError: the file is missing, damaged, or of another form.
        """
        path = Path(folder) / RNN_LM
        try:
            with safe_open(path, framework="pt") as file:
                content = json.loads((file.metadata() or {})["rnnlm"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            units = LmUnits(content["kind"], tuple(content["symbols"]))
            lm = RnnLm(RnnLmSettings.model_validate(content["settings"]), len(units.symbols))
            lm.load_state_dict(tensors)
        except (OSError, SafetensorError, KeyError, TypeError, ValueError, ValidationError, RuntimeError) as error:
            raise LanguageModelError(
                f"{path}: not a recurrent language model ({error}); `asr lm rnn` writes one"
            ) from None
        return cls(units, lm.eval())
