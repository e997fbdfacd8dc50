"""What else step 3 could have been: its recipe with one thing changed, and with fewer parameters or epochs.

The ideas are those of the literature and of the published series; that one does not help a network this small is worth
as much to know. A change that has a best value of its own (a rate for another optimizer or batch size) has the usual
one: nothing here is tuned but step 3 itself, which favours it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from mnist_lab.batches import Augment
from mnist_lab.recipe import Recipe
from mnist_lab.search.distortions import DISTORTIONS
from mnist_lab.search.muon import MuonAndAdam
from mnist_lab.search.networks import NETWORKS, SIZES

EPOCHS = (3, 5, 8)  # the step itself has 15
FAMILIES = ("step 3", "images", "labels", "rate", "average", "batch", "optimizer", "network", "frontier")


@dataclass(frozen=True)
class Candidate(Recipe):
    """Our own recipe, and what no step has use for."""

    family: str  # what kind of change it is
    name: str  # what its records are called
    change: str  # in words
    network_name: str = ""  # in NETWORKS; empty for the recipe's own model
    distortion: str = ""  # in DISTORTIONS; empty for the recipe's own
    method: str = "Adam"  # or "AdamW", "SGD" or "Muon"
    cycled_momentum: bool = False  # against the rate: high where it is low
    smoothing: float = 0.0  # of the labels, while training
    fresh_statistics: bool = False  # of the norms, measured on the training images before the network is scored

    @property
    def title(self) -> str:
        """Say what is tried."""
        return self.change

    @property
    def row(self) -> str:
        """What its rows and records are called."""
        return self.name

    def network(self) -> nn.Sequential:
        """Return a new network, with the weights that it starts from."""
        return NETWORKS[self.network_name]() if self.network_name else super().network()

    @property
    def recordable(self) -> bool:
        """Whether an update may be recorded as a CUDA graph: not if numbers change that are no tensors."""
        return not self.cycled_momentum and self.method != "Muon"

    def augment(self) -> Augment | None:
        """Return what distorts a batch; None if nothing is to be distorted."""
        return DISTORTIONS[self.distortion](self.policy(), self.epochs) if self.distortion else super().augment()

    def optimizer(self, parameters: Iterable[nn.Parameter], device: torch.device) -> Optimizer:
        """Return the optimizer for ``parameters`` on ``device``; it lets filters decay, and no biases."""
        if self.method == "Adam":
            return super().optimizer(parameters, device)
        if self.method == "Muon":
            return MuonAndAdam(parameters, self.learning_rate)
        parameters = list(parameters)
        groups = [
            {"params": [parameter for parameter in parameters if parameter.dim() > 1]},
            {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "weight_decay": 0.0},
        ]
        on_cuda = device.type == "cuda"
        rate = torch.tensor(self.learning_rate, device=device) if on_cuda else self.learning_rate  # a graph reads it
        kinds: dict[str, Callable[..., Optimizer]] = {
            "AdamW": partial(AdamW, weight_decay=0.1, capturable=on_cuda),
            "SGD": partial(SGD, momentum=0.9, nesterov=True, weight_decay=1e-4),
        }
        return kinds[self.method](groups, rate, fused=True)


def search(step: Recipe) -> list[Candidate]:
    """Return step 3 as the first candidate, and what differs from it in one thing."""
    return [Candidate(**asdict(step), family="step 3", name="step-3", change="as it is"), *changed(step)]


def changed(step: Recipe) -> Iterator[Candidate]:
    """Yield what differs from ``step`` in one thing, family by family.

    What has to change with it is in the words: rate and average with the batch, so that both reach over as many images
    (the rate by the square root, as goes with Adam: Malladi et al., NeurIPS 2022), and channels to stay in the budget.
    """

    def change(family: str, name: str, words: str, **changes: object) -> Candidate:
        return Candidate(**(asdict(step) | {"family": family, "name": name, "change": words} | changes))

    def distorted(name: str, words: str, factor: float) -> Candidate:
        shift = round(factor * step.shift)  # in whole pixels, so not quite by the factor where that is odd
        others = {kind: factor * getattr(step, kind) for kind in ("rotation", "scale", "shear")}
        pixels = f"{shift} pixel{'' if shift == 1 else 's'}"
        return change("images", name, f"distorted {words}, shifted by up to {pixels}", shift=shift, **others)

    def batches(name: str, size: int) -> Candidate:
        share = size / step.batch_size
        peak, kept = round(share**0.5 * step.learning_rate, 4), round(1 - share * (1 - step.averaging), 4)
        words = f"{size} images; peak {peak:g} and average {kept:g} to match"
        return change("batch", name, words, batch_size=size, learning_rate=peak, averaging=kept)

    yield change("images", "no-augmentation", "not distorted", rotation=0.0, shift=0, scale=0.0, shear=0.0)
    yield distorted("half-augmentation", "half as strongly", 0.5)
    yield distorted("more-augmentation", "half as strongly again", 1.5)
    yield change("images", "clean-end", "not distorted in the last two epochs", distortion="clean end")
    yield change("images", "balanced", "distortions balanced over a batch (Sobol)", distortion="balanced")
    yield change("images", "mixup", "and blended in pairs (mixup, α 0.2)", distortion="mixup")
    yield change("images", "cutout", "and a black square of 6 x 6 pixels", cutout=6)
    yield change("labels", "smoothing", "smoothed by 0.1", smoothing=0.1)
    yield change("rate", "half-rate", "peak halved", learning_rate=step.learning_rate / 2)
    yield change("rate", "double-rate", "peak doubled", learning_rate=step.learning_rate * 2)
    yield change("rate", "constant", "constant, at the peak", schedule="constant")
    yield change("rate", "short-warmup", "climbs for a twentieth of the run", warmup=0.05)
    yield change("average", "no-average", "none", averaging=0.0)
    words = "norms measured anew on undistorted training images"
    yield change("average", "fresh-statistics", words, fresh_statistics=True)
    yield batches("half-batch", step.batch_size // 2)
    yield batches("double-batch", 2 * step.batch_size)
    yield change("optimizer", "adamw", "AdamW: filters decay by 0.1", method="AdamW")
    words = "SGD: Nesterov momentum 0.9, peak 0.2, filters decay by 0.0001"
    yield change("optimizer", "sgd", words, method="SGD", learning_rate=0.2)
    words = "Muon for the 1x1 filters of the blocks, at Adam's rate"
    yield change("optimizer", "muon", words, method="Muon")
    words = "Adam's momentum cycled, 0.95 to 0.85 and back"
    yield change("optimizer", "cycled-momentum", words, cycled_momentum=True)
    yield change("network", "relu", "ReLU", network_name="ReLU")
    yield change("network", "leaky-relu", "LeakyReLU, slope 0.1", network_name="LeakyReLU")
    yield change("network", "scaled-norms", "norms with a scale", network_name="scaled norms")
    yield change("network", "bent-blocks", "norm and SiLU inside separable blocks, too", network_name="bent blocks")
    words = "stem 6x6, stride 2, no pooling; 24, 32, 40, 44 channels"
    yield change("network", "strided-stem", words, network_name="strided stem")
    words = "ordinary convolutions; 8, 16, 16, 18 channels"
    yield change("network", "full-convolutions", words, network_name="full convolutions")
    words = "average in place of templates; 16, 36, 48, 60 channels"
    yield change("network", "average-head", words, network_name="average head")
    yield change("network", "wider", "16, 36, 44, 48 channels in place of 16, 32, 40, 48", network_name="wider")
    yield change("network", "dropout", "dropout of 0.05 after every block", network_name="dropout")


def frontier(step: Recipe) -> list[Candidate]:
    """Return ``step`` with fewer parameters, and with fewer epochs; nothing else is changed or chosen for them.

    Both end at the step itself, which has records of its own.
    """
    common = asdict(step) | {"family": "frontier"}
    sizes = [
        Candidate(**common, name=f"frontier-{size}", change=f"{size} parameters", network_name=size) for size in SIZES
    ]
    shorter = [
        Candidate(**(common | {"epochs": epochs}), name=f"frontier-{epochs}-epochs", change=f"{epochs} epochs")
        for epochs in EPOCHS
    ]
    return [*sizes, *shorter]
