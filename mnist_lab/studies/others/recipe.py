"""How a published network was trained, and what may be changed about that.

Each series file states its recipes as its repository does. Where a repository is silent, or our engine works in
another way, this was chosen for all of them:

* Batches are normalised with the mean and deviation of the training images, pixels in [0, 1].
* The incomplete last batch of an epoch is left out, as for our own networks: 32 or 96 of the 60,000 images, others in
  every epoch.
* Seeds are ours, 0, 1, 2 ..., and not the one that each repository names: its random numbers depend on its loader.
* OneCycleLR cycles the momentum too, between 0.85 and 0.95, since that is its default.
"""

import importlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import ModuleType

from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from mnist_lab.augment import Augment
from mnist_lab.batches import MEAN, STD, OrderedBatches, ShuffledBatches
from mnist_lab.data import Split
from mnist_lab.models import leaves
from mnist_lab.studies.others.distortions import DISTORTIONS, Chain


@dataclass(frozen=True)
class PublishedRecipe:
    """A published recipe as plain values, which is a :class:`recipe.AnyRecipe`. Its records hold exactly its fields."""

    published: str  # the step that published it: a letter for the series, and a number
    model: str  # a class of the series' file
    epochs: int
    batch_size: int
    learning_rate: float  # constant, at the start of the steps, or the peak of the cycle
    momentum: float = 0.9  # of SGD; also Adam's first moment
    weight_decay: float = 0.0
    method: str = "SGD"  # or "Adam"
    schedule: str = "constant"  # or "step" or "one-cycle"
    step_epochs: int = 0  # epochs between two steps
    step_factor: float = 1.0  # of the rate at each step
    warmup: float = 0.0  # share of the cycle's updates that climb to the peak
    start_divisor: float = 25.0  # the cycle starts at the peak divided by this
    end_divisor: float = 1e4  # and ends at its start divided by this
    distortion: str = "none"  # a name in DISTORTIONS
    scored_mean: float = MEAN  # normalisation of the scored images; that of the training images is MEAN and STD
    scored_std: float = STD
    variant: str = ""  # a name in VARIANTS: the one change to the published recipe, if there is one
    averaging: float = 0.0  # of the weights; none of the series does it
    smoothing: float = 0.0  # of the labels; nor this

    @property
    def name(self) -> str:
        """What its records are called."""
        return f"{self.published} {self.variant}".strip()

    @property
    def change(self) -> str:
        """Say whose recipe it is, and whether it is as published."""
        return self.name if self.variant else f"{self.published} as published"

    @property
    def series(self) -> ModuleType:
        """Return the file of its series."""
        return importlib.import_module(f"mnist_lab.studies.others.series_{self.published[0].lower()}")

    def network(self) -> nn.Sequential:
        """Return a new network, with the weights that it starts from: they are the same for a variant.

        Raises KeyError for a variant that is not in VARIANTS.
        """
        network, change = getattr(self.series, self.model)(), VARIANTS[self.variant]
        if change:
            layers = change(leaves(network))
            del network[:]
            network.extend(layers)
        return network

    def augment(self) -> Augment | None:
        """Return what distorts a batch; None if nothing does."""
        return Chain(DISTORTIONS[self.distortion]) if DISTORTIONS[self.distortion] else None

    def batches(self, train: Split, seed: int, average: nn.Module | None) -> ShuffledBatches:
        """Return what is trained on; no series asks an average for targets."""
        return ShuffledBatches(train, self.batch_size, seed=seed, augment=self.augment())

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy of a batch: logits (B, classes) and labels (B,)."""
        return F.cross_entropy(logits, labels, label_smoothing=self.smoothing)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """Return SGD or Adam for ``parameters``."""
        if self.method == "SGD":
            return SGD(parameters, self.learning_rate, self.momentum, weight_decay=self.weight_decay, fused=True)
        betas = (self.momentum, 0.999)
        return Adam(parameters, self.learning_rate, betas, weight_decay=self.weight_decay, fused=True)

    def scheduler(self, optimizer: Optimizer, updates: int) -> LRScheduler | None:
        """Return the learning-rate schedule over ``updates`` batches; None if the rate stays constant."""
        if self.schedule == "constant":
            return None
        if self.schedule == "step":
            step = self.step_epochs * updates // self.epochs
            return LambdaLR(optimizer, lambda update: self.step_factor ** (update // step))
        cycle = {"pct_start": self.warmup, "div_factor": self.start_divisor, "final_div_factor": self.end_divisor}
        return OneCycleLR(optimizer, self.learning_rate, total_steps=updates, **cycle)

    def scored(self, split: Split) -> OrderedBatches:
        """Return the images to score on, normalised as published."""
        return OrderedBatches(split, mean=self.scored_mean, std=self.scored_std)

    def before_scoring(self, model: nn.Module, train: Split) -> None:
        """Leave ``model`` as training left it."""


def without_dropout(layers: Sequence[nn.Module]) -> list[nn.Module]:
    """Leave out every dropout."""
    return [layer for layer in layers if not isinstance(layer, nn.Dropout)]


def without_clipping(layers: Sequence[nn.Module]) -> list[nn.Module]:
    """Leave out the ReLU behind the last convolution, so that a logit can be any number."""
    last = max(place for place, layer in enumerate(layers) if isinstance(layer, nn.Conv2d))
    return [layer for place, layer in enumerate(layers) if place < last or not isinstance(layer, nn.ReLU)]


VARIANTS: dict[str, Callable[[Sequence[nn.Module]], Sequence[nn.Module]] | None] = {  # what is done to the layers
    "": None,
    "unclipped logits": without_clipping,
    "no dropout": without_dropout,
    "black corners": None,  # the change is in another field of the recipe
    "batches of 32": None,
}
