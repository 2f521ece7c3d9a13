"""`asr export`: model folder → a folder that transcribes without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, e.g. exp/an4.")],
    format: Annotated[Literal["onnx"], typer.Option(help="onnx runs wherever onnxruntime does.")] = "onnx",
    int8: Annotated[bool, typer.Option("--int8", help="Weights of 8 bits: a quarter of the size, and faster.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder to write; by default MODEL-onnx or MODEL-onnx-int8.")
    ] = None,
) -> None:
    """Write a model as ONNX, with features and normalisation inside, for use without torch.

    `python -m asr.runtime DIR FILE…` transcribes with it. That needs numpy, onnxruntime and soundfile, and searches
    greedily: a language model is not exported.
    """
    from asr.inference.export import export_onnx

    folder = out or model.with_name(f"{model.name}-{format}{'-int8' if int8 else ''}")
    size = export_onnx(model, folder, int8=int8)
    typer.echo(f"{folder}: {'int8' if int8 else 'float32'}, {size / 1e6:.1f} MB")
    typer.echo(f"transcribe with it, without torch: python -m asr.runtime {folder} FILE…")
