"""Greedy word errors of a model on a manifest: the figure by which training chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from typing import TYPE_CHECKING

import torch
from lightning_fabric import Fabric

from asr.config import Config
from asr.data.manifest import transcripts
from asr.data.tokens import TokenTable
from asr.decode.greedy import greedy_search
from asr.features.batching import evaluation_batches
from asr.model.acoustic import AcousticModel
from asr.scoring.errors_count import ErrorCounts, count_errors

if TYPE_CHECKING:
    from lhotse.cut import Cut


@torch.inference_mode()
def greedy_errors(
    model: AcousticModel, cuts: Sequence[Cut], tokens: TokenTable, config: Config, fabric: Fabric
) -> ErrorCounts:
    """Return the word errors of `model` over `cuts`, summed; processes share the work and all get the result."""
    mine = cuts[fabric.global_rank :: fabric.world_size]
    references = transcripts(mine, config.text)
    total = ErrorCounts()
    for batch in evaluation_batches(mine, config):
        with fabric.autocast():
            log_posteriors, lengths = model(batch.waveforms.to(fabric.device), batch.lengths.to(fabric.device))
        for utterance_id, hypothesis in zip(batch.ids, greedy_search(log_posteriors, lengths), strict=True):
            total += count_errors(references[utterance_id], tokens.decode(hypothesis.tokens), unit="word")
    counts = torch.tensor(astuple(total), device=fabric.device)
    return ErrorCounts(*fabric.all_reduce(counts, reduce_op="sum").tolist())  # type: ignore[union-attr]
