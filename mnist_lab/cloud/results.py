"""The records of a fetched run: and whether they are a result."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mnist_lab.cloud.bundle import STEP
from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.runs import defaults
from mnist_lab.evidence.records import Record, is_publishable, load
from mnist_lab.recipe import read_parameters


def load_fetched(folder: Path) -> list[Record]:
    """Return the records of step 3 below ``folder``, its result last. Raises RecordError and CloudError."""
    found = [one for one in load(folder) if one.step == STEP]
    if not found or found[-1].kind != "step":
        raise CloudError(f"the run left no record of step {STEP} in {folder}")
    return found


def refusals(records: Sequence[Record]) -> list[str]:
    """Return why fetched records cannot be published; an empty list if they are a result on a GPU."""
    recipe, _ = read_parameters(defaults())
    reasons = []
    if any(record.device_type != "cuda" for record in records):
        reasons.append("it did not train on a GPU")
    if not all(is_publishable(record) and record.settings.score_on == "test" for record in records):
        reasons.append("it was not a full run on MNIST")
    if records[-1].recipe != asdict(recipe):
        reasons.append("its recipe is not the notebook's")
    return reasons
