"""What a network with one direction carries from one block of a recording to the next.

Each part of the network waits for a little of what follows: a spectrum's window for samples, the subsampling for
log-mel frames, the look-ahead for output frames. What has come but could not be used up waits in the state, whose size
does not grow, and the hidden states sum up all that came before:

    samples ─→ log-mel ─→ subsampling ─→ recurrent layers ─→ look-ahead ─→ log-posteriors
       └ waiting  └ waiting                  └ hidden states     └ waiting
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from asr.model.rnn import State


@dataclass(frozen=True)
class StreamState:
    """The state of `AcousticModel.step`; every tensor's first dimension is 1.

    Attributes:
        samples: `(1, sample)` that wait for a spectrum's window to fill.
        features: `(1, frame, mel)` that wait for the subsampling's.
        layers: a hidden state a layer; none before the first output frame.
        outputs: `(1, frame, width)` of the last layer that wait for the look-ahead's.
    """

    samples: Tensor
    features: Tensor
    layers: tuple[State, ...]
    outputs: Tensor
