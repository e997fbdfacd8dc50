"""A variant of a step: any network that can be written down, and every option of training that a study may turn."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR
from torch.optim.swa_utils import update_bn

from mnist_lab.augment import Augment
from mnist_lab.batches import OrderedBatches, ShuffledBatches
from mnist_lab.data import Split
from mnist_lab.recipe import STRICT, ParameterError, Recipe, one_of
from mnist_lab.studies.search.distortions import DISTORTIONS, ElasticEngine
from mnist_lab.studies.search.muon import MuonAndAdam
from mnist_lab.studies.search.notation import ACTIVATIONS, NORMS, build, check
from mnist_lab.studies.search.taught import RepeatedBatches, SelfTaughtBatches, TaughtBatches

FAMILIES = (
    *("step 3", "images", "labels", "rate", "average", "batch", "optimizer", "network"),  # of its ablations
    *("step 2a", "frontier", "track", "search"),
)


@dataclass(config=STRICT)
class Variant(Recipe):
    """A recipe of ours, and options that no step has; as they are by default, it is the step's. An ``AnyRecipe``."""

    family: Annotated[str, one_of(FAMILIES)]  # what kind of thing is changed
    name: str  # of its records
    change: str  # in words
    layers: Annotated[str, AfterValidator(check)] = ""  # see notation; empty for the recipe's own model
    activation: Annotated[str, one_of(ACTIVATIONS)] = "SiLU"  # this and the next two are of a network with layers
    norm: Annotated[str, one_of(NORMS)] = "shift"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # behind every block
    distortion: Annotated[str, one_of(("", *DISTORTIONS))] = ""  # empty for the recipe's own
    elastic: Annotated[float, Field(ge=0, le=10)] = 0.0  # pixels, by which the strokes are bent
    views: Annotated[int, Field(ge=1, le=16)] = 1  # of every image in a batch
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of each label that is spread over all digits
    teacher: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of the targets that the moving average says
    method: Literal["Adam", "SGD", "Muon"] = "Adam"
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9  # of Adam: decay of the mean of the gradients
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999  # and of their squares
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0  # of filters, in units of the learning rate
    cycled_momentum: bool = False  # high where the learning rate is low
    fresh_statistics: bool = False  # whether norms are measured anew on the training images before scoring

    @property
    def kind(self) -> Literal["trial", "ablation", "frontier", "track"]:
        """Return the kind of its records."""
        return {"search": "trial", "frontier": "frontier", "track": "track"}.get(self.family, "ablation")

    @property
    def score_on(self) -> Literal["held-out", "test"]:
        """Return what it is scored on: not on the test images as long as one could still choose by the score."""
        return "test" if self.kind in ("frontier", "track") else "held-out"

    def network(self) -> nn.Sequential:
        """Return a new network, with the weights that it starts from."""
        return build(self.layers, self.activation, self.dropout, self.norm) if self.layers else super().network()

    def distort(self) -> Augment | None:
        """Return the engine that distorts a batch; None if nothing is to be distorted."""
        if self.distortion:
            return DISTORTIONS[self.distortion](self.policy())
        return ElasticEngine(self.policy(), self.elastic) if self.elastic else super().distort()

    def batches(self, train: Split, seed: int, average: nn.Module | None) -> ShuffledBatches | TaughtBatches:
        """Return what is trained on; from the second epoch on, the ``average`` may have a say in the targets."""
        batches = self.untaught(train, seed)
        if not self.teacher:
            return batches
        if average is None:
            raise ParameterError("a teacher is the moving average of the weights: let averaging be above 0")
        return SelfTaughtBatches(batches, average, self.teacher)

    def untaught(self, train: Split, seed: int) -> ShuffledBatches:
        """Return batches with the images' own labels, one view of each image or several."""
        if self.views == 1:
            return super().batches(train, seed, average=None)
        return RepeatedBatches(train, self.batch_size, self.views, seed=seed, augment=self.augment())

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy of a batch, to smoothed labels (Szegedy et al., CVPR 2016, section 7)."""
        return F.cross_entropy(logits, labels, label_smoothing=self.smoothing)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """Return the optimizer for ``parameters``. Filters may decay (Loshchilov and Hutter, ICLR 2019), biases not."""
        if self.method == "Muon":
            return MuonAndAdam(parameters, self.learning_rate)
        parameters = list(parameters)
        filters = {"params": [one for one in parameters if one.dim() > 1], "weight_decay": self.weight_decay}
        biases = {"params": [one for one in parameters if one.dim() <= 1], "weight_decay": 0.0}
        if self.method == "SGD":
            return SGD([filters, biases], self.learning_rate, momentum=0.9, nesterov=True, fused=True)
        return AdamW([filters, biases], self.learning_rate, betas=(self.beta1, self.beta2), fused=True)

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
