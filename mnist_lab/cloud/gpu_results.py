"""A GPU run beside the study on the CPU: where its records are kept, and how far apart the two are."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mnist_lab.cloud.bundle import STEP
from mnist_lab.cloud.errors import CloudError
from mnist_lab.publish import RECORDS
from mnist_lab.recipe import read_parameters
from mnist_lab.records import Record, in_order, is_publishable, load_record, save
from mnist_lab.results import compare
from mnist_lab.runner import find_steps

GPU_RECORDS = RECORDS / "gpu"  # tracked; the study's own records are read without it


def load_fetched(folder: Path) -> list[Record]:
    """Return step 3's records in a fetched run, its result last. Raises RecordError, and CloudError without one."""
    found = in_order(load_record(path) for path in folder.glob(f"step-{STEP}*.json"))
    if not found or found[-1].is_rung:
        raise CloudError(f"the run left no record of step {STEP} in {folder}")
    return found


def refusals(records: Sequence[Record]) -> list[str]:
    """Return why fetched records are not to be tracked; an empty list if they are a result on a GPU."""
    recipe, _ = read_parameters(next(step for step in find_steps() if step.number == STEP).defaults())
    reasons = []
    if any(record.environment["device_type"] != "cuda" for record in records):
        reasons.append("it did not train on a GPU")
    if not all(is_publishable(record) and record.settings["score_on"] == "test" for record in records):
        reasons.append("it was not a full run on MNIST")
    if records[-1].recipe != asdict(recipe):
        reasons.append("its recipe is not the notebook's")
    return reasons


def keep(records: Sequence[Record], folder: Path) -> list[Path]:
    """Write the records into ``folder`` (GPU_RECORDS, to be tracked), one file per row and seed; return the files."""
    return [save(record, folder) for record in records]


def beside(gpu: Record, study: Sequence[Record]) -> str:
    """Return one sentence on a GPU run against CPU runs of the same row: within the spread of their seeds, or not.

    With one CPU run there is no spread; then the images that only one of the two reads right are counted.
    """
    same = [run for run in study if (run.row, run.recipe, run.images) == (gpu.row, gpu.recipe, gpu.images)]
    said = f"{gpu.environment['device']}, seed {gpu.seed}: {gpu.accuracy:.2%}"
    if not same:
        return f"{said}; the study has no CPU run of row {gpu.row} with this recipe and these images"
    if len(same) == 1:
        found = compare(same[0], gpu)
        return (
            f"{said}; the CPU run with seed {same[0].seed}: {same[0].accuracy:.2%}, {found.points:+.2f} points, "
            f"{found.gained} images only the GPU run reads right and {found.lost} only the CPU run "
            f"(McNemar p {found.p_value:.2g}); one CPU seed has no spread to compare with"
        )
    accuracies = [run.accuracy for run in same]
    low, high = min(accuracies), max(accuracies)
    mean, spread = statistics.fmean(accuracies), statistics.stdev(accuracies)
    place = "within" if low <= gpu.accuracy <= high else "outside"
    return (
        f"{said}; {len(same)} CPU seeds: {mean:.2%} ± {100 * spread:.2f} (standard deviation), "
        f"{low:.2%} to {high:.2%}: the GPU run lies {place} the spread of the seeds"
    )
