"""Recipes are found by name, in the checkout and in an installed package."""

import pytest

from asr.corpus import recipes
from asr.errors import ManifestError


def test_the_checkouts_recipes_are_found():
    assert {"an4", "yesno"} <= set(recipes.recipe_names(recipes.recipes_folder()))


def test_an_installed_packages_recipes_come_first(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "_PACKAGE", tmp_path / "asr")
    with pytest.raises(ManifestError, match="has no recipes"):
        recipes.recipes_folder()
    (tmp_path / "recipes").mkdir()
    assert recipes.recipes_folder() == tmp_path / "recipes"
    (tmp_path / "asr" / "_recipes").mkdir(parents=True)
    assert recipes.recipes_folder() == tmp_path / "asr" / "_recipes"


def test_prepare_is_loaded_by_path(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "prepare.py").write_text(f"def prepare(corpus_dir, out, seed=0): return {name!r}\n")
    (tmp_path / "custom").mkdir()
    assert recipes.recipe_names(tmp_path) == ["one", "two"]
    assert recipes.load_prepare("one", tmp_path)(None, tmp_path, 0) == "one"
    assert recipes.load_prepare("two", tmp_path)(None, tmp_path, 0) == "two"


def test_an_unknown_recipe_is_an_error_that_lists_the_known_ones(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "prepare.py").touch()
    for name in ("three", "../one", ""):
        with pytest.raises(ManifestError, match=f"no recipe '{name}'; known: one"):
            recipes.load_prepare(name, tmp_path)


def test_a_corpus_is_looked_for_under_asr_corpora(monkeypatch, tmp_path):
    monkeypatch.setenv("ASR_CORPORA", str(tmp_path))
    assert recipes.default_corpus_dir("an4") == tmp_path / "an4"
    monkeypatch.delenv("ASR_CORPORA")
    assert recipes.default_corpus_dir("an4") is None
