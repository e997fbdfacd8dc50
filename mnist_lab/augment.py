"""Random distortions of a batch: one policy, two engines."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

SEED_LIMIT = 2**31  # albumentations is reseeded, batch by batch, with a number below this


class Augment(Protocol):
    """A random distortion of images in [0, 1], in two parts: chance first, for a whole epoch, then the work."""

    def draw(self, images: int, generator: torch.Generator) -> Tensor:
        """Draw some numbers for each of so many images from a CPU generator: (images, numbers)."""

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        """Distort images (B, 1, 28, 28) by their ``numbers``, on the images' device; shape and range stay."""


@dataclass(frozen=True)
class Policy:
    """How strongly an image may be distorted. Every draw is uniform; 0 switches a distortion off.

    ``shift`` is drawn in whole pixels and ``shear`` is horizontal, as in handwriting that slants.
    """

    rotation: float = 0.0  # degrees, either way
    shift: int = 0  # pixels, either way, in both directions
    scale: float = 0.0  # fraction, larger or smaller
    shear: float = 0.0  # degrees, either way


@dataclass(frozen=True)
class Distortions:
    """How each of B images is distorted."""

    rotation: Tensor  # (B,) degrees, counter-clockwise as one sees it
    shift: Tensor  # (B, 2) pixels right and down
    scale: Tensor  # (B,) factor
    shear: Tensor  # (B,) degrees; positive moves the lower half to the right


def draw_distortions(policy: Policy, count: int, generator: torch.Generator) -> Distortions:
    """Draw distortions for ``count`` images from a CPU ``generator``, whatever device the images are on."""

    def uniform(limit: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    return Distortions(
        rotation=uniform(policy.rotation),
        shift=torch.randint(-policy.shift, policy.shift + 1, (count, 2), generator=generator),
        scale=1 + uniform(policy.scale),
        shear=uniform(policy.shear),
    )


class TensorEngine:
    """Distort a whole batch at once, on its device, in one resampling. It is an :class:`Augment`."""

    def __init__(self, policy: Policy):
        self.policy = policy

    def draw(self, images: int, generator: torch.Generator) -> Tensor:
        """Return (images, 6): an affine matrix for each image, row by row."""
        return inverse_matrix(draw_distortions(self.policy, images, generator)).flatten(1)

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        return resample(images, numbers.view(-1, 2, 3))


def inverse_matrix(drawn: Distortions, height: int = 28, width: int = 28) -> Tensor:
    """Return where each pixel of a distorted image comes from, as a matrix (B, 2, 3) for :func:`resample`.

    The distortions scale, rotate, shear and shift about the centre, in this order, as albumentations does; so both
    engines make the same image. The matrix undoes them, in units of half an image, as ``affine_grid`` wants it.
    """
    angle, slope = torch.deg2rad(drawn.rotation), torch.deg2rad(drawn.shear).tan()
    cos, sin = angle.cos() / drawn.scale, angle.sin() / drawn.scale
    # In pixels: x_of_y is how far right the source lies for each pixel down, and so on.
    across, down = drawn.shift[:, 0], drawn.shift[:, 1]
    x_of_x, x_of_y = cos, -sin - cos * slope
    y_of_x, y_of_y = sin, cos - sin * slope
    x_offset = -(x_of_x * across + x_of_y * down)
    y_offset = -(y_of_x * across + y_of_y * down)
    x = [x_of_x, x_of_y * height / width, x_offset * 2 / width]
    y = [y_of_x * width / height, y_of_y, y_offset * 2 / height]
    return torch.stack([*x, *y], dim=1).view(-1, 2, 3)


def resample(images: Tensor, matrix: Tensor) -> Tensor:
    """Interpolate images (B, 1, H, W) bilinearly at the places that ``matrix`` (B, 2, 3) names; outside is 0."""
    height, width = images.shape[-2:]
    places = torch.bmm(matrix, pixel_centres(height, width, images.device).expand(len(images), -1, -1))  # (B, 2, H * W)
    grid = places.view(-1, 2, height, width).permute(0, 2, 3, 1)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


@functools.cache
def pixel_centres(height: int, width: int, device: torch.device) -> Tensor:
    """Return x, y and 1 of each pixel (3, H * W): what ``F.affine_grid`` would compute again for every batch."""
    places = F.affine_grid(torch.eye(2, 3)[None], [1, 1, height, width], align_corners=False).view(-1, 2)
    return F.pad(places, [0, 1], value=1.0).T.contiguous().to(device)


class CleanEnd:
    """An engine that distorts images in the first epochs only, and then shows them as they are. It is an Augment.

    So the weights and the norms' statistics settle on images like those that are scored (He et al., "Data augmentation
    revisited", 2019). Each call of ``draw`` counts as an epoch, and all draw alike: the order of images stays.
    """

    def __init__(self, engine: Augment, distorted_epochs: int):
        self.engine, self.distorted_left = engine, distorted_epochs

    def draw(self, images: int, generator: torch.Generator) -> Tensor:
        """Return what the engine draws."""
        self.distorted_left -= 1
        return self.engine.draw(images, generator)

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        return self.engine(images, numbers) if self.distorted_left >= 0 else images


class AlbumentationsEngine:
    """Distort a batch image by image with an albumentations pipeline.

    ``pipeline`` is any ``A.Compose`` that maps an image (28, 28) of float32 in [0, 1] to the same shape and range. It
    is reseeded for every batch, from the one generator that orders the batches, so a seed means the same images
    wherever and whenever it runs (``random.seed`` has no effect on albumentations).
    """

    def __init__(self, pipeline):
        self.pipeline = pipeline

    def draw(self, images: int, generator: torch.Generator) -> Tensor:
        """Return a seed (images, 1) for each image; a batch uses that of its first."""
        return torch.randint(SEED_LIMIT, (images, 1), generator=generator)

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        self.pipeline.set_random_seed(int(numbers[0]))
        distorted = [torch.as_tensor(self.pipeline(image=image)["image"]) for image in images[:, 0].cpu().numpy()]
        return torch.stack(distorted).unsqueeze(1).to(images)


def albumentations_pipeline(policy: Policy):
    """Return ``policy`` as a strict ``A.Compose``: misspelt or outdated arguments raise, they do not warn."""
    import albumentations as A

    affine = A.Affine(
        rotate=(-policy.rotation, policy.rotation),
        translate_px=(-policy.shift, policy.shift),
        scale=(1 - policy.scale, 1 + policy.scale),
        keep_ratio=True,  # one factor for both directions; the default draws two
        shear={"x": (-policy.shear, policy.shear), "y": (0, 0)},
        p=1.0,
        strict=True,
    )
    return A.Compose([affine], strict=True)


ENGINES: dict[str, Callable[[Policy], Augment]] = {
    "tensor": TensorEngine,
    "albumentations": lambda policy: AlbumentationsEngine(albumentations_pipeline(policy)),
}
