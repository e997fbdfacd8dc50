"""The loops: one update, one epoch of training, evaluation, and a run of epochs.

A model may be one network or a stack of N that train side by side (see :mod:`mnist_lab.stack`): then images are
(B, N, 28, 28), labels (B, N) and logits (B, N, classes), and every quantity that follows has one value per network.
"""

import copy
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
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


class WeightAverage:
    """A copy of a model whose weights and norm statistics follow it as a moving average.

    Of itself the average keeps nothing at the first update, ``n / (9 + n)`` after n, and at most ``decay``: so it
    forgets the random start at once and then spans about 1 / (1 - decay) updates (Polyak and Juditsky, 1992). It
    counts on the device and never waits for it, as PyTorch's own ``AveragedModel`` does at every update.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.averages, self.values = floats(self.model), floats(model)
        self.updates = torch.zeros((), device=self.values[0].device)

    @torch.no_grad()
    def update(self) -> None:
        """Move towards the model as it is now."""
        keep = (self.updates / (9 + self.updates)).clamp(max=self.decay)
        self.updates += 1
        steps = torch._foreach_sub(self.values, self.averages)
        torch._foreach_mul_(steps, 1 - keep)
        torch._foreach_add_(self.averages, steps)


def floats(model: nn.Module) -> list[Tensor]:
    """Return the parameters of ``model`` and the statistics of its norms, sharing their memory."""
    return [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()]


class Tally:
    """Sums over images, kept on the device so that no batch waits for the one before it."""

    def __init__(self):
        self.losses: list[Tensor] = []  # batch means, () or (N,)
        self.correct: list[Tensor] = []  # images read right, () or (N,)
        self.sizes: list[int] = []

    def add(self, losses: Tensor, correct: Tensor, size: int) -> None:
        self.losses.append(losses)
        self.correct.append(correct)
        self.sizes.append(size)

    def means(self) -> list[Metrics]:
        """Return the metrics of each network."""
        sizes, seen = torch.tensor(self.sizes), sum(self.sizes)
        losses = torch.stack(self.losses).double().cpu().view(len(sizes), -1)  # (batches, N)
        correct = torch.stack(self.correct).cpu().view(len(sizes), -1)
        sums = (losses * sizes[:, None]).sum(0), correct.sum(0)
        return [Metrics(loss.item() / seen, int(right) / seen) for loss, right in zip(*sums, strict=True)]


def measure(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy and the number of images read right, of each network: () or (N,).

    ``smoothing`` is the share of each label that counts as spread over all digits.
    """
    flat = logits.flatten(0, -2), labels.flatten()
    losses = F.cross_entropy(*flat, reduction="none", label_smoothing=smoothing).view(labels.shape)
    return losses.mean(0), (logits.detach().argmax(-1) == labels).sum(0)


class Update:
    """One update of the weights by one batch; returns its losses and images read right, as :func:`measure` does.

    ``precision``, if given, is the type that the forward and backward pass compute in where that is safe;
    ``smoothing`` is the share of each label that is spread over all digits.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        average: WeightAverage | None = None,
        precision: torch.dtype | None = None,
        smoothing: float = 0.0,
    ):
        self.model, self.optimizer, self.average = model, optimizer, average
        self.precision, self.smoothing = precision, smoothing

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(images.device.type, self.precision, enabled=self.precision is not None):
            logits = self.model(images)
        losses, correct = measure(logits.float(), labels, self.smoothing)
        self.optimizer.zero_grad()
        losses.sum().backward()  # networks of a stack share no weight: each gets its own gradient
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        return losses.detach(), correct


def train_one_epoch(update: Update, batches: Batches, scheduler: LRScheduler | None = None) -> list[Metrics]:
    """Update a model once per batch, then its learning rate; return the metrics of each of its networks."""
    update.model.train()
    tally = Tally()
    for images, labels in tqdm(batches, desc="train", unit="batch", leave=False):
        tally.add(*update(images, labels), len(labels))
        if scheduler is not None:
            scheduler.step()
    return tally.means()


@torch.no_grad()
def evaluate(network: nn.Module, batches: Batches) -> Metrics:
    """Score one network on every image of ``batches``, in evaluation mode."""
    network.eval()
    tally = Tally()
    for images, labels in batches:
        tally.add(*measure(network(images), labels), len(labels))
    return tally.means()[0]


@torch.no_grad()
def predict(network: nn.Module, batches: Batches) -> Tensor:
    """Return the probabilities (images, classes) that one network gives to every image of ``batches``, on the CPU."""
    network.eval()
    return torch.cat([network(images).softmax(1) for images, _ in batches]).cpu()


def fit(
    update: Update,
    train: Batches,
    test: Batches,
    networks: Sequence[nn.Module],
    scheduler: LRScheduler | None = None,
    *,
    epochs: int,
    on_epoch: Callable[[Epoch], None],
    before_scoring: Callable[[nn.Module], None] | None = None,
) -> list[list[Epoch] | Diverged]:
    """Train for exactly ``epochs`` epochs and score ``networks`` after each: those of the model, or their averages.

    The last epoch is the result: nothing is selected. ``before_scoring``, if given, prepares each network for it, in
    time that does not count as training. Returns the history of each network, or how it diverged;
    a network of a stack that did so does not disturb the others.
    """
    outcomes: list[list[Epoch] | Diverged] = [[] for _ in networks]
    for number in range(1, epochs + 1):
        learning_rate = float(update.optimizer.param_groups[0]["lr"])
        start = time.perf_counter()
        trained = train_one_epoch(update, train, scheduler)  # ends by reading its metrics: the device is done
        seconds = time.perf_counter() - start
        for i, network in enumerate(networks):
            if isinstance(outcomes[i], Diverged):
                continue
            if before_scoring is not None:
                before_scoring(network)
            tested = evaluate(network, test)
            if math.isfinite(trained[i].loss) and math.isfinite(tested.loss):
                outcomes[i].append(Epoch(number, learning_rate, trained[i], tested, seconds))
                on_epoch(outcomes[i][-1])
            else:
                outcomes[i] = Diverged(
                    f"epoch {number}: the loss is {trained[i].loss} in training and {tested.loss} on the scored "
                    "images: lower the learning rate"
                )
        if all(isinstance(outcome, Diverged) for outcome in outcomes):
            break
    return outcomes
