"""A checkout made for the test, with notebooks that run in a second."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mnist_lab.publishing.notebooks import Step


@pytest.fixture
def root(tmp_path) -> Path:
    for name in ("notebooks/records/steps", "notebooks/evidence", "images", "runs"):
        (tmp_path / "lab" / name).mkdir(parents=True)
    return tmp_path / "lab"


@pytest.fixture
def write_step(root, recipe, settings) -> Callable[..., Step]:
    """Writes the notebook of a step with all parameters and then cells of the given sources."""
    values = (asdict(recipe) | asdict(settings)).items()

    def write(number: int, *sources: str) -> Step:
        cell = new_code_cell("\n".join(f"{name.upper()} = {value!r}" for name, value in values))
        cell.metadata["tags"] = ["parameters"]
        cells = [new_markdown_cell("# A trial"), cell, *map(new_code_cell, sources)]
        path = root / "notebooks" / f"{number:02d}_trial.ipynb"
        nbformat.write(new_notebook(cells=cells), path)
        return Step(path)

    return write


@pytest.fixture
def has_run() -> Callable[..., nbformat.NotebookNode]:
    """Writes a step's notebook into a folder as a run would leave it, and returns it."""

    def leave(step: Step, folder: Path) -> nbformat.NotebookNode:
        notebook = nbformat.read(step.path, as_version=4)
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        for position, cell in enumerate(code, 1):
            cell.execution_count = position
            cell.outputs = [nbformat.v4.new_output("stream", name="stdout", text=f"line {position}\n")]
        folder.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, folder / step.path.name)
        return notebook

    return leave
