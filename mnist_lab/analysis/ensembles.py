"""Several networks asked together: by votes, and by the mean of their probabilities."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from mnist_lab.analysis.networks import Training, of_seeds, probabilities
from mnist_lab.evidence.records import Record
from mnist_lab.experiment import load_data
from mnist_lab.fields.trace import facts
from mnist_lab.models import PARAMETER_BUDGET
from mnist_lab.recipe import STRICT, AnyRecipe, Settings

SIZES = (1, 2, 3, 5, 10, 30)  # networks asked together
DRAWS = 200  # of each size, from the seeds there are
SHARING = (2, 3, 8)  # networks that share one budget of parameters: sizes on the frontier fill 79 % of it or more
FILE = "ensembles.json"


def mean_answer(found: np.ndarray) -> np.ndarray:
    """Return the digit (N,) with the largest mean probability; ``found`` are (networks, N, 10)."""
    return found.mean(0).argmax(-1)


def vote(found: np.ndarray) -> np.ndarray:
    """Return the digit (N,) that most networks read; of equals the one with the larger mean probability."""
    votes = np.stack([(found.argmax(-1) == digit).sum(0) for digit in range(10)], axis=-1)  # (N, 10)
    return (votes + found.mean(0) / 2).argmax(-1)


@dataclass(frozen=True)
class Together:
    """Ensembles of one size."""

    networks: int
    draws: int  # of so many networks from all; they overlap
    errors_by_vote: float  # mean over the draws
    errors_by_mean: float
    deviation: float  # of the latter, over the draws; it understates the luck of other seeds, since draws overlap


def by_size(found: np.ndarray, labels: np.ndarray, sizes: Sequence[int] = SIZES) -> list[Together]:
    """Return how many images ensembles of some sizes misread; ``found`` (seeds, N, 10) holds all there are."""
    generator, told = np.random.default_rng(0), []
    doubtful = found.max(-1).min(0) < 1 - 1e-4  # what all are sure of, and agree on, no ensemble changes
    doubtful |= (found.argmax(-1) != found[0].argmax(-1)).any(0)
    sure = int((found[0].argmax(-1) != labels)[~doubtful].sum())
    found, labels = found[:, doubtful], labels[doubtful]
    for size in [size for size in sizes if size <= len(found)]:
        if size == 1:
            chosen = [[seed] for seed in range(len(found))]
        elif size == len(found):
            chosen = [list(range(size))]
        else:
            chosen = [generator.choice(len(found), size, replace=False) for _ in range(DRAWS)]
        votes = [int((vote(found[seeds]) != labels).sum()) + sure for seeds in chosen]
        means = [int((mean_answer(found[seeds]) != labels).sum()) + sure for seeds in chosen]
        told.append(Together(size, len(chosen), float(np.mean(votes)), float(np.mean(means)), float(np.std(means))))
    return told


@dataclass(frozen=True)
class Lesson:
    """What one network would have to learn to read like all of them together; means over seeds."""

    repaired: float  # images that the network misreads and the others together read right
    spoilt: float  # the other way round
    second: float  # share of the repaired ones whose right digit is the network's second guess
    doubt: float  # mean probability that the network gives its wrong answer there
    teacher: float  # mean probability that the others give the right digit there


def lesson(found: np.ndarray, labels: np.ndarray) -> Lesson:
    """Compare each network with the mean of all others; ``found`` are (seeds, N, 10), of two seeds or more."""
    total, rows = found.sum(0), []
    for one in found:
        others = (total - one) / (len(found) - 1)
        right, taught = one.argmax(-1) == labels, others.argmax(-1) == labels
        repaired = ~right & taught
        guesses = one[repaired].argsort(-1)
        second = guesses[:, -2] == labels[repaired]
        rows.append((repaired.sum(), (right & ~taught).sum(), second.sum(), one[repaired].max(-1).sum(),
                     np.take_along_axis(others[repaired], labels[repaired][:, None], -1).sum()))  # fmt: skip
    repaired, spoilt, *sums = np.mean(rows, axis=0)
    return Lesson(float(repaired), float(spoilt), *(float(one / max(repaired, 1e-9)) for one in sums))


class Shared(BaseModel):
    """An ensemble whose networks have one budget of parameters together."""

    model_config = STRICT

    name: str  # of the recipe of each network
    trained: str  # see networks.Training; of single networks, from records, the name of the recipe
    networks: int
    parameters: int  # of all together
    multiply_accumulates: int  # for one image, of all together
    trial: int
    errors_by_vote: int
    errors_by_mean: int
    errors_alone: list[int]  # of each network


def sharing(step: AnyRecipe, smaller: Sequence[AnyRecipe]) -> list[tuple[str, AnyRecipe, int]]:
    """Return name, recipe and number of the networks of each kind of ensemble: the largest of ``smaller`` that so many
    times fits the budget, and trains as long as ``step``."""
    sizes, chosen = {one.name: facts(one.network()).trainable for one in smaller}, []
    for count in SHARING:
        fitting = [one for one in smaller if count * sizes[one.name] < PARAMETER_BUDGET and one.epochs == step.epochs]
        if fitting:
            largest = max(fitting, key=lambda one: sizes[one.name])
            chosen.append((largest.name, largest, count))
    return chosen


def alone(errors: Iterable[int], like: Record) -> list[Shared]:
    """Return networks that misread so many images each, of the same recipe as a record, as ensembles of one."""
    costs = {"parameters": like.model.trainable, "multiply_accumulates": like.model.multiply_accumulates}
    return [
        Shared(name=like.name, trained=like.name, networks=1, **costs, trial=trial, errors_by_vote=count,
               errors_by_mean=count, errors_alone=[count])
        for trial, count in enumerate(errors)
    ]  # fmt: skip


def members(name: str, recipe: AnyRecipe, count: int, trials: int, settings: Settings) -> list[list[Training]]:
    """Return the trainings of some ensembles of ``count`` networks, which have no network in common."""
    everyone = of_seeds(name, recipe, range(count * trials), settings)
    return [everyone[start : start + count] for start in range(0, len(everyone), count)]


def score(trial: int, ensemble: Sequence[Training], folder: Path) -> dict:
    """Ask trained networks together, and return a :class:`Shared` as plain values."""
    test = load_data(ensemble[0].settings).test
    labels = test.labels.numpy()
    found = np.stack([probabilities(one, folder, test).double().numpy() for one in ensemble])
    errors = partial(_errors, labels)
    own = facts(ensemble[0].recipe.network())
    return {
        "name": ensemble[0].name,
        "trained": ensemble[0].trained,
        "networks": len(ensemble),
        "parameters": len(ensemble) * own.trainable,
        "multiply_accumulates": len(ensemble) * own.multiply_accumulates,
        "trial": trial,
        "errors_by_vote": errors(vote(found)),
        "errors_by_mean": errors(mean_answer(found)),
        "errors_alone": [errors(one.argmax(-1)) for one in found],
    }


def _errors(labels: np.ndarray, answers: np.ndarray) -> int:
    return int((answers != labels).sum())
