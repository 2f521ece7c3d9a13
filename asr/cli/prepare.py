"""`asr prepare`: a published corpus → manifests, by its recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def prepare(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="Name of a recipe, e.g. an4; an unknown name lists all of them.")
    ],
    out: Annotated[Path, typer.Option(help="Folder that gets {train,dev,test}.jsonl.gz, e.g. data/an4.")],
    corpus_dir: Annotated[Path | None, typer.Option(help="Folder of the corpus. Default: $ASR_CORPORA/RECIPE.")] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Seed of what the recipe draws by chance, e.g. dev speakers.")
    ] = 0,
) -> None:
    """Write the manifests of a corpus's train, dev and test splits."""
    import asr
    from asr.cli.console import out as console
    from asr.cli.console import progress

    prepared = asr.prepare(recipe, out, corpus_dir=corpus_dir, seed=seed, progress=progress)
    for note in prepared.notes:
        console.print(note)
    for split, manifest in prepared.manifests.items():
        console.print(f"{split:<6}{manifest}")
