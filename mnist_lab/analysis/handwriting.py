"""How the seeds of step 3 read drawings and other people's digits, and from when on a reading is sure."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mnist_lab.analysis.networks import Training, load
from mnist_lab.batches import normalise
from mnist_lab.data import DataNotFound, Split
from mnist_lab.runtime import commit
from mnist_lab.use.collections import COLLECTIONS
from mnist_lab.use.handwriting import Handwriting, Prepared, Reader, count, prepare
from mnist_lab.use.reading import Confidence, find_sure

AT_ONCE = 1000  # images


def measure_confidence(probabilities: np.ndarray, labels: np.ndarray, networks: Sequence[Training]) -> Confidence:
    """Return from where on readings are sure: ``networks`` gave probabilities (N, 10) to images held out of theirs."""
    highest, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    sure = highest >= (least := find_sure(highest, right))
    return Confidence(
        sure_from=float(least),
        images=len(labels),
        unsure=int((~sure).sum()),
        wrong_of_sure=int((sure & ~right).sum()),
        wrong_of_unsure=int((~sure & ~right).sum()),
        networks=len(networks),
        scored_on=networks[0].settings.score_on,
        recipe=asdict(networks[0].recipe),
        commit=commit(),
    )


def prepare_all(limit: int | None = None) -> dict[str, Prepared]:
    """Return every collection that is at hand, or its first pictures, up to ``limit``; say which is not."""
    prepared = {}
    for name, drawn in COLLECTIONS.items():
        try:
            prepared[name] = prepare(islice(drawn(), limit))
        except DataNotFound as error:
            print(f"without {name}: {error}", flush=True)
    return prepared


@torch.inference_mode()
def read(network: nn.Module, images: np.ndarray) -> np.ndarray:
    """Return what ``network`` says of ``images`` (N, 28, 28) with pixels in [0, 1]: probabilities (N, 10)."""
    parts = torch.from_numpy(images)[:, None].split(AT_ONCE)
    return torch.cat([network(normalise(part)).double().softmax(1) for part in parts]).numpy()


def measure(
    trainings: Sequence[Training], folder: Path, test: Split, prepared: dict[str, Prepared], sure: float
) -> Handwriting:
    """Have the networks, kept in ``folder``, read test images as they are, and every collection.

    Readings are sure from a probability of ``sure`` on.
    """
    pixels, labels = test.images[:, 0].numpy() / np.float32(255), test.labels.numpy()
    readers = []
    for training in trainings:
        own = partial(read, load(training, folder))
        wrong = int((own(pixels).argmax(axis=1) != labels).sum())
        counts = {name: count(own, one, sure) for name, one in prepared.items()}
        readers.append(Reader(seed=training.seed, test_wrong=wrong, collections=counts))
    return Handwriting(
        recipe=asdict(trainings[0].recipe),
        sure_from=sure,
        pictures={name: len(one.labels) for name, one in prepared.items()},
        lost={name: int(one.lost.sum()) for name, one in prepared.items()},
        readers=readers,
        commit=commit(),
    )
