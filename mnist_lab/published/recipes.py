"""The recipes of the published series: how each of its networks was trained, stated as its repository states it.

Batches are normalised with the mean and deviation of the training images, pixels in [0, 1], in all of them. Where a
repository is silent or contradicts itself, or our engine differs, this is what was chosen:

* The incomplete last batch of an epoch is left out, as for our own networks: 32 or 96 of the 60,000 images, others in
  every epoch.
* Seeds are ours, 0, 1, 2 ..., and not the one that each repository names: its random numbers depend on its loader.
* B1 was trained for 20 epochs and its claim counts the first 15. Its rate is constant, so 15 epochs are the same.
* D's committed configuration says 15 epochs of batches of 32 and its README 20 of 32, while its claim comes from a run
  of 20 epochs of batches of 64 (938 updates in an epoch, as its log shows). All three steps are trained as that was;
  what 32 would bring stands among the repairs.
* OneCycleLR cycles the momentum too, between 0.85 and 0.95, since that is its default.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from mnist_lab.batches import MEAN, STD, Augment, OrderedBatches
from mnist_lab.data import Split
from mnist_lab.models import build
from mnist_lab.published.distortions import DISTORTIONS, Chain


@dataclass(frozen=True)
class PublishedRecipe:
    """A published recipe as plain values; it answers what :class:`recipe.AnyRecipe` asks."""

    fresh_statistics = False

    published: str  # the step that published it: a letter for the series, and a number
    model: str
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
    repair: str = ""  # a name in REPAIRS: one thing changed, as a repair or as another reading of the repository
    averaging: float = 0.0  # of the weights; none of the series does it
    smoothing: float = 0.0  # of the labels; nor this

    @property
    def title(self) -> str:
        """Say whose recipe it is, and whether it is as published."""
        as_published = self == RECIPES[self.published]
        return f"{self.published} {'as published' if as_published else self.repair or 'changed'}"

    @property
    def row(self) -> str:
        """What its rows and records are called."""
        return f"{self.published} {self.repair}".strip()

    @property
    def recordable(self) -> bool:
        """Whether an update may be recorded as a CUDA graph: a cycled momentum is a number that changes."""
        return self.schedule != "one-cycle"

    def network(self) -> nn.Sequential:
        """Return a new network, with the weights that it starts from; a repair does not change them."""
        network = build(self.model)
        REPAIRS[self.repair](network)
        return network

    def augment(self) -> Augment | None:
        """Return what distorts a batch; None if nothing does."""
        return Chain(DISTORTIONS[self.distortion]) if DISTORTIONS[self.distortion] else None

    def scored(self, split: Split) -> OrderedBatches:
        """Return the images to score on, normalised as published."""
        return OrderedBatches(split, mean=self.scored_mean, std=self.scored_std)

    def optimizer(self, parameters: Iterable[nn.Parameter], device: torch.device) -> Optimizer:
        """Return the optimizer for ``parameters`` on ``device``."""
        on_cuda = device.type == "cuda"
        rate = torch.tensor(self.learning_rate, device=device) if on_cuda else self.learning_rate  # a graph reads it
        if self.method == "SGD":
            return SGD(parameters, rate, self.momentum, weight_decay=self.weight_decay, fused=True)
        betas = (self.momentum, 0.999)
        return Adam(parameters, rate, betas, weight_decay=self.weight_decay, fused=True, capturable=on_cuda)

    def scheduler(self, optimizer: Optimizer, updates: int) -> LRScheduler | None:
        """Return the learning-rate schedule over ``updates`` batches; None if it stays constant."""
        if self.schedule == "constant":
            return None
        if self.schedule == "step":
            step = self.step_epochs * updates // self.epochs
            return LambdaLR(optimizer, lambda update: self.step_factor ** (update // step))
        return OneCycleLR(
            optimizer,
            self.learning_rate,
            total_steps=updates,
            pct_start=self.warmup,
            div_factor=self.start_divisor,
            final_div_factor=self.end_divisor,
        )


def places(network: nn.Sequential) -> Iterator[tuple[nn.Sequential, str, nn.Module]]:
    """Return the layers in the order an image meets them, each with the container and name that it has there."""
    for name, child in list(network.named_children()):
        if isinstance(child, nn.Sequential):
            yield from places(child)
        else:
            yield network, name, child


def drop_dropout(network: nn.Sequential) -> None:
    """Take every dropout out of ``network``."""
    for container, name, layer in places(network):
        if isinstance(layer, nn.Dropout):
            delattr(container, name)


def unclip_logits(network: nn.Sequential) -> None:
    """Take the ReLU from behind the last convolution, so that a logit can be any number."""
    layers = list(places(network))
    last = max(index for index, (_, _, layer) in enumerate(layers) if isinstance(layer, nn.Conv2d))
    for container, name, layer in layers[last + 1 :]:
        if isinstance(layer, nn.ReLU):
            delattr(container, name)


def leave(network: nn.Sequential) -> None:
    """Leave ``network`` as it is: nothing is changed, or something outside it."""


REPAIRS = {
    "": leave,
    "unclipped logits": unclip_logits,
    "no dropout": drop_dropout,
    "black corners": leave,
    "batches of 32": leave,
}
OTHER_NUMBERS = {"scored_mean": 0.1325, "scored_std": 0.3104}  # series B's defect: not what it trained with

# fmt: off
AS_PUBLISHED = (
    PublishedRecipe("A1", "A1", epochs=15, batch_size=156, learning_rate=0.02, weight_decay=1e-4,
                    schedule="step", step_epochs=5, step_factor=0.5),
    PublishedRecipe("A2", "A2", epochs=15, batch_size=156, learning_rate=0.02, weight_decay=1e-4,
                    schedule="step", step_epochs=5, step_factor=0.5),
    PublishedRecipe("A3", "A3", epochs=15, batch_size=156, learning_rate=0.01,
                    schedule="step", step_epochs=8, step_factor=0.1, distortion="rotation of 3, affine"),

    PublishedRecipe("B1", "B1", epochs=15, batch_size=128, learning_rate=0.01,
                    distortion="crop, rotation of 7", **OTHER_NUMBERS),
    PublishedRecipe("B2", "B2", epochs=15, batch_size=128, learning_rate=0.01,
                    distortion="crop, rotation of 7", **OTHER_NUMBERS),
    PublishedRecipe("B3", "B3", epochs=15, batch_size=64, learning_rate=0.01,
                    schedule="step", step_epochs=7, step_factor=0.1,
                    distortion="crop, rotation of 15, erasing", **OTHER_NUMBERS),
    PublishedRecipe("B3Later", "B3Later", epochs=15, batch_size=64, learning_rate=0.01,
                    schedule="step", step_epochs=7, step_factor=0.1,
                    distortion="crop, rotation of 15 on grey, erasing", **OTHER_NUMBERS),

    PublishedRecipe("C1", "C1", epochs=15, batch_size=128, learning_rate=0.01),
    PublishedRecipe("C2", "C2", epochs=15, batch_size=128, learning_rate=0.01),
    PublishedRecipe("C3", "C3", epochs=15, batch_size=128, method="Adam", learning_rate=0.003, weight_decay=5e-5,
                    schedule="one-cycle", warmup=0.2, end_divisor=1000.0, distortion="rotation of 5, affine"),

    PublishedRecipe("D1", "D1", epochs=20, batch_size=64, method="Adam", learning_rate=0.001),
    PublishedRecipe("D2", "D2", epochs=20, batch_size=64, method="Adam", learning_rate=0.001,
                    distortion="rotation of 7"),
    PublishedRecipe("D3", "D3", epochs=20, batch_size=64, method="Adam", learning_rate=0.001,
                    distortion="rotation of 7, holes"),

    PublishedRecipe("E1", "E1", epochs=15, batch_size=512, learning_rate=0.01, momentum=0.95, weight_decay=5e-4),
    PublishedRecipe("E2", "E2", epochs=15, batch_size=512, learning_rate=0.15, momentum=0.95, weight_decay=5e-4,
                    schedule="one-cycle", warmup=0.3, end_divisor=175.0),
    PublishedRecipe("E3", "E3", epochs=15, batch_size=512, learning_rate=0.15, momentum=0.95, weight_decay=5e-4,
                    schedule="one-cycle", warmup=0.3, end_divisor=175.0,
                    distortion="shift, scale, rotation of 7 for a quarter"),
)
# fmt: on
RECIPES = {recipe.published: recipe for recipe in AS_PUBLISHED}
REPAIRED = (
    replace(RECIPES["A3"], repair="unclipped logits"),
    replace(RECIPES["C2"], repair="unclipped logits"),
    replace(RECIPES["A3"], repair="no dropout"),
    replace(RECIPES["E3"], repair="no dropout"),
    replace(RECIPES["B3Later"], repair="black corners", distortion=RECIPES["B3"].distortion),
    replace(RECIPES["D3"], repair="batches of 32", batch_size=32),
)
