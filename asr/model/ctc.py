"""The training criterion: connectionist temporal classification, with consistency between masked views.

CTC sums the probabilities of all frame-by-frame paths that spell the transcript once repeats are merged and blanks
dropped. With - for the blank, four frames spell "at" in 15 ways:

    aaat  aatt  attt    -aat -att  aat- att-  --at -at- at--    a-tt aa-t a--t  -a-t  a-t-

So nobody has to say which frame belongs to which letter, and the loss is -log of the sum. "aa" needs a blank between
its letters, so at least three frames.

CR-CTC feeds two differently masked views of an utterance and pulls their posteriors together, each view
learning from what the other could see. Intermediate CTC asks a middle layer for the transcript as well, so that the
lower layers get a gradient that has not come through the upper ones. Distillation pulls the posteriors of each frame
towards those of a teacher, which heard the utterance without masks.

Sources: Graves et al. 2006 (CTC); Yao et al. 2024, arXiv:2410.05101 (CR-CTC); Lee & Watanabe 2021, arXiv:2102.03216
(intermediate CTC); Takashima et al. 2018, "An investigation of a knowledge distillation method for CTC acoustic
models" (frame posteriors of a teacher).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from asr.model.logmel import valid_frames
from asr.text.tokens import BLANK


@dataclass(frozen=True)
class CtcWeights:
    """How much the other parts of the criterion count beside CTC of the last layer; 0 leaves a part out.

    Attributes:
        consistency: weight of the divergence between two views.
        intermediate: share of the middle layer's loss in the total, from 0 to below 1.
        teacher: weight of the divergence from a teacher.
    """

    consistency: float = 0.0
    intermediate: float = 0.0
    teacher: float = 0.0


@dataclass(frozen=True)
class CtcLoss:
    """Loss per token of the transcripts, in nats; `total` is what is minimised, the rest are its parts, unweighted.

    All are scalars.
    """

    total: Tensor
    ctc: Tensor
    consistency: Tensor
    intermediate: Tensor
    teacher: Tensor

    def times(self, weight: float) -> CtcLoss:
        """Return the loss and all its parts, multiplied by a weight."""
        parts = (self.total, self.ctc, self.consistency, self.intermediate, self.teacher)
        return CtcLoss(*(part * weight for part in parts))


def ctc_loss(
    log_posteriors: Tensor,
    lengths: Tensor,
    tokens: Tensor,
    token_lengths: Tensor,
    *,
    token_count: int | None = None,
    known_lengths: Sequence[int] | None = None,
    views: int = 1,
    intermediate: Tensor | None = None,
    teacher: Tensor | None = None,
    weights: CtcWeights = CtcWeights(),
) -> CtcLoss:
    """Return the criterion of a batch that holds `views` views of each utterance, view by view.

    `total = (1 - weights.intermediate) · last + weights.intermediate · intermediate`, where
    `last = ctc + weights.consistency · consistency + weights.teacher · teacher`

    Args:
        log_posteriors: `(view·batch, frame, token)`, natural log; token 0 is blank.
        lengths: `(view·batch,)` frames.
        tokens: `(batch, token)`, padded; the same for every view.
        token_lengths: `(batch,)`.
        token_count: what the sums over utterances are divided by; the batch's own tokens without it. A batch that is
            shared out gives every part the count of the whole, so that the parts' losses add up to the whole's.
        known_lengths: the lengths as numbers, if the host knows them; otherwise a GPU is asked, which waits for it.
        views: 1, or 2 for consistency.
        intermediate: log-posteriors of a middle layer, shaped as `log_posteriors`; None: there are none.
        teacher: `(batch, frame, token)` log-posteriors that each view is pulled towards; None: there are none.
        weights: of the parts.

    Returns:
        Sums over utterances divided by the tokens. An utterance with fewer frames than its tokens need (`min_frames`)
        counts as 0 (`zero_infinity`).
    """
    count = max(1, int(token_lengths.sum()) if token_count is None else token_count)
    frame_counts = lengths.tolist() if known_lengths is None else list(known_lengths)
    token_counts = token_lengths.tolist() * views

    def ctc_of(heads: Tensor) -> Tensor:
        return F.ctc_loss(
            heads.transpose(0, 1),
            tokens.repeat(views, 1),
            frame_counts,  # type: ignore[arg-type]  # lists are as good; tensors would be copied to the host
            token_counts,  # type: ignore[arg-type]
            blank=BLANK,
            reduction="sum",
            zero_infinity=True,
        ) / (views * count)

    total = ctc = ctc_of(log_posteriors)
    consistency = middle = from_teacher = ctc.new_zeros(())
    if views == 2 and weights.consistency > 0:
        consistency = view_divergence(log_posteriors, lengths) / count
        total = total + weights.consistency * consistency
    if teacher is not None:
        from_teacher = teacher_divergence(log_posteriors, lengths, teacher) / count
        total = total + weights.teacher * from_teacher
    if intermediate is not None and weights.intermediate > 0:
        middle = ctc_of(intermediate)
        total = (1 - weights.intermediate) * total + weights.intermediate * middle
    return CtcLoss(total, ctc, consistency, middle, from_teacher)


def view_divergence(log_posteriors: Tensor, lengths: Tensor) -> Tensor:
    """Return the symmetric Kullback–Leibler divergence of two views, summed over valid frames and halved.

    Each view is pulled towards the other held fixed, so no gradient flows through a target.

    Args:
        log_posteriors: `(2·batch, frame, token)`, the first view of all utterances and then the second.
        lengths: `(2·batch,)` frames.
    """
    first, second = log_posteriors.chunk(2)
    valid = valid_frames(lengths[: len(first)], first.shape[1])[..., None]
    to_second = F.kl_div(first, second.detach(), reduction="none", log_target=True)
    to_first = F.kl_div(second, first.detach(), reduction="none", log_target=True)
    return ((to_second + to_first) * valid).sum() / 2


def teacher_divergence(log_posteriors: Tensor, lengths: Tensor, teacher: Tensor) -> Tensor:
    """Return the Kullback–Leibler divergence of views from a teacher, summed over valid frames, the mean of the views.

    Args:
        log_posteriors: `(view·batch, frame, token)`, view by view.
        lengths: `(view·batch,)` frames.
        teacher: `(batch, frame, token)`; no gradient flows into it.
    """
    views = len(log_posteriors) // len(teacher)
    valid = valid_frames(lengths, log_posteriors.shape[1])[..., None]
    target = teacher.detach().repeat(views, 1, 1)
    return (F.kl_div(log_posteriors, target, reduction="none", log_target=True) * valid).sum() / views
