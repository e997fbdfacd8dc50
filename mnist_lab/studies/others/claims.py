"""How a series file states what its repository reports of a step."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Log:
    """The test accuracies of one run, and where they were read."""

    file: str  # its path in the repository
    commit: str
    accuracies: tuple[float, ...]  # per cent, epoch by epoch
    first_epoch: int = 1


@dataclass(frozen=True)
class Claim:
    """What a repository reports of one run on the test set, from one seed.

    Accuracies and loss all come from the file of ``log``.
    """

    best: float | None = None  # per cent, of the best epoch; None if no result of the step was found
    log: Log | None = None
    other: Log | None = None  # of a second run, or of the same run in another file
    note: str = ""  # what a reader of the number should know
    training: float | None = None  # per cent of the training images as distorted, of the best epoch
    loss: float | None = None  # cross-entropy, mean over the test images, of the last epoch


def numbers(text: str) -> tuple[float, ...]:
    """Read numbers that are separated by blanks."""
    return tuple(map(float, text.split()))
