"""How networks read drawings and other people's digits: what is counted, and what was."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import BaseModel

from mnist_lab.use.collections import Drawn
from mnist_lab.use.network import SIDE, STRICT
from mnist_lab.use.preprocess import NoDigit, find_digits

RECORD = Path("notebooks", "records", "analysis", "handwriting.json")
CONDITIONS = ("as drawn", "inverted", "fitted")
HEADERS = ("pictures", "how many", *(f"{condition}, %" for condition in CONDITIONS), "unsure, %", "sure but wrong, %")
NOTE = (
    "Read right; mean over seeds, in brackets the lowest and the highest. As drawn: the whole picture, black on white, "
    "made 28 x 28. Inverted: the same, white on black. Fitted: as mnist-lab predict does it, where a picture in which "
    "not exactly one digit is found counts as misread. Unsure: of all fitted ones; sure but wrong: of the sure ones."
)


class Counts(BaseModel):
    """What one network made of one collection of pictures."""

    model_config = STRICT

    wrong: dict[str, int]  # for each condition, how many were misread; what gives no single digit is
    unsure: int  # of the fitted ones
    wrong_of_sure: int


class Reader(BaseModel):
    """What one network made of the test images and of every collection."""

    model_config = STRICT

    seed: int
    test_wrong: int  # of MNIST's 10,000 test images as they are
    collections: dict[str, Counts]


class Handwriting(BaseModel):
    """What was measured, over all seeds."""

    model_config = STRICT

    recipe: dict[str, str | int | float | bool]
    sure_from: float
    pictures: dict[str, int]  # in each collection
    lost: dict[str, int]  # of these, in how many not exactly one digit was found
    readers: list[Reader]  # by seed
    commit: str | None


@dataclass(frozen=True)
class Prepared:
    """A collection as networks see it, under each condition."""

    images: dict[str, np.ndarray]  # (N, 28, 28) in [0, 1]
    labels: np.ndarray  # (N,)
    lost: np.ndarray  # (N,), whether fitting found not exactly one digit


def prepare(drawn: Drawn) -> Prepared:
    """Return pictures as networks see them, under each condition."""
    images, labels, lost = {condition: [] for condition in CONDITIONS}, [], []
    for picture, label in drawn:
        small = np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX)) / 255
        found = fitted(picture)
        lost.append(found is None)
        for condition, image in zip(CONDITIONS, (small, 1 - small, small if found is None else found), strict=True):
            images[condition].append(image.astype(np.float32))
        labels.append(label)
    return Prepared({name: np.stack(seen) for name, seen in images.items()}, np.array(labels), np.array(lost))


def fitted(picture: np.ndarray) -> np.ndarray | None:
    """Return the digit (28, 28) that is found in a picture's PNG; None unless it is exactly one."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    try:
        found = find_digits(file.getvalue())
    except NoDigit:
        return None
    return found[0].image if len(found) == 1 else None


def count(read: Callable[[np.ndarray], np.ndarray], one: Prepared, sure_from: float) -> Counts:
    """Return what a network makes of a collection; ``read`` returns its probabilities (N, 10), as Network's does."""
    probabilities = {condition: read(images) for condition, images in one.images.items()}
    wrong = {condition: found.argmax(axis=1) != one.labels for condition, found in probabilities.items()}
    wrong["fitted"] |= one.lost
    sure = (probabilities["fitted"].max(axis=1) >= sure_from) & ~one.lost
    return Counts(
        wrong={condition: int(found.sum()) for condition, found in wrong.items()},
        unsure=int((~sure).sum()),
        wrong_of_sure=int((wrong["fitted"] & sure).sum()),
    )


def load_handwriting(path: Path) -> Handwriting:
    """Return what was measured, as the file of it says. Raises OSError and pydantic's ValidationError."""
    return Handwriting.model_validate_json(path.read_bytes())


def rows(found: Handwriting) -> list[tuple[str, ...]]:
    """Return a row for each collection, in the columns of HEADERS, and before them MNIST's test images as they are."""
    test = 10_000
    plain = spread([100 * (1 - one.test_wrong / test) for one in found.readers])
    table = [("MNIST's test images as they are", f"{test:,}", "", "", plain, "", "")]
    for name, count in found.pictures.items():
        counts = [one.collections[name] for one in found.readers]
        right = [spread([100 * (1 - one.wrong[condition] / count) for one in counts]) for condition in CONDITIONS]
        unsure = spread([100 * one.unsure / count for one in counts])
        wrong = spread([100 * one.wrong_of_sure / max(1, count - one.unsure) for one in counts])
        table.append((name, f"{count:,}", *right, unsure, wrong))
    return table


def spread(values: list[float]) -> str:
    """Return a mean, and with several values in brackets the lowest and the highest."""
    mean = f"{sum(values) / len(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.2f} – {max(values):.2f})"
