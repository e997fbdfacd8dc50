"""Random distortions of a batch: one policy, two engines."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mnist_lab.batches import Augment

SEED_LIMIT = 2**31  # albumentations is reseeded, batch by batch, with a number below this


@dataclass(frozen=True)
class Policy:
    """How strongly an image may be distorted. Every draw is uniform; 0 switches a distortion off.

    ``shift`` is drawn in whole pixels and ``shear`` is horizontal, as in handwriting that slants.
    """

    rotation: float = 0.0  # degrees, either way
    shift: int = 0  # pixels, either way, in both directions
    scale: float = 0.0  # fraction, larger or smaller
    shear: float = 0.0  # degrees, either way
    cutout: int = 0  # side of the square set to black, pixels

    def __post_init__(self) -> None:
        for name, value, limit in [
            ("rotation", self.rotation, 180),
            ("shift", self.shift, 27),
            ("scale", self.scale, 0.9),
            ("shear", self.shear, 60),
            ("cutout", self.cutout, 28),
        ]:
            if not 0 <= value <= limit:
                raise ValueError(f"{name} is {value}, but must be between 0 and {limit}")


@dataclass(frozen=True)
class Draws:
    """What was drawn for each of B images."""

    rotation: Tensor  # (B,) degrees, counter-clockwise as one sees it
    shift: Tensor  # (B, 2) pixels right and down
    scale: Tensor  # (B,) factor
    shear: Tensor  # (B,) degrees; positive moves the lower half to the right
    corner: Tensor  # (B, 2) column and row of the cutout's first pixel


def draw(policy: Policy, count: int, generator: torch.Generator) -> Draws:
    """Draw distortions for ``count`` images from a CPU ``generator``, whatever device the images are on."""

    def uniform(limit: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    def whole(low: int, high: int) -> Tensor:
        return torch.randint(low, high + 1, (count, 2), generator=generator)

    return Draws(
        rotation=uniform(policy.rotation),
        shift=whole(-policy.shift, policy.shift),
        scale=1 + uniform(policy.scale),
        shear=uniform(policy.shear),
        corner=whole(0, 28 - policy.cutout),
    )


class TensorEngine:
    """Distort a whole batch at once, on its device: one resampling, then cutout."""

    def __init__(self, policy: Policy):
        self.policy = policy

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        return distort(images, draw(self.policy, len(images), generator), self.policy.cutout)


def distort(images: Tensor, draws: Draws, cutout: int = 0) -> Tensor:
    """Apply ``draws`` to images (B, 1, H, W): scale, rotate, shear and shift about the centre, then cut out.

    The matrix is composed as albumentations composes it, so that both engines draw the same image.
    Pixels are interpolated bilinearly; what comes from outside the image is 0.
    """
    height, width = images.shape[-2:]
    angle, slope = torch.deg2rad(draws.rotation), torch.deg2rad(draws.shear).tan()
    cos, sin = angle.cos() / draws.scale, angle.sin() / draws.scale
    # From output to input pixels about the centre: shift back, unshear, rotate back, scale back.
    across, down = draws.shift[:, 0], draws.shift[:, 1]
    x_of_x, x_of_y = cos, -sin - cos * slope
    y_of_x, y_of_y = sin, cos - sin * slope
    x_offset = -(x_of_x * across + x_of_y * down)
    y_offset = -(y_of_x * across + y_of_y * down)
    matrix = torch.stack(  # (B, 2, 3) in affine_grid's units: the image reaches from -1 to 1
        [
            torch.stack([x_of_x, x_of_y * height / width, x_offset * 2 / width], dim=1),
            torch.stack([y_of_x * width / height, y_of_y, y_offset * 2 / height], dim=1),
        ],
        dim=1,
    )
    grid = F.affine_grid(matrix.to(images), list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    if cutout:
        images = images.masked_fill(squares(draws.corner, cutout, height, width).to(images.device), 0.0)
    return images


def squares(corner: Tensor, side: int, height: int, width: int) -> Tensor:
    """Return a mask (B, 1, H, W) that is true in a square with the given first pixel."""
    columns, rows = torch.arange(width), torch.arange(height)
    left, top = corner[:, :1], corner[:, 1:]  # (B, 1)
    across = (left <= columns) & (columns < left + side)  # (B, W)
    down = (top <= rows) & (rows < top + side)  # (B, H)
    return (down[:, :, None] & across[:, None, :]).unsqueeze(1)


class AlbumentationsEngine:
    """Distort a batch image by image with an albumentations pipeline.

    ``compose`` is any ``A.Compose`` that maps an image (28, 28) of float32 in [0, 1] to the same shape
    and range. It is reseeded for every batch from the one generator that orders the batches, so a seed
    means the same images wherever and whenever it runs (``random.seed`` has no effect on albumentations).
    """

    def __init__(self, compose):
        self.compose = compose

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        self.compose.set_random_seed(int(torch.randint(SEED_LIMIT, (), generator=generator)))
        distorted = [torch.as_tensor(self.compose(image=image)["image"]) for image in images[:, 0].cpu().numpy()]
        return torch.stack(distorted).unsqueeze(1).to(images)


def albumentations_pipeline(policy: Policy):
    """Return ``policy`` as a strict ``A.Compose``: misspelt or outdated arguments raise, they do not warn."""
    import albumentations as A

    transforms = [
        A.Affine(
            rotate=(-policy.rotation, policy.rotation),
            translate_px=(-policy.shift, policy.shift),
            scale=(1 - policy.scale, 1 + policy.scale),
            keep_ratio=True,  # one factor for both directions; the default draws two
            shear={"x": (-policy.shear, policy.shear), "y": (0, 0)},
            p=1.0,
            strict=True,
        )
    ]
    if policy.cutout:
        side = (policy.cutout, policy.cutout)
        transforms.append(
            A.CoarseDropout(num_holes_range=(1, 1), hole_height_range=side, hole_width_range=side, p=1.0, strict=True)
        )
    return A.Compose(transforms, strict=True)


ENGINES: dict[str, Callable[[Policy], Augment]] = {
    "tensor": TensorEngine,
    "albumentations": lambda policy: AlbumentationsEngine(albumentations_pipeline(policy)),
}
