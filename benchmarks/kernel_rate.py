"""How near the recurrent kernels come to plain bfloat16 matrix products of the same shapes.

    python benchmarks/kernel_rate.py

The layer is this package's bidirectional one on the CPU (`both_directions` under autocast), forward and backward. Each
of its two directions consists of these products, written (rows × inner × columns), for g gates of h units:

                                     forward                    backward
    all frames at once               (b·t × f × g·h)            (b·t × g·h × f), (g·h × b·t × f), (g·h × b·t × h)
    frame after frame, t times       (b × h × g·h)              (b × g·h × h)

"plain" is `torch.mm` on bfloat16 matrices for exactly this list, the products of one frame one after the other, and
nothing else: no gates, no sums of gradients. "at once" does the products of single frames in one call as well, which
no recurrence can, and is the bound of the hardware. Shares are plain time ÷ layer time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from machine import THREADS, describe, median_ms
from torch import Tensor, nn

from asr.model.rnn import both_directions, reversal_index

FEATURES, HIDDEN, RUNS = 512, 256, 15
SHAPES = ((16, 80), (36, 64))  # (batch, frame): one view of a batch, and two views of AN4's usual one


def products(batch: int, frames: int, gates: int, *, at_once: bool) -> list[tuple[int, int, int, int]]:
    """Return (times, rows, inner, columns) of the layer's products in both directions, forward and backward."""
    steps, rows = (1, batch * frames) if at_once else (frames, batch)
    wide, all_rows = gates * HIDDEN, batch * frames
    one_direction = [
        (1, all_rows, FEATURES, wide),
        (steps, rows, HIDDEN, wide),
        (steps, rows, wide, HIDDEN),
        (1, all_rows, wide, FEATURES),
        (1, wide, all_rows, FEATURES),
        (1, wide, all_rows, HIDDEN),
    ]
    return 2 * one_direction


def multiply(shapes: list[tuple[int, int, int, int]]) -> Callable[[], None]:
    """Return a function that does these products in bfloat16, into memory set aside beforehand."""
    operands = [
        (
            times,
            torch.randn(rows, inner).bfloat16(),
            torch.randn(inner, columns).bfloat16(),
            torch.empty(rows, columns, dtype=torch.bfloat16),
        )
        for times, rows, inner, columns in shapes
    ]

    def run() -> None:
        for times, left, right, result in operands:
            for _ in range(times):
                torch.mm(left, right, out=result)

    return run


def train_layer(cell: str, kind: type[nn.RNNBase], batch: int, frames: int) -> Callable[[], None]:
    """Return a function that does forward and backward of one layer."""
    layer = kind(FEATURES, HIDDEN, batch_first=True, bidirectional=True)
    x = torch.randn(batch, frames, FEATURES, requires_grad=True)
    gradient = torch.randn(batch, frames, 2 * HIDDEN).bfloat16()
    reversal = reversal_index(torch.full((batch,), frames), frames)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16):
            y: Tensor = both_directions(layer, cell, x, reversal)
        y.backward(gradient.to(y.dtype))

    return run


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    print(describe())
    for batch, frames in SHAPES:
        for cell, kind, gates in (("lstm", nn.LSTM, 4), ("gru", nn.GRU, 3)):
            stepwise = products(batch, frames, gates, at_once=False)
            operations = sum(2 * times * rows * inner * columns for times, rows, inner, columns in stepwise)
            times = median_ms(
                {
                    "layer": train_layer(cell, kind, batch, frames),
                    "plain": multiply(stepwise),
                    "at once": multiply(products(batch, frames, gates, at_once=True)),
                },
                RUNS,
            )
            print(f"{cell}, {FEATURES} → 2 × {HIDDEN}, batch {batch}, {frames} frames: {operations / 1e9:.1f} GFLOP")
            for name, ms in times.items():
                share = "" if name == "layer" else f"   the layer reaches {100 * ms / times['layer']:.0f} % of it"
                print(f"  {name:8}{ms:7.1f} ms{operations / 1e6 / ms:8.1f} GFLOP/s{share}")


if __name__ == "__main__":
    main()
