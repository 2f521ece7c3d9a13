"""Run the notebooks of the documentation one after another and store what they show: `python docs/run_notebooks.py`.

They run in a temporary folder, because the first one trains the model that the others use. A second run on the same
machine changes nothing in them.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent / "notebooks"
NAMES = ("train", "transcribe", "inside")
"""In the order in which they run."""

MOST_BYTES = 500_000
_FOLDER_NAME = re.compile(r"(?:/(?:home|root|tmp|work|usr|Users)\b|[A-Z]:\\)[^\s\"']*")


def executed(folder: Path, names: Iterable[str] = NAMES) -> dict[str, nbformat.NotebookNode]:
    """Return the notebooks with what they show, run in a folder.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell fails; the message has the cell and its error.
        ValueError: a notebook shows what does not belong in the documentation.
    """
    # One thread gives the same sums each time. tqdm warns where widgets are not installed; nothing here needs them.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore:IProgress not found"}
    notebooks = {}
    for name in names:
        notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        resources = {"metadata": {"path": os.fspath(folder)}}
        client = NotebookClient(notebook, timeout=300, resources=resources, coalesce_streams=True)
        client.execute(env=environment)
        notebooks[name] = clean(notebook, name)
    return notebooks


def clean(notebook: nbformat.NotebookNode, name: str) -> nbformat.NotebookNode:
    """Return a notebook without what changes from run to run.

    Raises:
        ValueError: it shows a warning, a folder of this machine, or more than `MOST_BYTES`.
    """
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    runs = 0
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id, cell.metadata = f"cell-{number}", {}
        if cell.cell_type != "code":
            continue
        runs += 1
        cell.execution_count = runs
        for output in cell.outputs:
            output.pop("metadata", None) if output.output_type == "stream" else output.update(metadata={})
            if output.output_type == "execute_result":
                output.execution_count = runs
            _refuse(output, f"{name}.ipynb, cell {number}")
    if len(nbformat.writes(notebook)) > MOST_BYTES:
        raise ValueError(f"{name}.ipynb: more than {MOST_BYTES:,} bytes; show less audio or smaller figures")
    return notebook


def _refuse(output: nbformat.NotebookNode, place: str) -> None:
    if output.output_type == "stream" and output.name == "stderr":
        raise ValueError(f"{place}: shows {output.text!r} on stderr")
    texts = [output.get("text", ""), *(output.get("data", {}).get(kind, "") for kind in ("text/plain", "text/html"))]
    for text in texts:
        if (found := _FOLDER_NAME.search(re.sub(r"base64,[\w+/=]+", "", text))) is not None:
            raise ValueError(f"{place}: names a folder of this machine, {found[0]!r}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        for name, notebook in executed(Path(temporary)).items():
            nbformat.write(notebook, FOLDER / f"{name}.ipynb")
            print(f"{name}.ipynb: {(FOLDER / f'{name}.ipynb').stat().st_size:,} bytes")
