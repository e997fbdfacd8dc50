"""One run: a recipe, a seed and data make a trained network and its history."""

import itertools
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from mnist_lab.batches import OrderedBatches, ShuffledBatches, count_batches
from mnist_lab.data import Dataset, hold_out, load
from mnist_lab.models import build
from mnist_lab.recipe import Recipe, Settings
from mnist_lab.runtime import make_repeatable, pick_device
from mnist_lab.training import Epoch, fit, predict, train_one_epoch, weight_average

HELD_OUT = 10_000  # of MNIST's 60,000 training images
OPENING = 10  # batches


@dataclass(frozen=True)
class Run:
    """What a recipe did with one seed."""

    model: nn.Module  # as scored: the averaged weights if the recipe averages
    history: list[Epoch]
    probabilities: Tensor  # (N, 10) for the images it was scored on, on the CPU
    opening_loss: float  # mean training loss of the first batches: a fingerprint of the recipe
    seconds: float  # wall clock, evaluation included


@dataclass(frozen=True)
class Parts:
    """What a run is put together from."""

    model: nn.Module
    train: ShuffledBatches
    optimizer: Optimizer
    scheduler: LRScheduler | None
    average: AveragedModel | None


def load_data(settings: Settings) -> Dataset:
    """Load what ``settings`` ask for, onto their device. With score_on "held-out" the test set is not touched:
    its place is taken by images held out of the training set."""
    data = load(settings.data)
    train, test = data.train, data.test
    if settings.score_on == "held-out":
        train, test = hold_out(train, min(HELD_OUT, len(train) // 5))
    if settings.train_limit is not None:
        train = train.first(settings.train_limit)
    return Dataset(data.name, train, test).to(pick_device(settings.device))


def assemble(recipe: Recipe, data: Dataset, settings: Settings) -> Parts:
    """Seed everything and build the parts of a run. Weights are drawn on the CPU, the same for every device."""
    device = pick_device(settings.device)
    make_repeatable(settings.seed, settings.threads)
    model = build(recipe.model).to(device, memory_format=torch.channels_last)
    train = ShuffledBatches(data.train, recipe.batch_size, seed=settings.seed, augment=recipe.augment())
    optimizer = Adam(model.parameters(), lr=recipe.learning_rate, fused=True)
    return Parts(
        model=model,
        train=train,
        optimizer=optimizer,
        scheduler=recipe.scheduler(optimizer, recipe.epochs * len(train)),
        average=weight_average(model, recipe.averaging) if recipe.averaging else None,
    )


def train(recipe: Recipe, data: Dataset, settings: Settings) -> Run:
    """Train ``recipe`` from the settings' seed and print a line per epoch. The last epoch is the result."""
    opening_loss = measure_opening(recipe, data, settings)
    start = time.perf_counter()
    parts = assemble(recipe, data, settings)
    test = OrderedBatches(data.test)
    history = fit(
        parts.model,
        parts.train,
        test,
        parts.optimizer,
        parts.scheduler,
        parts.average,
        epochs=recipe.epochs,
        on_epoch=lambda epoch: print(describe(epoch, recipe.epochs, settings.score_on), flush=True),
    )
    scored = parts.model if parts.average is None else parts.average.module
    return Run(scored, history, predict(scored, test), opening_loss, time.perf_counter() - start)


def measure_opening(recipe: Recipe, data: Dataset, settings: Settings) -> float:
    """Return the mean loss of the first ten batches of a run, which then starts afresh.

    Weights, order, augmentation, optimizer and schedule all show in it, and ten updates are too few for the
    rounding of another machine to matter: code that still gives a record's number still is the code that made it.
    """
    parts = assemble(recipe, data, settings)
    batches = list(itertools.islice(parts.train, OPENING))
    return train_one_epoch(parts.model, batches, parts.optimizer, parts.scheduler).loss


def learning_rates(recipe: Recipe, data: Dataset) -> list[float]:
    """Return the learning rate of every update of a run on ``data``."""
    updates = recipe.epochs * count_batches(len(data.train), recipe.batch_size)
    optimizer = Adam([nn.Parameter(torch.zeros(()))], lr=recipe.learning_rate)
    scheduler = recipe.scheduler(optimizer, updates)
    rates = []
    for _ in range(updates):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return rates


def describe(epoch: Epoch, epochs: int, score_on: str) -> str:
    """Return one line on an epoch."""
    return (
        f"epoch {epoch.number:2d}/{epochs}   train loss {epoch.train.loss:.4f}  accuracy {epoch.train.accuracy:7.2%}   "
        f"{score_on} loss {epoch.test.loss:.4f}  accuracy {epoch.test.accuracy:7.2%}   {epoch.seconds:5.1f} s"
    )
