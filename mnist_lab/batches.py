"""Batches, cut from a split that lives in memory."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from mnist_lab.data import Split

MEAN, STD = 0.1307, 0.3081  # of the 60,000 training images, pixels in [0, 1]

Augment = Callable[[Tensor, torch.Generator], Tensor]  # (B, 1, 28, 28) in [0, 1] -> the same shape and range


def normalise(images: Tensor) -> Tensor:
    """Shift and scale pixels in [0, 1] to mean 0 and standard deviation 1 over MNIST's training images."""
    return (images - MEAN) / STD


def count_batches(images: int, size: int) -> int:
    """Return how many full training batches ``images`` make. Raises ValueError if not even one."""
    if not 1 <= size <= images:
        raise ValueError(f"batch size {size} does not fit {images:,} training images")
    return images // size


class ShuffledBatches:
    """Training batches, cut from tensors that already live on the device.

    Order and augmentation draw from one CPU generator, so a seed means the same batches on every
    device, and epoch after epoch goes on from it. Images are augmented in [0, 1], where the
    background is 0, and normalised last. The incomplete last batch of an epoch is left out; the next
    epoch leaves out other images.
    """

    def __init__(self, split: Split, size: int, *, seed: int, augment: Augment | None = None):
        self.split, self.size, self.augment = split, size, augment
        self.count = count_batches(len(split), size)
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = torch.randperm(len(self.split), generator=self.generator).to(self.split.labels.device)
        for chosen in order[: len(self) * self.size].split(self.size):
            images = self.split.images[chosen].float() / 255  # (B, 1, 28, 28)
            if self.augment is not None:
                images = self.augment(images, self.generator)
            yield normalise(images), self.split.labels[chosen]


class OrderedBatches:
    """Every image of a split once, in order, unchanged: what a model is scored on."""

    def __init__(self, split: Split, size: int = 1000):
        self.split, self.size = split, size

    def __len__(self) -> int:
        return -(-len(self.split) // self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in zip(self.split.images.split(self.size), self.split.labels.split(self.size), strict=True):
            yield normalise(images.float() / 255), labels
