"""The training criterion: connectionist temporal classification, with consistency between masked views.

CTC sums the probabilities of all frame-by-frame paths that spell the transcript once repeats are merged and blanks
dropped. CR-CTC feeds two differently masked views of an utterance and pulls their posteriors together, each view
learning from what the other could see.

Sources: Graves et al. 2006 (CTC); Yao et al. 2024, arXiv:2410.05101 (CR-CTC).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from asr.data.tokens import BLANK
from asr.features.logmel import valid_frames


@dataclass(frozen=True)
class CtcLoss:
    """Loss per token of the transcripts, in nats; `total = ctc + weight · consistency`."""

    total: Tensor
    ctc: Tensor
    consistency: Tensor


def ctc_loss(
    log_posteriors: Tensor,
    lengths: Tensor,
    tokens: Tensor,
    token_lengths: Tensor,
    *,
    token_count: int | None = None,
    views: int = 1,
    consistency_weight: float = 0.0,
) -> CtcLoss:
    """Return the criterion of a batch that holds `views` views of each utterance, view by view.

    Args:
        log_posteriors: `(view·batch, frame, token)`, natural log; token 0 is blank.
        lengths: `(view·batch,)` frames.
        tokens: `(batch, token)`, padded; the same for every view.
        token_lengths: `(batch,)`.
        token_count: what the sums over utterances are divided by; the batch's own tokens without it. A batch that is
            shared out gives every part the count of the whole, so that the parts' losses add up to the whole's.
        views: 1, or 2 for consistency.
        consistency_weight: weight of the divergence between the two views.

    Returns:
        Sums over utterances, divided by the tokens. An utterance with more tokens than frames counts as 0 (`zero_infinity`).
    """
    count = max(1, int(token_lengths.sum()) if token_count is None else token_count)
    ctc = F.ctc_loss(
        log_posteriors.transpose(0, 1),
        tokens.repeat(views, 1),
        lengths,
        token_lengths.repeat(views),
        blank=BLANK,
        reduction="sum",
        zero_infinity=True,
    ) / (views * count)
    if views == 1 or consistency_weight == 0:
        return CtcLoss(ctc, ctc, ctc.new_zeros(()))
    consistency = view_divergence(log_posteriors, lengths) / count
    return CtcLoss(ctc + consistency_weight * consistency, ctc, consistency)


def view_divergence(log_posteriors: Tensor, lengths: Tensor) -> Tensor:
    """Return the symmetric Kullback–Leibler divergence of two views, summed over valid frames and halved.

    Each view is pulled towards the other held fixed, so no gradient flows through a target.
    """
    first, second = log_posteriors.chunk(2)
    valid = valid_frames(lengths[: len(first)], first.shape[1])[..., None]
    to_second = F.kl_div(first, second.detach(), reduction="none", log_target=True)
    to_first = F.kl_div(second, first.detach(), reduction="none", log_target=True)
    return ((to_second + to_first) * valid).sum() / 2
