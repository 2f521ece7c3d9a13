"""Ways to run a padded batch through the recurrent layers of an acoustic model on a CPU, timed side by side.

    python benchmarks/rnn_layouts.py

packed   nn.LSTM(bidirectional=True) on a packed sequence, as most toolkits do
flipped  this package's `RecurrentLayer` kernels: the second direction reads each utterance reversed in its own length

Times are medians of training steps (forward and backward) of three layers of 256 units in each direction, 16
utterances of 50 to 80 frames. The ratio is against packed float32 in the same run.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from machine import describe, median_ms
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from asr.model.rnn import both_directions, reversal_index

BATCH, FRAMES, FEATURES, HIDDEN, LAYERS, RUNS = 16, 80, 256, 256, 3, 9


def main() -> None:
    torch.manual_seed(0)
    x = torch.randn(BATCH, FRAMES, FEATURES)
    lengths = torch.linspace(50, FRAMES, BATCH).long().flip(0)
    reversal = reversal_index(lengths, FRAMES)
    print(describe())
    for cell, kind in (("lstm", nn.LSTM), ("gru", nn.GRU)):
        sizes = [FEATURES] + [2 * HIDDEN] * (LAYERS - 1)
        layers = [kind(size, HIDDEN, batch_first=True, bidirectional=True) for size in sizes]

        def packed(y: Tensor, layers: list[nn.RNNBase] = layers) -> Tensor:
            sequence = pack_padded_sequence(y, lengths, batch_first=True, enforce_sorted=False)
            for layer in layers:
                sequence = layer(sequence)[0]
            return pad_packed_sequence(sequence, batch_first=True)[0]

        def flipped(y: Tensor, layers: list[nn.RNNBase] = layers, cell: str = cell) -> Tensor:
            for layer in layers:
                y = both_directions(layer, cell, y, reversal)
            return y

        def step(run: Callable[[Tensor], Tensor], bf16: bool) -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
                y = run(x)
            y.float().sum().backward()

        calls = {
            f"{run.__name__} {name}": (lambda run=run, bf16=bf16: step(run, bf16))
            for run in (packed, flipped)
            for name, bf16 in (("float32", False), ("bfloat16", True))
        }
        times = median_ms(calls, RUNS)
        for name, ms in times.items():
            print(f"{cell:5} {name:17} {ms:7.1f} ms   {times['packed float32'] / ms:5.2f} × packed float32")


if __name__ == "__main__":
    main()
