"""Batches, cut from a split that lives in memory."""

from collections.abc import Iterator

import torch
from torch import Tensor

from mnist_lab.augment import Augment
from mnist_lab.data import Split

MEAN, STD = 0.1307, 0.3081  # of the 60,000 training images, pixels in [0, 1]


def normalise(images: Tensor, mean: float = MEAN, std: float = STD) -> Tensor:
    """Shift and scale pixels in [0, 1]: by default to mean 0 and standard deviation 1 over MNIST's training images."""
    return (images - mean) / std


def count_batches(images: int, size: int) -> int:
    """Return how many full training batches ``images`` make. Raises ValueError if not even one."""
    if not 1 <= size <= images:
        raise ValueError(f"batch size {size} does not fit {images:,} training images")
    return images // size


class ShuffledBatches:
    """Training batches, cut from tensors that already live on the device.

    Order and augmentation are drawn from one CPU generator, so a seed means the same batches on every device, and
    epoch after epoch goes on from it. They are drawn at once for the epoch, so that a GPU never waits for the CPU.
    Images are augmented in [0, 1], where the background is 0, and normalised last. The incomplete last batch of
    an epoch is left out; the next epoch leaves out other images.
    """

    def __init__(self, split: Split, size: int, *, seed: int, augment: Augment | None = None):
        self.split, self.size, self.augment = split, size, augment
        self.count = count_batches(len(split), size)
        self.generator = torch.Generator().manual_seed(seed)

    def __len__(self) -> int:
        return self.count

    def draw_epoch(self) -> tuple[Tensor, Tensor | None]:
        """Draw which images (count * size,) an epoch shows in which order, and how each is augmented."""
        order = torch.randperm(len(self.split), generator=self.generator)[: self.count * self.size]
        numbers = None if self.augment is None else self.augment.draw(len(order), self.generator)
        device = self.split.images.device
        return order.to(device), None if numbers is None else numbers.to(device)

    def cut(self, chosen: Tensor, numbers: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the images (B, 1, 28, 28) and labels (B,) of ``chosen`` (B,), ready to train on."""
        images = self.split.images[chosen].float() / 255
        if self.augment is not None:
            images = self.augment(images, numbers)
        return normalise(images), self.split.labels[chosen]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order, numbers = self.draw_epoch()
        for start in range(0, len(order), self.size):
            batch = slice(start, start + self.size)
            yield self.cut(order[batch], None if numbers is None else numbers[batch])


class OrderedBatches:
    """Every image of a split once, in order, unchanged: what a model is scored on."""

    def __init__(self, split: Split, size: int = 1000, *, mean: float = MEAN, std: float = STD):
        self.split, self.size, self.mean, self.std = split, size, mean, std

    def __len__(self) -> int:
        return -(-len(self.split) // self.size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in zip(self.split.images.split(self.size), self.split.labels.split(self.size), strict=True):
            yield normalise(images.float() / 255, self.mean, self.std), labels
