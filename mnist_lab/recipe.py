"""What is trained and how (the recipe), and where (the settings): a notebook's parameters, checked."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import fields
from types import ModuleType
from typing import Annotated, Literal, Protocol

import torch
from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from mnist_lab import LabError
from mnist_lab.augment import ENGINES, Augment, CleanEnd, Policy
from mnist_lab.batches import OrderedBatches, ShuffledBatches
from mnist_lab.data import Split
from mnist_lab.models import MODELS, build

OURS = dict(MODELS)  # to which a notebook may add
STRICT = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)  # of recipes and of what files hold


class ParameterError(LabError, ValueError):
    """A parameter is unknown, missing, of the wrong type, or out of range."""


def one_of(choices: Iterable[str]) -> AfterValidator:
    """Return a check that a name is among ``choices``; its message suggests the nearest one."""

    def check(name: str) -> str:
        if name not in choices:
            raise ValueError(f"use one of {', '.join(choices)}{hint(name, choices)}")
        return name

    return AfterValidator(check)


def hint(name: str, choices: Iterable[str]) -> str:
    """Return the question whether the nearest of ``choices`` was meant; nothing if none is near."""
    near = {choice.lower(): choice for choice in choices}
    close = difflib.get_close_matches(name.lower(), near, n=1)
    return f" (did you mean {near[close[0]]}?)" if close else ""


class AnyRecipe(Protocol):
    """What training asks of a recipe. Ours is :class:`Recipe`; others may come from outside of the core."""

    epochs: int
    batch_size: int
    averaging: float  # decay of the moving average of the weights; 0 is none

    def network(self) -> nn.Sequential: ...
    def augment(self) -> Augment | None: ...
    def batches(self, train: Split, seed: int, average: nn.Module | None) -> ShuffledBatches: ...
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor: ...
    def optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer: ...
    def scheduler(self, optimizer: Optimizer, updates: int) -> LRScheduler | None: ...
    def scored(self, split: Split) -> OrderedBatches: ...
    def before_scoring(self, model: nn.Module, train: Split) -> None: ...


@dataclass(config=STRICT)
class Recipe:
    """Everything that decides what is trained and how. Nothing has a default: a step states it all."""

    model: Annotated[str, one_of(MODELS)]
    epochs: Annotated[int, Field(ge=1, le=1000)]
    batch_size: Annotated[int, Field(ge=1, le=60_000)]
    learning_rate: Annotated[float, Field(ge=1e-9, le=100)]  # constant, or the peak of the cycle
    schedule: Literal["constant", "one-cycle"]
    warmup: Annotated[float, Field(ge=0, le=0.95)]  # share of the cycle's updates that climb to the peak
    averaging: Annotated[float, Field(ge=0, le=0.9999)]  # decay of the moving average of the weights; 0 is none
    rotation: Annotated[float, Field(ge=0, le=180)]  # degrees, either way
    shift: Annotated[int, Field(ge=0, le=27)]  # pixels, either way
    scale: Annotated[float, Field(ge=0, le=0.9)]  # fraction, larger or smaller
    shear: Annotated[float, Field(ge=0, le=60)]  # degrees, either way
    clean_epochs: Annotated[int, Field(ge=0, le=1000)]  # last epochs, but not the first, on images as they are
    engine: Annotated[str, one_of(ENGINES)]  # of the augmentation

    def network(self) -> nn.Sequential:
        """Return a new network, with the weights that it starts from."""
        return build(self.model)

    def policy(self) -> Policy:
        """Return how strongly images are distorted."""
        return Policy(self.rotation, self.shift, self.scale, self.shear)

    def augment(self) -> Augment | None:
        """Return what distorts the batches of a run, but for its last epochs; None if nothing does."""
        engine = self.distort()
        return CleanEnd(engine, max(1, self.epochs - self.clean_epochs)) if engine and self.clean_epochs else engine

    def distort(self) -> Augment | None:
        """Return the engine that distorts a batch; None if nothing is to be distorted."""
        return None if self.policy() == Policy() else ENGINES[self.engine](self.policy())

    def batches(self, train: Split, seed: int, average: nn.Module | None) -> ShuffledBatches:
        """Return what is trained on; a recipe of the search asks the ``average`` for targets."""
        return ShuffledBatches(train, self.batch_size, seed=seed, augment=self.augment())

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the mean cross-entropy of a batch: logits (B, classes) and labels (B,)."""
        return F.cross_entropy(logits, labels)

    def optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """Return Adam (Kingma and Ba, ICLR 2015, algorithm 1) for ``parameters``."""
        return Adam(parameters, self.learning_rate, fused=True)

    def scheduler(self, optimizer: Optimizer, updates: int) -> LRScheduler | None:
        """Return the learning-rate schedule over ``updates`` batches; None if the rate stays constant.

        One cycle (Smith and Topin, "Super-convergence", 2018, section 3): from a 25th of the peak up to it, and down
        to nearly 0, both in straight lines. PyTorch would cycle Adam's momentum, too: one change at a time.
        """
        if self.schedule == "constant":
            return None
        if 0 < updates * self.warmup <= 1:
            raise ParameterError(
                f"WARMUP {self.warmup} of {updates} updates is not even one: raise it, EPOCHS or TRAIN_LIMIT, "
                "or lower BATCH_SIZE"
            )
        cycle = {"total_steps": updates, "pct_start": self.warmup, "anneal_strategy": "linear"}
        return OneCycleLR(optimizer, self.learning_rate, **cycle, cycle_momentum=False)

    def scored(self, split: Split) -> OrderedBatches:
        """Return the images to score on as the network is shown them."""
        return OrderedBatches(split)

    def before_scoring(self, model: nn.Module, train: Split) -> None:
        """Leave ``model`` as training left it; a recipe of the search measures its norms anew here."""


@dataclass(config=STRICT)
class Settings:
    """Where and on what a recipe runs."""

    seed: Annotated[int, Field(ge=0, lt=2**31)]
    device: Literal["auto", "cpu", "cuda"]
    threads: Annotated[int, Field(ge=1, le=1024)]  # of the CPU
    data: Literal["MNIST", "digits"]
    score_on: Literal["test", "held-out"]  # held-out training images, to choose on: those of a sixth of the writers
    train_limit: Annotated[int, Field(ge=100, le=60_000)] | None  # train on so many images only, to try something


def read_parameters(parameters: Mapping[str, object]) -> tuple[Recipe, Settings]:
    """Sort a notebook's upper-case parameters into a recipe and settings.

    papermill only warns of a name that the notebook does not know, and passes any type; here both raise
    ParameterError, which says which parameter it is and what it should be. MODEL may also be a class.
    """
    known = [field.name.upper() for kind in (Recipe, Settings) for field in fields(kind)]
    for name, value in parameters.items():
        if name not in known and not isinstance(value, ModuleType):  # as torch.nn.functional is imported
            raise ParameterError(f"unknown parameter {name}" + (hint(name, known) or f": there are {', '.join(known)}"))
    missing = [name for name in known if name not in parameters]
    if missing:
        raise ParameterError(f"missing parameter {', '.join(missing)}")
    parameters = {**parameters, "MODEL": name_of(parameters["MODEL"])}
    return make(Recipe, parameters), make(Settings, parameters)


def name_of(network: object) -> object:
    """Return the name of a class of networks, as a cell of a notebook defines one; it is one of MODELS from now on.

    Raises ParameterError if it does not make ten logits of an image, or has the name of a network of ours.
    """
    if not isinstance(network, type):
        return network
    name = network.__name__
    try:
        shape = tuple(network().eval()(torch.zeros(2, 1, 28, 28)).shape)
    except Exception as error:
        raise ParameterError(f"MODEL is {name}, and {name}() reads no images (N, 1, 28, 28): {error}") from error
    if shape != (2, 10):
        raise ParameterError(f"MODEL is {name}, which makes {shape} of two images: it should make ten logits of each")
    if OURS.get(name, network) is not network:
        raise ParameterError(f"MODEL is a {name} of your own: give it a name that models.py does not have")
    MODELS[name] = network
    return name


def make(kind: type, parameters: Mapping[str, object]):
    """Return a Recipe or Settings of its share of the ``parameters``, or raise ParameterError."""
    try:
        return kind(**{field.name: parameters[field.name.upper()] for field in fields(kind)})
    except ValidationError as error:
        raise ParameterError("; ".join(explain(problem) for problem in error.errors())) from None


def explain(problem: Mapping) -> str:
    """Return one of pydantic's problems as a sentence about a notebook's parameter."""
    name, message = str(problem["loc"][0]).upper(), problem["msg"].removeprefix("Value error, ")
    return f"{name} is {problem['input']!r}: {message.replace('Input', 'it')}"
