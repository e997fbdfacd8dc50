"""Other ways to distort images: not in the last epochs, with bent strokes, balanced over a batch, or blended in pairs.

Each changes one thing of step 3's engine.
"""

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F
from torch.quasirandom import SobolEngine

from mnist_lab.augment import SEED_LIMIT, Augment, Distortions, Policy, TensorEngine, cut_out, inverse_matrix

CLEAN_EPOCHS = 2  # at the end of a run
KNOTS = 6  # along each side of an image
ALPHA = 0.2  # of mixup


class CleanEnd:
    """An engine that distorts images in the first epochs only, and then shows them as they are. It is an Augment.

    So the weights and the norms' statistics settle on images like those that are scored (He et al., "Data augmentation
    revisited", 2019). Each call of ``draw`` counts as an epoch, and all draw alike: the order of images stays.
    """

    def __init__(self, engine: Augment, distorted_epochs: int):
        self.engine, self.left = engine, distorted_epochs

    def draw(self, images: int, generator: Generator) -> Tensor:
        """Return what the engine draws."""
        self.left -= 1
        return self.engine.draw(images, generator)

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        return self.engine(images, numbers) if self.left >= 0 else images


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
        """Return (images, 8 + 2 KNOTS^2): what the engine draws, and each knot's displacement in [-1, 1]."""
        drawn = super().draw(images, generator)
        return torch.cat([drawn, 2 * torch.rand(images, 2 * KNOTS**2, generator=generator) - 1], dim=1)

    def __call__(self, images: Tensor, numbers: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        rows, columns = spread(height).to(images), spread(width).to(images)  # (H, KNOTS), (W, KNOTS)
        knots = self.elastic * numbers[:, 8:].reshape(-1, 2, KNOTS, KNOTS)  # pixels
        field = (rows @ knots @ columns.T).permute(0, 2, 3, 1)  # (B, H, W, 2)
        grid = F.affine_grid(numbers[:, :6].reshape(-1, 2, 3), list(images.shape), align_corners=False)
        grid = grid + field * (2 / torch.tensor([width, height], device=images.device))  # in halves of an image
        distorted = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return cut_out(distorted, numbers[:, 6:8], self.policy.cutout) if self.policy.cutout else distorted


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
        """Return (images, 8), as the engine does."""
        seed = int(torch.randint(SEED_LIMIT, (), generator=generator))
        places = SobolEngine(7, scramble=True, seed=seed).draw(images, dtype=torch.float64)  # (images, 7) in [0, 1)
        policy = self.policy

        def whole(places: Tensor, low: int, high: int) -> Tensor:
            return low + (places * (high + 1 - low)).floor()

        turns, scales, slants = (2 * places[:, :3] - 1).float().unbind(1)
        draws = Distortions(
            rotation=policy.rotation * turns,
            shift=whole(places[:, 3:5], -policy.shift, policy.shift).float(),
            scale=1 + policy.scale * scales,
            shear=policy.shear * slants,
            corner=whole(places[:, 5:], 0, 28 - policy.cutout).float(),
        )
        return torch.cat([inverse_matrix(draws).flatten(1), draws.corner], dim=1)


class Mixup(TensorEngine):
    """Blends each image of a batch with the one before it (Zhang et al., "mixup", ICLR 2018), after the distortion.

    The paper blends the labels, too: with a share drawn from Beta(a, a), the loss is share * loss(label) + (1 - share)
    * loss(other label). Swapping the two images shows that both terms have the same mean, and weighing Beta(a, a) by
    the share makes it Beta(a + 1, a): if the share is drawn from that and one label is kept, the loss has the same mean
    (Huszár, "mixup: data-dependent data augmentation", 2017). So labels stay as they are here; the gradient is noisier.
    Where several seeds train side by side, the image before may be another seed's.
    """

    def draw(self, images: int, generator: Generator) -> Tensor:
        """Return (images, 9): what the engine draws, and the share of the image itself."""
        drawn = super().draw(images, generator)
        seed = int(torch.randint(SEED_LIMIT, (), generator=generator))  # PyTorch's Beta takes no generator
        shares = np.random.default_rng(seed).beta(ALPHA + 1, ALPHA, (images, 1))
        return torch.cat([drawn, torch.from_numpy(shares).float()], dim=1)

    def __call__(self, images: Tensor, draws: Tensor) -> Tensor:
        distorted, share = super().__call__(images, draws[:, :-1]), draws[:, -1].view(-1, 1, 1, 1)
        return share * distorted + (1 - share) * distorted.roll(1, 0)


DISTORTIONS: dict[str, Callable[[Policy, int], Augment]] = {  # from a policy and the epochs of a run
    "clean end": lambda policy, epochs: CleanEnd(TensorEngine(policy), epochs - CLEAN_EPOCHS),
    "balanced": lambda policy, epochs: BalancedEngine(policy),
    "mixup": lambda policy, epochs: Mixup(policy),
}
