"""`asr score`: a decode folder → error rates on the screen, `wer.json`, `wer.txt` and `report.html` in the folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def score(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A decode folder with ref.trn and hyp.trn.")],
    against: Annotated[
        Path | None,
        typer.Option(help="Another system's decode folder of the same utterances, to compare with."),
    ] = None,
) -> None:
    """Count the errors of a decode folder: WER and CER with intervals.

    Every utterance's errors go to wer.txt; report.html shows them with the reliability of the confidences. If the
    folder lies in a model folder, the rates also go into the model card there.
    """
    from asr.bundle.card import is_model_folder, write_card
    from asr.scoring.rendering import render_comparison
    from asr.scoring.report import score_folder, summary
    from asr.scoring.score import compare, read_score

    if folder.name in ("", ".."):
        folder = folder.resolve()
    this = score_folder(folder)
    if is_model_folder(folder.parent):
        write_card(folder.parent)
    typer.echo(f"{folder}\n{summary(this)}")
    if against is not None:
        other = read_score(against)
        typer.echo(f"\n{against}\n{summary(other)}")
        typer.echo(f"\n{render_comparison(compare(other, this), str(folder))}")
    typer.echo(f"\ndetails   {folder}: wer.txt, report.html")
