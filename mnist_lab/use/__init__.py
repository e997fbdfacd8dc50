"""Networks in use: ``mnist_lab.use.load().read("five.png")``. Reading needs no PyTorch; measuring readers does."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnist_lab.use.weights import Network


def load(path: str | Path | None = None) -> "Network":
    """Return the network in a file of weights, ready to read; by default step 3's seed 0, as published.

    Raises :class:`mnist_lab.use.weights.WeightsError`, which says what is wrong with the file.
    """
    from mnist_lab.use import weights  # here, so that the command line's --help loads no NumPy

    return weights.load(weights.PUBLISHED if path is None else Path(path))
