"""The loops: one epoch of training, evaluation, and a run of epochs; and the moving average of the weights."""

import copy
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from tqdm import tqdm

from mnist_lab import LabError

Batches = Iterable[tuple[Tensor, Tensor]]  # images (B, 1, 28, 28) and labels (B,)
LossFunction = Callable[[Tensor, Tensor], Tensor]  # logits (B, classes) and labels (B,) -> mean over the batch, ()


class Diverged(LabError):
    """The loss stopped being a finite number."""


@dataclass(frozen=True)
class Metrics:
    """Averages over images, never over batches."""

    loss: float  # nats
    accuracy: float  # correct / seen, in [0, 1]


@dataclass(frozen=True)
class Epoch:
    """What one epoch did."""

    number: int  # counted from 1
    learning_rate: float  # at the first batch
    train: Metrics  # while the weights moved, on augmented images
    test: Metrics  # after the epoch, of the averaged weights if there are any
    seconds: float  # training alone, without evaluation


class Tally:
    """Sums over images. They stay on the device: to read a number would make the CPU wait until a GPU has it."""

    def __init__(self):
        self.losses: list[Tensor] = []  # of each batch, its mean
        self.correct: list[Tensor] = []  # of each batch, how many images were read right
        self.sizes: list[int] = []

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        self.losses.append(loss.detach())
        digits = labels if labels.dim() == 1 else labels.argmax(1)  # of targets (B, classes)
        self.correct.append((logits.detach().argmax(1) == digits).sum())
        self.sizes.append(len(labels))

    def metrics(self) -> Metrics:
        """Return the averages; this waits for the device."""
        seen = sum(self.sizes)
        losses, correct = torch.stack(self.losses).double().cpu(), torch.stack(self.correct).cpu()
        return Metrics(float((losses * torch.tensor(self.sizes)).sum()) / seen, int(correct.sum()) / seen)


class WeightAverage:
    """An exponential moving average (EMA) of a model's weights and norm statistics, as a model of its own.

    An update keeps a share of the average: n / (9 + n) after n updates, and at most ``decay``. So the average forgets
    the random start at once, spans a tenth of the updates so far, and in the end about the last 1 / (1 - decay): with
    0.999 that is 1,000 updates, reached after 8,991. The ramp is that of TensorFlow's ExponentialMovingAverage. It is
    counted on the device: PyTorch's own ``AveragedModel`` makes the CPU wait for a GPU at every update.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.averages, self.current = float_state(self.model), float_state(model)
        self.updates = torch.zeros((), device=self.current[0].device)

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the model as it is now: average += (1 - keep) * (current - average), for all tensors at once."""
        keep = (self.updates / (9 + self.updates)).clamp(max=self.decay)
        self.updates += 1
        steps = torch._foreach_sub(self.current, self.averages)
        torch._foreach_mul_(steps, 1 - keep)
        torch._foreach_add_(self.averages, steps)


def float_state(model: nn.Module) -> list[Tensor]:
    """Return the parameters of ``model`` and the statistics of its norms, sharing their memory."""
    return [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]


def train_one_epoch(
    model: nn.Module,
    batches: Batches,
    optimizer: Optimizer,
    scheduler: LRScheduler | None = None,
    average: WeightAverage | None = None,
    loss_function: LossFunction = F.cross_entropy,
) -> Metrics:
    """Update ``model`` once for each batch; the learning rate and the average follow every update."""
    model.train()
    tally = Tally()
    for images, labels in tqdm(batches, desc="train", unit="batch", leave=False):
        logits = model(images)
        loss = loss_function(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        if average is not None:
            average.update()
        tally.add(loss, logits, labels)
    return tally.metrics()


@torch.no_grad()
def evaluate(model: nn.Module, batches: Batches) -> Metrics:
    """Score ``model`` on every image of ``batches``, in evaluation mode, by its cross-entropy and accuracy."""
    model.eval()
    tally = Tally()
    for images, labels in batches:
        logits = model(images)
        tally.add(F.cross_entropy(logits, labels), logits, labels)
    return tally.metrics()


@torch.no_grad()
def predict(model: nn.Module, batches: Batches) -> Tensor:
    """Return the probabilities (images, classes) that ``model`` gives to every image of ``batches``, on the CPU."""
    model.eval()
    return torch.cat([model(images).softmax(1) for images, _ in batches]).cpu()


def fit(
    model: nn.Module,
    train: Batches,
    test: Batches,
    optimizer: Optimizer,
    scheduler: LRScheduler | None = None,
    average: WeightAverage | None = None,
    loss_function: LossFunction = F.cross_entropy,
    *,
    epochs: int,
    before_scoring: Callable[[nn.Module], None] = lambda scored: None,
    on_epoch: Callable[[Epoch], None] = print,
) -> list[Epoch]:
    """Train for exactly ``epochs`` epochs, and score the model, or its average, after each.

    The last epoch is the result: nothing is selected. ``before_scoring`` may prepare what is scored; its time does
    not count as training. Raises Diverged as soon as an epoch ends whose loss is not finite.
    """
    scored = model if average is None else average.model
    history: list[Epoch] = []
    for number in range(1, epochs + 1):
        learning_rate = float(optimizer.param_groups[0]["lr"])
        start = time.perf_counter()
        trained = train_one_epoch(model, train, optimizer, scheduler, average, loss_function)
        seconds = time.perf_counter() - start  # complete: reading the metrics has waited for the device
        before_scoring(scored)
        tested = evaluate(scored, test)
        check_finite(number, trained, tested)
        history.append(Epoch(number, learning_rate, trained, tested, seconds))
        on_epoch(history[-1])
    return history


def check_finite(number: int, trained: Metrics, tested: Metrics) -> None:
    """Raise Diverged unless both losses of epoch ``number`` are finite."""
    if not (math.isfinite(trained.loss) and math.isfinite(tested.loss)):
        raise Diverged(
            f"epoch {number}: the loss is {trained.loss} in training and {tested.loss} on the scored images: "
            "lower the learning rate"
        )
