"""Run records, from which every table and figure is made: a file for each recipe, a line of JSON for each seed."""

import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError, model_validator
from torch import Tensor

from mnist_lab import LabError
from mnist_lab.data import MNIST_NAME, Dataset, Split
from mnist_lab.experiment import Run
from mnist_lab.fields.trace import Facts, facts
from mnist_lab.recipe import STRICT, AnyRecipe, Settings
from mnist_lab.runtime import ROOT, Environment, environment, pick_device, write_whole
from mnist_lab.training import Epoch

TRACKED = ROOT / "notebooks" / "records"
FOLDERS = {
    "step": "steps",  # the result of a step
    "intermediate": "steps",  # a row on the way to a step's result, such as 2a
    "ablation": "ablations",  # step 3 or row 2a with one thing changed, on held-out images
    "frontier": "frontier",  # step 3 with fewer parameters or epochs
    "track": "tracks",  # step 3's network with more of something than a step may have
    "published": "published",  # a recipe of a published series
    "trial": "search",  # a recipe that the search made up, on held-out writers
    "exercise": "exercises",  # what the notebooks' exercises quote, on held-out images; no command makes them
}
Item = TypeVar("Item", bound=BaseModel)
Kind = Literal["step", "intermediate", "ablation", "frontier", "track", "published", "trial", "exercise"]


class RecordError(LabError, ValueError):
    """A file does not hold records, or they contradict themselves or each other."""


@dataclass(frozen=True)
class Mistake:
    """A scored image that was misread."""

    index: int  # in MNIST's test images; of a held-out image, in the 60,000 training images that it is one of
    label: int
    predicted: int
    confidence: float  # the probability of the predicted digit


class Record(BaseModel):
    """One training run, complete enough to make it again and to draw every figure of it."""

    model_config = STRICT

    kind: Kind
    name: str  # of the recipe: "3", "3a" for the intermediate row on the way to it, "sgd", "A3 no dropout"
    step: int | None  # the step that it belongs to, if any
    change: str  # the one change against what it is compared with
    data: str  # their full name, "MNIST" or "digits sample, not MNIST"
    train_images: int
    scored_images: int
    recipe: dict[str, str | int | float | bool]
    settings: Settings
    model: Facts
    history: list[Epoch]
    opening_loss: float  # see experiment.measure_opening
    mistakes: list[Mistake]  # the most confident one first
    seconds_per_epoch: float  # median, training alone
    seconds: float  # the whole run, evaluation included
    environment: Environment
    compiler: str | None = None  # of our own layers, which the network trained with; None: PyTorch's layers alone

    @model_validator(mode="after")
    def check(self) -> "Record":
        """Raise ValueError if history and mistakes do not fit the recipe and the accuracy."""
        epochs = self.recipe.get("epochs")
        wrong = round((1 - self.accuracy) * self.scored_images) if self.history else 0
        if len(self.history) != epochs or len(self.mistakes) != wrong:
            raise ValueError(
                f"it holds {len(self.history)} of {epochs} epochs, and lists {len(self.mistakes)} mistakes where its "
                f"accuracy means {wrong}"
            )
        return self

    @property
    def seed(self) -> int:
        return self.settings.seed

    @property
    def accuracy(self) -> float:
        """Of the last epoch, in [0, 1]: the result."""
        return self.history[-1].test.accuracy

    @property
    def loss(self) -> float:
        """Of the last epoch on the scored images: it tells networks apart that read equally many right."""
        return self.history[-1].test.loss

    @property
    def device_type(self) -> str:
        """Return "cpu" or "cuda": runs of different kinds of devices never share a row."""
        return self.environment.device_type

    @property
    def images(self) -> tuple:
        """What it was trained and scored on; only runs of the same images can be compared.

        By writer, that is a fold of them for each seed, and folds differ by a few images.
        """
        settings, counts = self.settings, (self.train_images, self.scored_images)
        return self.data, settings.score_on, settings.train_limit, () if settings.score_on == "held-out" else counts

    @property
    def misread(self) -> set[int]:
        """Return the indices of the misread images."""
        return {mistake.index for mistake in self.mistakes}

    @property
    def place(self) -> Path:
        """Return the file that it belongs into, relative to a folder of records."""
        return place(self.kind, self.name, self.device_type)


def place(kind: Kind, name: str, device_type: str) -> Path:
    """Return the file for the runs of a recipe on one kind of device, relative to a folder of records."""
    device = "" if device_type == "cpu" else f"-{device_type}"
    return Path(FOLDERS[kind], f"{name.replace(' ', '-')}{device}.jsonl")


def record(
    kind: Kind,
    name: str,
    change: str,
    run: Run,
    data: Dataset,
    recipe: AnyRecipe,
    settings: Settings,
    *,
    step: int | None = None,
    made_in: Environment | None = None,
) -> Record:
    """Describe ``run``; see the fields of :class:`Record`. ``made_in`` is this process's environment by default."""
    return Record(
        kind=kind,
        name=name,
        step=step,
        change=change,
        data=data.name,
        train_images=len(data.train),
        scored_images=len(data.test),
        recipe=asdict(recipe),
        settings=settings,
        model=facts(run.model),
        history=run.history,
        opening_loss=run.opening_loss,
        mistakes=find_mistakes(run.probabilities, data.test),
        seconds_per_epoch=statistics.median(epoch.seconds for epoch in run.history),
        seconds=run.seconds,
        environment=made_in or environment(pick_device(settings.device)),
        compiler=getattr(run.model, "compiler", None),
    )


def find_mistakes(probabilities: Tensor, scored: Split) -> list[Mistake]:
    """Return every image whose most probable digit is not its label, the most confident mistake first.

    ``probabilities`` are (N, classes), on the CPU, for the N images of ``scored``.
    """
    (confidence, predicted), labels = probabilities.max(dim=1), scored.labels.cpu()
    indices = range(len(scored)) if scored.indices is None else scored.indices.tolist()
    wrong = (predicted != labels).nonzero().flatten().tolist()
    mistakes = [Mistake(indices[i], int(labels[i]), int(predicted[i]), round(float(confidence[i]), 4)) for i in wrong]
    return sorted(mistakes, key=lambda mistake: (-mistake.confidence, mistake.index))


def append(record: Record, folder: Path) -> None:
    """Add ``record`` to the file of its recipe in ``folder``, and wait until the disk has it.

    A line that a crash or a power cut left incomplete is dropped first. Raises OSError.
    """
    path = folder / record.place
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(as_line(record))
        file.flush()
        os.fsync(file.fileno())


def write(records: Iterable[Record], folder: Path) -> list[Path]:
    """Write the files of ``records`` anew in ``folder``, each whole, and return them. Raises OSError."""
    by_place: dict[Path, list[Record]] = defaultdict(list)
    for one in records:
        by_place[folder / one.place].append(one)
    for path, group in by_place.items():
        write_whole(path, b"".join(as_line(one) for one in sorted(group, key=lambda one: one.seed)))
    return list(by_place)


def merge(records: Sequence[Record], folder: Path) -> list[Path]:
    """Put ``records`` into their files in ``folder``, each in place of its own seed, and return the files.

    Other seeds there stay if they are of the same recipe and images. Raises RecordError for a damaged file, OSError.
    """
    merged = list(records)
    for like in {one.place: one for one in records}.values():
        new = {one.seed for one in records if one.place == like.place}
        old = load_file(folder / like.place) if (folder / like.place).is_file() else []
        merged += [one for one in old if one.seed not in new and (one.recipe, one.images) == (like.recipe, like.images)]
    return write(merged, folder)


def as_line(record: Record) -> bytes:
    """Return ``record`` as a line of JSON."""
    return record.model_dump_json(exclude_defaults=True).encode() + b"\n"


def load(folder: Path) -> list[Record]:
    """Read every file of records in ``folder`` and below, in the order of the results table."""
    return in_order(one for path in folder.rglob("*.jsonl") for one in load_file(path))


def load_file(path: Path) -> list[Record]:
    """Read the records of one recipe; an incomplete last line is told on stderr and left out.

    Raises RecordError, which names the file and what is wrong with it.
    """
    try:
        *lines, rest = path.read_bytes().split(b"\n")
    except OSError as error:
        raise RecordError(f"cannot read {path}: {error.strerror}") from error
    if rest:
        print(f"{path} ends in an incomplete line, which a crash may leave: that seed is left out", file=sys.stderr)
    found: dict[int, Record] = {}
    for number, line in enumerate(lines, 1):
        try:
            one = Record.model_validate_json(line)
        except ValidationError as error:
            raise RecordError(f"line {number} of {path} is not a record: {first_problem(error)}") from None
        first = next(iter(found.values()), one)
        if path.parts[-2:] != one.place.parts:
            raise RecordError(f"line {number} of {path} belongs into {one.place}")
        if (one.recipe, one.images) != (first.recipe, first.images):
            raise RecordError(f"line {number} of {path} is of another recipe or of other images than the first")
        if one.seed in found:
            raise RecordError(f"line {number} of {path} holds seed {one.seed} a second time")
        found[one.seed] = one
    return list(found.values())


def first_problem(error: ValidationError) -> str:
    """Say where the first thing is that is wrong, and what."""
    problem = error.errors()[0]
    return f"{'.'.join(map(str, problem['loc'])) or 'all of it'}: {problem['msg']}"


def write_list(path: Path, items: Iterable[BaseModel]) -> None:
    """Write ``items`` as a list in JSON, an item a line. Raises OSError."""
    write_whole(path, ("[\n" + ",\n".join(item.model_dump_json() for item in items) + "\n]\n").encode())


def read_list(path: Path, kind: type[Item]) -> list[Item]:
    """Return the items of a file; none if it has not been made yet. Raises RecordError if it is damaged."""
    if not path.is_file():
        return []
    try:
        return TypeAdapter(list[kind]).validate_json(path.read_bytes())
    except ValidationError as error:
        raise RecordError(f"{path} is damaged: {first_problem(error)}") from None


def in_order(records: Iterable[Record]) -> list[Record]:
    """Sort by step, a step's intermediate rows before its result, the CPU before a GPU, and then by seed."""
    return sorted(records, key=lambda one: (one.step or 0, one.kind == "step", one.name, one.device_type, one.seed))


def is_publishable(record: Record) -> bool:
    """Whether ``record`` is of a full run on MNIST: all training images, scored on the test set."""
    return record.data == MNIST_NAME and record.train_images == 60_000 and record.scored_images == 10_000


def result_before(like: Record, folders: Iterable[Path]) -> Record | None:
    """Return the result of the step before that of ``like``, with the same images, seed and kind of device.

    The first of ``folders`` that holds one wins; None if no folder does. Waits while a batch still trains that step:
    the file ``NN.pending`` in its folder says so.
    """
    for folder in folders:
        while (folder / f"{like.step - 1:02d}.pending").exists():
            time.sleep(0.2)
        for one in load(folder / FOLDERS["step"]):
            alike = (one.images, one.seed, one.device_type) == (like.images, like.seed, like.device_type)
            if one.kind == "step" and one.step == like.step - 1 and alike:
                return one
    return None
