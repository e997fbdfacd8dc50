"""What a run does (its recipe) and where (its settings), read from a notebook's parameters."""

import difflib
import types
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Protocol

import torch
from torch import nn
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR

from mnist_lab.augment import ENGINES, Policy
from mnist_lab.batches import Augment, OrderedBatches
from mnist_lab.data import Split
from mnist_lab.models import MODELS, build
from mnist_lab.published.recipes import RECIPES

SCHEDULES = ("constant", "one-cycle")


class ParameterError(ValueError):
    """A parameter is unknown, missing, of the wrong type, or out of range."""


class AnyRecipe(Protocol):
    """What a run asks a recipe, our own or a published one; a recipe is also a dataclass of plain values."""

    model: str
    epochs: int
    batch_size: int
    averaging: float  # decay of the moving average of the weights; 0 is none
    smoothing: float  # of the labels, while training; 0 is none
    fresh_statistics: bool  # whether norms are measured anew on the training images before a network is scored
    title: str  # what figures and records call it; empty for our own, which the notebooks describe
    recordable: bool  # whether an update may be recorded as a CUDA graph: its numbers but the learning rate stay

    def network(self) -> nn.Sequential: ...
    def optimizer(self, parameters: Iterable[nn.Parameter], device: torch.device) -> Optimizer: ...
    def scheduler(self, optimizer: Optimizer, updates: int) -> LRScheduler | None: ...
    def augment(self) -> Augment | None: ...
    def scored(self, split: Split) -> OrderedBatches: ...


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what is trained and how. Nothing has a default: a step states it all."""

    title = ""
    recordable = True
    smoothing = 0.0
    fresh_statistics = False
    cycled_momentum = False

    model: str  # a name in MODELS
    epochs: int
    batch_size: int
    learning_rate: float  # constant, or the peak of the cycle
    schedule: str  # "constant" or "one-cycle"
    warmup: float  # share of the cycle's updates that climb to the peak
    averaging: float  # decay of the moving average of the weights; 0 is none
    rotation: float  # degrees, either way
    shift: int  # pixels, either way
    scale: float  # fraction, larger or smaller
    shear: float  # degrees, either way
    cutout: int  # side of the black square, pixels
    engine: str  # which augmentation engine: "tensor" or "albumentations"

    def __post_init__(self) -> None:
        check_types(self)
        check_range("EPOCHS", self.epochs, 1, 1000)
        check_range("BATCH_SIZE", self.batch_size, 1, 60_000)
        check_range("LEARNING_RATE", self.learning_rate, 1e-9, 100)
        check_range("WARMUP", self.warmup, 0, 0.95)
        check_range("AVERAGING", self.averaging, 0, 0.9999)
        check_choice("MODEL", self.model, MODELS)
        check_choice("SCHEDULE", self.schedule, SCHEDULES)
        check_choice("ENGINE", self.engine, ENGINES)
        try:
            self.policy()
        except ValueError as error:
            raise ParameterError(str(error)) from None

    def network(self) -> nn.Sequential:
        """Return a new network, with the weights that it starts from."""
        return build(self.model)

    def policy(self) -> Policy:
        """Return how strongly images are distorted."""
        return Policy(self.rotation, self.shift, self.scale, self.shear, self.cutout)

    def augment(self) -> Augment | None:
        """Return the engine that distorts a batch; None if nothing is to be distorted."""
        return None if self.policy() == Policy() else ENGINES[self.engine](self.policy())

    def scored(self, split: Split) -> OrderedBatches:
        """Return the images to score on as the network is shown them."""
        return OrderedBatches(split)

    def optimizer(self, parameters: Iterable[nn.Parameter], device: torch.device) -> Optimizer:
        """Return Adam (Kingma and Ba, 2015) for ``parameters`` on ``device``."""
        on_cuda = device.type == "cuda"
        rate = torch.tensor(self.learning_rate, device=device) if on_cuda else self.learning_rate  # a graph reads it
        return Adam(parameters, lr=rate, fused=True, capturable=on_cuda)

    def scheduler(self, optimizer: Optimizer, updates: int) -> LRScheduler | None:
        """Return the learning-rate schedule over ``updates`` batches; None if it stays constant.

        One cycle (Smith and Topin, 2018): up to the peak and down to nearly 0, both in straight lines. In the steps
        the momentum stays as it is: one change at a time, and a number that a CUDA graph may keep.
        """
        if self.schedule == "constant":
            return None
        if 0 < updates * self.warmup <= 1:
            raise ParameterError(
                f"WARMUP {self.warmup} of {updates} updates is not even one: raise it, EPOCHS or TRAIN_LIMIT, "
                "or lower BATCH_SIZE"
            )
        return OneCycleLR(
            optimizer,
            self.learning_rate,
            total_steps=updates,
            pct_start=self.warmup,
            anneal_strategy="linear",
            cycle_momentum=self.cycled_momentum,
        )


@dataclass(frozen=True)
class Settings:
    """Where and on what a recipe runs."""

    seed: int
    device: str  # "cpu", "cuda" or "auto"
    threads: int  # of the CPU
    data: str  # "MNIST" or "digits"
    score_on: str  # "test", or "held-out" training images while one still chooses
    train_limit: int | None  # use only so many training images, for a quick look

    def __post_init__(self) -> None:
        check_types(self)
        check_range("SEED", self.seed, 0, 2**31 - 1)
        check_range("THREADS", self.threads, 1, 1024)
        check_choice("DEVICE", self.device, ("cpu", "cuda", "auto"))
        check_choice("DATA", self.data, ("MNIST", "digits"))
        check_choice("SCORE_ON", self.score_on, ("test", "held-out"))
        if self.train_limit is not None:
            check_range("TRAIN_LIMIT", self.train_limit, 100, 60_000)


def read_parameters(parameters: Mapping[str, object]) -> tuple[AnyRecipe, Settings]:
    """Sort a notebook's upper-case parameters into a recipe and settings.

    PUBLISHED, if it is there and not empty, names a published recipe, which takes the place of the notebook's own.
    papermill only warns of a name that the notebook does not know, and passes any type; here both
    raise ParameterError, which says which parameter and what it should be.
    """
    known = {field.name.upper(): kind for kind in (Recipe, Settings) for field in fields(kind)}
    for name in parameters:
        if name not in known and name != "PUBLISHED":
            close = difflib.get_close_matches(name, [*known, "PUBLISHED"], n=1)
            hint = f": did you mean {close[0]}?" if close else f": the parameters are {', '.join(known)}"
            raise ParameterError(f"unknown parameter {name}{hint}")
    missing = [name for name in known if name not in parameters]
    if missing:
        raise ParameterError(f"missing parameter {', '.join(missing)}")
    recipe, settings = (
        kind(**{field.name: parameters[field.name.upper()] for field in fields(kind)}) for kind in (Recipe, Settings)
    )
    published = parameters.get("PUBLISHED", "")
    if published != "":
        check_choice("PUBLISHED", published, RECIPES)
        recipe = RECIPES[published]
    return recipe, settings


def check_types(record: Recipe | Settings) -> None:
    """Raise ParameterError unless each field holds what its annotation says; an int may stand for a float."""
    for field in fields(record):
        value = getattr(record, field.name)
        allowed = field.type.__args__ if isinstance(field.type, types.UnionType) else (field.type,)
        if float in allowed:
            allowed = (*allowed, int)
        if type(value) not in allowed:
            names = " or ".join("None" if kind is types.NoneType else kind.__name__ for kind in allowed)
            raise ParameterError(f"{field.name.upper()} is {value!r}, but must be of type {names}")


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise ParameterError unless ``low <= value <= high``; NaN is outside of every range."""
    if not low <= value <= high:
        raise ParameterError(f"{name} is {value}, but must be between {low} and {high}")


def check_choice(name: str, value: str, choices: Iterable[str]) -> None:
    """Raise ParameterError, which lists the choices, unless ``value`` is one of them."""
    if value not in choices:
        raise ParameterError(f"{name} is {value!r}, but must be one of {', '.join(map(repr, choices))}")
