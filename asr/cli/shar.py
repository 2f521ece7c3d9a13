"""`asr shar`: a data folder → the same data in a few big files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def shar(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A folder with {train,dev,test}.jsonl.gz.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder for train/, dev/ and test/, e.g. data/mine-shar.")],
) -> None:
    """Pack manifests and their audio into tar files (lhotse's Shar format), a thousand utterances each.

    For corpora of very many files, or on network storage. `asr train` and the other commands take the new folder like
    the old one. Audio becomes mono FLAC, without loss.
    """
    if out.resolve() == data.resolve():
        raise typer.BadParameter("another folder than DATA, which would keep its manifests", param_hint="OUT")
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
            err.print(f"  {split}  {name}: {reason}")
        raise typer.Exit(1)
