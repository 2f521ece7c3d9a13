"""`asr score`: a decode folder → error rates on the screen, `wer.json`, `wer.txt` and `report.html` in the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def score(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A decode folder, as `asr decode` writes it.")],
    against: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Another system's decode folder of the same utterances, to compare with."),
    ] = None,
) -> None:
    """Count the errors of a decode folder: WER and CER.

    Both have 95 % intervals. wer.txt lists each utterance's errors. report.html shows them too, and whether the
    confidences can be trusted. If the decode folder is in a model folder, the rates also go into the model card there.
    """
    import asr
    from asr.bundle.files import SCORES_PAGE, SCORES_TEXT
    from asr.files import printable
    from asr.scoring.report import render_comparison, summary

    scored = asr.score(folder, against=against)
    name = printable(scored.folder)
    typer.echo(f"{name}\n{summary(scored.figures)}")
    if against is not None and scored.other is not None and scored.difference is not None:
        typer.echo(f"\n{printable(against)}\n{summary(scored.other)}")
        typer.echo(f"\n{render_comparison(scored.difference, str(scored.folder))}")
    typer.echo(f"\ndetails   {name}: {SCORES_TEXT}, {SCORES_PAGE}")
