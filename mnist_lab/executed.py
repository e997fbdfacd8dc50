"""An executed notebook as the repository keeps it: outputs without noise, bound to the code that made them."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_lab.runner import RunError, Step, code_cells, faults, read_notebook
from mnist_lab.runtime import ROOT

if TYPE_CHECKING:
    from nbformat import NotebookNode


def finalise(executed: "NotebookNode", step: Step, files: list[Path]) -> "NotebookNode":
    """Return the repository's notebook with the outputs of the executed one, without noise, bound to its files.

    Raises RunError if a reader would meet an error, a warning, a widget or a path of this machine in it, or if
    its code no longer is that in the repository. (Prose may have been edited while it ran: that is kept.)
    """
    clean = read_notebook(step.path)
    problems = faults(executed)
    places = [str(ROOT), *([f"{Path.home()}/"] if Path.home().name else [])]  # with a home of "/", "//" is no path
    for position, cell in enumerate(executed.cells, 1):
        if "injected-parameters" in cell.metadata.get("tags", []):
            problems.append(f"cell {position} holds injected parameters")
        for output in cell.get("outputs", []):
            text = json.dumps(output, ensure_ascii=False)
            if output.get("name") == "stderr":
                problems.append(f"cell {position} wrote to stderr: {output.text.strip()[:200]}")
            if "application/vnd.jupyter.widget-view+json" in text:
                problems.append(f"cell {position} shows a widget")
            if any(place in text for place in places):
                problems.append(f"cell {position} shows a path of this machine")
    if fingerprint(executed) != fingerprint(clean):
        problems.append("its code differs from that in the repository")
    if problems:
        raise RunError(f"{step.path.name} cannot be published: {'; '.join(problems)}")
    for cell, ran in zip(code_cells(clean), code_cells(executed), strict=True):
        cell.outputs, cell.execution_count = ran.outputs, ran.execution_count
        for output in cell.outputs:
            if output.output_type != "stream":
                output.metadata = {}
    for cell in clean.cells:
        cell.metadata = {"tags": cell.metadata.tags} if cell.metadata.get("tags") else {}
    clean.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
        "mnist_lab": {"cells": fingerprint(clean), "files": {path.name: digest(path) for path in sorted(files)}},
    }
    return clean


def write_notebook(notebook: "NotebookNode", path: Path) -> None:
    """Write a notebook. Raises nbformat.ValidationError if it breaks the format."""
    import nbformat

    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def fingerprint(notebook: "NotebookNode") -> str:
    """Return the SHA-256 of the sources of a notebook's code cells: outputs belong to exactly these."""
    return hashlib.sha256(json.dumps([cell.source for cell in code_cells(notebook)]).encode()).hexdigest()


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
