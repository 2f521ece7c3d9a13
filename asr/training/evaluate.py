"""Greedy word errors of a model on a manifest: the figure by which training chooses."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

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
def greedy_errors(model: AcousticModel, cuts: Iterable[Cut], tokens: TokenTable, config: Config) -> ErrorCounts:
    """Return the word errors of `model` over `cuts`, summed."""
    device = next(model.parameters()).device
    references = transcripts(cuts, config.text)
    total = ErrorCounts()
    for batch in evaluation_batches(cuts, config):
        log_posteriors, lengths = model(batch.waveforms.to(device), batch.lengths.to(device))
        for utterance_id, hypothesis in zip(batch.ids, greedy_search(log_posteriors, lengths), strict=True):
            total += count_errors(references[utterance_id], tokens.decode(hypothesis.tokens), unit="word")
    return total
