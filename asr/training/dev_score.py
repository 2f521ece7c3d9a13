"""The averaged weights on dev → a score; the scores of all epochs so far → the epoch whose weights are kept.

The score has the word error rate of greedy search, the character error rate, and the CTC loss. All come from one pass
of the network.

The word error rate decides while it can. It cannot while it is above `SAYS_NOTHING` in every epoch so far, as in the
first epochs or with little data: the words are then all wrong, whatever else gets better. Nor can it tell epochs apart
whose rates differ by no more than chance: by no more than the margin of the paired difference, over speakers where at
least five are known. Then the character error rate decides, which counts five times as much. While that is above
`SAYS_NOTHING` too, as in a network that has learnt to answer with blanks alone, the loss decides.

No kept epoch's word error rate is ever above the lowest so far by more than chance. So many small steps cannot lead
away from it. In scripts without spaces the character error rate takes the place of the word error rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from asr.config import Config
from asr.corpus.manifest import known_speakers, transcripts
from asr.decoding.greedy import greedy_search
from asr.errors import TokenError, TrainingError
from asr.features.batching import Moments, Stored, evaluation_batches
from asr.model.acoustic import AcousticModel, on_cpu
from asr.scoring.error_counts import ErrorCounts, count_errors, main_unit
from asr.scoring.intervals import difference_margin, speakers_of
from asr.text.normalise import normalised_hypothesis
from asr.text.tokens import BLANK, TokenTable, min_frames

if TYPE_CHECKING:
    from lhotse.cut import Cut

SAYS_NOTHING = 0.9  # an error rate above it


@dataclass(frozen=True)
class DevScore:
    """How well the averaged weights do on dev after one epoch.

    Attributes:
        words: the errors of greedy search in words.
        characters: the same in characters.
        loss: CTC loss per token, in nats, without augmentation. Utterances that have characters without a token, or
            more tokens than frames, are left out; infinite if none remains.
        utterances: how many dev has.
        empty: how many of them have a text, but nothing is recognised in them.
        by_characters: whether the character error rate is the main figure, see `main_unit`.
        unit_errors: the errors of each speaker, or of each utterance where too few speakers are known: in characters if
            `by_characters`, else in words.
        unit_lengths: the lengths of their references.
    """

    words: ErrorCounts
    characters: ErrorCounts
    loss: float
    utterances: int
    empty: int
    by_characters: bool
    unit_errors: Sequence[int]
    unit_lengths: Sequence[int]

    @property
    def rate(self) -> float:
        """The main figure: the word error rate, or in scripts without spaces the character error rate."""
        return (self.characters if self.by_characters else self.words).rate

    @property
    def rank(self) -> tuple[float, float]:
        """What decides where the main figure does not, lower is better: the character error rate, then the loss."""
        rate = self.characters.rate
        return (rate if rate <= SAYS_NOTHING else math.inf, self.loss)

    def is_within_chance_of(self, other: DevScore) -> bool:
        """Return whether the main figures of two epochs differ by no more than chance."""
        if len(self.unit_errors) != len(other.unit_errors):
            raise TrainingError("the checkpoint has scores of another dev set; train into another --out")
        gains = np.subtract(self.unit_errors, other.unit_errors)
        lengths = np.array(self.unit_lengths)
        return abs(int(gains.sum())) / int(lengths.sum()) <= difference_margin(gains, lengths)

    def require_consistent(self) -> None:
        """Refuse a score that was read and that no epoch can have.

        Raises:
            ValueError: a reference has no length, or units are not all counted.
        """
        no_reference = not self.words.reference_length or not self.characters.reference_length
        if no_reference or len(self.unit_errors) != len(self.unit_lengths) or not sum(self.unit_lengths):
            raise ValueError("the score of an epoch contradicts itself")


@dataclass(frozen=True)
class BestEpoch:
    """What must be known of the epochs so far: the score of the kept one, and that with the lowest main figure."""

    kept: DevScore
    lowest: DevScore


def best_epoch(before: BestEpoch | None, new: DevScore) -> BestEpoch:
    """Return what is known after one more epoch; `kept` is `new` if its weights are to be kept.

    Of two equal epochs the later one is kept.
    """
    if before is None:
        return BestEpoch(new, new)
    lowest = new if new.rate < before.lowest.rate else before.lowest

    def contends(score: DevScore) -> bool:
        return lowest.rate > SAYS_NOTHING or score.is_within_chance_of(lowest)

    if not contends(new):
        return BestEpoch(before.kept, lowest)
    return BestEpoch(new if not contends(before.kept) or new.rank <= before.kept.rank else before.kept, lowest)


@dataclass(frozen=True)
class Evaluation:
    """How utterances become texts after an epoch.

    Attributes:
        tokens: of the model.
        config: all settings.
        fabric: the engine.
        moments: of the utterances' speakers, with features.cmvn=speaker.
        stored: returns the features of an utterance, if they are computed already.
    """

    tokens: TokenTable
    config: Config
    fabric: Fabric
    moments: Moments | None = None
    stored: Stored | None = None

    def outputs(self, model: AcousticModel, cuts: Sequence[Cut]) -> Iterator[tuple[list[str], Tensor, Tensor]]:
        """Yield the ids of a batch, its log-posteriors `(batch, frame, token)` and its lengths `(batch,)` in frames."""
        for cpu_batch in evaluation_batches(cuts, self.config, self.moments, stored=self.stored):
            batch = cpu_batch.to(self.fabric.device)
            with self.fabric.autocast():
                log_posteriors, lengths = model(batch.waveforms, batch.lengths, moments=batch.moments)
            yield batch.ids, log_posteriors, lengths

    def texts(self, log_posteriors: Tensor, lengths: Tensor) -> list[str]:
        """Return what greedy search finds in each utterance, normalised as transcripts are."""
        searched = greedy_search(*on_cpu(log_posteriors, lengths))
        spelled = [self.tokens.decode(hypothesis.tokens) for hypothesis in searched]
        return [normalised_hypothesis(text, self.config.text) for text in spelled]


@torch.inference_mode()
def score_dev(model: AcousticModel, cuts: Sequence[Cut], evaluation: Evaluation) -> DevScore:
    """Return the score of all cuts; processes share the work, and all get the result."""
    fabric, references = evaluation.fabric, transcripts(cuts, evaluation.config.text)
    places = {name: place for place, name in enumerate(references)}
    figures = torch.zeros(len(places), _FIGURES, dtype=torch.float64)
    shared = cuts[fabric.global_rank :: fabric.world_size]
    for ids, log_posteriors, lengths in evaluation.outputs(model, shared):
        texts, frames = [references[name] for name in ids], lengths.tolist()
        targets = [_target(text, count, evaluation.tokens) for text, count in zip(texts, frames, strict=True)]
        losses = _losses(log_posteriors, lengths, targets)
        recognised = evaluation.texts(log_posteriors, lengths)
        for name, text, target, loss, found in zip(ids, texts, targets, losses, recognised, strict=True):
            counts = [astuple(count_errors(text, found, unit=unit)) for unit in ("word", "character")]
            row = (*counts[0], *counts[1], loss, len(target), bool(text) and not found)
            figures[places[name]] = torch.tensor(row, dtype=torch.float64)
    summed = fabric.all_reduce(figures.to(fabric.device), reduce_op="sum")
    return _score(summed.cpu().numpy(), references, known_speakers(cuts))  # type: ignore[union-attr]


_FIGURES = 11  # of an utterance: four counts in words, four in characters, its loss, its tokens there, is it empty


def _score(figures: NDArray[np.float64], references: Mapping[str, str], speakers: Mapping[str, str]) -> DevScore:
    """Return the score of utterances with the figures `(utterance, figure)`."""
    names, by_characters = list(references), main_unit(references.values()) == "character"
    _, unit_of = np.unique(speakers_of(names, speakers) or names, return_inverse=True)
    units = np.zeros((unit_of.max() + 1, _FIGURES))
    np.add.at(units, unit_of, figures)
    *counts, loss, tokens, empty = figures.sum(axis=0).tolist()
    words, characters = (ErrorCounts(*map(int, four)) for four in (counts[:4], counts[4:]))
    main = units[:, 4:8] if by_characters else units[:, :4]
    return DevScore(
        words=words,
        characters=characters,
        loss=loss / tokens if tokens and math.isfinite(loss) else math.inf,
        utterances=len(names),
        empty=int(empty),
        by_characters=by_characters,
        unit_errors=main[:, :3].sum(axis=1).astype(int).tolist(),
        unit_lengths=main[:, 3].astype(int).tolist(),
    )


def _target(text: str, frames: int, tokens: TokenTable) -> list[int]:
    """Return the tokens that a loss is computed of: none if a character has no token, or the frames do not suffice."""
    try:
        target = tokens.encode(text)
    except TokenError:
        return []
    return target if min_frames(target) <= frames else []


def _losses(log_posteriors: Tensor, lengths: Tensor, targets: Sequence[Sequence[int]]) -> list[float]:
    """Return the CTC loss of each utterance in nats; 0 for those without a target."""
    losses = [0.0] * len(targets)
    rows = [row for row, target in enumerate(targets) if target]
    if rows:
        device, heads = log_posteriors.device, log_posteriors[rows].float().transpose(0, 1)
        counts = torch.tensor([len(targets[row]) for row in rows], device=device)
        padded = pad_sequence([torch.tensor(targets[row]) for row in rows], batch_first=True).to(device)
        found = F.ctc_loss(heads, padded, lengths[rows], counts, blank=BLANK, reduction="none")
        for row, loss in zip(rows, found.tolist(), strict=True):
            losses[row] = loss
    return losses
