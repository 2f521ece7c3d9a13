"""The recipes: where they and their settings files are, and how one prepares its corpus.

A recipe is a folder `recipes/NAME` whose `prepare.py` has a function `prepare`; `conf/NAME.yaml` holds its settings. In
an installed wheel both folders are inside the package, so that recipes work without a checkout.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, cast

from asr.errors import ManifestError
from asr.machine import Progress, silent

CUSTOM = "custom"  # the recipe of one's own data: settings and stages, but no corpus to prepare
_PACKAGE = Path(__file__).resolve().parents[1]


class PrepareCorpus(Protocol):
    """A recipe's function `prepare`: it writes `out`/{train,dev,test}.jsonl.gz and returns lines that describe them."""

    def __call__(self, corpus_dir: Path | None, out: Path, seed: int, progress: Progress, /) -> Iterable[str] | None:
        """Prepare the corpus in `corpus_dir`; `seed` decides whatever is drawn by chance."""


@dataclass(frozen=True)
class PrepareReport:
    """The manifest of each split, and what the recipe reports about them, one line each."""

    manifests: dict[str, Path]
    notes: tuple[str, ...]


def prepare(
    recipe: str,
    out: str | os.PathLike[str],
    *,
    corpus_dir: str | os.PathLike[str] | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> PrepareReport:
    """Write the manifests of a published corpus's train, dev and test splits into the folder `out`.

    Args:
        recipe: the name of a recipe, e.g. "an4".
        out: the folder that gets train.jsonl.gz, dev.jsonl.gz and test.jsonl.gz.
        corpus_dir: the folder of the corpus; without it, `$ASR_CORPORA/RECIPE`.
        seed: decides what the recipe draws by chance, e.g. the dev speakers.
        progress: shows how far a long preparation is.

    Raises:
        ManifestError: there is no such recipe, the corpus is missing or malformed, or the recipe left out a split.
        AudioError: a recording is missing or damaged.
    """
    from asr.corpus.manifest import SPLITS, find_split

    prepare_corpus = load_prepare(recipe, recipes_folder())
    corpus = default_corpus_dir(recipe) if corpus_dir is None else Path(corpus_dir)
    notes = prepare_corpus(corpus, Path(out), seed, progress)
    return PrepareReport({split: find_split(Path(out), split) for split in SPLITS}, tuple(notes or ()))


def recipes_folder() -> Path:
    """Return the folder of the recipes: `asr/_recipes` in an installed wheel, else the checkout's `recipes`.

    Raises:
        ManifestError: neither exists.
    """
    return _folder("recipes")


def settings_file(recipe: str) -> Path:
    """Return a recipe's settings file: `conf/RECIPE.yaml`, or `conf/custom.yaml` if it has none of its own.

    Raises:
        ManifestError: this installation has no settings files.
    """
    folder = _folder("conf")
    own = folder / f"{recipe}.yaml"
    return own if own.is_file() else folder / f"{CUSTOM}.yaml"


def _folder(name: str) -> Path:
    for folder in (_PACKAGE / f"_{name}", _PACKAGE.parent / name):
        if folder.is_dir():
            return folder
    raise ManifestError(f"{_PACKAGE}: this installation has no {name}; install the package again")


def recipe_names(folder: Path) -> list[str]:
    """Return the names of the recipes that can prepare a corpus."""
    return sorted(path.parent.name for path in folder.glob("*/prepare.py"))


def load_prepare(name: str, folder: Path) -> PrepareCorpus:
    """Return the function `prepare` of a recipe.

    Raises:
        ManifestError: there is no such recipe; the message lists those that exist.
    """
    if name not in recipe_names(folder):
        raise ManifestError(f"no recipe {name!r}; known: {', '.join(recipe_names(folder))}")
    spec = importlib.util.spec_from_file_location(f"asr_recipe_{name}", folder / name / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast(PrepareCorpus, module.prepare)


def default_corpus_dir(name: str) -> Path | None:
    """Return `$ASR_CORPORA/<name>`, or None if the variable is not set."""
    root = os.environ.get("ASR_CORPORA")
    return Path(root) / name if root else None
