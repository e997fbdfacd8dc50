"""The networks that are analysed: which there are, and a folder that keeps the weights of each once it is trained."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from torch import Tensor, nn

from mnist_lab import LabError
from mnist_lab.data import Dataset, Split
from mnist_lab.experiment import load_data, measure_opening, train
from mnist_lab.recipe import AnyRecipe, Settings
from mnist_lab.runtime import make_repeatable
from mnist_lab.speed.compiled import compiled
from mnist_lab.studies import weights
from mnist_lab.studies.others.catalogue import RECIPES
from mnist_lab.studies.study import ON_MNIST, tolerance
from mnist_lab.training import predict


class AnalysisError(LabError):
    """Something that an analysis needs is missing, or is not what it should be."""


@dataclass(frozen=True)
class Training:
    """A network by the training that makes it."""

    name: str  # of the recipe, as in its records: "3", "A3", "4k"
    recipe: AnyRecipe
    settings: Settings

    @property
    def seed(self) -> int:
        return self.settings.seed

    @property
    def trained(self) -> str:
        """Return a name of the recipe and its images for files and records: another recipe has another one.

        Fields at their default do not count, so that a new one does not rename all that was trained before it.
        """
        values = [(one, getattr(self.recipe, one.name)) for one in fields(self.recipe)]
        recipe = {one.name: value for one, value in values if value != one.default}
        where = {"score_on": self.settings.score_on, "train_limit": self.settings.train_limit}
        return f"{self.name.replace(' ', '-')}-{digest(recipe | where)}"

    @property
    def place(self) -> Path:
        """Return the file of its weights, relative to the folder that keeps them."""
        return Path(self.trained, f"seed-{self.seed:03d}.pt")


def digest(*values: object) -> str:
    """Return a short name for plain ``values``: others have another one."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:10]


def of_seeds(name: str, recipe: AnyRecipe, seeds: Iterable[int], settings: Settings = ON_MNIST) -> list[Training]:
    """Return the trainings of one recipe from several ``seeds``."""
    return [Training(name, recipe, replace(settings, seed=seed)) for seed in seeds]


def published_third_steps() -> dict[str, AnyRecipe]:
    """Return what the published series advertise: the recipes of their third steps by name."""
    return {name: recipe for name, recipe in RECIPES.items() if name[1:] == "3"}


def keep(training: Training, folder: Path) -> None:
    """Train a network unless ``folder`` has it already, and keep its weights there.

    Raises what :func:`experiment.train` and :func:`weights.keep` raise.
    """
    data = load_data(training.settings)

    def trained() -> Mapping[str, Tensor]:
        return train(training.recipe, data, training.settings, lambda epoch: None, prepare=compiled).model.state_dict()

    weights.keep(folder / training.place, trained, lambda: opening(training, data), tolerance(training.name))


def opening(training: Training, data: Dataset) -> float:
    """Return the loss of the first batches of a training on ``data``."""
    return measure_opening(training.recipe, data, training.settings, compiled)


def load(training: Training, folder: Path) -> nn.Sequential:
    """Return the trained network, in evaluation mode. Raises AnalysisError if it is not in ``folder``, and KeptError if
    it is damaged.
    """
    path = folder / training.place
    make_repeatable(training.seed, training.settings.threads)
    try:
        return weights.load(path, training.recipe).eval()
    except FileNotFoundError:
        raise AnalysisError(f"{path} is missing: train it first, with mnist-lab analyse") from None


def probabilities(training: Training, folder: Path, split: Split) -> Tensor:
    """Return what the trained network says of every image of ``split``: (N, 10) on the CPU."""
    return predict(load(training, folder), training.recipe.scored(split))[:, :10]
