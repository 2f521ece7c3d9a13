"""Only `asr/bundle/files.py` spells the names of a model folder's files; docstrings may mention them."""

import ast
import re
from pathlib import Path

import pytest

from asr.bundle import files

PACKAGE = Path(files.__file__).parents[1]
NAMES = sorted(
    name
    for key, name in vars(files).items()
    if key.isupper() and isinstance(name, str) and re.fullmatch(r"[\w/]+(\.\w+)+", name)
)
SPELT = re.compile(rf"(?<![\w.-])({'|'.join(map(re.escape, NAMES))})(?![\w-])")


def spelt_in(source: str) -> list[str]:
    """Return the file names in all strings of a module but its docstrings."""
    tree = ast.parse(source)
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    documented = (node for node in ast.walk(tree) if isinstance(node, holders) and ast.get_docstring(node) is not None)
    docstrings = {node.body[0].value for node in documented}
    strings = (node for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return [found for node in strings if node not in docstrings for found in SPELT.findall(node.value)]


def test_the_names_are_known() -> None:
    assert {"config.yaml", "decoder.yaml", "lm.arpa.gz", "rnnlm/rnnlm.safetensors", "tune.png", "model.json"} <= {
        *NAMES
    }


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("path = folder / 'config.yaml'", ["config.yaml"]),
        ("raise ValueError(f'{folder}: see tune.json')", ["tune.json"]),
        ("'''Reads config.yaml.'''\ndef f():\n    '''Writes tune.json.'''", []),
        ("name = 'my-config.yaml'", []),
    ],
)
def test_the_rule_itself_holds(source: str, found: list[str]) -> None:
    assert spelt_in(source) == found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_other_module_spells_them(path: Path) -> None:
    # A recipe has a README, too; it is no model card.
    of_recipes = [files.CARD] if path == PACKAGE / "preparing" / "new_recipe.py" else []
    if path != Path(files.__file__):
        assert spelt_in(path.read_text(encoding="utf-8")) == of_recipes


def test_what_transcribing_reads_are_files_of_the_folder() -> None:
    assert set(files.READ_BY_TRANSCRIBING) <= {*NAMES}
    assert files.CARD not in files.READ_BY_TRANSCRIBING
