"""`asr check`: what a data folder holds and what is wrong with it."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import Accelerator, ConfigFile
from asr.errors import ExitStatus
from asr.files import printable
from asr.reading import counted

if TYPE_CHECKING:
    from asr.corpus.check import DataReport
    from asr.corpus.findings import Finding

_WIDTH = 80
_SHOWN = 3  # findings of each kind


def check(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="A folder with {train,dev,test}.jsonl.gz, or one manifest.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder to write manifests of the utterances without error or warning to."),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND", help="A kind of warning, e.g. clipped, that --out leaves nothing out for; repeatable."
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Model folder; finds transcripts that are probably wrong.")
    ] = None,
    config: ConfigFile = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting, e.g. text.remove=punctuation; repeatable."),
    ] = None,
    show_all: Annotated[
        bool, typer.Option("--all", help="Show every finding, not the first three of each kind.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    accelerator: Accelerator = "auto",
) -> None:
    """Show what manifests hold and what is wrong with them, by name.

    Every recording is decoded. Settings say how transcripts are normalised and which lengths are fit. An error breaks
    training or falsifies a result. A warning is about an utterance that probably teaches something wrong. A note is
    worth knowing.

    The exit status is 1 if there is an error, unless --out leaves all of them out. From test, --out leaves out only
    utterances with unusable audio or a repeated id. Without those that are merely hard, the error rate would be
    flattered.
    """
    import asr
    from asr.cli.console import out as console
    from asr.cli.console import progress
    from asr.files import to_json

    settings = asr.load_config(config, overrides or []) if config or overrides or model is None else None
    report = asr.check(
        data, config=settings, model=model, out=out, keep=keep or (), accelerator=accelerator, progress=progress
    )
    if as_json:
        console.print(to_json(report.to_json(), indent=1))
    else:
        console.print(render(report, None if show_all else _SHOWN))
        for line in _written(report) if out is not None else ():
            console.print(line)
    if report.unmended:
        raise typer.Exit(ExitStatus.FAILED)


def _written(report: DataReport) -> Iterator[str]:
    """Yield which manifests were written, and what they hold although it has a fault."""
    yield ""
    for split, path in report.written.items():
        left_out = len(report.left_out(split))
        yield f"written  {path}" + (f"  (without {left_out} of {report.splits[split].utterances})" if left_out else "")
    for split in report.splits:
        errors = {p.place for p in report.problems if p.split == split and p.stays}
        stay = len(errors - report.left_out(split))
        if stay and split in report.written:
            yield f"kept: {stay} of {split} with a fault, since the audio is usable"
        if split not in report.written:
            yield f"not written: {split}, in which every utterance has a fault"


def render(report: DataReport, shown: int | None = None) -> str:
    """Return the report as aligned text of at most 80 columns; only long names and paths exceed them.

    Args:
        report: what `asr.check` returns.
        shown: how many findings of each kind are shown; None: all.
    """
    from asr.text.report import character_name

    width = max(8, *(len(split) + 1 for split in report.splits))
    lines = [f"{'':{width}}{'utterances':>11}{'hours':>9}{'speakers':>10}{'words':>10}{'shortest':>11}{'longest':>10}"]
    for split, summary in report.splits.items():
        lines.append(
            f"{split:<{width}}{summary.utterances:>11}{summary.audio_s / 3600:>9.3f}{summary.speakers:>10}"
            f"{summary.words:>10}{summary.shortest_s:>9.2f} s{summary.longest_s:>8.2f} s"
        )
    lines += ["", f"{counted(len(report.characters), 'character')} (with their counts)"]
    counts = [f"{character_name(c)} {n}" for c, n in sorted(report.characters.items())]
    lines += _columns(counts)
    changes = [] if report.texts is None else list(report.texts.lines())
    lines += ["", "what normalising does (with counts)"] if changes else []
    for change in changes:
        lines += textwrap.wrap(printable(change), _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
    rates = Counter[int]()
    for summary in report.splits.values():
        rates.update(summary.sample_rates_hz)
    lines += ["", "sample rates (with their counts of utterances)"]
    lines += _columns([f"{rate} Hz {count}" for rate, count in sorted(rates.items())])
    for finding in report.findings:
        if not finding.name:
            text = f"{finding.severity}: {printable(finding.reason)}"
            lines += ["", *textwrap.wrap(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)]
    for severity, heading in (("error", "problem"), ("warning", "warning"), ("note", "note")):
        found = [finding for finding in report.findings if finding.severity == severity and finding.name]
        if found:
            lines += ["", counted(len(found), heading), *_by_kind(found, shown)]
        elif severity == "error":
            lines += ["", "No problems found."]
    return "\n".join(lines)


def _by_kind(findings: list[Finding], shown: int | None) -> Iterator[str]:
    """Yield the lines of findings of one severity: each kind with its number, its way out and its first ones."""
    from asr.corpus.findings import KINDS

    names = [kind for kind in KINDS if any(finding.kind == kind for finding in findings)]
    for kind in names:
        of_kind = [finding for finding in findings if finding.kind == kind]
        yield from textwrap.wrap(
            f"  {kind}, {len(of_kind)}: {KINDS[kind].way_out}", _WIDTH, subsequent_indent="    ", break_on_hyphens=False
        )
        for finding in of_kind[:shown]:
            yield f"    {finding.split}  {printable(finding.name)}: {printable(finding.reason)}"
        if shown is not None and len(of_kind) > shown:
            yield f"    and {len(of_kind) - shown} more; --all shows them"


def _columns(cells: list[str]) -> list[str]:
    """Lay cells out in rows of equal columns."""
    from rich.cells import cell_len, set_cell_size

    width = max(map(cell_len, cells), default=0) + 3
    per_row = max(1, (_WIDTH - 2) // width)
    rows = [cells[start : start + per_row] for start in range(0, len(cells), per_row)]
    return ["  " + "".join(set_cell_size(cell, width) for cell in row).rstrip() for row in rows]
