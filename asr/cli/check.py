"""`asr check` and `asr pack`: what a data folder holds and what is wrong with it; the same in a few big files."""

from __future__ import annotations

import textwrap
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import ConfigFile
from asr.errors import ExitStatus
from asr.files import printable

if TYPE_CHECKING:
    from asr.corpus.check import DataReport

_WIDTH = 80


def check(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="A folder with {train,dev,test}.jsonl.gz, or one manifest.")
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder to write manifests of the utterances without a fault to.")
    ] = None,
    config: ConfigFile = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting, e.g. text.remove=punctuation; repeatable."),
    ] = None,
) -> None:
    """Show what manifests hold and name every unfit utterance.

    Every recording is decoded. Settings say how transcripts are normalised and which lengths are fit. The exit
    status is 1 if there is a problem, unless --out leaves all of them out. From test, --out leaves out only utterances
    with unusable audio or a repeated id. Without those that are merely hard, the error rate would be flattered.
    """
    import asr
    from asr.cli.console import out as console
    from asr.cli.console import progress

    report = asr.check(data, config=asr.load_config(config, overrides or []), out=out, progress=progress)
    console.print(render(report))
    if out is not None:
        console.print()
        for path in report.written.values():
            console.print(f"written  {path}")
        for split in report.splits:
            stay = len({p.place for p in report.problems if p.split == split and p.stays} - report.left_out(split))
            if stay and split in report.written:
                console.print(f"kept: {stay} of {split} with a fault, since the audio is usable")
            if split not in report.written:
                console.print(f"not written: {split}, in which every utterance has a fault")
    if report.unmended:
        raise typer.Exit(ExitStatus.FAILED)


def render(report: DataReport) -> str:
    """Return the report as aligned text of at most 80 columns; only long names and paths exceed them."""
    from asr.corpus.check import character_name

    width = max(8, *(len(split) + 1 for split in report.splits))
    lines = [f"{'':{width}}{'utterances':>11}{'hours':>9}{'speakers':>10}{'words':>10}{'shortest':>11}{'longest':>10}"]
    for split, summary in report.splits.items():
        lines.append(
            f"{split:<{width}}{summary.utterances:>11}{summary.audio_s / 3600:>9.3f}{summary.speakers:>10}"
            f"{summary.words:>10}{summary.shortest_s:>9.2f} s{summary.longest_s:>8.2f} s"
        )
    lines += ["", f"{len(report.characters)} characters (with their counts)"]
    counts = [f"{character_name(c)} {n}" for c, n in sorted(report.characters.items())]
    lines += _columns(counts)
    rates = Counter[int]()
    for summary in report.splits.values():
        rates.update(summary.sample_rates_hz)
    lines += ["", "sample rates (with their counts of utterances)"]
    lines += _columns([f"{rate} Hz {count}" for rate, count in sorted(rates.items())])
    for warning in report.warnings:
        lines += ["", *textwrap.wrap(f"warning: {warning}", _WIDTH, subsequent_indent="  ", break_on_hyphens=False)]
    if not report.problems:
        return "\n".join([*lines, "", "No problems found."])
    lines += ["", f"{len(report.problems)} problem{'s' if len(report.problems) > 1 else ''}"]
    lines += [
        f"  {problem.split}  {printable(problem.name)}: {printable(problem.reason)}" for problem in report.problems
    ]
    return "\n".join(lines)


def _columns(cells: list[str]) -> list[str]:
    """Lay cells out in rows of equal columns."""
    from rich.cells import cell_len, set_cell_size

    width = max(map(cell_len, cells), default=0) + 3
    per_row = max(1, (_WIDTH - 2) // width)
    rows = [cells[start : start + per_row] for start in range(0, len(cells), per_row)]
    return ["  " + "".join(set_cell_size(cell, width) for cell in row).rstrip() for row in rows]


def pack(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A folder with {train,dev,test}.jsonl.gz.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for train/, dev/ and test/, e.g. data/mine-shar.")],
) -> None:
    """Pack a data folder into a few large files, for large corpora.

    Manifests and audio become tar files of a thousand utterances each, in lhotse's Shar format. They suit corpora of
    very many files, and network storage. `asr train` and the other commands take the new folder like the old one. Audio
    becomes mono FLAC, without loss.
    """
    if out.resolve() == data.resolve():
        raise typer.BadParameter(
            "it is DATA, whose manifests would stay in it; name another folder", param_hint="--out"
        )
    import asr
    from asr.cli.console import err, progress
    from asr.cli.console import out as console

    report = asr.pack(data, out, progress=progress)
    for split, packed in report.splits.items():
        console.print(f"{split:<6}{packed.utterances:>9} utterances   {packed.folder}")
    skipped = [(split, *item) for split, packed in report.splits.items() for item in packed.skipped.items()]
    if skipped:
        err.print(f"{len(skipped)} utterances were left out:")
        for split, name, reason in skipped:
            err.print(f"  {split}  {printable(name)}: {printable(reason)}")
        raise typer.Exit(ExitStatus.FAILED)
