"""What is made from the tracked records: README's generated blocks and the notebooks of evidence."""

import re
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from mnist_lab import LabError
from mnist_lab.evidence.records import TRACKED, Record, load
from mnist_lab.evidence.results import summarise
from mnist_lab.evidence.tables import beside, headline_table, mean_and_sd
from mnist_lab.publishing.batch import tracked_steps
from mnist_lab.publishing.card import CARD, card_blocks
from mnist_lab.publishing.headless import execute, read
from mnist_lab.publishing.notebooks import digests, finalise, fingerprint, folder_digest, write
from mnist_lab.runtime import ROOT, write_whole

BLOCK = re.compile(r"(<!-- (?P<name>[\w-]+):begin\b[^>]*-->\n)(?:.*?\n)??(<!-- (?P=name):end -->)", re.DOTALL)


def refresh(root: Path = ROOT, force: bool = False) -> None:
    """Write the generated blocks of README and of the model card anew, and execute stale notebooks of evidence, or all.

    Raises LabError if there are no records, none fill a block of README, or a notebook fails.
    """
    records = load(tracked_steps(root))
    if not records:
        raise LabError("there are no records of the steps: run them first, with ./run_all.sh --publish")
    for page, blocks in ((Path("README.md"), make_blocks), (CARD, partial(card_blocks, root=root))):
        text = (root / page).read_text(encoding="utf-8") if (root / page).is_file() else ""
        rendered = fill(text, blocks(records), page.name) if text else ""
        if rendered != text:
            write_whole(root / page, rendered.encode())
            print(f"written anew: {page.as_posix()}", flush=True)
    for path in find_evidence(root):
        if force or is_stale(path, root):
            execute_in_place(path, root)
            print(f"executed anew: notebooks/evidence/{path.name}", flush=True)


def find_evidence(root: Path = ROOT) -> list[Path]:
    """Return the notebooks of evidence of a checkout."""
    return sorted((root / "notebooks" / "evidence").glob("*.ipynb"))


def is_stale(path: Path, root: Path = ROOT) -> bool:
    """Whether the outputs of a notebook of evidence belong to other code, records or figures than are there now."""
    notebook = read(path)
    bound = notebook.metadata.get("mnist_lab", {})
    figures = [root / "images" / name for name in bound.get("files", {})]
    now = {"cells": fingerprint(notebook), "records": records_digest(root)}
    return bound != now | {"files": digests([figure for figure in figures if figure.is_file()])}


def records_digest(root: Path = ROOT) -> str:
    """Return a digest of all that is tracked of past runs."""
    return folder_digest(root / TRACKED.relative_to(ROOT), "*/*.json*")


def execute_in_place(path: Path, root: Path = ROOT) -> None:
    """Execute a notebook of evidence, and track it with its figures. Raises NotebookError with nothing changed."""
    images = root / "images"
    (root / "runs").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root / "runs") as scratch:
        executed = execute(path, Path(scratch, path.name))
        figures = sorted(Path(scratch).glob("*.png"))
        notebook = finalise(executed, path, records=records_digest(root), files=digests(figures))
        for name in read(path).metadata.get("mnist_lab", {}).get("files", {}):
            (images / name).unlink(missing_ok=True)
        for figure in figures:
            write_whole(images / figure.name, figure.read_bytes())
    write(notebook, path)


def fill(text: str, blocks: Mapping[str, str], name: str) -> str:
    """Return ``text`` of the page ``name`` with every generated block replaced. Raises LabError for one not there."""
    unknown = [match["name"] for match in BLOCK.finditer(text) if match["name"] not in blocks]
    if unknown:
        raise LabError(f"{name} has the generated block {unknown[0]}, but the records fill {', '.join(blocks)}")
    return BLOCK.sub(lambda match: f"{match[1]}{blocks[match['name']]}\n{match[3]}", text)


def make_blocks(records: Sequence[Record]) -> dict[str, str]:
    """Return the text of each block by its name; "step-N" is that of a step. ``records`` are in order of steps."""
    on_cpus = [record for record in records if record.device_type == "cpu"]
    blocks = {"headline": headline_table(summarise(on_cpus)).markdown()}
    for step, group in groupby(records, key=lambda record: record.step):
        own = list(group)
        cpu = [record for record in own if record.device_type == "cpu"]
        gpu = [record for record in own if record.device_type != "cpu" and record.kind == "step"]
        lines = [step_line(cpu or own, alone=not (cpu and gpu))]
        lines += [f"**On a GPU:** {beside(run, cpu)}." for run in gpu if run.seed == gpu[0].seed]
        blocks[f"step-{step}"] = "\n\n".join(lines)
    return blocks


def step_line(records: Sequence[Record], *, alone: bool = True) -> str:
    """Return one sentence on all seeds of a step, and one on the first, which its notebook shows.

    ``records`` are those of one step, on one kind of device; unless it is ``alone``, the notebook may be of another.
    """
    shown = [record for record in records if record.seed == records[0].seed]
    final = next(record for record in shown if record.kind == "step")
    rows = [f"{r.name} {r.change}: {100 * r.accuracy:.2f} %" for r in shown if r.kind == "intermediate"]
    before = f" ({'; '.join(rows)})" if rows else ""
    (result,) = summarise([record for record in records if record.kind == "step"])
    told = (
        f"seed {final.seed}: {100 * final.accuracy:.2f} %{before}, "
        f"{len(final.mistakes)} of {final.scored_images:,} test images misread."
    )
    if result.seeds == 1:
        return f"**Result** of {told}"
    where = "The notebook shows" if alone else "On a CPU,"
    return f"**Mean of {result.seeds} seeds:** {mean_and_sd(result.mean, result.sd)} %. {where} {told}"
