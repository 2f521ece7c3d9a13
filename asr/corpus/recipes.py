"""Finds the recipes, in the checkout or inside the installed package, and runs their `prepare.py`."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path

from asr.errors import ManifestError

_PACKAGE = Path(__file__).resolve().parents[1]


def recipes_folder() -> Path:
    """Return the folder of the recipes: `asr/_recipes` in an installed wheel, else the checkout's `recipes`.

    Raises:
        ManifestError: neither is there.
    """
    for folder in (_PACKAGE / "_recipes", _PACKAGE.parent / "recipes"):
        if folder.is_dir():
            return folder
    raise ManifestError(f"{_PACKAGE}: this installation has no recipes; install the package again")


def recipe_names(folder: Path) -> list[str]:
    """Return the names of the recipes that can prepare a corpus."""
    return sorted(path.parent.name for path in folder.glob("*/prepare.py"))


def load_prepare(name: str, folder: Path) -> Callable[[Path | None, Path, int], None]:
    """Return the function `prepare(corpus_dir, out, seed)` of a recipe.

    Raises:
        ManifestError: there is no such recipe; those there are are listed.
    """
    if name not in recipe_names(folder):
        raise ManifestError(f"no recipe {name!r}; known: {', '.join(recipe_names(folder))}")
    spec = importlib.util.spec_from_file_location(f"asr_recipe_{name}", folder / name / "prepare.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    prepare: Callable[[Path | None, Path, int], None] = module.prepare
    return prepare


def default_corpus_dir(name: str) -> Path | None:
    """Return `$ASR_CORPORA/<name>`, or None if the variable is not set."""
    root = os.environ.get("ASR_CORPORA")
    return Path(root) / name if root else None
