"""`asr compare`: several systems → how they differ, as tables and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    systems: Annotated[
        list[Path],
        typer.Argument(
            metavar="SYSTEM", help="Two or more decode folders of the same utterances, or model folders with them."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A page to write, e.g. compare.html, with curves and utterances."),
    ] = None,
    common: Annotated[
        bool,
        typer.Option("--common", help="Compare only the utterances that all systems have with the same reference."),
    ] = False,
    audio: Annotated[
        bool,
        typer.Option("--audio/--no-audio", help="Put the audio into the page: some 180 kB a minute, at most 10 MB."),
    ] = True,
) -> None:
    """Compare systems on the same utterances.

    Shows each system's error rates, how each pair differs, and whether by more than chance. Also shows the settings
    that differ. Model folders are compared by the decode folder that all of them have.
    """
    import asr
    from asr.cli.console import out as console
    from asr.files import printable
    from asr.reporting.compare_text import to_text

    comparison = asr.compare(systems, out=out, common=common, audio=audio)
    console.print(to_text(comparison))
    if comparison.page is not None:
        console.print(f"\npage   {printable(comparison.page)}")
