"""The distortions of the published series, for a whole batch at once.

Each does what the library's transform of the same purpose does to one image: the same distribution of the draws,
the same interpolation, the same fill. Where a pipeline resamples twice, so does a chain: composed, the two would lose
less. Two things are not repeated: after a bilinear resampling albumentations rounds to 256 greys, and samples at
positions rounded to 1/32 pixel.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from mnist_lab.augment import Augment
from mnist_lab.batches import MEAN

SIDE = 28  # pixels, of every image here
ATTEMPTS = 10  # torchvision draws a rectangle anew until one fits, at most so often
NEARLY_BLACK = 1 / 255  # what ``fill=1`` means for an image of bytes, though meant as white


def uniform(low: float, high: float, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Draw numbers between ``low`` and ``high`` from a CPU generator."""
    return low + (high - low) * torch.rand(shape, generator=generator)


def resample(images: Tensor, matrix: Tensor, mode: str, fill: float = 0.0) -> Tensor:
    """Sample images (B, 1, 28, 28) where ``matrix`` (B, 2, 3) leads, from output to input in pixels about the centre;
    outside is ``fill``."""
    halves = torch.cat([matrix[:, :, :2], matrix[:, :, 2:] * 2 / SIDE], dim=2)  # in units of half an image
    grid = F.affine_grid(halves, list(images.shape), align_corners=False)
    return F.grid_sample(images - fill, grid, mode=mode, padding_mode="zeros", align_corners=False) + fill


def shifted(linear: Tensor, shift: Tensor) -> Tensor:
    """Return (B, 2, 3): move back by ``shift`` (B, 2), then apply ``linear`` (B, 2, 2)."""
    return torch.cat([linear, -(linear @ shift.unsqueeze(2))], dim=2)


def rotations(degrees: Tensor) -> Tensor:
    """Return (B, 2, 2), from output to input, of a turn (B,) that is counter-clockwise as one sees it."""
    angle = torch.deg2rad(degrees)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cos, -sin], dim=1), torch.stack([sin, cos], dim=1)], dim=1)


@dataclass(frozen=True)
class Rotate:
    """torchvision's RandomRotation: nearest pixel."""

    degrees: float  # either way
    fill: float = 0.0

    def draw(self, images: int, generator: Generator) -> Tensor:
        """Return (images, 6), a matrix each."""
        turns = rotations(uniform(-self.degrees, self.degrees, (images,), generator))
        return shifted(turns, torch.zeros(images, 2)).flatten(1)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        return resample(images, draws.view(-1, 2, 3), "nearest", self.fill)


@dataclass(frozen=True)
class Affine:
    """torchvision's RandomAffine without rotation: whole pixels of shift, horizontal shear, nearest pixel."""

    translate: float  # fraction of the image, either way
    scale: float  # fraction, larger or smaller
    shear: float = 0.0  # degrees, either way
    fill: float = 0.0

    def draw(self, images: int, generator: Generator) -> Tensor:
        """Return (images, 6), a matrix each."""
        reach = self.translate * SIDE
        shift = uniform(-reach, reach, (images, 2), generator).round()
        scale = uniform(1 - self.scale, 1 + self.scale, (images,), generator)
        slope = torch.deg2rad(uniform(-self.shear, self.shear, (images,), generator)).tan()
        one, zero = torch.ones(images), torch.zeros(images)
        linear = torch.stack([torch.stack([one, slope], dim=1), torch.stack([zero, one], dim=1)], dim=1)
        return shifted(linear / scale.view(-1, 1, 1), shift).flatten(1)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        return resample(images, draws.view(-1, 2, 3), "nearest", self.fill)


@dataclass(frozen=True)
class ShiftScaleRotate:
    """albumentations' transform of that name: parts of a pixel of shift, a scale for each direction, bilinear, black.

    So it was in the last versions before 2, which shifts by whole pixels. Series E does not state its version, but its
    code names an option that 2 no longer has. Still earlier ones drew one scale for both directions.
    """

    shift: float  # fraction of the image, either way
    scale: float  # fraction, larger or smaller
    degrees: float  # either way
    share: float  # of the images; the others stay as they are

    def draw(self, images: int, generator: Generator) -> Tensor:
        """Return (images, 6), a matrix each."""
        reach = self.shift * SIDE
        shift = uniform(-reach, reach, (images, 2), generator)
        scale = uniform(1 - self.scale, 1 + self.scale, (images, 2), generator)
        turns = rotations(uniform(-self.degrees, self.degrees, (images,), generator))
        chosen = torch.rand(images, generator=generator) < self.share
        matrix = shifted(turns / scale.unsqueeze(2), shift)
        return torch.where(chosen.view(-1, 1, 1), matrix, torch.eye(2, 3)).flatten(1)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        return resample(images, draws.view(-1, 2, 3), "bilinear")


def rectangles(
    images: int, area: tuple[float, float], ratio: tuple[float, float], largest: int, generator: Generator
) -> Tensor:
    """Draw (images, 4): left, top, width and height of rectangles inside an image, as torchvision draws them.

    ``area`` is a fraction of the image's, ``ratio`` that of width to height, drawn in its logarithm. Where no attempt
    has sides of at most ``largest`` pixels, all four are 0.
    """
    shape = (images, ATTEMPTS)
    pixels = SIDE * SIDE * uniform(*area, shape, generator)
    ratios = uniform(math.log(ratio[0]), math.log(ratio[1]), shape, generator).exp()
    width, height = (pixels * ratios).sqrt().round(), (pixels / ratios).sqrt().round()
    fits = (width <= largest) & (height <= largest)
    first = fits.int().argmax(dim=1, keepdim=True)
    sides = torch.cat([width.gather(1, first), height.gather(1, first)], dim=1)
    corner = (torch.rand(images, 2, generator=generator) * (SIDE - sides + 1)).floor()
    return torch.cat([corner, sides], dim=1) * fits.any(dim=1, keepdim=True)


@dataclass(frozen=True)
class ResizedCrop:
    """torchvision's RandomResizedCrop to 28 pixels: a part of the image, between 3:4 and 4:3, bilinear."""

    smallest: float  # fraction of the image's area; the largest is all of it

    def draw(self, images: int, generator: Generator) -> Tensor:
        """Return (images, 4): left, top, width and height."""
        crop = rectangles(images, (self.smallest, 1.0), (3 / 4, 4 / 3), SIDE, generator)
        whole = torch.tensor([0.0, 0.0, SIDE, SIDE])
        return torch.where(crop[:, 2:3] > 0, crop, whole)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        middles = torch.arange(SIDE, device=images.device) + 0.5
        corner, sides = draws[:, :2, None], draws[:, 2:, None]  # (B, 2, 1)
        places = (middles * sides / SIDE).clamp(min=0.5).minimum(sides - 0.5) + corner  # (B, 2, 28), never outside
        across, down = (places * 2 / SIDE - 1).unbind(1)
        grid = torch.stack([across[:, None, :].expand(-1, SIDE, -1), down[:, :, None].expand(-1, -1, SIDE)], dim=3)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class Erase:
    """torchvision's RandomErasing of a part with 2 to 33 % of the area.

    It comes after the normalisation there, so that its 0 is the mean grey of all images and not black.
    """

    share: float  # of the images

    def draw(self, images: int, generator: Generator) -> Tensor:
        """Return (images, 4): left, top, width and height; width and height are 0 where nothing is erased."""
        ratio = (1 / 3.3, 1 / 0.3)  # of width to height; torchvision states that of height to width
        erased = rectangles(images, (0.02, 0.33), ratio, SIDE - 1, generator)
        return erased * (torch.rand(images, 1, generator=generator) < self.share)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        return images.masked_fill(inside(draws), MEAN)


@dataclass(frozen=True)
class Holes:
    """albumentations' CoarseDropout: one to three black holes, four or five pixels high and five wide."""

    def draw(self, images: int, generator: Generator) -> Tensor:
        """Return (images, 12): left, top, width and height of three holes, of width 0 where there are fewer."""
        height = torch.randint(4, 6, (images, 3), generator=generator)
        there = torch.arange(3) < torch.randint(1, 4, (images, 1), generator=generator)
        left = torch.randint(0, SIDE - 5 + 1, (images, 3), generator=generator)
        top = (torch.rand(images, 3, generator=generator) * (SIDE - height + 1)).floor()
        return torch.stack([left, top, 5 * there, height], dim=2).flatten(1)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        for hole in draws.view(-1, 3, 4).unbind(1):
            images = images.masked_fill(inside(hole), 0.0)
        return images


def inside(rectangle: Tensor) -> Tensor:
    """Return (B, 1, 28, 28): whether a pixel lies in the rectangle (B, 4) of left, top, width and height."""
    places = torch.arange(SIDE, device=rectangle.device)
    left, top, width, height = rectangle.unsqueeze(2).unbind(1)  # (B, 1) each
    across, down = (left <= places) & (places < left + width), (top <= places) & (places < top + height)
    return (down[:, :, None] & across[:, None, :]).unsqueeze(1)


class Chain:
    """Several distortions, one after the other; see :class:`augment.Augment`."""

    def __init__(self, parts: Sequence[Augment]):
        self.parts = parts
        self.widths = [part.draw(1, Generator()).shape[1] for part in parts]

    def draw(self, images: int, generator: Generator) -> Tensor:
        """Return (images, numbers): those of each distortion side by side."""
        return torch.cat([part.draw(images, generator) for part in self.parts], dim=1)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        for part, columns in zip(self.parts, draws.split(self.widths, dim=1), strict=True):
            images = part(images, columns)
        return images


DISTORTIONS: dict[str, tuple[Augment, ...]] = {
    "none": (),
    "rotation of 3, affine": (Rotate(3, NEARLY_BLACK), Affine(0.05, 0.02, shear=2, fill=NEARLY_BLACK)),
    "crop, rotation of 7": (ResizedCrop(0.85), Rotate(7)),
    "crop, rotation of 15, erasing": (ResizedCrop(0.85), Rotate(15), Erase(0.1)),
    "crop, rotation of 15 on grey, erasing": (ResizedCrop(0.85), Rotate(15, MEAN), Erase(0.1)),
    "rotation of 5, affine": (Rotate(5), Affine(0.05, 0.02)),
    "rotation of 7": (Rotate(7, NEARLY_BLACK),),
    "rotation of 7, holes": (Rotate(7, NEARLY_BLACK), Holes()),
    "shift, scale, rotation of 7 for a quarter": (ShiftScaleRotate(0.0625, 0.05, 7, share=0.25),),
}
