"""Utterances without transcripts in training: momentum pseudo-labelling.

Each step also takes a batch of untranscribed utterances. The average of the weights recognises them, greedily and
without masks, and the network learns from the masked ones what the average has recognised. The average changes slowly
and errs less than the network, so labels get better during the run and errors are not confirmed at once.

A batch without transcripts is as large as one with them. A step therefore takes at most twice as long, and one pass of
the average more.

Labels of a model that gets most words wrong teach it to say nothing. So untranscribed utterances are only taken in an
epoch before which the error rate on dev was low enough.

Source: Higuchi et al. 2021, "Momentum pseudo-labeling for semi-supervised speech recognition", arXiv:2106.08922.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial, reduce
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lightning_fabric import Fabric

from asr.config import Config
from asr.corpus.limits import MIN_UTTERANCE_S
from asr.corpus.manifest import entries, entry_of, read_manifest, shuffle_shards
from asr.corpus.untranscribed import AnyPath, find_untranscribed
from asr.decoding.greedy import greedy_search
from asr.errors import AsrError, TrainingError
from asr.features.augment import Draw
from asr.features.batch import Batch
from asr.features.batching import Moments, StepBatch
from asr.model.acoustic import AcousticModel, on_cpu
from asr.model.subsampling import output_frames
from asr.text.tokens import min_frames
from asr.training.run_state import RunState
from asr.training.survey import checksum_with

if TYPE_CHECKING:
    from lhotse import CutSet
    from lhotse.cut import Cut


MOST_ERRORS = 0.5  # on dev, as the main error rate: with more, most of what is recognised is wrong


@dataclass(frozen=True)
class UntranscribedData:
    """The utterances without transcripts that a run takes, as lazily as the manifest allows.

    Attributes:
        cuts: all of them.
        most_s: longer ones are left out, and those too short to hold a word.
        utterances: how many are taken.
        audio_s: how long they are together.
        checksum: of all lines in their order.
    """

    cuts: CutSet
    most_s: float
    utterances: int
    audio_s: float
    checksum: int

    @property
    def usable(self) -> CutSet:
        """The utterances that are taken, in the manifest's order."""
        return self.cuts.filter(partial(_is_usable, self.most_s))

    def shuffled(self, draw: Draw) -> CutSet:
        """Return them with the shards of a packed corpus in another order in each pass."""
        return shuffle_shards(self.cuts, draw.rng("shards")).filter(partial(_is_usable, self.most_s))


def _is_usable(most_s: float, cut: Cut) -> bool:
    return MIN_UTTERANCE_S <= entry_of(cut).duration_s <= most_s


def untranscribed_facts(data: UntranscribedData | None) -> dict[str, Any]:
    """Return what distinguishes the untranscribed utterances of a run from others, as JSON values."""
    count, checksum = (data.utterances, data.checksum) if data else (0, 0)
    return {"untranscribed_utterances": count, "untranscribed_checksum": checksum}


def read_untranscribed(
    fabric: Fabric, config: Config, data: AnyPath | Iterable[AnyPath], out: Path, *, keep: bool
) -> UntranscribedData:
    """Find the utterances of untranscribed audio; the first process cuts recordings for all.

    Args:
        fabric: the engine.
        config: all settings.
        data: see `find_untranscribed`.
        out: gets the manifest of the parts of recordings.
        keep: take that manifest as it is if it exists, because the run is resumed.

    Raises:
        AudioError, ManifestError: see `find_untranscribed`.
        TrainingError: no utterance can be used; the first process cannot cut the recordings.
    """
    refusal = None
    if fabric.is_global_zero:
        try:
            find_untranscribed(data, out, keep=keep)
        except AsrError as error:
            refusal = error
    refused = fabric.all_reduce(torch.tensor(float(refusal is not None), device=fabric.device), reduce_op="sum")
    if refused:
        raise refusal or TrainingError(f"{out}: the first process cannot read {data}; its message says why")
    cuts = read_manifest(*find_untranscribed(data, out, keep=True).manifests)
    most_s = config.training.max_utterance_s
    lines = list(entries(cuts))
    taken = [entry.duration_s for entry in lines if MIN_UTTERANCE_S <= entry.duration_s <= most_s]
    if not taken:
        raise TrainingError(
            f"{data}: no untranscribed utterance of {MIN_UTTERANCE_S:g} to {most_s:g} s; try `asr check`"
        )
    return UntranscribedData(cuts, most_s, len(taken), sum(taken), reduce(checksum_with, lines, 0))


@dataclass(frozen=True)
class PseudoLabelling:
    """What a run does with untranscribed utterances.

    Attributes:
        data: the utterances.
        config: all settings.
        moments: of their speakers, with features.cmvn=speaker.
    """

    data: UntranscribedData
    config: Config
    moments: Moments | None = None

    def first_epoch(self, state: RunState) -> int:
        """Return the epoch, from 0, from which untranscribed utterances are taken."""
        settings = self.config.training
        return 0 if state.knows_tokens else math.ceil(settings.unlabelled_after * settings.epochs)

    def takes_part(self, state: RunState) -> bool:
        """Return whether the current epoch takes untranscribed utterances; without dev scores nothing is against it."""
        can_recognise = not state.dev_scores or state.dev_scores[-1] <= MOST_ERRORS
        return state.epoch >= self.first_epoch(state) and can_recognise

    def has_stalled(self, state: RunState) -> bool:
        """Return whether dev has not gained for `unlabelled_patience` of the run, with untranscribed utterances."""
        settings = self.config.training
        since = state.improved[self.first_epoch(state) :]
        patience = math.ceil(settings.unlabelled_patience * settings.epochs)
        return len(since) > patience and not any(since[-patience:])

    def beside(
        self, transcribed: Iterator[StepBatch], state: RunState, load: Callable[..., Iterator[StepBatch]]
    ) -> Iterator[StepBatch]:
        """Return the steps of an epoch, each with untranscribed utterances besides, once it is time for them.

        The run passes over the untranscribed utterances again and again, whatever an epoch is.

        Args:
            transcribed: the epoch's steps.
            state: the run's position.
            load: `training_batches`, with the arguments that do not change from pass to pass.
        """
        if not self.takes_part(state):
            return transcribed
        return map(_beside, transcribed, self._passes(state.untranscribed_place, load))

    def _passes(
        self, place: tuple[int, int], load: Callable[..., Iterator[StepBatch]]
    ) -> Iterator[tuple[StepBatch, tuple[int, int]]]:
        """Yield batches without end from a place on, each with the place of the one after it."""
        skip = place[1]
        for finished in count(place[0]):
            cuts = self.data.shuffled(Draw(self.config.training.seed, finished))
            batches = load(cuts, None, self.config, epoch=finished, skip=skip, moments=self.moments)
            for number, batch in enumerate(batches, skip + 1):
                yield batch, (finished, number)
            skip = 0

    def label(self, fabric: Fabric, average: AcousticModel, batch: StepBatch, state: RunState) -> StepBatch:
        """Return a step in which what the average recognises stands as transcripts of its untranscribed utterances.

        Each token counts as much as any other, those of the average `unlabelled_weight` times as much. All processes
        call this together. The state counts the utterances.

        Args:
            fabric: the engine.
            average: the averaged weights, in evaluation mode.
            batch: a step with untranscribed utterances.
            state: the run's position.
        """
        assert batch.untranscribed is not None
        weight = self.config.training.unlabelled_weight
        given = [] if batch.untranscribed.idle else batch.untranscribed.pieces
        found = [label_batch(fabric, average, piece.to(fabric.device), self.config) for piece in given]
        labelled = [replace(piece, weight=weight) for piece in found if piece is not None]
        of_this_process = float(sum(int(piece.token_lengths.sum()) for piece in labelled))
        tokens = fabric.all_reduce(torch.tensor(of_this_process, device=fabric.device), reduce_op="sum")
        heard = sum(len(piece.ids) for piece in given)
        state.untranscribed_place = batch.place
        state.sums.untranscribed += heard
        state.sums.without_label += heard - sum(len(piece.ids) for piece in labelled)
        # A process without a transcribed utterance computes one for nothing, but its labels count. The processes
        # exchange gradients in the last piece, which is a transcribed one, because labels may be missing.
        own = [replace(piece, weight=0.0) for piece in batch.pieces] if batch.idle else batch.pieces
        return replace(
            batch,
            pieces=[*labelled, *own],
            idle=batch.idle and not labelled,
            token_count=max(1, round(batch.token_count + weight * float(tokens))),  # type: ignore[arg-type]
            ids=[*batch.ids, *batch.untranscribed.ids],
        )


def _beside(transcribed: StepBatch, other: tuple[StepBatch, tuple[int, int]]) -> StepBatch:
    return replace(transcribed, untranscribed=other[0], place=other[1])


@torch.no_grad()
def label_batch(fabric: Fabric, average: AcousticModel, batch: Batch, config: Config) -> Batch | None:
    """Return the utterances of a batch in which the average recognises something, with that as their tokens.

    The average hears them at the speed and in the noise that were drawn, but whole: without masks and at tempo 1. An
    utterance is left out if its label has more tokens than its frames can spell. None: nothing is left.
    """
    with fabric.autocast():
        log_posteriors, lengths = average(batch.waveforms, batch.lengths, moments=batch.moments)
    assert batch.perturbation is not None
    labels = [hypothesis.tokens for hypothesis in greedy_search(*on_cpu(log_posteriors, lengths))]
    frames = [output_frames(length, config.frames_joined) for length in batch.perturbation.frames]
    rows = [row for row, label in enumerate(labels) if label and min_frames(label) <= frames[row]]
    return batch.labelled(rows, [labels[row] for row in rows]) if rows else None
