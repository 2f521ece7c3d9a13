"""`asr export`: model folder → a folder to pass on, with weights of 8 bits if they shall be small."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, e.g. exp/an4.")],
    format: Annotated[
        Literal["onnx", "torch"],
        typer.Option(help="onnx runs without torch; torch is a model folder again, without checkpoints and logs."),
    ] = "onnx",
    int8: Annotated[
        bool, typer.Option("--int8", help="Weights of 8 bits: a quarter of the size, and as onnx faster.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder to write; by default MODEL-onnx, MODEL-onnx-int8 and so on."),
    ] = None,
) -> None:
    """Write a model to pass on.

    As ONNX it holds features and normalisation. `python -m asr.runtime DIR FILE…` transcribes with it, which needs
    numpy, onnxruntime and soundfile, and searches greedily: a language model is not exported. A folder of the format
    torch is used as MODEL is, by all commands; it holds the language models, and results differ only by rounding.
    """
    from asr.exporting.export import export_onnx, export_torch

    name = model.resolve() if model.name in ("", "..") else model
    folder = out or name.with_name(f"{name.name}-{format}{'-int8' if int8 else ''}")
    write = export_onnx if format == "onnx" else export_torch
    size = write(model, folder, int8=int8)
    typer.echo(f"{folder}: {'int8' if int8 else 'float32'}, {size / 1e6:.1f} MB")
    if format == "onnx":
        typer.echo(f"transcribe with it, without torch: python -m asr.runtime {folder} FILE…")
    else:
        typer.echo(f"transcribe with it: asr transcribe {folder} FILE…")
