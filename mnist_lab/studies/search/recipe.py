"""A recipe of the search: any network that can be written down, and every option of training that it may turn."""

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass
from torch import nn
from torch.optim import AdamW, Optimizer

from mnist_lab.augment import Augment
from mnist_lab.batches import ShuffledBatches
from mnist_lab.data import Split
from mnist_lab.recipe import STRICT, ParameterError, one_of
from mnist_lab.studies.search.distortions import CleanEnd, ElasticEngine
from mnist_lab.studies.search.notation import ACTIVATIONS, build, check
from mnist_lab.studies.search.taught import RepeatedBatches, TaughtBatches
from mnist_lab.studies.search.variants import Variant


@dataclass(frozen=True, config=STRICT)
class SearchRecipe(Variant):
    """A variant with options that no tracked ablation has; as they are by default, it is step 3."""

    layers: Annotated[str, AfterValidator(check)] = ""  # see notation; empty for the network of the variant
    activation: Annotated[str, one_of(ACTIVATIONS)] = "SiLU"  # this and the next one are of a network with layers
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # behind every block
    elastic: Annotated[float, Field(ge=0, le=10)] = 0.0  # pixels, by which the strokes are bent
    clean_epochs: Annotated[int, Field(ge=0, le=1000)] = 0  # last epochs, on undistorted images
    teacher: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of the targets that the moving average says
    views: Annotated[int, Field(ge=1, le=16)] = 1  # of every image in a batch
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9  # of Adam: decay of the mean of the gradients
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999  # and of their squares
    weight_decay: Annotated[float, Field(ge=0, le=10)] = 0.0  # of filters, in units of the learning rate

    @property
    def kind(self) -> Literal["trial", "ablation", "frontier"]:
        """Return the kind of its records."""
        return "trial" if self.family == "search" else super().kind

    @property
    def score_on(self) -> Literal["held-out", "test"]:
        """Return what it is scored on: to choose by, a sixth of the writers, another one for each seed in turn."""
        return "test" if self.kind == "frontier" else "held-out"

    def network(self) -> nn.Sequential:
        """Return a new network, with the weights that it starts from."""
        return build(self.layers, self.activation, self.dropout) if self.layers else super().network()

    def augment(self) -> Augment | None:
        """Return the engine that distorts a batch; None if nothing is to be distorted."""
        engine = super().augment()
        if self.elastic:
            engine = ElasticEngine(self.policy(), self.elastic)
        if self.clean_epochs and engine:
            engine = CleanEnd(engine, self.epochs - self.clean_epochs)
        return engine

    def batches(self, train: Split, seed: int, average: nn.Module | None) -> ShuffledBatches | TaughtBatches:
        """Return what is trained on; from the second epoch on, the ``average`` may have a say in the targets."""
        batches = super().batches(train, seed, average)
        if self.views > 1:
            batches = RepeatedBatches(train, self.batch_size, self.views, seed=seed, augment=self.augment())
        if not self.teacher:
            return batches
        if average is None:
            raise ParameterError("a teacher is the moving average of the weights: let averaging be above 0")
        return TaughtBatches(batches, average, self.teacher)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """Return Adam with these decays; filters lose weight by themselves (Loshchilov and Hutter, ICLR 2019)."""
        if self.method != "Adam":
            return super().optimizer(parameters)
        parameters = list(parameters)
        filters = [parameter for parameter in parameters if parameter.dim() > 1]
        biases = {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "weight_decay": 0.0}
        options = {"betas": (self.beta1, self.beta2), "weight_decay": self.weight_decay, "fused": True}
        return AdamW([{"params": filters}, biases], self.learning_rate, **options)
