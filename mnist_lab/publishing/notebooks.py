"""Notebooks as they are tracked: found, read, and given the outputs of a run without its noise."""

import ast
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from mnist_lab.publishing.headless import NotebookError, code_cells, faults, read
from mnist_lab.runtime import ROOT, write_whole


@dataclass(frozen=True)
class Step:
    """The notebook of a step as it stands in the repository."""

    path: Path

    @property
    def number(self) -> int:
        return int(self.path.name[:2])

    def defaults(self) -> dict[str, object]:
        """Return the literals of the cell tagged "parameters"; NotebookError if papermill could not replace them."""
        try:
            tagged = [cell for cell in read(self.path).cells if "parameters" in cell.metadata.get("tags", [])]
            if len(tagged) != 1:
                raise ValueError(f"a step notebook needs one cell tagged parameters, this one has {len(tagged)}")
            return read_literals(tagged[0].source)
        except (OSError, ValueError, SyntaxError) as error:
            raise NotebookError(f"{self.path.name}: {error}") from error


def find_steps(root: Path = ROOT) -> list[Step]:
    """Return the notebooks called ``NN_subject.ipynb`` of a checkout, in order."""
    return [Step(path) for path in sorted((root / "notebooks").glob("[0-9][0-9]_*.ipynb"))]


def read_literals(source: str) -> dict[str, object]:
    """Read lines of ``NAME = literal``; anything else raises ValueError, as papermill could not override it."""
    values = {}
    for statement in ast.parse(source).body:
        try:
            (target,) = statement.targets
            values[target.id] = ast.literal_eval(statement.value)
        except (AttributeError, ValueError):
            raise ValueError(f"line {statement.lineno} of the parameters cell is not NAME = literal") from None
    return values


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook in full or not at all. Raises nbformat.ValidationError if it breaks the format, and OSError."""
    nbformat.validate(notebook)
    write_whole(path, (nbformat.writes(notebook) + "\n").encode())


def finalise(executed: NotebookNode, path: Path, **bound: object) -> NotebookNode:
    """Return the tracked notebook at ``path`` with the outputs of the executed one, without noise.

    Its metadata bind the outputs to the code and to ``bound``, what else they depend on. Prose that was edited
    meanwhile is kept. Raises NotebookError if a reader would meet an error, a warning, a widget or a path of this
    machine in it, or if its code is no longer the tracked one.
    """
    clean = read(path)
    problems = faults(executed)
    home = os.path.expanduser("~")  # "~" if there is none
    places = [str(ROOT), *([f"{home}{os.sep}"] if len(home) > 1 else [])]  # a home of "/" is part of every address
    for position, cell in enumerate(executed.cells, 1):
        if "injected-parameters" in cell.metadata.get("tags", []):
            problems.append(f"cell {position} holds injected parameters")
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            texts = [output.get("text", ""), *(text for kind, text in data.items() if kind.startswith("text/"))]
            if output.get("name") == "stderr":
                problems.append(f"cell {position} wrote to stderr: {output.text.strip()[:200]}")
            if "application/vnd.jupyter.widget-view+json" in data:
                problems.append(f"cell {position} shows a widget")
            if any(place in text for place in places for text in texts):
                problems.append(f"cell {position} shows a path of this machine")
    if fingerprint(executed) != fingerprint(clean):
        problems.append("its code differs from that in the repository")
    if problems:
        raise NotebookError(f"{path.name} cannot be published: {'; '.join(problems)}")
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
        "mnist_lab": {"cells": fingerprint(clean), **bound},
    }
    return clean


def fingerprint(notebook: NotebookNode) -> str:
    """Return the SHA-256 of the sources of a notebook's code cells: outputs belong to exactly these."""
    return hashlib.sha256(json.dumps([cell.source for cell in code_cells(notebook)]).encode()).hexdigest()


def digests(files: list[Path]) -> dict[str, str]:
    """Return the SHA-256 of each file by its name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def folder_digest(folder: Path, *patterns: str) -> str:
    """Return a SHA-256 of the names and contents of all files in ``folder`` that match one of ``patterns``."""
    found = hashlib.sha256()
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
        content = path.read_bytes()
        found.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    return found.hexdigest()
