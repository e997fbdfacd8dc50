"""Corruptions of our own making, seeded, at five strengths: how digits may look outside of the test set.

The kinds are those of Mu and Gilmer, "MNIST-C" (2019), and Hendrycks and Dietterich (ICLR 2019), but simpler, and
without anything to download. Strengths were set by eye: at 1 a person hardly notices, at 5 a person may fail, too.
"""

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from mnist_lab.augment import Distortions, inverse_matrix, resample
from mnist_lab.data import Split

STRENGTHS = 5
FINE = 4  # parts of a pixel, in which strokes are widened
PART = 1000  # images that are distorted at once


@dataclass(frozen=True)
class Corruption:
    """One way to spoil images."""

    amounts: tuple[float, float, float, float, float]  # from weak to strong
    unit: str  # of the amounts
    apply: Callable[[Tensor, float, torch.Generator], Tensor]  # images (N, 1, 28, 28) in [0, 1]; may leave that range


def corrupt(split: Split, name: str, strength: int) -> Split:
    """Return ``split`` with every image corrupted at a ``strength`` of 1 to 5, always in the same way."""
    corruption = CORRUPTIONS[name]
    generator = torch.Generator().manual_seed(zlib.crc32(f"{name} {strength}".encode()))
    amount = corruption.amounts[strength - 1]
    parts = [corruption.apply(part.float() / 255, amount, generator) for part in split.images.cpu().split(PART)]
    images = (torch.cat(parts).clamp(0, 1) * 255).round().to(torch.uint8)
    return Split(images, split.labels)


def gaussian_noise(images: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Add normal noise to every pixel."""
    return images + deviation * torch.randn(images.shape, generator=generator)


def shot_noise(images: Tensor, photons: float, generator: torch.Generator) -> Tensor:
    """Count so many photons at a white pixel and fewer at a grey one; the background receives a tenth."""
    return torch.poisson((0.1 + 0.9 * images) * photons, generator=generator) / photons - 0.1


def impulse_noise(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Set a share of the pixels to black or white ("salt and pepper")."""
    hit, white = torch.rand(2, *images.shape, generator=generator)
    return torch.where(hit < share, (white < 0.5).float(), images)


def blur(images: Tensor, deviation: float, generator: torch.Generator) -> Tensor:
    """Blur by a Gaussian; its deviation is in pixels."""
    return smooth(images, deviation)


def smooth(maps: Tensor, deviation: float) -> Tensor:
    """Return maps (N, C, H, W) blurred by a Gaussian, in both directions one after the other; outside is 0."""
    reach = math.ceil(3 * deviation)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation) ** 2)
    weights = (weights / weights.sum()).expand(maps.shape[1], 1, 1, -1)
    across = F.conv2d(maps, weights, padding=(0, reach), groups=maps.shape[1])
    return F.conv2d(across, weights.transpose(2, 3), padding=(reach, 0), groups=maps.shape[1])


def motion_blur(images: Tensor, length: float, generator: torch.Generator) -> Tensor:
    """Average each image along a line of so many pixels, in a direction of its own."""
    angles = math.pi * torch.rand(len(images), generator=generator)
    steps = torch.linspace(-0.5, 0.5, 9) * length
    moved = [moved_by(images, torch.stack([angles.cos(), angles.sin()], dim=1) * step) for step in steps]
    return torch.stack(moved).mean(0)


def thicker(images: Tensor, radius: float, generator: torch.Generator) -> Tensor:
    """Widen strokes by so many pixels on either side: a maximum over a square, on a finer grid."""
    side = 2 * round(radius * FINE) + 1
    fine = F.interpolate(images, scale_factor=FINE, mode="bilinear")
    wide = fine
    for window in ((1, side), (side, 1)):
        wide = F.max_pool2d(wide, window, stride=1, padding=(window[0] // 2, window[1] // 2))
    return F.avg_pool2d(wide, FINE)


def thinner(images: Tensor, radius: float, generator: torch.Generator) -> Tensor:
    """Narrow strokes by so many pixels on either side."""
    return 1 - thicker(1 - images, radius, generator)


def faint(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Take a share of the ink away."""
    return (1 - share) * images


def light(images: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Lift the background from black to a grey level; ink stays white."""
    return level + (1 - level) * images


def uneven_light(images: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Lift the background by a ramp from 0 to a grey level, in a direction of its own for each image."""
    angles = 2 * math.pi * torch.rand(len(images), 1, 1, generator=generator)
    places = torch.linspace(-0.5, 0.5, images.shape[-1])
    ramp = angles.cos() * places + angles.sin() * places[:, None]  # within 0.71 of 0
    ramp = (ramp / math.sqrt(0.5) + 1) / 2 * level
    return images + ramp[:, None] * (1 - images)


def occlusion(images: Tensor, side: float, generator: torch.Generator) -> Tensor:
    """Hide a square behind black, its middle among the middle 16 x 16 pixels."""
    middle = 6 + 16 * torch.rand(len(images), 2, generator=generator)
    return torch.where(near(middle, side / 2), 0.0, images)


def stripes(images: Tensor, count: float, generator: torch.Generator) -> Tensor:
    """Draw so many white lines, one pixel wide, across or down."""
    for _ in range(int(count)):
        place = torch.randint(4, 24, (len(images), 1, 1), generator=generator)
        line = torch.arange(images.shape[-1]) == place  # (N, 1, W)
        down = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
        images = torch.where(torch.where(down, line[:, None], line[:, None].transpose(2, 3)), 1.0, images)
    return images


def dots(images: Tensor, count: float, generator: torch.Generator) -> Tensor:
    """Spill so many white dots of 2 x 2 pixels."""
    for _ in range(int(count)):
        middle = torch.randint(1, 27, (len(images), 2), generator=generator) + 0.5
        images = torch.where(near(middle, 1), 1.0, images)
    return images


def near(middle: Tensor, reach: float) -> Tensor:
    """Return whether pixels are nearer to ``middle`` (N, 2), column and row, than ``reach`` in both directions."""
    inside = (torch.arange(28) - middle[:, :, None]).abs() < reach  # (N, 2, 28)
    return (inside[:, 0, None, :] & inside[:, 1, :, None])[:, None]


def affine(images: Tensor, **changes: Tensor) -> Tensor:
    """Resample images by some of the fields of augment.Distortions."""
    nothing = torch.zeros(len(images))
    drawn = {"rotation": nothing, "shift": torch.zeros(len(images), 2), "scale": nothing + 1, "shear": nothing}
    return resample(images, inverse_matrix(Distortions(**(drawn | changes))))


def moved_by(images: Tensor, shift: Tensor) -> Tensor:
    """Move images by ``shift`` (N, 2), pixels right and down."""
    return affine(images, shift=shift)


def signs(count: int, generator: torch.Generator) -> Tensor:
    """Return 1 or -1 for each image."""
    return 2.0 * torch.randint(2, (count,), generator=generator) - 1


def rotation(images: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """Rotate by so many degrees, either way."""
    return affine(images, rotation=degrees * signs(len(images), generator))


def shift(images: Tensor, pixels: float, generator: torch.Generator) -> Tensor:
    """Move by so many pixels, in any direction."""
    angles = 2 * math.pi * torch.rand(len(images), generator=generator)
    return moved_by(images, pixels * torch.stack([angles.cos(), angles.sin()], dim=1))


def shear(images: Tensor, degrees: float, generator: torch.Generator) -> Tensor:
    """Slant by so many degrees, either way."""
    return affine(images, shear=degrees * signs(len(images), generator))


def scale(images: Tensor, factor: float, generator: torch.Generator) -> Tensor:
    """Make half of the images larger by a factor, and half smaller."""
    return affine(images, scale=factor ** signs(len(images), generator))


def elastic(images: Tensor, pixels: float, generator: torch.Generator) -> Tensor:
    """Move each pixel by a smooth random field of so many pixels (root mean square); Simard et al., ICDAR 2003."""
    field = smooth(torch.randn(len(images), 2, 28, 28, generator=generator), deviation=4)
    field = field / field.square().mean((1, 2, 3), keepdim=True).sqrt() * pixels / math.sqrt(2)  # per direction
    still = F.affine_grid(torch.eye(2, 3).expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, still + field.permute(0, 2, 3, 1) * 2 / 28, align_corners=False)


CORRUPTIONS = {
    "Gaussian noise": Corruption((0.1, 0.2, 0.3, 0.4, 0.5), "deviation", gaussian_noise),
    "shot noise": Corruption((40, 20, 10, 5, 3), "photons", shot_noise),
    "salt and pepper": Corruption((0.02, 0.05, 0.1, 0.15, 0.2), "share", impulse_noise),
    "blur": Corruption((0.6, 0.9, 1.2, 1.6, 2.0), "deviation, pixels", blur),
    "motion blur": Corruption((3, 5, 7, 9, 11), "length, pixels", motion_blur),
    "thicker strokes": Corruption((0.25, 0.5, 0.75, 1.0, 1.5), "pixels on either side", thicker),
    "thinner strokes": Corruption((0.25, 0.5, 0.75, 1.0, 1.25), "pixels on either side", thinner),
    "faint ink": Corruption((0.3, 0.5, 0.65, 0.78, 0.88), "share taken away", faint),
    "grey background": Corruption((0.1, 0.2, 0.3, 0.45, 0.6), "grey level", light),
    "uneven light": Corruption((0.2, 0.4, 0.6, 0.8, 1.0), "grey level", uneven_light),
    "hidden square": Corruption((4, 6, 8, 10, 12), "side, pixels", occlusion),
    "stripes": Corruption((1, 2, 3, 4, 5), "lines", stripes),
    "dots": Corruption((4, 8, 14, 20, 28), "dots", dots),
    "rotation": Corruption((10, 20, 30, 40, 50), "degrees", rotation),
    "shift": Corruption((1, 2, 3, 4, 5), "pixels", shift),
    "shear": Corruption((10, 20, 30, 40, 50), "degrees", shear),
    "scale": Corruption((1.1, 1.25, 1.4, 1.55, 1.7), "factor, larger or smaller", scale),
    "elastic": Corruption((0.6, 1.0, 1.4, 1.8, 2.2), "pixels", elastic),
}
