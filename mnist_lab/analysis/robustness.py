"""How many test images networks read right after a corruption."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean

import numpy as np
from pydantic import BaseModel

from mnist_lab.analysis.corruptions import CORRUPTIONS, STRENGTHS, corrupt
from mnist_lab.analysis.networks import Training, load
from mnist_lab.evidence.uncertainty import paired, welch
from mnist_lab.experiment import load_data
from mnist_lab.recipe import STRICT
from mnist_lab.training import evaluate

FILE = "robustness.json"
CLEAN = "none"  # in place of a corruption's name


class Robustness(BaseModel):
    """What the seeds of one recipe read of test images that are corrupted in one way."""

    model_config = STRICT

    name: str  # of the recipe
    trained: str  # see networks.Training
    corruption: str
    images: int  # evenly spaced among the test images
    correct: list[list[int]]  # of each seed, from the weakest to the strongest; one number without a corruption

    @property
    def errors(self) -> np.ndarray:
        """Return the share of images misread (seeds, strengths), at least half an image: figures are logarithmic."""
        return np.maximum(1 - np.array(self.correct) / self.images, 0.5 / self.images)


def score(corruption: str, trainings: Sequence[Training], folder: Path, images: int) -> list[list[int]]:
    """Return how many of so many ``images`` each trained network reads right at every strength of a corruption.

    They are evenly spaced: the first half of MNIST's test images is easier than the second. An image is corrupted in
    the same way for all networks.
    """
    every = load_data(trainings[0].settings).test
    test = every.take(slice(None, None, max(1, len(every) // images))).first(images)
    splits = [test] if corruption == CLEAN else [corrupt(test, corruption, one) for one in range(1, STRENGTHS + 1)]
    found = []
    for training in trainings:
        network = load(training, folder)
        accuracies = [evaluate(network, training.recipe.scored(split)).accuracy for split in splits]
        found.append([round(accuracy * len(test)) for accuracy in accuracies])
    return found


def gather(
    trainings: Sequence[Training], scores: Iterable[tuple[str, Sequence[Sequence[int]]]], images: int
) -> list[Robustness]:
    """Sort the ``scores`` of each corruption, one for each of ``trainings``, by recipe; of so many ``images``."""
    told = []
    for corruption, found in scores:
        by_recipe: dict[tuple[str, str], list[list[int]]] = {}
        for training, correct in zip(trainings, found, strict=True):
            by_recipe.setdefault((training.name, training.trained), []).append(list(correct))
        told += [Robustness(name=name, trained=trained, corruption=corruption, images=images, correct=correct)
                 for (name, trained), correct in by_recipe.items()]  # fmt: skip
    return told


def told_of(known: Iterable[Robustness], group: Sequence[Training], images: int) -> list[Robustness]:
    """Return what is ``known`` of the trainings of one recipe, on so many images; nothing if some of it is not.

    Corruptions are known by their names: one that is changed needs another.
    """
    own = [
        one for one in known if (one.trained, one.images, len(one.correct)) == (group[0].trained, images, len(group))
    ]
    return own if {one.corruption for one in own} == set(kinds()) else []


def kinds() -> list[str]:
    """Return the names of all corruptions, after that for none."""
    return [CLEAN, *CORRUPTIONS]


def mean_errors(found: Iterable[Robustness]) -> dict[str, dict[str, float]]:
    """Return, by recipe and corruption, the share misread: the mean over seeds and strengths."""
    told: dict[str, dict[str, float]] = {}
    for one in found:
        told.setdefault(one.name, {})[one.corruption] = float(one.errors.mean())
    return told


def overall(found: Iterable[Robustness]) -> dict[str, float]:
    """Return, by recipe, the share of corrupted images misread: the mean over all corruptions and strengths."""
    return {name: fmean(of[kind] for kind in CORRUPTIONS) for name, of in mean_errors(found).items()}


def clear_change(before: Robustness, after: Robustness, in_pairs: bool) -> float | None:
    """Return by what factor errors change, the geometric mean over strengths; None if it may be the luck of the seeds.

    With ``in_pairs`` seeds are compared one by one: those of rows that begin as one training.
    """
    old, new = (np.log(one.errors).mean(1).tolist() for one in (before, after))  # of each seed, over the strengths
    difference = (paired if in_pairs else welch)(old, new)
    return float(np.exp(difference.mean)) if difference is not None and difference.is_clear else None
