"""`asr search`: ranges of settings → the settings that do best on dev."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import ConfigFile, ConfigSet


def search(
    ranges: Annotated[
        Path, typer.Argument(metavar="RANGES", help="YAML file with the values to try, e.g. conf/search/usual.yaml.")
    ],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder with train.jsonl.gz and dev.jsonl.gz.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for trainings and results, e.g. exp/mine-search.")],
    config: ConfigFile = None,
    overrides: ConfigSet = None,
    trials: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of candidates, with the settings as they are among them.")
    ] = 16,
    seeds: Annotated[
        int, typer.Option(metavar="N", min=1, help="Number of trainings of each candidate in the last round.")
    ] = 3,
    minutes: Annotated[
        float | None,
        typer.Option(metavar="M", min=0, help="Begin no training later than this; the same command continues."),
    ] = None,
) -> None:
    """Search for better settings on dev.

    RANGES has the form of a settings file. In place of its value, a setting has a list such as [128, 192, 256], or a
    range such as 0.001 to 0.01.

    All candidates are trained for a ninth of the epochs, the better third of them for a third, and the better third of
    those for all epochs, with several seeds. The settings as they are reach the last round in any case. The search
    ends with a table, a picture, and best.yaml, which says how sure the choice is.

    The same command continues an interrupted search. Several processes may run it at once in the same --out, one for
    each GPU for example.
    """
    import asr
    from asr.cli.console import out as console
    from asr.errors import ExitStatus
    from asr.machine import duration
    from asr.tuning.search import TrainingDone
    from asr.tuning.search_report import BEST, PICTURE, RESULTS, TABLE

    def show(done: TrainingDone) -> None:
        item, outcome = done.training, done.trial.outcome
        figure = f"failed: {done.trial.failure}"
        if outcome is not None:
            name = "CER" if outcome.by_characters else "WER"
            figure = f"{100 * outcome.rate:.2f} % {name} on dev, {duration(outcome.seconds)}"
        console.print(f"{item.name}: {figure}; {done.left_in_round} left in this round")

    report = asr.search(
        ranges,
        data,
        out,
        config=asr.load_config(config, overrides or ()),
        trials=trials,
        seeds=seeds,
        minutes=minutes,
        on_training=show,
    )
    rows = report.rows()
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    console.print()
    for row in rows:
        console.print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    console.print()
    for line in report.lines():
        console.print(line)
    if report.failed:
        console.print(f"failed   {len(report.failed)} of {len(report.candidates)} candidates, see the table")
    written = [TABLE, RESULTS, PICTURE, *([] if report.best is None else [BEST])]
    console.print(f"written  {out}: {', '.join(written)}")
    if report.stopped:
        raise typer.Exit(ExitStatus.STOPPED)
