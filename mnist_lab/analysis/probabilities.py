"""What networks said of every image, kept compactly: a code of one byte for each probability.

A code stands for log-odds. They are kept finely where it matters: for the digit that wins, and for digits in doubt.
What is less likely than 1 : 50 is kept to a factor of 1.6, or 2.7 below 1 : 1,000; nothing counts as less likely than
1 : 160,000. So most codes are alike. What a network of step 3 says of 10,000 images takes 24 kB, where float16,
compressed as well, takes 68 kB, and its loss moves by less than a hundredth of itself. The winner is always kept; how
far a loss moves is recorded with it.
"""

import hashlib
import lzma
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel
from torch import Tensor

from mnist_lab.analysis.kept import read_checked
from mnist_lab.analysis.networks import Training
from mnist_lab.evidence.records import read_list
from mnist_lab.recipe import STRICT
from mnist_lab.runtime import write_whole

LEVELS = np.concatenate([np.arange(-12, -7), np.arange(-7, -4, 0.5), np.arange(-4, 4, 1 / 16), np.arange(4, 14, 1 / 8)])
INDEX = "probabilities.json"


class Packed(BaseModel):
    """A file of codes, and what it was made from."""

    model_config = STRICT

    name: str  # of the recipe
    trained: str  # see networks.Training
    scored_on: Literal["test", "held-out"]  # test images; or training images, each by a network of other writers
    seeds: list[int]
    images: int
    correct: list[int]  # images that each seed reads right
    losses: list[float]  # of each seed: cross-entropy before packing, nats
    packed_losses: list[float]  # and after it
    file: str
    sha256: str


@dataclass(frozen=True)
class Answers:
    """What seeds said of N images."""

    probabilities: np.ndarray  # (seeds, N, 10), float64
    labels: np.ndarray  # (N,), int64


def encode(probabilities: np.ndarray) -> np.ndarray:
    """Return codes (..., 10) as uint8 for probabilities (..., 10). The largest one stays the largest."""
    exact = probabilities.astype(np.float64).clip(1e-12, 1 - 1e-12)
    codes = np.searchsorted((LEVELS[1:] + LEVELS[:-1]) / 2, np.log(exact) - np.log1p(-exact)).astype(np.uint8)
    winner = exact.argmax(-1)[..., None]
    rivals = codes.copy()
    np.put_along_axis(rivals, winner, 0, -1)
    highest = np.maximum(np.take_along_axis(codes, winner, -1), rivals.max(-1, keepdims=True) + 1)
    np.put_along_axis(codes, winner, highest, -1)
    return codes


def decode(codes: np.ndarray) -> np.ndarray:
    """Return probabilities (..., 10) as float64 that sum to 1: the winner's as kept, the others in proportion."""
    found = (1 / (1 + np.exp(-LEVELS)))[codes]
    winner = codes.argmax(-1)[..., None]
    top = np.take_along_axis(found, winner, -1)
    found *= (1 - top) / (found.sum(-1, keepdims=True) - top)
    np.put_along_axis(found, winner, top, -1)
    return found


def loss(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean cross-entropy of probabilities (N, 10), in nats."""
    right = np.take_along_axis(probabilities, labels[:, None], -1)
    return float(-np.log(right.clip(1e-12)).mean())


def pack(first: Training, found: Sequence[Tensor], labels: np.ndarray, seeds: Sequence[int], folder: Path) -> Packed:
    """Write what each seed says, (N, 10), with the labels into a file of ``folder``; return its entry for the index."""
    codes = np.stack([encode(one.numpy()) for one in found], axis=-1)  # (N, 10, seeds): neighbours are alike
    content = lzma.compress(codes.tobytes() + labels.astype(np.uint8).tobytes(), preset=9)
    after = [decode(codes[..., place]) for place in range(len(seeds))]
    path = folder / f"probabilities-{first.name}-{first.settings.score_on}.xz"
    write_whole(path, content)
    return Packed(
        name=first.name,
        trained=first.trained,
        scored_on=first.settings.score_on,
        seeds=list(seeds),
        images=len(labels),
        correct=[int((one.argmax(1).numpy() == labels).sum()) for one in found],
        losses=[round(loss(one.double().numpy(), labels), 6) for one in found],
        packed_losses=[round(loss(one, labels), 6) for one in after],
        file=path.name,
        sha256=hashlib.sha256(content).hexdigest(),
    )


def unpack(packed: Packed, folder: Path) -> Answers:
    """Return what a file holds. Raises AnalysisError if it is not the one of the index."""
    content = read_checked(folder / packed.file, packed.sha256, INDEX)
    numbers = np.frombuffer(lzma.decompress(content), dtype=np.uint8)
    codes = numbers[: -packed.images].reshape(packed.images, 10, len(packed.seeds))
    return Answers(decode(codes.transpose(2, 0, 1)), numbers[-packed.images :].astype(np.int64))


def read_index(folder: Path) -> dict[tuple[str, str], Packed]:
    """Return the files of ``folder`` by name and what they were scored on; none if there are none yet.

    Raises RecordError for a damaged index.
    """
    return {(one.name, one.scored_on): one for one in read_list(folder / INDEX, Packed)}
