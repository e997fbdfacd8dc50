"""Many seeds of one recipe trained side by side. It is meant for a GPU, which one small network leaves mostly idle."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from mnist_lab.augment import AlbumentationsEngine, CleanEnd
from mnist_lab.data import Dataset
from mnist_lab.experiment import Run, assemble, measure_opening
from mnist_lab.recipe import AnyRecipe, ParameterError, Settings
from mnist_lab.speed.cuda_graph import RecordedUpdate, is_recordable, make_recordable
from mnist_lab.speed.stack import StackedBatches, Update, stack, unstack
from mnist_lab.training import Diverged, Epoch, Metrics, WeightAverage, check_finite, evaluate, predict

SCORED_AT_ONCE = 10_000  # images: small batches would leave a GPU idle while their kernels are launched


def train_together(
    recipe: AnyRecipe,
    data: Dataset,
    settings: Settings,
    seeds: Sequence[int],
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> list[Run | Diverged]:
    """Train ``recipe`` from each of ``seeds`` at once; return what came of each, in their order.

    Each learns what :func:`experiment.train` would teach it alone; a seed that diverges does not disturb the others.
    Calls ``on_epoch`` after each epoch of each seed. All times are those of the seeds together. Raises ParameterError
    for several seeds with albumentations, and torch.OutOfMemoryError if they do not fit into a GPU.
    """
    engine = recipe.augment()
    if isinstance(engine, CleanEnd):
        engine = engine.engine
    if len(seeds) > 1 and isinstance(engine, AlbumentationsEngine):
        raise ParameterError(
            "ENGINE 'albumentations' draws from one seed for a whole batch, so seeds cannot train side by side with "
            "it: use 'tensor', or --parallel 1"
        )
    openings = [measure_opening(recipe, data, replace(settings, seed=seed)) for seed in seeds]
    start = time.perf_counter()
    update, batches, scheduler, networks = assemble_stack(recipe, data, settings, seeds)
    test = recipe.scored(data.test)
    test.size = SCORED_AT_ONCE
    outcomes: list[list[Epoch] | Diverged] = [[] for _ in seeds]
    for number in range(1, recipe.epochs + 1):
        learning_rate = float(update.optimizer.param_groups[0]["lr"])
        begin = time.perf_counter()
        trained = train_one_epoch(update, batches, scheduler)
        seconds = time.perf_counter() - begin  # complete: reading the metrics has waited for the device
        for i, network in enumerate(networks):
            if isinstance(outcomes[i], Diverged):
                continue
            recipe.before_scoring(network, data.train)
            tested = evaluate(network, test)
            try:
                check_finite(number, trained[i], tested)
            except Diverged as diverged:
                outcomes[i] = diverged
            else:
                outcomes[i].append(Epoch(number, learning_rate, trained[i], tested, seconds))
                on_epoch(outcomes[i][-1])
        if all(isinstance(outcome, Diverged) for outcome in outcomes):
            break
    probabilities = [predict(network, test) for network in networks]
    seconds = time.perf_counter() - start
    return [
        outcome if isinstance(outcome, Diverged) else Run(network, outcome, found, opening, seconds)
        for network, outcome, found, opening in zip(networks, outcomes, probabilities, openings, strict=True)
    ]


def assemble_stack(
    recipe: AnyRecipe, data: Dataset, settings: Settings, seeds: Sequence[int]
) -> tuple[Update, StackedBatches, LRScheduler | None, list[nn.Sequential]]:
    """Build what ``seeds`` train with on the device of ``data``, and the networks to score, one for each seed.

    These share the stack's weights, or their average if the recipe averages. On a GPU the update is recorded.
    """
    alone = [assemble(recipe, data, replace(settings, seed=seed)) for seed in seeds]
    device, networks = data.train.images.device, [parts.model for parts in alone]
    model = stack(networks)  # in their memory format
    optimizer, updates = recipe.optimizer(model.parameters()), recipe.epochs * len(alone[0].batches)
    recorded = device.type == "cuda" and is_recordable(recipe, updates)
    if recorded:
        make_recordable(optimizer, device)
    average = WeightAverage(model, recipe.averaging) if recipe.averaging else None
    kind = RecordedUpdate if recorded else Update
    update = kind(model, optimizer, average, recipe.loss, pick_precision(device, len(seeds)))
    scored = unstack(model if average is None else average.model, networks)
    return update, StackedBatches([parts.batches for parts in alone]), recipe.scheduler(optimizer, updates), scored


def pick_precision(device: torch.device, networks: int) -> torch.dtype:
    """Return the type that so many networks compute in: bfloat16 for several on a GPU that has it (Ampere and later).

    For one network alone, the kernels that cast are likely to take longer than its smaller numbers save. A T4 has no
    bfloat16, and float16 would need its losses scaled.
    """
    if networks > 1 and device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0):
        return torch.bfloat16
    return torch.float32


def train_one_epoch(update: Update, batches: StackedBatches, scheduler: LRScheduler | None) -> list[Metrics]:
    """Update a stack, and then its learning rate, once for each batch; return the metrics of each network."""
    losses, correct, seen = [], [], 0
    for images, labels in tqdm(batches, desc="train", unit="batch", leave=False):
        loss, right = update(images, labels)
        losses.append(loss)  # these stay on the device, so that no batch waits for the one before it
        correct.append(right)
        seen += len(labels)
        if scheduler is not None:
            scheduler.step()
    means, shares = torch.stack(losses).double().mean(0), torch.stack(correct).sum(0).double() / seen
    return [Metrics(loss, share) for loss, share in zip(means.tolist(), shares.tolist(), strict=True)]
