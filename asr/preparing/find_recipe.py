"""A recipe's name → where its manifests and its settings are.

A recipe of the package has a `prepare.py`, which makes its manifests. A recipe that `asr init` made is in the folder
where the user works, its home: `recipes/NAME/recipe.yaml` names manifests that exist, `conf/NAME.yaml` is beside it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from asr.errors import RecipeError
from asr.preparing.recipes import CUSTOM, CorpusOptions, recipe_names, recipes_folder, settings_file, variant
from asr.reading import read_yaml

RECIPE_FILE = "recipe.yaml"


@dataclass(frozen=True)
class FoundRecipe:
    """Where a recipe's manifests and settings are.

    Attributes:
        name: of its folders in `data` and `exp`; a part or language is in it.
        data: the folder of the manifests.
        settings: the settings file.
        has_manifests: whether they exist already and are only checked.
        goes_on: whether the run goes on if that check finds faults, because `asr init` has told of them.
    """

    name: str
    data: Path
    settings: Path
    has_manifests: bool = False
    goes_on: bool = False


def find_recipe(
    recipe: str, home: Path, data: str | os.PathLike[str] | None, corpus: CorpusOptions | None = None
) -> FoundRecipe:
    """Return where a recipe's manifests and settings are.

    Args:
        recipe: its name.
        home: the folder that holds `data`, and what `asr init` wrote.
        data: the folder of the manifests, if the user names one.
        corpus: the options for a published corpus.

    Raises:
        RecipeError: there is no such recipe, it needs `data`, or it has no published corpus.
        ManifestError: this installation has no recipes or settings files.
    """
    shipped, own = {*recipe_names(recipes_folder()), CUSTOM}, own_recipes(home)
    corpus = corpus or CorpusOptions()
    if recipe not in shipped and recipe not in own:
        raise RecipeError(f"no recipe {recipe!r}; known: {', '.join(sorted({*shipped, *own}))}")
    if recipe == CUSTOM and data is None:
        raise RecipeError("custom needs --data DIR, a folder with {train,dev,test}.jsonl.gz; `asr import` makes one")
    if recipe not in shipped - {CUSTOM} and corpus.words():
        raise RecipeError(f"{recipe} has no published corpus; leave {corpus.words()[0]} out")
    if recipe in shipped:
        name = variant(recipe, corpus.part, corpus.language)
        folder = Path(home, "data", name) if data is None else Path(data)
        return FoundRecipe(name, folder, settings_file(recipe, corpus.part, corpus.language), recipe == CUSTOM)
    folder = _own_data(recipe, home) if data is None else Path(data)
    return FoundRecipe(recipe, folder, home / "conf" / f"{recipe}.yaml", has_manifests=True, goes_on=True)


def own_recipes(home: Path) -> list[str]:
    """Return the names of the recipes that `asr init` made in a folder."""
    return sorted(path.parent.name for path in (home / "recipes").glob(f"*/{RECIPE_FILE}"))


def _own_data(recipe: str, home: Path) -> Path:
    path = home / "recipes" / recipe / RECIPE_FILE
    content = read_yaml(path, RecipeError, "the recipe")
    data = content.get("data") if isinstance(content, dict) else None
    if not isinstance(data, str) or not data:
        raise RecipeError(f"{path}: names no manifests; it needs a line such as `data: data/{recipe}`")
    return home / data
