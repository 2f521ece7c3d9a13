"""Truncated backpropagation through time: a recurrent network learns from long recordings in flat memory.

Whole backpropagation keeps every layer's values of every frame until the loss is known, so its memory grows with the
recording. Here the network goes through the recording window by window. The state is handed on, so the values are
those of one pass over the whole; but it is handed on *detached*, as a constant. What gets lost is only the influence
of a weight on later windows through the state; inside a window the gradient is exact:

    window 1            window 2            window 3
    [h0 → … → h9] ──┤   [h9 → … → h19] ──┤  [h19 → … → h29]       ──┤ the value passes, the gradient does not
          ↓                    ↓                   ↓
    [ log-posteriors of the whole recording, joined ]  →  loss     (CTC needs all frames to sum over its paths)

A network that looks ahead sees some frames of the next window. They are computed in both, so a window's gradient counts
all it sees.

Since no gradient crosses a border, the windows are independent in the backward pass, and each one's values are needed
only while its turn lasts. So they are thrown away in the forward pass and computed a second time, one window after the
other, when the backward pass asks for them. That costs one more forward pass. What still grows with the recording is
small beside the layers' values: features, log-posteriors and a state per window, but also CTC's own table of frames ×
twice the tokens, which for a very long transcript becomes the largest of all.

Sources: Williams & Peng 1990 (truncation); Chen et al. 2016, arXiv:1604.06174 (computing values a second time).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from asr.model.rnn import State

# (features, lengths, start, stop, states of the layers or None at the start) → (output frames start to stop, states)
Step = Callable[[Tensor, Tensor, int, int, Sequence[State] | None], tuple[Tensor, Sequence[State]]]


def in_windows(step: Step, features: Tensor, lengths: Tensor, frames: int, window_frames: int) -> Tensor:
    """Return all output frames of `step`, joined along time; gradients stay within windows.

    The result is part of the autograd graph like that of any network: any criterion of it can be differentiated, and
    parameters get theirs in that one backward pass, so it also works under DistributedDataParallel. Random draws inside
    `step`, such as dropout, are the same both times, and so is autocast.

    Args:
        step: computes a window from its part of the features and from the states before it.
        features: `(batch, …)`, all of them, handed to `step`.
        lengths: `(batch,)`, handed to `step`.
        frames: output frames of the whole.
        window_frames: output frames of a window; the last window may be shorter.

    Returns:
        `(batch, frame, …)`.
    """
    outputs: list[Tensor] = []
    states: Sequence[State] | None = None
    for start in range(0, frames, window_frames):
        stop = min(start + window_frames, frames)
        output, after = checkpoint(
            _uncached, step, features, lengths, start, stop, states, use_reentrant=False, preserve_rng_state=True
        )
        states = tuple(tuple(part.detach() for part in state) for state in after)
        outputs.append(output)
    return torch.cat(outputs, dim=1)


def _uncached(
    step: Step, features: Tensor, lengths: Tensor, start: int, stop: int, states: Sequence[State] | None
) -> tuple[Tensor, Sequence[State]]:
    """Run `step`, under autocast with casts of its own.

    Autocast otherwise keeps one bfloat16 copy of each weight for all windows, and their gradients would be summed up
    in bfloat16: the sum over many windows would lose most of its digits.
    """
    device = features.device.type
    with torch.autocast(device, enabled=torch.is_autocast_enabled(device), cache_enabled=False):
        return step(features, lengths, start, stop, states)
