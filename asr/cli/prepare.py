"""`asr prepare`: a published corpus → manifests, by its recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def prepare(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="Name of a recipe, e.g. an4; an unknown one lists them.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for {train,dev,test}.jsonl.gz, e.g. data/an4.")],
    corpus_dir: Annotated[
        Path | None, typer.Option(help="Folder of the corpus; without it, $ASR_CORPORA/RECIPE.")
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Seed of what the recipe draws, e.g. dev speakers.")
    ] = 0,
) -> None:
    """Write the manifests of a corpus's train, dev and test splits."""
    from asr.cli.console import out as console
    from asr.corpus.manifest import SPLITS
    from asr.corpus.recipes import default_corpus_dir, load_prepare, recipes_folder

    prepare_corpus = load_prepare(recipe, recipes_folder())
    prepare_corpus(corpus_dir or default_corpus_dir(recipe), out, seed)
    for split in SPLITS:
        console.print(f"{split:<6}{out / f'{split}.jsonl.gz'}")
