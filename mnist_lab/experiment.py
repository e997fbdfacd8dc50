"""A run: a recipe, a seed and data make a trained network and its history."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mnist_lab.batches import ShuffledBatches, count_batches
from mnist_lab.data import Dataset, load
from mnist_lab.recipe import AnyRecipe, Settings
from mnist_lab.runtime import make_repeatable, pick_device
from mnist_lab.training import Epoch, WeightAverage, evaluate, fit, predict, train_one_epoch

TARGET = 0.994  # test accuracy that the series is after
OPENING = 10  # batches
Prepare = Callable[[nn.Module], nn.Module]  # returns a network that computes the same, but faster
AS_IT_IS: Prepare = nn.Identity()


@dataclass(frozen=True)
class Run:
    """What a recipe did with one seed."""

    model: nn.Module  # as scored: the averaged weights if the recipe averages
    history: list[Epoch]
    probabilities: Tensor  # (N, classes) for the images it was scored on, on the CPU
    opening_loss: float  # mean training loss of the first batches: a fingerprint of the recipe
    seconds: float  # wall clock, evaluation included
    unaveraged: "Run | None" = None  # the same training as scored by the weights themselves, if it was asked for


@dataclass(frozen=True)
class Parts:
    """What a run is put together from."""

    model: nn.Module
    batches: ShuffledBatches
    optimizer: Optimizer
    scheduler: LRScheduler | None
    average: WeightAverage | None


def load_data(settings: Settings) -> Dataset:
    """Load what ``settings`` ask for, onto their device.

    With score_on "held-out", training images take the place of the test set, which is not touched: those of a sixth
    of the writers, fold seed mod 6 (:mod:`writers`), whom the network is not trained on.
    """
    data = load(settings.data)
    train, test = data.train, data.test
    if settings.score_on == "held-out":
        from mnist_lab.writers import FOLDS, held_out

        train, test = held_out(train, settings.seed % FOLDS)
    if settings.train_limit is not None:
        train = train.first(settings.train_limit)
    return Dataset(data.name, train, test).to(pick_device(settings.device))


def initial_network(recipe: AnyRecipe, settings: Settings) -> nn.Sequential:
    """Return the network that the settings' seed starts from, on the CPU: it is the same for every device."""
    make_repeatable(settings.seed, settings.threads)
    return recipe.network()


def assemble(recipe: AnyRecipe, data: Dataset, settings: Settings, prepare: Prepare = AS_IT_IS) -> Parts:
    """Build the parts of a run on the device of ``data``."""
    device = data.train.images.device
    # A CPU is fastest in channels_last, where cuDNN may have no deterministic depthwise convolution for a GPU.
    memory_format = torch.channels_last if device.type == "cpu" else torch.contiguous_format
    model = prepare(initial_network(recipe, settings).to(device, memory_format=memory_format))
    average = WeightAverage(model, recipe.averaging) if recipe.averaging else None
    batches = recipe.batches(data.train, settings.seed, average and average.model)
    optimizer = recipe.optimizer(model.parameters())
    scheduler = recipe.scheduler(optimizer, recipe.epochs * len(batches))
    return Parts(model, batches, optimizer, scheduler, average)


def train(
    recipe: AnyRecipe,
    data: Dataset,
    settings: Settings,
    on_epoch: Callable[[Epoch], None] | None = None,
    *,
    prepare: Prepare = AS_IT_IS,
    also_unaveraged: bool = False,
) -> Run:
    """Train ``recipe`` from the settings' seed. The last epoch is the result.

    Calls ``on_epoch`` after each epoch; without one, prints a line. ``prepare`` may make the network faster, as
    ``torch.compile`` does. ``also_unaveraged`` scores the weights beside their average, for a second run that costs no
    second training. Raises Diverged as soon as an epoch ends whose loss is not finite.
    """
    unaveraged: list[Epoch] = []

    def end(epoch: Epoch) -> None:
        if also_unaveraged:
            unaveraged.append(replace(epoch, test=evaluate(parts.model, test)))
        if on_epoch is None:
            print(describe(epoch, recipe.epochs, settings.score_on), flush=True)
        else:
            on_epoch(epoch)

    opening = measure_opening(recipe, data, settings, prepare)
    start = time.perf_counter()
    parts = assemble(recipe, data, settings, prepare)
    scored = parts.model if parts.average is None else parts.average.model
    test = recipe.scored(data.test)
    loop = parts.model, parts.batches, test, parts.optimizer, parts.scheduler, parts.average, recipe.loss
    before = partial(recipe.before_scoring, train=data.train)
    history = fit(*loop, epochs=recipe.epochs, before_scoring=before, on_epoch=end)
    run = Run(scored, history, predict(scored, test), opening, time.perf_counter() - start)
    if not also_unaveraged:
        return run
    itself = replace(run, model=parts.model, history=unaveraged, probabilities=predict(parts.model, test))
    return replace(run, unaveraged=itself)


def measure_opening(recipe: AnyRecipe, data: Dataset, settings: Settings, prepare: Prepare = AS_IT_IS) -> float:
    """Return the mean loss of the first ten batches of a run, which then starts afresh.

    It shows weights, order, augmentation, optimizer and schedule, and after ten updates another machine's rounding
    hardly matters yet. So if the code still gives the number in a record, it still trains as it did for that record.
    """
    parts = assemble(recipe, data, settings, prepare)
    batches = list(itertools.islice(parts.batches, OPENING))
    return train_one_epoch(parts.model, batches, parts.optimizer, parts.scheduler, loss_function=recipe.loss).loss


def learning_rates(recipe: AnyRecipe, data: Dataset) -> list[float]:
    """Return the learning rate of every update of a run on ``data``."""
    updates = recipe.epochs * count_batches(len(data.train), recipe.batch_size)
    optimizer = recipe.optimizer([nn.Parameter(torch.zeros(()))])
    scheduler = recipe.scheduler(optimizer, updates)
    rates = []
    for _ in range(updates):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return rates


def describe(epoch: Epoch, epochs: int, score_on: str) -> str:
    """Return one line on an epoch, short enough for a page: of each, loss and accuracy."""
    train, test = (f"{of.loss:.4f} {of.accuracy:7.2%}" for of in (epoch.train, epoch.test))
    return f"epoch {epoch.number:2d}/{epochs}   train: {train}   {score_on}: {test}   {epoch.seconds:5.1f} s"
