"""The loops: one epoch of training, evaluation, and a run of epochs."""

import itertools
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

Batches = Iterable[tuple[Tensor, Tensor]]  # images (B, 1, 28, 28) and labels (B,); has a length


class Diverged(RuntimeError):
    """The loss stopped being a finite number."""


@dataclass(frozen=True)
class Metrics:
    """Averages over images, never over batches."""

    loss: float  # cross-entropy, nats
    accuracy: float  # correct / seen, in [0, 1]


@dataclass(frozen=True)
class Epoch:
    """What one epoch did."""

    number: int  # counted from 1
    learning_rate: float  # at the first batch
    train: Metrics  # while the weights moved, on augmented images
    test: Metrics  # after the epoch, of the averaged weights if there are any
    seconds: float  # training alone, without evaluation


def weight_average(model: nn.Module, decay: float) -> AveragedModel:
    """Return a copy of ``model`` whose weights and norm statistics follow it as a moving average.

    After n updates the average keeps ``min(decay, (1 + n) / (10 + n))`` of itself, so that it forgets the
    random start at once and then spans about 1 / (1 - decay) updates (Polyak and Juditsky, 1992).
    """

    updates = itertools.count(1)  # AveragedModel counts too, but on the device: to ask it would mean to wait

    def move(averages: list[Tensor], values: list[Tensor], _: Tensor) -> None:
        if averages[0].is_floating_point():
            update = next(updates)
            keep = min(decay, (1 + update) / (10 + update))
            torch._foreach_lerp_(averages, values, 1 - keep)
        else:  # the norms' counters of batches
            torch._foreach_copy_(averages, values)

    return AveragedModel(model, multi_avg_fn=move, use_buffers=True)


class Tally:
    """Sums over images, kept on the device so that no batch waits for the one before it."""

    def __init__(self):
        self.losses: list[Tensor] = []  # batch means
        self.correct: list[Tensor] = []
        self.sizes: list[int] = []

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self.losses.append(loss.detach())
        self.correct.append((logits.detach().argmax(1) == labels).sum())
        self.sizes.append(len(labels))

    def mean(self) -> Metrics:
        losses = torch.stack(self.losses).double().cpu()
        seen = sum(self.sizes)
        loss = (losses * torch.tensor(self.sizes)).sum().item() / seen
        return Metrics(loss, int(torch.stack(self.correct).sum()) / seen)

    def first_bad_batch(self) -> int | None:
        """Return which batch, counted from 1, was the first whose loss is not finite."""
        bad = torch.stack(self.losses).isfinite().logical_not().nonzero()
        return int(bad[0]) + 1 if len(bad) else None


def train_one_epoch(
    model: nn.Module,
    batches: Batches,
    optimizer: Optimizer,
    scheduler: LRScheduler | None = None,
    average: AveragedModel | None = None,
) -> Metrics:
    """Update ``model`` once per batch; ``scheduler`` and ``average``, if given, follow every update.

    Raises Diverged if a loss was not finite, with the batch and its learning rate.
    """
    model.train()
    tally, rates = Tally(), []
    for images, labels in tqdm(batches, desc="train", unit="batch", leave=False):
        logits = model(images)  # (B, 10)
        loss = F.cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        if average is not None:
            average.update_parameters(model)
        tally.add(loss, logits, labels)
    batch = tally.first_bad_batch()
    if batch is not None:
        raise Diverged(
            f"the loss became {tally.losses[batch - 1].item()} in batch {batch} of {len(rates)}, at learning rate "
            f"{rates[batch - 1]:.4g}: lower the learning rate"
        )
    return tally.mean()


@torch.no_grad()
def evaluate(model: nn.Module, batches: Batches) -> Metrics:
    """Score ``model`` on every image of ``batches``, in evaluation mode."""
    model.eval()
    tally = Tally()
    for images, labels in batches:
        logits = model(images)
        tally.add(F.cross_entropy(logits, labels), logits, labels)
    return tally.mean()


@torch.no_grad()
def predict(model: nn.Module, batches: Batches) -> Tensor:
    """Return the probabilities (N, 10) that ``model`` gives to every image of ``batches``, on the CPU."""
    model.eval()
    return torch.cat([model(images).softmax(1) for images, _ in batches]).cpu()


def fit(
    model: nn.Module,
    train: Batches,
    test: Batches,
    optimizer: Optimizer,
    scheduler: LRScheduler | None = None,
    average: AveragedModel | None = None,
    *,
    epochs: int,
    on_epoch: Callable[[Epoch], None],
) -> list[Epoch]:
    """Train for exactly ``epochs`` epochs and score each. The last one is the result: nothing is selected.

    With ``average``, its weights are the ones scored. Raises Diverged, naming the epoch, as soon as an
    epoch ends whose loss was not finite.
    """
    history = []
    for number in range(1, epochs + 1):
        learning_rate = optimizer.param_groups[0]["lr"]
        start = time.perf_counter()
        try:
            trained = train_one_epoch(model, train, optimizer, scheduler, average)
        except Diverged as error:
            raise Diverged(f"epoch {number}: {error}") from None
        seconds = time.perf_counter() - start
        tested = evaluate(model if average is None else average, test)
        if not math.isfinite(tested.loss):
            raise Diverged(f"epoch {number}: the loss on the test images is {tested.loss}: lower the learning rate")
        history.append(Epoch(number, learning_rate, trained, tested, seconds))
        on_epoch(history[-1])
    return history
