"""A recurrent language model: units read so far → the distribution of the next unit. Its units, network and file.

The network is an embedding, LSTM or GRU layers, and a softmax. Unit 0 is the sentence boundary: read, it begins a
sentence; predicted, it ends one. An acoustic model's token 0 is the blank, which no text holds. So over its tokens,
unit ids are token ids.

All layers have the embedding's width, and the output scores a unit by the product of the hidden vector and the unit's
embedding. This tie saves a matrix as large as the vocabulary. A word that is rarely predicted still learns from being
read (Press & Wolf 2017, Inan et al. 2017).

With many words the softmax takes most of the time. The adaptive softmax first chooses among the frequent words and the
classes of rarer ones, then within the class, whose vectors are narrower (Grave et al. 2017). It has no tie.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asr.bundle.bundle import load_network, save_weights
from asr.errors import ConfigError, LanguageModelError
from asr.lm.ngram import SENTENCE_END, UNKNOWN, Perplexity
from asr.model.rnn import Dropout, RecurrentLayer
from asr.paths import ReadablePath
from asr.reading import parse_json, read_tensor_forms, shown
from asr.records import Record, Text, checked
from asr.search_config import RnnLmSettings
from asr.settings_file import parse_settings
from asr.text.tokens import TokenTable

BOUNDARY = 0
_UNKNOWN_WORD = 1
_HEADER = "rnnlm"
_TRIED = 16  # units, when a model is loaded
_MOST_LOGITS = 2**25  # in one piece of `unit_log_probs`: 128 MiB

# What the network knows of the units so far: an LSTM (h, c), a GRU (h,); `(layer, row, unit)` each.
LmState = tuple[Tensor, ...]


@dataclass(frozen=True)
class LmUnits:
    """What a model's unit ids mean: an acoustic model's tokens, or words.

    Attributes:
        kind: tokens or words.
        symbols: by id; `symbols[0]` is the sentence boundary. Tokens keep their ids, and the boundary takes the place
            of the blank. Of words, id 1 is `<unk>`, and the others are sorted by frequency, as the adaptive softmax
            needs them.
    """

    kind: Literal["tokens", "words"]
    symbols: tuple[str, ...]

    def __post_init__(self) -> None:
        """Refuse units whose ids would not mean what their symbols say.

        Raises:
            LanguageModelError: a symbol occurs twice, or the first ones are not those that every model has.
        """
        first = (SENTENCE_END,) if self.kind == "tokens" else (SENTENCE_END, UNKNOWN)
        if self.symbols[: len(first)] != first or len(self.symbols) < 2:
            raise LanguageModelError(f"the units begin with {shown(self.symbols[:2])}, not {' and '.join(first)}")
        if len(set(self.symbols)) < len(self.symbols):
            twice = next(symbol for symbol, count in Counter(self.symbols).items() if count > 1)
            raise LanguageModelError(f"the unit {shown(twice)} occurs twice")

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


class RnnLm(nn.Module):
    """Reads units and predicts the next one after each.

    Attributes:
        settings: of the network and of its training.
        units: what the ids mean.
    """

    def __init__(self, settings: RnnLmSettings, units: LmUnits) -> None:
        """Draw fresh weights.

        Raises:
            ConfigError: there are too few units, or hidden_size is too small, for the adaptive softmax.
        """
        super().__init__()
        width, unit_count = settings.hidden_size, len(units.symbols)
        self.settings, self.units = settings, units
        self.embedding = nn.Embedding(unit_count, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)  # logits of variance 1 at the start
        self.dropout = Dropout(settings.dropout)
        self.layers = nn.ModuleList(
            RecurrentLayer(settings.rnn, width, bidirectional=False, dropout=settings.dropout)
            for _ in range(settings.layers)
        )
        self.norm = nn.LayerNorm(width)
        self.bias: nn.Parameter | None = None
        self.adaptive: nn.AdaptiveLogSoftmaxWithLoss | None = None
        if settings.softmax == "plain":
            self.bias = nn.Parameter(torch.zeros(unit_count))
        else:
            if unit_count < 40 or width < 16:
                raise ConfigError(
                    f"softmax: adaptive needs 40 units and a hidden_size of 16, not {unit_count} and {width}; use plain"
                )
            self.adaptive = nn.AdaptiveLogSoftmaxWithLoss(width, unit_count, [unit_count // 20, unit_count // 4])

    @property
    def parameter_count(self) -> int:
        """The number of weights."""
        return sum(parameter.numel() for parameter in self.parameters())

    def start(self, rows: int) -> LmState:
        """Return the state before the first unit of `rows` texts: zeros."""
        shape = (len(self.layers), rows, self.settings.hidden_size)
        return (self.embedding.weight.new_zeros(shape),) * (2 if self.settings.rnn == "lstm" else 1)

    def forward(self, units: Tensor, state: LmState) -> tuple[Tensor, LmState]:
        """Read `(row, position)` units after those that led to `state`.

        Returns:
            `(row, position, width)` hidden vectors, each of which predicts the unit after its own, and the state at
            the end. Several calls that pass the state on give the same as one call over all units.
        """
        x = self.dropout(self.embedding(units))
        lengths = torch.full((len(units),), units.shape[1], device=units.device)
        after = []
        for index, layer in enumerate(self.layers):
            assert isinstance(layer, RecurrentLayer)
            x, layer_state = layer.window(x, lengths, tuple(part[index : index + 1] for part in state))
            after.append(layer_state)
        return self.dropout(self.norm(x)), tuple(torch.cat(parts) for parts in zip(*after, strict=True))

    def log_probs(self, hidden: Tensor) -> Tensor:
        """Return the `(row, unit)` natural-log distribution that each of `(row, width)` hidden vectors predicts."""
        if self.adaptive is not None:
            return self.adaptive.log_prob(hidden)
        return F.linear(hidden, self.embedding.weight, self.bias).log_softmax(-1)

    def target_log_probs(self, hidden: Tensor, targets: Tensor) -> Tensor:
        """Return the `(row,)` log-probability of each target; the adaptive softmax computes no more than that."""
        if self.adaptive is not None:
            output: Tensor = self.adaptive(hidden, targets).output
            return output
        return -F.cross_entropy(F.linear(hidden, self.embedding.weight, self.bias), targets, reduction="none")

    @torch.inference_mode()
    def unit_log_probs(self, sentences: Sequence[Sequence[int]]) -> list[Tensor]:
        """Return the log-probability of each unit of each sentence, and at last of the sentence's end.

        Every sentence is read by itself, from the start state on. Sentences of similar length share a batch. The
        network has to be in evaluation mode.

        Args:
            sentences: unit ids without boundaries.

        Returns:
            For each sentence `(units + 1,)`, float32 on the CPU.
        """
        result: list[Tensor] = [torch.empty(0)] * len(sentences)
        by_length = sorted(range(len(sentences)), key=lambda index: len(sentences[index]))
        for indices in _pieces(by_length, sentences, max(1, _MOST_LOGITS // len(self.units.symbols))):
            longest = len(sentences[indices[-1]]) + 1
            rows = [[BOUNDARY, *sentences[index]] for index in indices]
            padded = torch.tensor([row + [BOUNDARY] * (longest + 1 - len(row)) for row in rows])
            padded = padded.to(self.embedding.weight.device)
            hidden, _ = self(padded[:, :-1], self.start(len(rows)))
            scores = self.target_log_probs(hidden.flatten(0, 1), padded[:, 1:].flatten()).view(len(rows), longest)
            for index, row, values in zip(indices, rows, scores.cpu(), strict=True):
                result[index] = values[: len(row)]
        return result

    def perplexity(self, sentences: Sequence[Sequence[int]]) -> Perplexity:
        """Return the perplexity on sentences of unit ids without boundaries, counted as `NgramLm.perplexity` does."""
        oov = self.units.oov
        values = [score.double() for score in self.unit_log_probs(sentences)]
        oovs = sum(unit == oov for sentence in sentences for unit in sentence)
        known = [
            score if oov is None else score[torch.tensor([*(unit != oov for unit in sentence), True])]
            for sentence, score in zip(sentences, values, strict=True)
        ]
        units = sum(len(score) for score in known)
        total = sum(float(score.sum()) for score in known)
        return Perplexity(math.exp(-total / units) if units else math.nan, units, oovs)

    def save(self, path: Path) -> None:
        """Write the weights as safetensors, with settings and units as JSON in the header."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        content = {
            "settings": self.settings.model_dump(mode="json"),
            "kind": self.units.kind,
            "symbols": list(self.units.symbols),
        }
        save_weights(tensors, path, {_HEADER: json.dumps(content, ensure_ascii=False)})

    @classmethod
    def load(cls, path: ReadablePath) -> RnnLm:
        """Read what `save` wrote. The network is in evaluation mode on the CPU.

        Raises:
            LanguageModelError: the file is missing, damaged, or of another form.
        """
        what, way_out = "the recurrent language model", "`asr lm rnn` writes one"
        _, metadata = read_tensor_forms(path, LanguageModelError, what, way_out=way_out)
        header = parse_json(metadata.get(_HEADER, "{}"), LanguageModelError, f"{path}: its header", way_out=way_out)
        content = checked(_Content, header, f"{path}: not a recurrent language model", LanguageModelError, way_out)

        def build() -> RnnLm:
            settings = parse_settings(RnnLmSettings, content.settings, "its settings")
            return cls(settings, LmUnits(content.kind, tuple(content.symbols)))

        lm = load_network(path, build, LanguageModelError, "what its header says")
        for first in lm.unit_log_probs([[unit] for unit in range(1, min(len(lm.units.symbols), _TRIED))]):
            if first.isnan().any():
                raise LanguageModelError(f"{path}: the network computes no numbers; train the model again")
        return lm


class _Content(Record):
    """What the header of a file holds beside the weights."""

    settings: dict[str, Any]
    kind: Literal["tokens", "words"]
    symbols: list[Text]


def _pieces(order: Sequence[int], sentences: Sequence[Sequence[int]], most: int) -> Iterator[list[int]]:
    """Cut the indices, shortest sentence first, into batches of at most `most` positions, padding included."""
    piece: list[int] = []
    for index in order:
        if piece and (len(piece) + 1) * (len(sentences[index]) + 1) > most:
            yield piece
            piece = []
        piece.append(index)
    if piece:
        yield piece
