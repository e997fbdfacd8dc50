"""What a notebook finds on this machine, and what it says in place of what is not there."""

from IPython.display import Markdown

from mnist_lab.data import DataNotFound, Dataset, load_mnist
from mnist_lab.writers import Writers, load_writers


def mnist_at_hand() -> Dataset | None:
    """Return MNIST; None where it is neither on disk nor to be downloaded. Raises DataCorrupt."""
    try:
        return load_mnist()
    except DataNotFound:
        return None


def writers_at_hand() -> Writers | None:
    """Return who wrote the test images; None where QMNIST's labels are neither on disk nor to be downloaded.

    Raises DataCorrupt.
    """
    try:
        return load_writers("test")
    except DataNotFound:
        return None


def no_pictures() -> Markdown:
    """Say why images are not shown: the sample of digits that needs no download holds none of them."""
    return Markdown(
        "*These are MNIST's own images, which are not on this machine (the digits sample is not MNIST): point "
        "`MNIST_LAB_DATA` at its files, or connect to the internet.*"
    )


def no_writers() -> Markdown:
    """Say how to get the writers."""
    return Markdown(
        "*Who wrote the digits is not known here: it is in QMNIST's label files, `qmnist-test-labels-idx2-int.gz` and "
        "`qmnist-train-labels-idx2-int.gz`. Put them into `QMNIST/raw/` of the folder that holds `MNIST/raw/`, or "
        "connect to the internet.*"
    )
