"""Batches that ask a teacher, or several, and batches that show an image more than once."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_lab.augment import Augment
from mnist_lab.batches import ShuffledBatches, normalise
from mnist_lab.data import Split
from mnist_lab.recipe import ParameterError


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


class TaughtBatches:
    """Batches whose labels are blended with what a ``teacher`` says of the undistorted images, but for the first epoch.

    The teacher is the moving average of the network that is trained (as in Tarvainen and Valpola, "Mean teachers are
    better role models", NeurIPS 2017, here with labels): nothing comes from outside, and it costs a forward pass. It
    knows nothing in the first epoch. With a ``share`` w, the cross-entropy to the blended targets (B, classes) is
    (1 - w) cross-entropy to the labels + w cross-entropy to the teacher's probabilities. Raises ParameterError on a
    GPU, where the networks that train side by side have their average in common.
    """

    def __init__(self, batches: ShuffledBatches, teacher: nn.Module, share: float):
        if batches.split.images.is_cuda:
            raise ParameterError("a teacher needs device cpu: networks side by side on a GPU have none of their own")
        self.batches, self.teacher, self.share = batches, teacher, share
        self.first = True

    def __len__(self) -> int:
        return len(self.batches)

    @torch.no_grad()
    def targets(self, chosen: Tensor, labels: Tensor) -> Tensor:
        """Return the probabilities (B, classes) that the network should give to the ``chosen`` images (B,)."""
        images = normalise(self.batches.split.images[chosen].float() / 255)
        return blend(labels, self.teacher.eval()(images).softmax(1), self.share)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order, numbers = self.batches.draw_epoch()
        first, self.first = self.first, False
        for start in range(0, len(order), self.batches.size):
            batch = slice(start, start + self.batches.size)
            images, labels = self.batches.cut(order[batch], None if numbers is None else numbers[batch])
            yield images, labels if first else self.targets(order[batch], labels)


class DistilledBatches:
    """Batches whose labels are blended with the mean of what several trained ``teachers`` say of the same images.

    (Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network", 2015, section 2; that teachers see the
    images as distorted as the network does is from Beyer et al., CVPR 2022.) It costs their trainings, and a forward
    pass of each for every batch. The ``share`` is that of :class:`TaughtBatches`. Raises ParameterError on a GPU.
    """

    def __init__(self, batches: ShuffledBatches, teachers: Sequence[nn.Module], share: float):
        if batches.split.images.is_cuda:
            raise ParameterError("teachers need device cpu: networks side by side on a GPU have none of their own")
        self.batches, self.share = batches, share
        self.teachers = [teacher.eval() for teacher in teachers]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in self.batches:
            with torch.no_grad():
                said = torch.stack([teacher(images).softmax(1) for teacher in self.teachers]).mean(0)
            yield images, blend(labels, said, self.share)


def blend(labels: Tensor, said: Tensor, share: float) -> Tensor:
    """Return targets (B, classes): one-hot ``labels`` (B,), but for a ``share`` that is ``said`` (B, classes)."""
    return torch.lerp(F.one_hot(labels, said.size(1)).to(said.dtype), said, share)
