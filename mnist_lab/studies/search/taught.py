"""Batches that ask a teacher, or several, and batches that show an image more than once."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_lab.augment import Augment
from mnist_lab.batches import OrderedBatches, ShuffledBatches, normalise
from mnist_lab.data import Split
from mnist_lab.models import fold_batch_norm
from mnist_lab.recipe import ParameterError
from mnist_lab.training import predict


class RepeatedBatches(ShuffledBatches):
    """Batches with several ``views`` of every image, each distorted by itself: as many updates, more work for each.

    (Hoffer et al., "Augment your batch", CVPR 2020.) ``size`` is that of a batch as one view has it.
    """

    def __init__(self, split: Split, size: int, views: int, *, seed: int, augment: Augment | None):
        super().__init__(split, size, seed=seed, augment=augment)
        self.views, self.images = views, size
        self.size = size * views

    def draw_epoch(self) -> tuple[Tensor, Tensor | None]:
        """Draw which images (count * size,) an epoch shows in which order, and how each is augmented."""
        order = torch.randperm(len(self.split), generator=self.generator)[: self.count * self.images]
        order = order.view(self.count, self.images).repeat(1, self.views).flatten()
        numbers = None if self.augment is None else self.augment.draw(len(order), self.generator)
        device = self.split.images.device
        return order.to(device), None if numbers is None else numbers.to(device)


def check_device(split: Split) -> None:
    """Raise ParameterError for images on a GPU: networks side by side there have no teacher of their own."""
    if split.images.is_cuda:
        raise ParameterError("a teacher needs device cpu: networks side by side on a GPU have none of their own")


class TaughtBatches(ABC):
    """Batches whose labels are blended with what a teacher says of the undistorted images.

    With a ``share`` w, the cross-entropy to the blended targets (B, classes) is (1 - w) cross-entropy to the labels + w
    cross-entropy to the teacher's probabilities. For so many ``plain_epochs`` the labels stay as they are at first.
    Raises ParameterError on a GPU, where networks train side by side on batches that they have in common.
    """

    def __init__(self, batches: ShuffledBatches, share: float, plain_epochs: int = 0):
        check_device(batches.split)
        self.batches, self.share, self.plain_epochs = batches, share, plain_epochs

    @abstractmethod
    def said(self, chosen: Tensor, images: Tensor) -> Tensor:
        """Return the probabilities (B, classes) that the teacher gives to the ``chosen`` images (B,).

        The network sees them as ``images`` (B, 1, 28, 28), distorted and normalised.
        """

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order, numbers = self.batches.draw_epoch()
        taught, self.plain_epochs = not self.plain_epochs, max(0, self.plain_epochs - 1)
        for start in range(0, len(order), self.batches.size):
            batch = slice(start, start + self.batches.size)
            images, labels = self.batches.cut(order[batch], None if numbers is None else numbers[batch])
            yield images, blend(labels, self.said(order[batch], images), self.share) if taught else labels


class SelfTaughtBatches(TaughtBatches):
    """Batches taught by the moving ``average`` of the network that is trained, but for the first epoch.

    (As in Tarvainen and Valpola, "Mean teachers are better role models", NeurIPS 2017, here with labels.) Nothing comes
    from outside, and it costs a forward pass. The average knows nothing in the first epoch.
    """

    def __init__(self, batches: ShuffledBatches, average: nn.Module, share: float):
        super().__init__(batches, share, plain_epochs=1)
        self.average = average

    @torch.no_grad()
    def said(self, chosen: Tensor, images: Tensor) -> Tensor:
        undistorted = normalise(self.batches.split.images[chosen].float() / 255)
        return self.average.eval()(undistorted).softmax(1)


class DistilledBatches(TaughtBatches):
    """Batches taught by the mean of what several trained ``teachers`` say.

    (Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015, section 2.) Teachers are asked once
    about every image, so that they cost their trainings and hardly more.
    """

    def __init__(self, batches: ShuffledBatches, teachers: Sequence[nn.Module], share: float):
        super().__init__(batches, share)
        self.table = torch.stack([predict(one, OrderedBatches(batches.split)) for one in teachers]).mean(0)

    def said(self, chosen: Tensor, images: Tensor) -> Tensor:
        return self.table[chosen]


class MatchedBatches(TaughtBatches):
    """Batches taught by the mean of what several trained ``teachers`` say of the images as the network sees them.

    (Beyer et al., "Knowledge distillation: a good teacher is patient and consistent", CVPR 2022.) It takes a forward
    pass of each teacher for every batch.
    """

    def __init__(self, batches: ShuffledBatches, teachers: Sequence[nn.Sequential], share: float):
        super().__init__(batches, share)
        self.teachers = [fold_batch_norm(one).to(memory_format=torch.channels_last) for one in teachers]

    @torch.no_grad()
    def said(self, chosen: Tensor, images: Tensor) -> Tensor:
        return torch.stack([one(images).softmax(1) for one in self.teachers]).mean(0)


def blend(labels: Tensor, said: Tensor, share: float) -> Tensor:
    """Return targets (B, classes): one-hot ``labels`` (B,), but for a ``share`` that is ``said`` (B, classes)."""
    return torch.lerp(F.one_hot(labels, said.size(1)).to(said.dtype), said, share)
