"""Options that several commands share, so that they are named and explained alike."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Accelerator = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="auto takes a GPU if there is one.")]
Method = Annotated[Literal["greedy", "beam"] | None, typer.Option(help="By default beam if the model has an LM.")]
