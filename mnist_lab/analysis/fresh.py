"""Digits that MNIST does not have: QMNIST's 50,000 lost test images, where they can be downloaded."""

from collections.abc import Sequence
from pathlib import Path

import torch
from pydantic import BaseModel

from mnist_lab.analysis.networks import AnalysisError, Training, load
from mnist_lab.data import Split
from mnist_lab.download import TIMEOUT, socket_timeout
from mnist_lab.recipe import STRICT
from mnist_lab.runtime import ROOT
from mnist_lab.training import evaluate

FILE = "fresh.json"
QMNIST = "QMNIST, the 50,000 lost test images"


class Fresh(BaseModel):
    """What the seeds of one recipe read of digits from elsewhere."""

    model_config = STRICT

    name: str  # of the recipe
    trained: str  # see networks.Training
    data: str
    images: int
    correct: list[int]  # of each seed


def load_lost_digits(folder: Path | None = None) -> Split:
    """Return the 50,000 test images that QMNIST found again (Yadav and Bottou, NeurIPS 2019), with torchvision.

    They are downloaded on first use. Raises AnalysisError if that fails.
    """
    from torchvision.datasets import QMNIST as Source

    folder = folder or ROOT / "data"
    try:
        with socket_timeout(TIMEOUT):
            lost = Source(folder, what="test50k", download=True)
    except Exception as error:  # of many kinds: no network, a proxy's page in place of the file, a full disk
        reason = " ".join(str(error).split())[:200]
        raise AnalysisError(
            f"QMNIST's 50,000 lost digits are not in {folder} and could not be downloaded ({reason}): this part needs "
            "a machine with an open network, and nothing else does"
        ) from error
    return Split(lost.data.view(-1, 1, 28, 28), lost.targets[:, 0].long())


def score(training: Training, folder: Path) -> int:
    """Return how many of the lost digits a trained network reads right."""
    torch.set_num_threads(1)
    lost = load_lost_digits()
    return round(evaluate(load(training, folder), training.recipe.scored(lost)).accuracy * len(lost))


def gather(trainings: Sequence[Training], correct: Sequence[int]) -> list[Fresh]:
    """Sort what was read right, one number for each of ``trainings``, by recipe."""
    by_recipe: dict[tuple[str, str], list[int]] = {}
    for training, one in zip(trainings, correct, strict=True):
        by_recipe.setdefault((training.name, training.trained), []).append(one)
    return [Fresh(name=name, trained=trained, data=QMNIST, images=50_000, correct=found)
            for (name, trained), found in by_recipe.items()]  # fmt: skip
