"""Who wrote MNIST's digits, and six folds of the training images, so that held-out images are of held-out writers.

The digits of one person look alike. So a network reads held-out digits more easily if it was trained on others by the
same people, which the test set, by other people, does not offer it: choices are made on writers that were not trained
on. MNIST itself names no writers; QMNIST traced each image back to them (Yadav and Bottou, Cold Case: The Lost MNIST
Digits, NeurIPS 2019). Only its label files are needed.
"""

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from mnist_lab import LabError
from mnist_lab.data import DataNotFound, Split, read_files

FOLDS = 6
QMNIST_SHA256 = {  # of the label files, unzipped
    "qmnist-train-labels-idx2-int": "bb1b6e1ec7b04fd5696f1ed50b5f58f8ef195118edd5c93c81783df9740b8ac5",
    "qmnist-test-labels-idx2-int": "92d0ccb8c25f9c6534270fb4be7e1d24a1c6d315edfc8a638bfbd31c70f362dd",
}
IMAGES = {"train": 60_000, "test": 10_000}  # of MNIST; QMNIST has rows for 50,000 more test images


class WritersUnknown(LabError):
    """Nothing says who wrote these images."""


@dataclass(frozen=True)
class Writers:
    """What is known of each of N images, in MNIST's order: int64 arrays (N,)."""

    labels: np.ndarray  # the digits, to prove that these are the images meant
    series: np.ndarray  # 0: the writer was a Census employee; 4: a high-school student (NIST's hsf_0 and hsf_4)
    writers: np.ndarray  # a number for each person; no one wrote in both parts of MNIST


def load_writers(
    part: Literal["train", "test"], folder: str | Path | None = None, may_download: bool = True
) -> Writers:
    """Return the writers of MNIST's 60,000 training or 10,000 test images, from QMNIST's labels, every byte verified.

    The file is looked for in ``folder`` like those of :func:`data.load_mnist`, in ``QMNIST/raw/``, and downloaded if
    none was given. Raises DataNotFound and DataCorrupt.
    """
    name = f"qmnist-{part}-labels-idx2-int"
    try:
        content = read_files("QMNIST", {name: QMNIST_SHA256[name]}, folder, may_download)[name]
    except DataNotFound as error:
        from mnist_lab.download import address

        raise DataNotFound(
            f"{error}. {address(name)[0]} says who wrote the digits: to choose on held-out writers needs that file, "
            'training and SCORE_ON "test" do not'
        ) from error
    # IDX: 12 bytes that tell the shape, then big-endian rows of label, series, writer, and five more numbers.
    rows = np.frombuffer(content, dtype=">i4", offset=12).reshape(-1, 8)[: IMAGES[part]].astype(np.int64)
    return Writers(labels=rows[:, 0], series=rows[:, 1], writers=rows[:, 2])


def deal(known: Writers) -> np.ndarray:
    """Return the fold, 0 ... 5, of each image (N,): all images of a writer share one.

    The rule: of each series by itself, the writer with the most images comes first (of equals the one with the lower
    number), and goes to the fold that has the fewest images of the series so far (of equals the first); Graham's
    longest-processing-time rule. So each fold has a sixth of both series, but for a few images.
    """
    fold_of = {}
    for series in np.unique(known.series):
        filled = [0] * FOLDS
        counts = Counter(known.writers[known.series == series].tolist())
        for writer, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
            fold_of[writer] = filled.index(min(filled))
            filled[fold_of[writer]] += count
    return np.array([fold_of[writer] for writer in known.writers.tolist()])


def fold_means(by_seed: Mapping[int, float]) -> dict[int, float]:
    """Return the mean of the values on each fold that has some, in order; seed s is scored on fold s mod 6."""
    own = {fold: [value for seed, value in by_seed.items() if seed % FOLDS == fold] for fold in range(FOLDS)}
    return {fold: statistics.fmean(values) for fold, values in own.items() if values}


def held_out(train: Split, fold: int) -> tuple[Split, Split]:
    """Cut one of the folds off MNIST's training images: returns (rest, held out), in MNIST's order.

    The held-out split's indices are those of its images among the 60,000. Raises WritersUnknown for other images, and
    what :func:`load_writers` raises.
    """
    known = load_writers("train")
    if not np.array_equal(known.labels, train.labels.cpu().numpy()):
        raise WritersUnknown(
            f"who wrote these {len(train):,} images is not known: it is of MNIST's 60,000 training images alone. Score "
            'others, as the digits sample, with SCORE_ON "test"'
        )
    held = torch.from_numpy(deal(known) == fold)
    return train.take((~held).nonzero().flatten()), train.take(held.nonzero().flatten())
