"""`asr shar`: a data folder → the same data in a few big files."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer


def shar(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A folder with {train,dev,test}.jsonl.gz.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for train/, dev/ and test/, e.g. data/mine-shar.")],
) -> None:
    """Pack manifests and their audio into tar files (lhotse's Shar format), a thousand utterances each.

    For corpora with too many files, or on network storage. `asr train` and the others take the new folder as they
    take the old one. Audio is kept without loss, as mono FLAC.
    """
    if out.resolve() == data.resolve():
        raise typer.BadParameter("another folder than DATA, which would keep its manifests", param_hint="OUT")
    from asr.cli.console import err, progress
    from asr.cli.console import out as console
    from asr.corpus.check import data_manifests
    from asr.corpus.manifest import entries
    from asr.corpus.shar import write_shar

    skipped: dict[str, str] = {}
    for split, cuts in data_manifests(data).items():
        with progress(split, sum(1 for _ in entries(cuts))) as advance:
            report = write_shar(cuts, out / split, on_utterance=partial(advance, 1))
        console.print(f"{split:<6}{report.utterances:>9} utterances   {out / split}")
        skipped |= {f"{split}  {name}": reason for name, reason in report.skipped.items()}
    if skipped:
        err.print(f"{len(skipped)} utterances were left out:")
        for name, reason in skipped.items():
            err.print(f"  {name}: {reason}", markup=False)
        raise typer.Exit(1)
