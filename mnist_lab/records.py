"""Run records: one JSON file per training run, from which every table and figure is made."""

import contextlib
import json
import math
import re
import statistics
import types
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from torch import Tensor

from mnist_lab.atomic import write_whole
from mnist_lab.data import MNIST_NAME, Dataset
from mnist_lab.experiment import Run
from mnist_lab.recipe import AnyRecipe, Settings
from mnist_lab.runtime import environment, pick_device
from mnist_lab.summary import facts


class RecordError(ValueError):
    """A file is not a record, or contradicts itself."""


@dataclass(frozen=True)
class Record:
    """One training run, as plain data."""

    row: str  # of the results table: the step's number; with a letter, the rung on the way to it; "E3" if published
    change: str  # the one change against the row above
    data: str  # its full name, "MNIST" or "digits sample, not MNIST"
    train_images: int
    scored_images: int
    recipe: dict  # see recipe.Recipe and published.recipes.PublishedRecipe
    settings: dict  # see recipe.Settings
    model: dict  # see summary.Facts
    history: list[dict]  # see training.Epoch
    opening_loss: float  # see experiment.measure_opening
    mistakes: list[dict]  # index, label, predicted, confidence of every scored image that was misread
    seconds_per_epoch: float  # median, training alone
    seconds: float  # the whole run, evaluation included
    environment: dict  # see runtime.environment

    @property
    def step(self) -> int:
        """Its number; 0 for what is no step."""
        return int(re.match(r"\d*", self.row)[0] or 0)

    @property
    def is_rung(self) -> bool:
        """Whether this is a rung on the way to a step's result, not the result."""
        return not self.row.isdigit()

    @property
    def seed(self) -> int:
        return self.settings["seed"]

    @property
    def accuracy(self) -> float:
        """Of the last epoch, in [0, 1]: the result."""
        return self.history[-1]["test"]["accuracy"]

    @property
    def loss(self) -> float:
        """Of the last epoch on the scored images: it tells networks apart that read equally many right."""
        return self.history[-1]["test"]["loss"]

    @property
    def images(self) -> tuple:
        """What it was trained and scored on; only runs of the same images can be compared."""
        return self.data, self.train_images, self.scored_images, self.settings["score_on"]

    @property
    def published(self) -> str:
        """The published step whose recipe was trained; empty for a recipe of our own."""
        return self.recipe.get("published", "")

    @property
    def file_name(self) -> str:
        step = f"step-{self.row}" if self.row[0].isdigit() else self.row.replace(" ", "-")
        return f"{step}-seed-{self.seed}.json"


def record(row: str, change: str, run: Run, data: Dataset, recipe: AnyRecipe, settings: Settings) -> Record:
    """Describe ``run`` completely enough to make it again and to draw every figure of it.

    ``change`` is what the row changes if the recipe is of our own; a published recipe says what it is.
    """
    return Record(
        row=row,
        change=recipe.title or change,
        data=data.name,
        train_images=len(data.train),
        scored_images=len(data.test),
        recipe=asdict(recipe),
        settings=asdict(settings),
        model=asdict(facts(run.model)),
        history=[asdict(epoch) for epoch in run.history],
        opening_loss=run.opening_loss,
        mistakes=find_mistakes(run.probabilities, data.test.labels.cpu()),
        seconds_per_epoch=statistics.median(epoch.seconds for epoch in run.history),
        seconds=run.seconds,
        environment=environment(pick_device(settings.device)),
    )


def find_mistakes(probabilities: Tensor, labels: Tensor) -> list[dict]:
    """Return every image whose most probable digit is not its label, the most confident mistake first."""
    confidence, predicted = probabilities.max(dim=1)
    wrong = (predicted != labels).nonzero().flatten().tolist()
    mistakes = [
        {
            "index": i,
            "label": int(labels[i]),
            "predicted": int(predicted[i]),
            "confidence": round(float(confidence[i]), 4),
        }
        for i in wrong
    ]
    return sorted(mistakes, key=lambda mistake: (-mistake["confidence"], mistake["index"]))


def save(record: Record, folder: Path) -> Path:
    """Write ``record`` into ``folder`` and return the file; it appears whole or not at all."""
    path = folder / record.file_name
    write_whole(path, as_text(record).encode())
    return path


def as_text(record: Record) -> str:
    """Return ``record`` as JSON, a line for each field, epoch and mistake."""
    lines = []
    for name, value in asdict(record).items():
        text = json.dumps(value)
        if isinstance(value, list) and value:
            text = "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
        lines.append(f" {json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def load_record(path: Path) -> Record:
    """Read one record. Raises RecordError, which names the file and what is wrong with it."""
    try:
        plain = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise RecordError(f"cannot read the record {path}: {error}") from error
    expected = {field.name: field.type for field in fields(Record)}
    if not isinstance(plain, dict) or plain.keys() != expected.keys():
        found = plain.keys() if isinstance(plain, dict) else set()
        raise RecordError(f"{path} is not a record: these fields differ: {sorted(expected.keys() ^ found)}")
    for name, kind in expected.items():
        kind = kind.__origin__ if isinstance(kind, types.GenericAlias) else kind
        if not isinstance(plain[name], kind):
            raise RecordError(f"{path} is not a record: {name} is {plain[name]!r}, not {kind.__name__}")
    loaded = Record(**plain)
    if path.name != loaded.file_name:  # a copy would count its seed twice
        raise RecordError(f"{path} holds another record: rename it to {loaded.file_name}, or remove it")
    try:
        wrong = round((1 - loaded.accuracy) * loaded.scored_images)
        losses = [epoch[part]["loss"] for epoch in loaded.history for part in ("train", "test")]
        epochs = loaded.recipe["epochs"]
    except (KeyError, IndexError, TypeError) as error:
        raise RecordError(f"{path} is not a record: its history lacks {error}") from error
    if len(loaded.history) != epochs or not all(map(math.isfinite, losses)) or wrong != len(loaded.mistakes):
        raise RecordError(
            f"{path} contradicts itself: {len(loaded.history)} of {epochs} epochs, "
            f"{len(loaded.mistakes)} mistakes listed and {wrong} counted"
        )
    return loaded


def load_records(folder: Path) -> list[Record]:
    """Read every record in ``folder``, in the order of the results table."""
    return in_order(load_record(path) for path in folder.glob("*.json"))


def in_order(records: Iterable[Record]) -> list[Record]:
    """Sort by step, a step's rungs before its result, and then by seed."""
    return sorted(records, key=lambda record: (record.step, not record.is_rung, record.row, record.seed))


def is_publishable(record: Record) -> bool:
    """Whether ``record`` is of a full run on MNIST: all training images, scored on the test set."""
    return record.data == MNIST_NAME and record.train_images == 60_000 and record.scored_images == 10_000


def result_before(step: int, like: Record, folders: Iterable[Path]) -> Record | None:
    """Return the result of step ``step - 1`` that ``like`` can be compared with: the same data, images and seed.

    The first of ``folders`` that holds one wins; None if no folder does. Files that are no records (of an
    older run by hand, say) are passed over.
    """
    for folder in folders:
        for path in sorted(folder.glob(f"step-{step - 1}-seed-{like.seed}.json")):
            with contextlib.suppress(RecordError):
                candidate = load_record(path)
                if candidate.images == like.images:
                    return candidate
    return None
