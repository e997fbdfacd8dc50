"""One network asked several times: about an image and about copies of it, each shifted by a pixel."""

from pathlib import Path

import torch
from pydantic import BaseModel
from torch import Tensor
from torch.nn import functional as F

from mnist_lab.analysis.networks import Training, probabilities
from mnist_lab.data import Split
from mnist_lab.experiment import load_data
from mnist_lab.fields.trace import facts
from mnist_lab.recipe import STRICT

FILE = "shifts.json"
NEXT = [(0, 1), (1, 0), (0, -1), (-1, 0)]  # rows down, columns to the right
DIAGONAL = [(1, 1), (1, -1), (-1, 1), (-1, -1)]
COPIES = {1: [(0, 0)], 5: [(0, 0), *NEXT], 9: [(0, 0), *NEXT, *DIAGONAL]}


class Shifted(BaseModel):
    """What a network reads if the mean of its probabilities over several copies of an image is its answer."""

    model_config = STRICT

    trained: str  # see networks.Training
    seed: int
    copies: int
    images: int
    correct: int
    loss: float  # of the mean probabilities, nats
    multiply_accumulates: int  # for one image, of all its copies


def shift(images: Tensor, down: int, right: int) -> Tensor:
    """Return ``images`` (N, 1, H, W) moved by whole pixels, |down| and |right| at most 1; what comes in is 0."""
    rows, columns = images.shape[2:]
    padded = F.pad(images, (1, 1, 1, 1))
    return padded[:, :, 1 - down : 1 - down + rows, 1 - right : 1 - right + columns]


def score(training: Training, folder: Path) -> list[dict]:
    """Ask a trained network about 1, 5 and 9 copies; return a :class:`Shifted` each, as plain values."""
    test = load_data(training.settings).test
    said = {by: probabilities(training, folder, Split(shift(test.images, *by), test.labels)) for by in COPIES[9]}
    work, found = facts(training.recipe.network()).multiply_accumulates, []
    for copies, shifts in COPIES.items():
        mean = torch.stack([said[by] for by in shifts]).mean(0)
        found.append(
            {
                "trained": training.trained,
                "seed": training.seed,
                "copies": copies,
                "images": len(test),
                "correct": int((mean.argmax(1) == test.labels).sum()),
                "loss": round(float(F.nll_loss(mean.clamp(min=1e-12).log(), test.labels)), 6),
                "multiply_accumulates": copies * work,
            }
        )
    return found
