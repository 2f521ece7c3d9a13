"""`asr export`: model folder → a folder to pass on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A model folder, e.g. exp/an4.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The folder to write. Default: MODEL-onnx, MODEL-onnx-int8 and so on."),
    ] = None,
    format: Annotated[
        Literal["onnx", "torch", "web"],
        typer.Option(
            help="onnx runs without torch; torch is a model folder again, without checkpoints and logs; web is a page "
            "that transcribes in the browser."
        ),
    ] = "onnx",
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Store the weights in 8 bits: a quarter of the size; in onnx it is also faster."),
    ] = False,
) -> None:
    """Write a model to pass on: as ONNX, for browsers, in 8 bits.

    An onnx folder holds the network with features and normalisation, the n-gram and the settings of the search. python
    -m asr.runtime DIR FILE… transcribes with it and needs only numpy, onnxruntime and soundfile. A recurrent language
    model stays behind, because it needs torch.

    A torch folder is a model folder for all commands, with its language models. With --int8, results differ only by
    rounding.

    A web folder is a page that transcribes files and the microphone in the browser, also offline. npm install gets
    onnxruntime-web, npm start serves the page to this machine.
    """
    import asr
    from asr.cli.console import out as console

    report = asr.export(model, out, format=format, int8=int8)
    console.print(f"{report.folder}: {'int8' if int8 else 'float32'}, {report.size_bytes / 1e6:.1f} MB")
    if format == "onnx":
        console.print(f"transcribe with it, without torch: python -m asr.runtime {report.folder} FILE…")
    elif format == "web":
        console.print(f"open its page: cd {report.folder} && npm install && npm start")
    else:
        console.print(f"transcribe with it: asr transcribe {report.folder} FILE…")
