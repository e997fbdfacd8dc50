"""From a run to what is tracked: notebooks, figures and records of the steps, and step 3's weights."""

from collections.abc import Mapping
from pathlib import Path

from mnist_lab import use
from mnist_lab.evidence import records
from mnist_lab.evidence.records import Record, is_publishable
from mnist_lab.options import UsageError
from mnist_lab.publishing.batch import tracked_steps
from mnist_lab.publishing.card import WEIGHTS
from mnist_lab.publishing.headless import read
from mnist_lab.publishing.notebooks import Step, digests, finalise, find_steps, write
from mnist_lab.recipe import OURS
from mnist_lab.runtime import ROOT, write_whole


def check_request(steps: list[Step], parameters: Mapping[str, object], root: Path = ROOT) -> None:
    """Raise UsageError if a run of ``steps`` with changed ``parameters`` could not be published, before it starts."""
    reasons = [f"parameters are changed ({', '.join(parameters)})"] if parameters else []
    if steps != find_steps(root):
        reasons.append("not every step runs")
    refuse(reasons)


def check_records(steps: list[Step], made: list[Record]) -> None:
    """Raise UsageError unless a run left a result of each step, and all of full runs on MNIST."""
    reasons = []
    if not all(is_publishable(record) for record in made):
        reasons.append("it was not a full run on MNIST")
    if {record.step for record in made if record.kind == "step"} != {step.number for step in steps}:
        reasons.append("a step left no record")
    if others := sorted({str(record.recipe["model"]) for record in made} - set(OURS)):
        reasons.append(f"{', '.join(others)} is a network of a notebook's own, not of models.py")
    refuse(reasons)


def refuse(reasons: list[str]) -> None:
    """Raise UsageError if there are reasons not to publish."""
    if reasons:
        raise UsageError(f"this cannot be published, since {', and '.join(reasons)}")


def publish(folder: Path, root: Path = ROOT) -> list[Path]:
    """Replace the tracked notebooks, figures, records and weights of the steps by those of the run in ``folder``.

    What the steps no longer make is removed. Everything is checked before the first file is written. Returns the
    files written; raises UsageError, NotebookError, RecordError or WeightsError with everything as it was, and OSError
    from a full disk: git restore brings the old files back.
    """
    steps, made = find_steps(root), records.load(folder)
    check_records(steps, made)
    figures = {step: sorted(folder.glob(f"{step.path.name[:2]}_*.png")) for step in steps}
    notebooks = {
        step.path: finalise(read(folder / step.path.name), step.path, files=digests(figures[step])) for step in steps
    }
    trained = check_weights(folder, made)
    written = replace_records(made, root)
    if trained is not None:
        write_whole(root / WEIGHTS, trained.read_bytes())
        written.append(root / WEIGHTS)
    images = root / "images"
    for step in steps:
        for old in images.glob(f"{step.path.name[:2]}_*.png"):
            old.unlink()
        for figure in figures[step]:
            write_whole(images / figure.name, figure.read_bytes())
            written.append(images / figure.name)
    for path, notebook in notebooks.items():
        write(notebook, path)
    return [*written, *notebooks]


def check_weights(folder: Path, made: list[Record]) -> Path | None:
    """Return the weights that a run in ``folder`` left of step 3, if a CPU trained them.

    The published ones belong to the table of results, which holds runs on CPUs only. Raises WeightsError if the file
    is damaged, and UsageError if it is of another run than the record.
    """
    path = folder / "03_weights.safetensors"
    like = next((one for one in made if (one.kind, one.step, one.device_type) == ("step", 3, "cpu")), None)
    if like is None or not path.is_file():
        return None
    header = use.load(path).header
    if (header.recipe, header.seed, header.accuracy) != (like.recipe, like.seed, like.accuracy):
        refuse([f"{path.name} is not of the run that step 3's record describes"])
    return path


def replace_records(made: list[Record], root: Path) -> list[Path]:
    """Put the records of a run of all steps in their places in a checkout, and return the files written.

    Other seeds stay, and so do those of another kind of device, as long as they are of the same recipe.
    """
    recipes = {record.name: record.recipe for record in made}
    known = {path: records.load_file(path) for path in tracked_steps(root).glob("*.jsonl")}
    written = records.merge(made, tracked_steps(root).parent)
    for path, found in known.items():
        if path not in written and any(recipes.get(one.name) != one.recipe for one in found):
            path.unlink()
    return written
