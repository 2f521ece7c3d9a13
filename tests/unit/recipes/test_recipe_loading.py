"""Recipes are found by name, in the checkout and in an installed package."""

from pathlib import Path

import pytest

import asr
from asr.errors import ManifestError
from asr.preparing import recipes


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
        (tmp_path / name / "prepare.py").write_text(f"def prepare(request): return [{name!r}]\n")
    (tmp_path / "custom").mkdir()
    assert recipes.recipe_names(tmp_path) == ["one", "two"]
    request = recipes.CorpusRequest(tmp_path, tmp_path)
    assert recipes.load_recipe("one", tmp_path).prepare(request) == ["one"]
    assert recipes.load_recipe("two", tmp_path).prepare(request) == ["two"]


def test_an_unknown_recipe_is_an_error_that_lists_the_known_ones(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "prepare.py").touch()
    for name in ("three", "../one", ""):
        with pytest.raises(ManifestError, match=f"no recipe '{name}'; known: one"):
            recipes.load_recipe(name, tmp_path)


def test_a_corpus_is_looked_for_under_asr_corpora(monkeypatch, tmp_path):
    monkeypatch.setenv("ASR_CORPORA", str(tmp_path))
    assert recipes.default_corpus_dir("an4", tmp_path / "data" / "an4") == tmp_path / "an4"


def test_without_asr_corpora_a_corpus_is_beside_its_manifests(monkeypatch, tmp_path):
    monkeypatch.delenv("ASR_CORPORA", raising=False)
    assert recipes.default_corpus_dir("an4", tmp_path / "data" / "an4") == tmp_path / "data" / "corpora" / "an4"
    monkeypatch.chdir(tmp_path)
    assert recipes.default_corpus_dir("an4", Path("an4")) == tmp_path / "corpora" / "an4"


def test_settings_come_from_the_recipes_file_or_from_that_of_ones_own_data(tmp_path, monkeypatch):
    monkeypatch.setattr(recipes, "_PACKAGE", tmp_path / "asr")
    with pytest.raises(ManifestError, match="has no conf"):
        recipes.settings_file("an4")
    for folder in (tmp_path / "conf", tmp_path / "asr" / "_conf"):  # a checkout's, then an installed package's
        folder.mkdir(parents=True)
        (folder / "an4.yaml").touch()
        assert recipes.settings_file("an4") == folder / "an4.yaml"
        assert recipes.settings_file("mine") == folder / "custom.yaml"


RECIPE = """
from pathlib import Path

def prepare(request):
    request.out.mkdir()
    for split in ("train", "dev", "test"):
        (request.out / f"{split}.jsonl.gz").write_text(f"{request.corpus_dir} {request.seed}")
    with request.progress("recordings", 3) as advance:
        advance(3)
    return ["three recordings"]
"""


@pytest.fixture
def one(tmp_path, monkeypatch):
    """A package with one recipe, `one`."""
    monkeypatch.setattr(recipes, "_PACKAGE", tmp_path / "asr")
    path = tmp_path / "recipes" / "one" / "prepare.py"
    path.parent.mkdir(parents=True)
    path.write_text(RECIPE, encoding="utf-8")
    return path


def test_a_corpus_is_prepared_from_python_with_its_notes_and_manifests(one, tmp_path, monkeypatch):
    monkeypatch.setenv("ASR_CORPORA", str(tmp_path / "corpora"))
    prepared = asr.prepare("one", str(tmp_path / "data"))
    assert prepared.notes == ("three recordings",)
    assert prepared.manifests == {s: tmp_path / "data" / f"{s}.jsonl.gz" for s in ("train", "dev", "test")}
    assert prepared.manifests["dev"].read_text() == f"{tmp_path}/corpora/one 0"
    prepared = asr.prepare("one", tmp_path / "other", corpus_dir=tmp_path, seed=3)
    assert prepared.manifests["dev"].read_text() == f"{tmp_path} 3"


def test_a_recipe_that_leaves_out_a_split_is_an_error(one, tmp_path):
    one.write_text(RECIPE.replace('"test"', '"train"'), encoding="utf-8")
    with pytest.raises(ManifestError, match=r"test\.jsonl\.gz: no such manifest"):
        asr.prepare("one", tmp_path / "data")
