"""A run: a recipe, a seed and data make a trained network and its history; or many seeds do at once."""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import update_bn

from mnist_lab.augment import AlbumentationsEngine
from mnist_lab.batches import OrderedBatches, ShuffledBatches, count_batches
from mnist_lab.cuda_graph import GraphedUpdate
from mnist_lab.data import Dataset, hold_out, load
from mnist_lab.recipe import AnyRecipe, ParameterError, Settings
from mnist_lab.runtime import make_repeatable, pick_device, pick_precision
from mnist_lab.stack import StackedBatches, stack, unstack
from mnist_lab.training import Batches, Diverged, Epoch, Update, WeightAverage, fit, predict, train_one_epoch

HELD_OUT = 10_000  # of MNIST's 60,000 training images
OPENING = 10  # batches


@dataclass(frozen=True)
class Run:
    """What a recipe did with one seed."""

    model: nn.Module  # as scored: the averaged weights if the recipe averages
    history: list[Epoch]
    probabilities: Tensor  # (N, classes) for the images it was scored on, on the CPU
    opening_loss: float  # mean training loss of the first batches: a fingerprint of the recipe
    seconds: float  # wall clock, evaluation included


@dataclass(frozen=True)
class Parts:
    """What a run is put together from."""

    update: Update
    train: Batches
    scheduler: LRScheduler | None
    scored: list[nn.Sequential]  # a network per seed: averaged weights, if the recipe averages


def load_data(settings: Settings) -> Dataset:
    """Load what ``settings`` ask for, onto their device.

    With score_on "held-out" the test set is not touched: images held out of the training set take its place.
    """
    data = load(settings.data)
    train, test = data.train, data.test
    if settings.score_on == "held-out":
        train, test = hold_out(train, min(HELD_OUT, len(train) // 5))
    if settings.train_limit is not None:
        train = train.first(settings.train_limit)
    return Dataset(data.name, train, test).to(pick_device(settings.device))


def initial_network(recipe: AnyRecipe, settings: Settings, seed: int) -> nn.Sequential:
    """Return the network that ``seed`` starts from; it is drawn on the CPU, the same for every device."""
    make_repeatable(seed, settings.threads)
    return recipe.network()


def assemble(recipe: AnyRecipe, data: Dataset, settings: Settings, seeds: Sequence[int]) -> Parts:
    """Build the parts of a run of ``seeds``, which train as one stack if there are several.

    Raises ParameterError for several seeds of the engine "albumentations": all would see the images of the first.
    """
    device = pick_device(settings.device)
    networks, batches = [], []
    for seed in seeds:
        networks.append(initial_network(recipe, settings, seed))
        batches.append(ShuffledBatches(data.train, recipe.batch_size, seed=seed, augment=recipe.augment()))
    many = len(seeds) > 1
    if many and isinstance(batches[0].augment, AlbumentationsEngine):
        raise ParameterError(
            "ENGINE 'albumentations' draws from one seed per batch, so seeds cannot train side by side with it: "
            "use 'tensor', or --parallel 1"
        )
    model = (stack(networks) if many else networks[0]).to(device, memory_format=torch.channels_last)
    train = StackedBatches(batches) if many else batches[0]
    optimizer = recipe.optimizer(model.parameters(), device)
    kind = GraphedUpdate if device.type == "cuda" and recipe.recordable else Update
    average = WeightAverage(model, recipe.averaging) if recipe.averaging else None
    scored = model if average is None else average.model
    return Parts(
        update=kind(model, optimizer, average, pick_precision(device), recipe.smoothing),
        train=train,
        scheduler=recipe.scheduler(optimizer, recipe.epochs * len(train)),
        scored=unstack(scored, networks) if many else [scored],
    )


def train(recipe: AnyRecipe, data: Dataset, settings: Settings) -> Run:
    """Train ``recipe`` from the settings' seed and print a line per epoch. The last epoch is the result.

    Raises Diverged as soon as an epoch ends whose loss is not finite.
    """

    def show(epoch: Epoch) -> None:
        print(describe(epoch, recipe.epochs, settings.score_on), flush=True)

    (outcome,) = train_together(recipe, data, settings, [settings.seed], on_epoch=show)
    if isinstance(outcome, Diverged):
        raise outcome
    return outcome


def train_together(
    recipe: AnyRecipe, data: Dataset, settings: Settings, seeds: Sequence[int], *, on_epoch: Callable[[Epoch], None]
) -> list[Run | Diverged]:
    """Train ``recipe`` from several seeds side by side; returns what came of each.

    Times are those of all seeds together. On a GPU that takes little longer than one seed; a CPU has no use for it.
    """
    openings = [measure_opening(recipe, data, settings, seed) for seed in seeds]
    start = time.perf_counter()
    parts = assemble(recipe, data, settings, seeds)
    test = recipe.scored(data.test)
    measure_norms = partial(update_bn, OrderedBatches(data.train)) if recipe.fresh_statistics else None
    outcomes = fit(
        parts.update,
        parts.train,
        test,
        parts.scored,
        parts.scheduler,
        epochs=recipe.epochs,
        on_epoch=on_epoch,
        before_scoring=measure_norms,
    )
    probabilities = [predict(network, test) for network in parts.scored]
    seconds = time.perf_counter() - start
    return [
        outcome if isinstance(outcome, Diverged) else Run(network, outcome, probability, opening, seconds)
        for network, outcome, probability, opening in zip(parts.scored, outcomes, probabilities, openings, strict=True)
    ]


def measure_opening(recipe: AnyRecipe, data: Dataset, settings: Settings, seed: int) -> float:
    """Return the mean loss of the first ten batches of a run, which then starts afresh.

    Weights, order, augmentation, optimizer and schedule all show in it, and ten updates are too few for the
    rounding of another machine to matter: code that still gives a record's number still is the code that made it.
    """
    parts = assemble(recipe, data, settings, [seed])
    parts.update.precision = None  # on every device, to be compared
    batches = list(itertools.islice(parts.train, OPENING))
    (metrics,) = train_one_epoch(parts.update, batches, parts.scheduler)
    return metrics.loss


def learning_rates(recipe: AnyRecipe, data: Dataset) -> list[float]:
    """Return the learning rate of every update of a run on ``data``."""
    updates = recipe.epochs * count_batches(len(data.train), recipe.batch_size)
    optimizer = recipe.optimizer([nn.Parameter(torch.zeros(()))], torch.device("cpu"))
    scheduler = recipe.scheduler(optimizer, updates)
    rates = []
    for _ in range(updates):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return rates


def subject(recipe: AnyRecipe, data: Dataset) -> str:
    """Return what figures and printed lines are about: the data, and the recipe if it is not the notebook's own."""
    return f"{data.name}, {recipe.title}" if recipe.title else data.name


def describe(epoch: Epoch, epochs: int, score_on: str) -> str:
    """Return one line on an epoch."""
    return (
        f"epoch {epoch.number:2d}/{epochs}   train loss {epoch.train.loss:.4f}  accuracy {epoch.train.accuracy:7.2%}   "
        f"{score_on} loss {epoch.test.loss:.4f}  accuracy {epoch.test.accuracy:7.2%}   {epoch.seconds:5.1f} s"
    )
