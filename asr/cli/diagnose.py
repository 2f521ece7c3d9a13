"""`asr diagnose`: a trained model → how far its gradients reach, as a table and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.bundle.files import DIAGNOSIS, DIAGNOSIS_PLOT


def diagnose(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, e.g. exp/an4.")],
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder with dev.jsonl.gz; without it, the network hears noise.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help=f"Folder for {DIAGNOSIS_PLOT} and {DIAGNOSIS}. Default: MODEL.")
    ] = None,
) -> None:
    """Show where gradients vanish or explode.

    The loss of one frame is differentiated. Its gradient at the hidden states of earlier frames (later ones, in the
    backward direction) is measured, in the trained model and in a fresh one with the same settings.

    The table shows over how many frames the gradient halves or doubles, what share of it is left at some distances, and
    its norm for the loss of all frames.
    """
    import asr
    from asr.cli.console import out as console

    found = asr.diagnose(model, data, out)
    shown = [distance for distance in (10, 30, 100) if distance <= found.distance_frames]
    titles = [*(f"after {distance}" for distance in shown), "mean norm"]
    console.print(f"{'frames':>30}" + "".join(f"{title:>12}" for title in titles))
    for name, side in (("fresh", found.fresh), ("trained", found.trained)):
        console.print(f"{name} {found.cell}")
        for item in side:
            frames = item.half_life_frames
            change = f"{'halves' if frames >= 0 else 'doubles'} in {abs(frames):.1f}"
            values = [*(item.by_distance[distance] for distance in shown), item.whole]
            cells = "".join(f"{value:>12.1e}" for value in values)
            console.print(f"{item.layer:2} {item.direction:8} {change:>18}" + cells)
    console.print(f"picture  {(out or model) / DIAGNOSIS_PLOT}")
