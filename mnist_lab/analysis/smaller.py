"""Step 3 made smaller in many ways, after training or while it trains, and what each reads.

What happens while it trains happens in the last third of the epochs, and costs none beside them. The epochs before are
the same for all ways: they are trained once and kept.
"""

import contextlib
import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from pydantic import BaseModel
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mnist_lab.analysis.networks import Training, load, opening
from mnist_lab.analysis.shrinking import Way, copy_zeros, cost, loosened, quantise, ranges_of, shrink, squeeze
from mnist_lab.data import Dataset
from mnist_lab.experiment import Parts, assemble, load_data
from mnist_lab.models import fold_batch_norm
from mnist_lab.recipe import STRICT, AnyRecipe
from mnist_lab.speed.compiled import compiled
from mnist_lab.studies import weights
from mnist_lab.training import evaluate, train_one_epoch

FILE = "smaller.json"


class Smaller(BaseModel):
    """One network that was made smaller, and what it reads."""

    model_config = STRICT

    trained: str  # what it was made from, or as: see networks.Training
    way: str  # of making it smaller, in words
    family: str
    tuned: bool  # whether it trained on while it was made smaller
    seed: int
    images: int
    correct: int
    loss: float  # nats
    bytes: int
    multiply_accumulates: int  # for one image


WAYS = [
    Way("none", 32, tuned=False),
    *(Way("bits", bits, tuned=False) for bits in (16, 8, 6, 4)),
    *(Way("bits", bits, tuned=True) for bits in (8, 4)),
    *(Way("zeros", share, tuned=False) for share in (0.7, 0.5)),
    *(Way("zeros", share, tuned=True) for share in (0.5, 0.3, 0.2, 0.1)),
    *(Way("rank", rank, tuned=False) for rank in (16, 8)),
    *(Way("rank", rank, tuned=True) for rank in (8, 4)),
]


def told_of(known: Iterable[Smaller], way: Way, trainings: Sequence[Training]) -> list[Smaller]:
    """Return what is ``known`` of a way to make these networks smaller; nothing if some of it is not."""
    seeds, trained = [one.seed for one in trainings], trainings[0].trained
    own = [one for one in known if (one.way, one.trained) == (way.name, trained) and one.seed in seeds]
    return own if [one.seed for one in own] == seeds else []


def not_measured(found: Iterable[Smaller]) -> str:
    """Name the ways that are not among what was ``found``; say nothing if all are."""
    ways = {one.way for one in found}
    waiting = [way.name for way in WAYS if way.name not in ways]
    return f"Not measured yet: {', '.join(waiting)}." if waiting else ""


@dataclass(frozen=True)
class Mean:
    """What one way costs and misreads, means over seeds."""

    kilobytes: float
    errors: float  # images


def mean_of(found: Iterable[Smaller], way: str) -> Mean | None:
    """Return the mean over the seeds of a way by its name; None if there are none."""
    own = [one for one in found if one.way == way]
    if not own:
        return None
    return Mean(fmean(one.bytes for one in own) / 1000, fmean(one.images - one.correct for one in own))


def make(way: Way, training: Training, folder: Path) -> dict:
    """Make a network smaller, and score it; return a :class:`Smaller` as plain values.

    A network that trains on while it shrinks goes on from :func:`keep_beginning`; any other one is taken from
    ``folder``.
    """
    data = load_data(training.settings)
    if way.tuned:
        begun = weights.read(keep_beginning(training, folder))["state"]
        model = train_shrinking(way, training, data, begun)
    else:
        model = shrink(way, load(training, folder))
    deployed = fold_batch_norm(model)
    if way.family == "bits" and way.amount == 16:
        deployed = deployed.half().float()
    size, work = cost(way, deployed)
    if way.family == "bits" and way.amount <= 8:
        quantise(deployed, int(way.amount), ranges_of(training.recipe, deployed, data.train))
    found = evaluate(deployed, training.recipe.scored(data.test))
    return {
        "trained": training.trained,
        "way": way.name,
        "family": way.family,
        "tuned": way.tuned,
        "seed": training.seed,
        "images": len(data.test),
        "correct": round(found.accuracy * len(data.test)),
        "loss": round(found.loss, 6),
        "bytes": size,
        "multiply_accumulates": work,
    }


def keep_beginning(training: Training, folder: Path) -> Path:
    """Train for the epochs before the shrinking, which all ways share, unless ``folder`` has that; return its file."""
    path = folder / training.place.with_suffix(".begun")
    data = load_data(training.settings)
    weights.keep(path, lambda: begin(training, data), lambda: opening(training, data))
    return path


def epochs_before(recipe: AnyRecipe) -> int:
    """Return after how many epochs the shrinking begins."""
    return recipe.epochs - max(1, recipe.epochs // 3)


def begin(training: Training, data: Dataset) -> dict:
    """Train for the epochs before the shrinking, and return the states of all that learns."""
    parts = assemble(training.recipe, data, training.settings, compiled)
    for _ in range(epochs_before(training.recipe)):
        learn(parts, training.recipe)
    return {name: part.state_dict() for name, part in learning(parts).items()}


def go_on(parts: Parts, begun: Mapping[str, dict], epochs: int) -> None:
    """Bring a new run to where another one had ``begun``, after so many ``epochs``."""
    for name, part in learning(parts).items():
        part.load_state_dict(begun[name])
    if parts.average is not None:
        parts.average.updates.fill_(epochs * len(parts.batches))
    for _ in range(epochs):
        parts.batches.draw_epoch()


def learning(parts: Parts) -> dict[str, nn.Module | Optimizer | LRScheduler]:
    """Return what changes while a run learns, by name; besides, an average and batches count."""
    average = None if parts.average is None else parts.average.model
    every = {"model": parts.model, "average": average, "optimizer": parts.optimizer, "scheduler": parts.scheduler}
    return {name: part for name, part in every.items() if part is not None}


def learn(parts: Parts, recipe: AnyRecipe) -> None:
    """Train for an epoch."""
    train_one_epoch(parts.model, parts.batches, parts.optimizer, parts.scheduler, parts.average, recipe.loss)


@contextlib.contextmanager
def staying_pruned(parts: Parts) -> Iterator[None]:
    """Keep the weights at 0 that are 0 now, after every update."""
    pruned = copy.deepcopy(parts.model)
    hook = parts.optimizer.register_step_post_hook(lambda *_: copy_zeros(pruned, parts.model))
    try:
        yield
    finally:
        hook.remove()


def train_shrinking(way: Way, training: Training, data: Dataset, begun: Mapping[str, dict]) -> nn.Sequential:
    """Train on from where a run has ``begun``, ever smaller, and return the network that is to be deployed."""
    recipe = training.recipe
    parts = assemble(recipe, data, training.settings, compiled)
    start = epochs_before(recipe)
    go_on(parts, begun, start)
    for epoch in range(start, recipe.epochs):
        if epoch or way.family != "bits":  # a network that never trained has no ranges
            squeeze(way, parts.model, recipe, data.train, progress=(epoch - start + 1) / (recipe.epochs - start))
        if way.family == "zeros" and parts.average is not None:
            parts.average.updates.zero_()  # it starts anew, or it would mix networks that have other weights
        with staying_pruned(parts) if way.family == "zeros" else contextlib.nullcontext():
            learn(parts, recipe)
    scored = parts.model if parts.average is None else parts.average.model
    if way.family == "bits":
        scored = loosened(scored)
    if way.family == "zeros":
        copy_zeros(parts.model, scored)
    recipe.before_scoring(scored, data.train)
    return shrink(way, scored.eval()) if way.family == "rank" else scored.eval()
