"""A step that is taught by networks of its own kind, which are trained first; a folder keeps their weights."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from mnist_lab.batches import ShuffledBatches
from mnist_lab.data import Dataset, Split
from mnist_lab.experiment import measure_opening, train
from mnist_lab.recipe import STRICT, AnyRecipe, Recipe
from mnist_lab.runtime import ROOT
from mnist_lab.speed.compiled import compiled
from mnist_lab.studies import weights
from mnist_lab.studies.search.recipe import Variant
from mnist_lab.studies.search.taught import DistilledBatches, MatchedBatches, TaughtBatches, check_device
from mnist_lab.studies.study import ON_MNIST

FOLDER = ROOT / "runs" / "teachers"
FIRST_SEED = 1000  # no seed of a study is so high: a teacher is none of the networks that it teaches


@dataclass(config=STRICT)
class Assisted(Variant):
    """A variant whose ``teacher`` share of every label is the mean of what several networks of the step say."""

    teachers: Annotated[int, Field(ge=1, le=20)] = 5

    def batches(self, train: Split, seed: int, average: nn.Module | None) -> TaughtBatches:
        """Return what is trained on; the teachers are trained first, on the same images."""
        check_device(train)
        step = Recipe(**{field.name: getattr(self, field.name) for field in fields(Recipe)})
        return self.taught(self.untaught(train, seed), trained(step, train, self.teachers))

    def taught(self, batches: ShuffledBatches, teachers: Sequence[nn.Sequential]) -> TaughtBatches:
        """Return ``batches`` with the teachers' share in their labels."""
        return DistilledBatches(batches, teachers, self.teacher)


@dataclass(config=STRICT)
class Matched(Assisted):
    """An assisted step whose teachers are asked about every batch, as the network sees it."""

    teacher: Annotated[float, Field(ge=0, le=1)] = 1.0
    asked: Literal["every batch"] = "every batch"  # tells its records from those of Assisted

    def taught(self, batches: ShuffledBatches, teachers: Sequence[nn.Sequential]) -> TaughtBatches:
        """Return ``batches`` with the teachers' share in their labels."""
        return MatchedBatches(batches, teachers, self.teacher)


def trained(recipe: AnyRecipe, images: Split, count: int) -> list[nn.Sequential]:
    """Return ``count`` networks of a recipe, trained on the CPU on ``images`` from seeds of their own.

    What other random numbers are drawn afterwards does not depend on whether they were trained just now. Raises what
    :func:`experiment.train` and :func:`weights.keep` raise.
    """
    data = hashlib.sha256(images.images.numpy().tobytes() + images.labels.numpy().tobytes()).hexdigest()
    name = hashlib.sha256(json.dumps([asdict(recipe), data]).encode()).hexdigest()[:16]
    with torch.random.fork_rng(devices=[]):
        return [_one(recipe, images, seed, FOLDER / name) for seed in range(FIRST_SEED, FIRST_SEED + count)]


def _one(recipe: AnyRecipe, images: Split, seed: int, folder: Path) -> nn.Sequential:
    """Return the network of one seed, trained unless ``folder`` has it."""
    settings = replace(ON_MNIST, seed=seed, threads=torch.get_num_threads())
    few = Dataset("training images", images, images.first(1))  # its scores are of no use
    path, of = folder / f"seed-{seed}.pt", (recipe, few, settings)
    weights.keep(
        path,
        lambda: train(*of, lambda epoch: None, prepare=compiled).model.state_dict(),
        lambda: measure_opening(*of, compiled),
    )
    return weights.load(path, recipe)
