"""A recurrent language model: embedding → LSTM or GRU layers → the distribution of the next unit.

Unit 0 is the sentence boundary: read, it begins a sentence; predicted, it ends one. Over an acoustic model's tokens,
where 0 is the blank and no part of any text, unit ids are therefore token ids.

All layers have the embedding's width, so that the output can score a unit by the product of the hidden vector and
the unit's embedding. The tie saves a matrix as large as the vocabulary, and a word that is rarely predicted learns
from being read (Press & Wolf 2017, Inan et al. 2017).

With many words most of the work is the softmax. The adaptive one first chooses among the frequent words and the
classes of rarer ones, then within the class, whose vectors are narrower (Grave et al. 2017); it has no tie.


A recurrent language model on disk: `rnnlm.safetensors`, with settings and units as JSON in its header.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from asr.config import RnnLmSettings
from asr.errors import ConfigError, LanguageModelError
from asr.files import atomic_path
from asr.lm.ngram import Perplexity
from asr.lm.texts import LmUnits
from asr.model.rnn import Dropout, RecurrentLayer

BOUNDARY = 0
_MOST_LOGITS = 2**25  # in one piece of `unit_log_probs`: 128 MiB

# What the network knows of the units so far: an LSTM (h, c), a GRU (h,); `(layer, row, unit)` each.
LmState = tuple[Tensor, ...]


class RnnLm(nn.Module):
    """Reads units, predicts the next one after each."""

    def __init__(self, settings: RnnLmSettings, unit_count: int) -> None:
        """Draw fresh weights for `unit_count` units, the boundary included.

        Raises:
            ConfigError: vocabulary or hidden_size are too small for the adaptive softmax.
        """
        super().__init__()
        width = settings.hidden_size
        self.settings = settings
        self.unit_count = unit_count
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
        """Return the state of `rows` texts of which nothing has been read: zeros."""
        shape = (len(self.layers), rows, self.settings.hidden_size)
        return (self.embedding.weight.new_zeros(shape),) * (2 if self.settings.rnn == "lstm" else 1)

    def forward(self, units: Tensor, state: LmState) -> tuple[Tensor, LmState]:
        """Read `(row, position)` units after those that led to `state`.

        Returns:
            `(row, position, width)` hidden vectors, each of which predicts the unit after its own, and the state at
            the end. Several calls with the state handed on give what one call over all units gives.
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
        """Return the log-probability of each unit of each sentence, and last of its end.

        Every sentence is read by itself, from the start state on; sentences of like length share a batch. The network
        should be in evaluation mode.

        Args:
            sentences: unit ids without boundaries.

        Returns:
            For each sentence `(units + 1,)`, float32 on the CPU.
        """
        result: list[Tensor] = [torch.empty(0)] * len(sentences)
        by_length = sorted(range(len(sentences)), key=lambda index: len(sentences[index]))
        for indices in _pieces(by_length, sentences, max(1, _MOST_LOGITS // self.unit_count)):
            longest = len(sentences[indices[-1]]) + 1
            rows = [[BOUNDARY, *sentences[index]] for index in indices]
            padded = torch.tensor([row + [BOUNDARY] * (longest + 1 - len(row)) for row in rows])
            padded = padded.to(self.embedding.weight.device)
            hidden, _ = self(padded[:, :-1], self.start(len(rows)))
            scores = self.target_log_probs(hidden.flatten(0, 1), padded[:, 1:].flatten()).view(len(rows), longest)
            for index, row, values in zip(indices, rows, scores.cpu(), strict=True):
                result[index] = values[: len(row)]
        return result

    def perplexity(self, sentences: Sequence[Sequence[int]], oov: int | None) -> Perplexity:
        """Return the perplexity on sentences of unit ids, counted as `NgramLm.perplexity` counts.

        Args:
            sentences: unit ids without boundaries; each sentence is by itself.
            oov: the id that stands for units outside the vocabulary; None if there is none.
        """
        values = [score.double() for score in self.unit_log_probs(sentences)]
        oovs = sum(unit == oov for sentence in sentences for unit in sentence)
        known = [
            score if oov is None else score[torch.tensor([*(unit != oov for unit in sentence), True])]
            for sentence, score in zip(sentences, values, strict=True)
        ]
        units = sum(len(score) for score in known)
        total = sum(float(score.sum()) for score in known)
        return Perplexity(math.exp(-total / units) if units else math.nan, units, oovs)


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


RNN_LM = "rnnlm.safetensors"


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
