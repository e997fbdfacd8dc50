"""From an executed run to tracked results: check everything, then replace all files together."""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from mnist_lab.atomic import replace_together, write_whole
from mnist_lab.benchmark import Benchmark, load_benchmark, save_benchmark
from mnist_lab.plots import ladder, time_shares
from mnist_lab.plots_published import save_figures
from mnist_lab.readme import render
from mnist_lab.records import Record, in_order, is_publishable, load_records, save
from mnist_lab.runner import NOTEBOOKS, RUNS, RunError, Step, code_cells, faults
from mnist_lab.runtime import ROOT

RECORDS = NOTEBOOKS / "records"
IMAGES = ROOT / "images"
README = ROOT / "README.md"
BENCHMARKS = NOTEBOOKS / "benchmarks"  # one file for each kind of device
PUBLISHED = NOTEBOOKS / "published"  # a folder for each recipe of the published series
LADDER, SPEED = "00_ladder.png", "00_speed.png"  # the figures that belong to no single step


def refusals(
    steps: list[Step], overrides: Mapping[str, object], records: list[Record], all_steps: list[Step]
) -> list[str]:
    """Return why a run is only a look and not a result; an empty list if it may be published."""
    reasons = []
    if overrides:
        reasons.append(f"parameters were changed ({', '.join(overrides)})")
    if [step.path for step in steps] != [step.path for step in all_steps]:
        reasons.append("not every step ran")
    if not all(is_publishable(record) for record in records):
        reasons.append("it was not a full run on MNIST")
    if any(record.published for record in records):
        reasons.append("a published recipe took the place of our own")
    if {record.step for record in records if not record.is_rung} != {step.number for step in steps}:
        reasons.append("a step left no record")
    return reasons


def publish(folder: Path, steps: list[Step]) -> list[Path]:
    """Replace the tracked notebooks, records, figures and README blocks by those of the run in ``folder``.

    What the steps no longer make is removed. Every new file is written in full before the first old one is
    replaced, so that a full disk changes nothing. Returns the files replaced; raises RunError, with everything
    as it was, if something may not be published or cannot be written.
    """
    try:
        sources = prepare(folder, steps)
        replace_together(sources, obsolete(steps, sources, other_seeds(load_records(folder))))
    except (OSError, ValueError) as error:
        raise RunError(f"cannot publish: {getattr(error, 'strerror', None) or error}; see {folder}") from error
    return list(sources)


def publish_study(records: list[Record]) -> list[Path]:
    """Track ``records``, further seeds of a published row, and write README and the ladder anew: all, or nothing.

    A seed that is tracked already stays. Returns the files replaced; raises RunError.
    """
    tracked = {record.file_name: record for record in load_records(RECORDS)}
    new = {record.file_name: record for record in records if record.file_name not in tracked}
    try:
        with tempfile.TemporaryDirectory(dir=RUNS) as scratch:
            sources = {RECORDS / name: save(record, Path(scratch)) for name, record in new.items()}
            sources |= prepare_overview(in_order([*tracked.values(), *new.values()]), Path(scratch))
            replace_together(sources)
    except (OSError, ValueError) as error:
        raise RunError(f"cannot publish: {getattr(error, 'strerror', None) or error}") from error
    return list(sources)


def publish_benchmark(found: Benchmark) -> None:
    """Track a benchmark, and write its figure and README anew. Raises RunError."""
    device = found.environment["device_type"]
    try:
        with tempfile.TemporaryDirectory(dir=RUNS) as scratch:
            path, picture, text = (Path(scratch) / name for name in (f"{device}.json", SPEED, README.name))
            save_benchmark(found, path)
            time_shares(found.shares, "Where the time of a training epoch goes (one CPU thread)").savefig(picture)
            others = [other for other in load_benchmarks() if other.environment["device_type"] != device]
            records, published = load_records(RECORDS), load_published()
            text.write_text(render(README.read_text(), records, [*others, found], published))
            replace_together({BENCHMARKS / path.name: path, IMAGES / SPEED: picture, README: text})
    except (OSError, ValueError) as error:
        raise RunError(f"cannot publish: {getattr(error, 'strerror', None) or error}") from error


def load_benchmarks() -> list[Benchmark]:
    """Read the tracked benchmarks."""
    return [load_benchmark(path) for path in sorted(BENCHMARKS.glob("*.json"))]


def load_published() -> list[Record]:
    """Read the tracked records of the published series."""
    return in_order(record for folder in PUBLISHED.glob("*") for record in load_records(folder))


def prepare(folder: Path, steps: list[Step]) -> dict[Path, Path]:
    """Check the run in ``folder`` and write into it what is to be tracked; returns target -> source."""
    records = load_records(folder)
    figures = [path for step in steps for path in sorted(folder.glob(f"{step.path.name[:2]}_*.png"))]
    sources = {IMAGES / path.name: path for path in figures}
    sources |= {RECORDS / record.file_name: folder / record.file_name for record in records}
    for step in steps:
        executed = nbformat.read(folder / step.path.name, as_version=4)
        own = [path for path in sources.values() if belongs_to(path, step)]
        clean = folder / f"{step.path.stem}.published"
        nbformat.write(finalise(executed, step, own), clean)
        sources[step.path] = clean
    return sources | prepare_overview(in_order([*other_seeds(records), *records]), folder)


def other_seeds(records: list[Record]) -> list[Record]:
    """Return the tracked records that go on standing beside new ones: other seeds of the same recipes, other steps."""
    new, recipes = {record.file_name for record in records}, {record.row: record.recipe for record in records}
    steps = {record.step for record in records}
    return [
        record
        for record in load_records(RECORDS)
        if record.file_name not in new and (record.step not in steps or recipes.get(record.row) == record.recipe)
    ]


def prepare_overview(records: list[Record], folder: Path) -> dict[Path, Path]:
    """Write into ``folder`` what shows all ``records``, ladder, series and README; returns target -> source."""
    draw_ladder(records, folder / LADDER)
    published = load_published()
    (folder / README.name).write_text(render(README.read_text(), records, load_benchmarks(), published))
    figures = [LADDER, *save_figures(published, records, folder)]
    return {IMAGES / name: folder / name for name in figures} | {README: folder / README.name}


def belongs_to(path: Path, step: Step) -> bool:
    """Whether ``path`` is a figure or the shown seed's record of ``step``."""
    seed = step.defaults()["SEED"]
    return path.match(f"{step.path.name[:2]}_*.png") or path.match(f"step-{step.number}*-seed-{seed}.json")


def obsolete(steps: list[Step], sources: Mapping[Path, Path], kept: list[Record]) -> list[Path]:
    """Return the tracked figures of ``steps`` that they no longer make, and the records that are not ``kept``."""
    figures = [path for step in steps for path in IMAGES.glob(f"{step.path.name[:2]}_*.png")]
    names = {record.file_name for record in kept}
    return [path for path in figures if path not in sources] + [
        path for path in RECORDS.glob("*.json") if path not in sources and path.name not in names
    ]


def draw_ladder(records: list[Record], path: Path) -> None:
    """Draw the one figure that spans the steps, with the fingerprint of its records as the PNG's description."""
    shown = ladder_records(records)
    figure = ladder(shown, f"Step by step ({shown[0].data})")
    figure.savefig(path, metadata={"Description": ladder_fingerprint(records)})


def ladder_records(records: list[Record]) -> list[Record]:
    """Return the first seed of every row."""
    first = {record.row: record for record in reversed(records)}
    return [record for record in records if first[record.row] is record]


def ladder_fingerprint(records: list[Record]) -> str:
    """Return the SHA-256 of what the ladder shows of ``records``."""
    shown = [[record.row, record.change, record.history] for record in ladder_records(records)]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()


def write_readme() -> None:
    """Write README's generated blocks anew from the tracked records, as after a change of their layout."""
    try:
        text = render(README.read_text(), load_records(RECORDS), load_benchmarks(), load_published())
        write_whole(README, text.encode())
    except (OSError, ValueError) as error:
        raise RunError(f"cannot write {README}: {error}") from error


def finalise(executed: NotebookNode, step: Step, files: list[Path]) -> NotebookNode:
    """Return the repository's notebook with the outputs of the executed one, without noise, bound to its files.

    Raises RunError if a reader would meet an error, a warning, a widget or a path of this machine in it, or if
    its code no longer is that in the repository. (Prose may have been edited while it ran: that is kept.)
    """
    clean = nbformat.read(step.path, as_version=4)
    problems = faults(executed)
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
    nbformat.validate(clean)
    return clean


def fingerprint(notebook: NotebookNode) -> str:
    """Return the SHA-256 of the sources of a notebook's code cells: outputs belong to exactly these."""
    return hashlib.sha256(json.dumps([cell.source for cell in code_cells(notebook)]).encode()).hexdigest()


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
