"""The notebooks of the documentation run, show what is stored in them, and fit into the site."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import nbformat
import pytest

DOCS = Path(__file__).parents[2] / "docs"
runner = runpy.run_path(str(DOCS / "run_notebooks.py"))
hooks = runpy.run_path(str(DOCS / "hooks.py"))
NOTEBOOKS = [DOCS / "notebooks" / f"{name}.ipynb" for name in runner["NAMES"]]


def kinds(notebook: nbformat.NotebookNode) -> list[list[list[str]]]:
    """Return of what kind each output of each code cell is. What they say differs from machine to machine."""
    return [
        [sorted(output.get("data", {output.output_type: ""})) for output in cell.outputs]
        for cell in notebook.cells
        if cell.cell_type == "code"
    ]


def test_every_notebook_is_one_that_runs() -> None:
    assert sorted(NOTEBOOKS) == sorted(DOCS.rglob("*.ipynb"))


@pytest.mark.timeout(900)  # three notebooks, 20 s of one core; a busy machine takes many times as long
def test_the_notebooks_run_and_show_what_is_stored_in_them(tmp_path: Path) -> None:
    for name, notebook in runner["executed"](tmp_path).items():
        stored = nbformat.read(DOCS / "notebooks" / f"{name}.ipynb", as_version=4)
        assert [cell.source for cell in stored.cells] == [cell.source for cell in notebook.cells]
        assert kinds(stored) == kinds(notebook)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_stored_notebook_has_nothing_of_the_machine_it_ran_on(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert runner["clean"](notebook, path.stem) == nbformat.read(path, as_version=4)


@pytest.mark.parametrize(
    "output",
    [
        {"output_type": "stream", "name": "stderr", "text": "a warning"},
        {"output_type": "stream", "name": "stdout", "text": "/home/anna/data"},
        {
            "output_type": "execute_result",
            "data": {"text/plain": "PosixPath('/tmp/x')"},
            "metadata": {},
            "execution_count": 3,
        },
        {"output_type": "display_data", "data": {"text/html": "<b>C:\\Users\\anna</b>"}, "metadata": {}},
        {"output_type": "stream", "name": "stdout", "text": "long " * 120_000},
    ],
)
def test_what_does_not_belong_into_a_notebook_is_refused(output: dict[str, Any]) -> None:
    cell = nbformat.v4.new_code_cell("1")
    cell.outputs = [nbformat.from_dict(output)]
    with pytest.raises(ValueError, match=r"bad\.ipynb"):
        runner["clean"](nbformat.v4.new_notebook(cells=[cell]), "bad")


def test_a_notebook_becomes_a_page_in_which_what_it_shows_is_text(tmp_path: Path) -> None:
    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "See [the other](other.ipynb)."]},
        {
            "cell_type": "code",
            "source": ["print('```')"],
            "outputs": [
                {"output_type": "stream", "text": ["```\n", "<script>alert(1)</script>"]},
                {"output_type": "execute_result", "data": {"text/plain": ["text"], "text/html": ["<b>", "bold</b>"]}},
                {"output_type": "display_data", "data": {"image/png": "aGk=\n", "text/plain": ["<Figure>"]}},
            ],
        },
    ]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    import markdown

    page = markdown.markdown(hooks["page_of"](tmp_path / "a.ipynb"), extensions=["pymdownx.superfences"])
    assert page.startswith("<h1>Title</h1>")
    assert '<a href="a.ipynb">' in page
    assert '<a href="other.md">' in page
    assert "<script>" not in page
    assert "<b>bold</b>" in page
    assert 'src="data:image/png;base64,aGk="' in page
    assert "&lt;Figure&gt;" not in page
