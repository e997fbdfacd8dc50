"""Other ways to distort images: with bent strokes, balanced over a batch, with a black square, or blended in pairs.

Each changes one thing of step 3's engine.
"""

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from torch.quasirandom import SobolEngine

from mnist_lab.augment import SEED_LIMIT, Augment, Distortions, Policy, TensorEngine, inverse_matrix

KNOTS = 6  # along each side of an image
SIDE = 6  # of cutout's square, pixels
ALPHA = 0.2  # of mixup


class ElasticEngine(TensorEngine):
    """The engine with strokes bent at random as well (Simard, Steinkraus and Platt, ICDAR 2003), in one resampling.

    A grid of KNOTS x KNOTS knots lies over the image. Each knot is displaced by up to ``elastic`` pixels along both
    axes, and bicubic interpolation carries the displacements to the pixels between them: a smooth field, as Simard's
    Gaussian filter makes one, from fewer random numbers.
    """

    def __init__(self, policy: Policy, elastic: float):
        super().__init__(policy)
        self.elastic = elastic

    def draw(self, images: int, generator: Generator) -> Tensor:
        """Return (images, 6 + 2 KNOTS^2): what the engine draws, and each knot's displacement in [-1, 1]."""
        drawn = super().draw(images, generator)
        return torch.cat([drawn, 2 * torch.rand(images, 2 * KNOTS**2, generator=generator) - 1], dim=1)

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        rows, columns = spread(height).to(images), spread(width).to(images)  # (H, KNOTS), (W, KNOTS)
        knots = self.elastic * numbers[:, 6:].reshape(-1, 2, KNOTS, KNOTS)  # pixels
        field = (rows @ knots @ columns.T).permute(0, 2, 3, 1)  # (B, H, W, 2)
        grid = F.affine_grid(numbers[:, :6].reshape(-1, 2, 3), list(images.shape), align_corners=False)
        grid = grid + field * (2 / torch.tensor([width, height], device=images.device))  # in halves of an image
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


@functools.cache
def spread(size: int) -> Tensor:
    """Return how much each of KNOTS knots along a side counts for each of ``size`` pixels (size, KNOTS)."""
    return F.interpolate(torch.eye(KNOTS)[None, None], (size, KNOTS), mode="bicubic", align_corners=True)[0, 0]


class BalancedEngine(TensorEngine):
    """Distortions from a Sobol sequence: in any batch, each part of the range is drawn about equally often.

    Independent draws turn more images of a batch to the left than to the right, or the reverse. Taken by itself, each
    image's draw is as random as before (the sequence is scrambled: Owen, Journal of Complexity 1998); only the draws of
    an epoch depend on each other.
    """

    def draw(self, images: int, generator: Generator) -> Tensor:
        """Return (images, 6), as the engine does."""
        seed = int(torch.randint(SEED_LIMIT, (), generator=generator))
        places = SobolEngine(5, scramble=True, seed=seed).draw(images, dtype=torch.float64)  # (images, 5) in [0, 1)
        policy = self.policy
        turns, scales, slants = (2 * places[:, :3] - 1).float().unbind(1)
        draws = Distortions(
            rotation=policy.rotation * turns,
            shift=((places[:, 3:] * (2 * policy.shift + 1)).floor() - policy.shift).float(),  # whole pixels
            scale=1 + policy.scale * scales,
            shear=policy.shear * slants,
        )
        return inverse_matrix(draws).flatten(1)


class CutOut(TensorEngine):
    """Sets a square of SIDE x SIDE pixels anywhere in the distorted image to black (DeVries and Taylor, 2017)."""

    def draw(self, images: int, generator: Generator) -> Tensor:
        """Return (images, 8): what the engine draws, and the column and row of the square's first pixel."""
        drawn = super().draw(images, generator)
        return torch.cat([drawn, torch.randint(0, 28 - SIDE + 1, (images, 2), generator=generator)], dim=1)

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        distorted, places = super().__call__(images, numbers[:, :6]), torch.arange(28, device=images.device)
        column, row = numbers[:, 6:7], numbers[:, 7:]  # (B, 1)
        across = (column <= places) & (places < column + SIDE)  # (B, W)
        down = (row <= places) & (places < row + SIDE)  # (B, H)
        return distorted.masked_fill((down[:, :, None] & across[:, None, :]).unsqueeze(1), 0.0)


class Mixup(TensorEngine):
    """Blends each image of a batch with the one before it (Zhang et al., "mixup", ICLR 2018), after the distortion.

    The paper blends the labels, too: with a share drawn from Beta(a, a), the loss is share * loss(label) + (1 - share)
    * loss(other label). Swapping the two images shows that both terms have the same mean, and weighing Beta(a, a) by
    the share makes it Beta(a + 1, a): if the share is drawn from that and one label is kept, the loss has the same mean
    (Huszár, "mixup: data-dependent data augmentation", 2017). So labels stay as they are here; the gradient is noisier.
    Where several seeds train side by side, the image before may be another seed's.
    """

    def draw(self, images: int, generator: Generator) -> Tensor:
        """Return (images, 7): what the engine draws, and the share of the image itself."""
        drawn = super().draw(images, generator)
        seed = int(torch.randint(SEED_LIMIT, (), generator=generator))  # PyTorch's Beta takes no generator
        shares = np.random.default_rng(seed).beta(ALPHA + 1, ALPHA, (images, 1))
        return torch.cat([drawn, torch.from_numpy(shares).float()], dim=1)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        distorted, share = super().__call__(images, draws[:, :-1]), draws[:, -1].view(-1, 1, 1, 1)
        return share * distorted + (1 - share) * distorted.roll(1, 0)


DISTORTIONS: dict[str, Callable[[Policy], Augment]] = {"balanced": BalancedEngine, "cutout": CutOut, "mixup": Mixup}
