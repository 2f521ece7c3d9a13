"""`asr compare`: several systems → how they differ, as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def compare(
    systems: Annotated[
        list[Path],
        typer.Argument(
            metavar="SYSTEM...", help="Two or more decode folders of the same utterances, or model folders with them."
        ),
    ],
    common: Annotated[
        bool,
        typer.Option("--common", help="Compare only the utterances that all systems have with the same reference."),
    ] = False,
) -> None:
    """Compare systems on the same utterances.

    Shows each system's error rates, how each pair differs, and whether by more than chance. Also shows the settings
    that differ. Model folders are compared by the decode folder that all of them have.
    """
    import asr
    from asr.scoring.compare import to_text

    typer.echo(to_text(asr.compare(systems, common=common)))
