"""From an executed batch to tracked results: check everything, then replace all files together."""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from mnist_lab.batch import NOTEBOOKS, BatchError, Step, faults
from mnist_lab.plots import ladder
from mnist_lab.readme import render
from mnist_lab.records import Record, in_order, is_publishable, load_records
from mnist_lab.runtime import ROOT

RECORDS = NOTEBOOKS / "records"
IMAGES = ROOT / "images"
README = ROOT / "README.md"
LADDER = "00_ladder.png"  # the one figure that spans the steps


def refusals(
    steps: list[Step], overrides: Mapping[str, object], records: list[Record], all_steps: list[Step]
) -> list[str]:
    """Return why a batch is only a look and not a result; an empty list if it may be published."""
    reasons = []
    if overrides:
        reasons.append(f"parameters were changed ({', '.join(overrides)})")
    if [step.path for step in steps] != [step.path for step in all_steps]:
        reasons.append("not every step ran")
    if not all(is_publishable(record) for record in records):
        reasons.append("it was not a full run on MNIST")
    if {record.step for record in records if not record.is_rung} != {step.number for step in steps}:
        reasons.append("a step left no record")
    return reasons


def publish(folder: Path, steps: list[Step]) -> list[Path]:
    """Replace the tracked notebooks, records, figures and README blocks by those of the batch in ``folder``.

    Every new file is written in full before the first old one is replaced, so that a full disk changes
    nothing. Returns the files replaced; raises BatchError if something may not be published.
    """
    records = load_records(folder)
    figures = [path for step in steps for path in sorted(folder.glob(f"{step.path.name[:2]}_*.png"))]
    ladder(records, "Test accuracy, step by step (MNIST)").savefig(folder / LADDER, dpi=110)
    sources = {IMAGES / path.name: path for path in [folder / LADDER, *figures]}
    sources |= {RECORDS / record.file_name: folder / record.file_name for record in records}
    for step in steps:
        executed = nbformat.read(folder / step.path.name, as_version=4)
        own = [path for path in sources.values() if path.name.startswith((step.path.name[:2], f"step-{step.number}"))]
        clean = folder / f"{step.path.stem}.published"
        nbformat.write(finalise(executed, step, own), clean)
        sources[step.path] = clean
    text = folder / README.name
    try:
        text.write_text(render(README.read_text(), merge(load_records(RECORDS), records)))
    except ValueError as error:
        raise BatchError(f"cannot publish: {error}") from error
    sources[README] = text
    replace_together(sources)
    return list(sources)


def merge(tracked: list[Record], new: list[Record]) -> list[Record]:
    """Return all records, a new one in place of a tracked one of the same row and seed."""
    return in_order({record.file_name: record for record in [*tracked, *new]}.values())


def finalise(executed: NotebookNode, step: Step, files: list[Path]) -> NotebookNode:
    """Return an executed notebook as it is tracked: without noise, and bound to its sources and files.

    Raises BatchError if a reader would meet an error, a warning, a widget or a path of this machine in it,
    or if it no longer is the notebook in the repository.
    """
    problems = faults(executed)
    if fingerprint(executed) != fingerprint(nbformat.read(step.path, as_version=4)):
        problems.append("its cells differ from those in the repository")
    for position, cell in enumerate(executed.cells, 1):
        if "injected-parameters" in cell.metadata.get("tags", []):
            problems.append(f"cell {position} holds injected parameters")
        for output in cell.get("outputs", []):
            text = json.dumps(output)
            if output.get("name") == "stderr":
                problems.append(f"cell {position} wrote to stderr: {output.text.strip()[:200]}")
            if "application/vnd.jupyter.widget-view+json" in text:
                problems.append(f"cell {position} shows a widget")
            if str(ROOT) in text or str(Path.home()) + os.sep in text:
                problems.append(f"cell {position} shows a path of this machine")
    if problems:
        raise BatchError(f"{step.path.name} cannot be published: {'; '.join(problems)}")
    clean = nbformat.from_dict(executed)
    for cell in clean.cells:
        cell.metadata = {"tags": cell.metadata.tags} if cell.metadata.get("tags") else {}
        for output in cell.get("outputs", []):
            output.pop("metadata", None) if output.output_type == "stream" else output.update(metadata={})
    clean.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
        "mnist_lab": {"cells": fingerprint(clean), "files": {path.name: digest(path) for path in files}},
    }
    nbformat.validate(clean)
    return clean


def fingerprint(notebook: NotebookNode) -> str:
    """Return the SHA-256 of the sources of a notebook's code cells: outputs belong to exactly these."""
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    return hashlib.sha256(json.dumps(code).encode()).hexdigest()


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def replace_together(sources: Mapping[Path, Path]) -> None:
    """Copy every source beside its target, and only when all are written, move them into place."""
    staged = {}
    try:
        for target, source in sources.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            staged[target] = target.with_name(f".{target.name}.new")
            shutil.copyfile(source, staged[target])
        for target, new in staged.items():
            new.replace(target)
    except OSError as error:
        raise BatchError(f"cannot publish: {error.strerror or error}; the results stay with the batch") from error
    finally:
        for new in staged.values():
            new.unlink(missing_ok=True)
