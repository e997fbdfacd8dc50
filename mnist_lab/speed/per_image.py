"""The usual way to feed a network, to compare with: a DataLoader that distorts image by image."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mnist_lab.augment import Policy, albumentations_pipeline
from mnist_lab.batches import MEAN, STD
from mnist_lab.data import Split

Transform = Callable[[object], Tensor]  # an image (28, 28) of uint8 -> (1, 28, 28) of float32, normalised


class PerImage:
    """A split as ``torch.utils.data`` takes it: image by image through a pipeline of transforms."""

    def __init__(self, split: Split, transform: Transform):
        self.images, self.labels, self.transform = split.images[:, 0].numpy(), split.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


def albumentations_transform(policy: Policy, probability: float = 1.0) -> Transform:
    """Return ``policy``, for that share of the images, and the normalisation as one writes them for albumentations."""
    import albumentations as A
    from albumentations.pytorch import ToTensorV2

    distort = A.Compose(albumentations_pipeline(policy).transforms, p=probability)
    pipeline = A.Compose([distort, A.Normalize(mean=(MEAN,), std=(STD,)), ToTensorV2()])
    return partial(through_albumentations, pipeline)


def through_albumentations(pipeline: Callable, image: np.ndarray) -> Tensor:
    """Return what a pipeline of albumentations makes of an image (28, 28)."""
    return pipeline(image=image[:, :, None])["image"]


def torchvision_transform(policy: Policy) -> Transform:
    """Return ``policy`` and the normalisation as one writes them for torchvision."""
    from torchvision.transforms import InterpolationMode, v2

    return v2.Compose(
        [
            v2.ToImage(),
            v2.RandomAffine(
                policy.rotation,
                translate=(policy.shift / 28, policy.shift / 28),
                scale=(1 - policy.scale, 1 + policy.scale),
                shear=policy.shear,
                interpolation=InterpolationMode.BILINEAR,
            ),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize((MEAN,), (STD,)),
        ]
    )


class PerImageBatches:
    """Shuffled batches of a split on the CPU, prepared by so many worker processes (0: by this one), on ``device``.

    Yields images (B, 1, 28, 28) and labels (B,); the incomplete last batch is left out.
    """

    def __init__(self, split: Split, size: int, transform: Transform, workers: int, device: torch.device):
        self.device = device
        self.loader = DataLoader(
            PerImage(split, transform),
            size,
            shuffle=True,
            drop_last=True,
            num_workers=workers,
            persistent_workers=workers > 0,
        )

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in self.loader:
            yield images.to(self.device), labels.to(self.device)
