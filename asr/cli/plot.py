"""`asr plot`: a recording → a figure of its waveform, spectrogram, posteriors and words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def plot(
    audio: Annotated[Path, typer.Argument(metavar="AUDIO", help="An audio or video file; - for standard input.")],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="The figure to write; its name ends in .png, .svg or .pdf.")
    ],
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A model folder; the figure then shows its posteriors and words.")
    ] = None,
    start: Annotated[
        float, typer.Option(metavar="SECONDS", min=0, help="Where in the recording the figure begins.")
    ] = 0.0,
    duration: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Length of the plotted part, at most 60 s.")
    ] = None,
) -> None:
    """Draw a recording: waveform, spectrogram, posteriors and words.

    The figure shows the waveform and the log-mel spectrogram over time. With --model, it also shows the posterior of
    each token in each frame, and the recognised words with their times.
    """
    import asr
    from asr.cli.console import out as console
    from asr.files import printable
    from asr.reading import counted

    plotted = asr.plot(audio, out, model=model, start_s=start, duration_s=duration)
    words = "" if plotted.words is None else f", {counted(len(plotted.words), 'word')}"
    console.print(
        f"{printable(plotted.path)}: {plotted.start_s:.2f} to {plotted.end_s:.2f} s of {printable(audio)}{words}"
    )
