"""Step 3's recipe with one thing changed (the ablations), and with fewer parameters or epochs (the frontier).

The ideas come from the literature and from the published series; that one of them does not help a network this small
is worth knowing, too. Where a change needs a value of its own, as another optimizer needs another rate, it gets the
usual one: only step 3 itself was tuned, which favours it. An idea of your own is one more line in :func:`ablations`.
"""

from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.optim.swa_utils import update_bn

from mnist_lab.augment import Augment
from mnist_lab.batches import OrderedBatches
from mnist_lab.data import Split
from mnist_lab.recipe import STRICT, Recipe, one_of
from mnist_lab.studies.search.distortions import DISTORTIONS
from mnist_lab.studies.search.muon import MuonAndAdam
from mnist_lab.studies.search.networks import NETWORKS, SIZES

BASELINE = "step-3"  # the name of step 3 among its ablations
FAMILIES = ("step 3", "images", "labels", "rate", "average", "batch", "optimizer", "network", "frontier", "search")
EPOCHS = (3, 5, 8)  # on the frontier; step 3 itself has 15
SEEDS, MORE_SEEDS = 3, 5


@dataclass(frozen=True, config=STRICT)
class Variant(Recipe):
    """A recipe of ours, and options that no step has. It is a :class:`recipe.AnyRecipe`."""

    family: Annotated[str, one_of(FAMILIES)]  # what kind of thing is changed
    name: str  # of its records
    change: str  # in words
    network_name: Annotated[str, one_of(("", *NETWORKS))] = ""  # empty for the recipe's own model
    distortion: Annotated[str, one_of(("", *DISTORTIONS))] = ""  # empty for the recipe's own
    method: Literal["Adam", "AdamW", "SGD", "Muon"] = "Adam"
    cycled_momentum: bool = False  # high where the learning rate is low
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of each label that is spread over all digits
    fresh_statistics: bool = False  # whether norms are measured anew on the training images before scoring

    @property
    def kind(self) -> Literal["ablation", "frontier"]:
        """Return the kind of its records."""
        return "frontier" if self.family == "frontier" else "ablation"

    @property
    def score_on(self) -> Literal["held-out", "test"]:
        """Return what it is scored on: not on the test images as long as one could still choose by the score."""
        return "test" if self.kind == "frontier" else "held-out"

    def network(self) -> nn.Sequential:
        """Return a new network, with the weights that it starts from."""
        return NETWORKS[self.network_name]() if self.network_name else super().network()

    def augment(self) -> Augment | None:
        """Return the engine that distorts a batch; None if nothing is to be distorted."""
        return DISTORTIONS[self.distortion](self.policy(), self.epochs) if self.distortion else super().augment()

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy of a batch, to smoothed labels (Szegedy et al., CVPR 2016, section 7)."""
        losses = F.cross_entropy(logits, labels, reduction="none", label_smoothing=self.smoothing)
        return losses.mean()  # rounds as it did when the records were made; PyTorch's own mean does not

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """Return the optimizer for ``parameters``. Filters may decay, biases do not."""
        if self.method == "Adam":
            return super().optimizer(parameters)
        if self.method == "Muon":
            return MuonAndAdam(parameters, self.learning_rate)
        parameters = list(parameters)
        groups = [
            {"params": [parameter for parameter in parameters if parameter.dim() > 1]},
            {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "weight_decay": 0.0},
        ]
        if self.method == "AdamW":
            return AdamW(groups, self.learning_rate, weight_decay=0.1, fused=True)
        return SGD(groups, self.learning_rate, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True)

    def scheduler(self, optimizer: Optimizer, updates: int) -> LRScheduler | None:
        """Return the learning-rate schedule, which may cycle Adam's momentum, too (Smith and Topin, section 3)."""
        if not self.cycled_momentum:
            return super().scheduler(optimizer, updates)
        rate, climb = self.learning_rate, self.warmup
        return OneCycleLR(optimizer, rate, total_steps=updates, pct_start=climb, anneal_strategy="linear")

    def before_scoring(self, model: nn.Module, train: Split) -> None:
        """Measure the norms' means and variances on the undistorted training images, if the recipe says so."""
        if self.fresh_statistics:
            update_bn(OrderedBatches(train), model)


def usual_seeds(variant: Variant) -> int:
    """Return how many seeds it is trained from: more for the baseline, and for the frontier, which few recipes make."""
    return MORE_SEEDS if variant.name == BASELINE or variant.kind == "frontier" else SEEDS


def vary(step: Recipe, family: str, name: str, words: str, **changes: object) -> Variant:
    """Return the recipe of ``step`` with ``changes``."""
    return Variant(**(asdict(step) | {"family": family, "name": name, "change": words} | changes))


def ablations(step: Recipe) -> list[Variant]:
    """Return ``step`` itself, then the ablations, which differ from it in one thing each.

    What has to change along with it is in the words: channels, to stay within the budget of parameters, and with the
    batch size the rate and the average, so that both reach over as many images as before (for Adam the rate goes with
    the square root of the size: Malladi et al., NeurIPS 2022).
    """
    change = partial(vary, step)

    def distorted(name: str, words: str, factor: float) -> Variant:
        shift = round(factor * step.shift)  # whole pixels, so not quite by the factor if that is odd
        others = {kind: factor * getattr(step, kind) for kind in ("rotation", "scale", "shear")}
        words += f", shifts up to {shift} pixel{'' if shift == 1 else 's'}"
        return change("images", name, words, shift=shift, **others)

    def batches(name: str, size: int) -> Variant:
        share = size / step.batch_size
        peak, kept = round(share**0.5 * step.learning_rate, 4), round(1 - share * (1 - step.averaging), 4)
        words = f"{size} images; peak rate {peak:g} and averaging {kept:g} to match"
        return change("batch", name, words, batch_size=size, learning_rate=peak, averaging=kept)

    def network(name: str, words: str, network_name: str) -> Variant:
        return change("network", name, words, network_name=network_name)

    sgd = "SGD, Nesterov momentum 0.9, peak rate 0.2, weight decay 0.0001"
    statistics = "norm statistics measured anew on undistorted images"
    return [
        change("step 3", BASELINE, "unchanged"),
        change("images", "no-augmentation", "no distortions", rotation=0.0, shift=0, scale=0.0, shear=0.0),
        distorted("half-augmentation", "distortions half as strong", 0.5),
        distorted("more-augmentation", "distortions 1.5 times as strong", 1.5),
        change("images", "clean-end", "no distortions in the last two epochs", distortion="clean end"),
        change("images", "balanced", "distortions balanced over each batch (Sobol)", distortion="balanced"),
        change("images", "mixup", "blended in pairs as well (mixup, α 0.2)", distortion="mixup"),
        change("images", "cutout", "a black square of 6 x 6 pixels as well (cutout)", cutout=6),
        change("labels", "smoothing", "smoothed by 0.1", smoothing=0.1),
        change("rate", "half-rate", "peak halved", learning_rate=step.learning_rate / 2),
        change("rate", "double-rate", "peak doubled", learning_rate=step.learning_rate * 2),
        change("rate", "constant", "constant, at the peak", schedule="constant"),
        change("rate", "short-warmup", "warm-up over a twentieth of the run", warmup=0.05),
        change("average", "no-average", "no averaging of the weights", averaging=0.0),
        change("average", "fresh-statistics", statistics, fresh_statistics=True),
        batches("half-batch", step.batch_size // 2),
        batches("double-batch", 2 * step.batch_size),
        change("optimizer", "adamw", "AdamW, weight decay 0.1", method="AdamW"),
        change("optimizer", "sgd", sgd, method="SGD", learning_rate=0.2),
        change("optimizer", "muon", "Muon for the blocks' 1x1 filters, at Adam's rate", method="Muon"),
        change("optimizer", "cycled-momentum", "Adam, momentum from 0.95 to 0.85 and back", cycled_momentum=True),
        network("relu", "ReLU", "ReLU"),
        network("leaky-relu", "LeakyReLU, slope 0.1", "LeakyReLU"),
        network("scaled-norms", "norms with a scale", "scaled norms"),
        network("bent-blocks", "norm and SiLU inside the separable blocks, too", "bent blocks"),
        network("strided-stem", "stem 6x6, stride 2, no pooling; 24, 32, 40, 44 channels", "strided stem"),
        network("full-convolutions", "ordinary convolutions; 8, 16, 16, 18 channels", "full convolutions"),
        network("average-head", "average pooling, no templates; 16, 36, 48, 60 channels", "average head"),
        network("wider", "16, 36, 44, 48 channels", "wider"),
        network("dropout", "dropout of 0.05 after every block", "dropout"),
    ]


def frontier(step: Recipe) -> list[Variant]:
    """Return ``step`` with fewer parameters, and with fewer epochs; nothing else is changed or chosen for them.

    Both series end at the step itself, which has records of its own.
    """
    change = partial(vary, step, "frontier")
    sizes = {size: f"{', '.join(map(str, channels))} channels" for size, channels in SIZES.items()}
    smaller = [change(size, words, network_name=size) for size, words in sizes.items()]
    return [*smaller, *(change(f"{epochs}-epochs", f"{epochs} epochs", epochs=epochs) for epochs in EPOCHS)]
