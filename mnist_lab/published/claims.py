"""What the published series report of themselves: test accuracies in per cent, of one seed each.

Read from the outputs that their notebooks, READMEs and pictures show. A claim is a run's best epoch on the test set;
training accuracy, loss and logs are of the same runs where not said otherwise. B1 states a training accuracy, too, but
not whether of its 20 epochs or of the 15 that its claim counts.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Log:
    """Test accuracies of one run, epoch by epoch."""

    source: str
    accuracies: tuple[float, ...]  # per cent
    first_epoch: int = 1


@dataclass(frozen=True)
class Claim:
    """What is said of one step."""

    best: float | None  # per cent, its best epoch; None if the step states none
    note: str = ""  # what a reader of the number should know
    training: float | None = None  # per cent of the training images as distorted, best epoch; None if not stated
    loss: float | None = None  # mean over the test images, last epoch; None if not stated
    logs: tuple[Log, ...] = ()


def numbers(text: str) -> tuple[float, ...]:
    """Read numbers that are separated by blanks."""
    return tuple(map(float, text.split()))


# fmt: off
CLAIMS = {
    "A1": Claim(99.29, training=99.14, loss=0.0260, logs=(Log("notebook", numbers(
        "98.23 98.80 98.86 98.84 98.77 99.13 99.16 99.20 99.27 99.18 99.27 99.22 99.29 99.22 99.21")),)),
    "A2": Claim(99.33, training=99.27, loss=0.0208, logs=(Log("notebook", numbers(
        "98.41 98.70 98.94 98.87 98.90 99.08 99.19 99.19 99.23 99.19 99.31 99.29 99.30 99.30 99.33")),)),
    "A3": Claim(99.46, "on SageMaker 99.42", training=98.97, loss=0.0212, logs=(
        Log("notebook", numbers(
            "97.81 98.66 98.65 99.02 99.08 99.29 99.28 99.20 99.42 99.39 99.43 99.43 99.42 99.46 99.40")),
        Log("SageMaker", numbers(
            "98.50 98.78 98.81 99.14 99.12 99.16 99.12 99.23 99.32 99.34 99.37 99.32 99.40 99.41 99.42")),
    )),
    "B1": Claim(99.09, "of the first 15 of 20 epochs", logs=(Log("notebook", numbers(
        "91.23 96.97 97.80 97.80 98.38 98.37 98.67 98.81 99.01 98.96 99.01 98.98 99.09 98.95 98.88")),)),
    "B2": Claim(99.30, training=98.47, logs=(Log("notebook", numbers(
        "97.94 98.44 98.77 98.96 98.91 98.85 98.90 99.04 99.06 98.98 99.21 99.24 99.30 99.11 99.27")),)),
    "B3": Claim(99.47, training=97.32, logs=(Log("notebook", numbers(
        "98.37 98.95 99.14 99.00 99.26 99.08 99.38 99.38 99.38 99.43 99.41 99.41 99.45 99.47 99.44")),)),
    "B3Later": Claim(99.46, "the version in its repository today", training=96.78, logs=(Log("notebook", numbers(
        "98.27 98.73 98.79 99.17 99.07 99.24 99.19 99.36 99.43 99.40 99.39 99.41 99.40 99.45 99.46")),)),
    "C1": Claim(96.58, training=95.94, logs=(Log("notebook", numbers(
        "26.05 84.45 91.14 92.32 92.01 93.59 94.82 94.74 94.74 95.28 94.59 95.77 96.58 95.03 96.40")),)),
    "C2": Claim(98.91, training=99.02, logs=(Log("notebook", numbers(
        "94.71 95.43 97.49 96.65 96.80 98.27 98.30 98.34 98.60 98.53 98.66 98.91 98.62 98.56 98.63")),)),
    "C3": Claim(99.54, training=99.40, logs=(Log("notebook", numbers(
        "96.17 98.43 98.79 98.99 99.18 99.30 99.23 99.37 99.22 99.38 99.49 99.54 99.44 99.48 99.44")),)),
    "D1": Claim(None),
    "D2": Claim(None),
    "D3": Claim(99.37, "stated as 99.4, of 20 epochs of batches of 64", training=98.43, loss=0.0187, logs=(
        Log("plot, one decimal", numbers(
            "98.0 98.8 98.4 99.0 98.8 98.9 99.0 99.0 98.9 99.2 99.3 99.3 99.2 99.3 99.4")),
        Log("screenshot", numbers("99.06 99.11 99.21 99.32 99.37"), first_epoch=16),
    )),
    "E1": Claim(99.02, training=99.37, loss=0.0384, logs=(Log("notebook", numbers(
        "96.12 97.60 98.12 98.30 98.65 98.58 98.47 98.82 98.68 99.02 98.29 98.96 98.95 98.94 98.90")),)),
    "E2": Claim(99.39, training=99.78, loss=0.0215, logs=(Log("notebook", numbers(
        "94.44 97.78 98.36 98.24 98.72 98.87 98.74 99.08 99.07 98.76 99.20 99.22 99.39 99.36 99.39")),)),
    "E3": Claim(99.53, "on SageMaker 99.49", training=99.52, loss=0.0186, logs=(
        Log("notebook", numbers(
            "94.69 98.39 98.50 98.62 98.75 99.04 98.94 99.14 99.24 99.21 99.40 99.38 99.38 99.53 99.50")),
        Log("SageMaker", numbers("98.66 98.95 98.87 99.14 99.32 99.31 99.37 99.49 99.46"), first_epoch=7),
    )),
}
# fmt: on
