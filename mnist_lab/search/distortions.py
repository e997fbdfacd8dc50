"""How else images could be distorted: not to the end, in balance, or mixed with each other.

Each is step 3's engine, of batches as tensors, with one thing changed.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Generator, Tensor
from torch.quasirandom import SobolEngine

from mnist_lab.augment import SEED_LIMIT, Draws, Policy, TensorEngine, compose

CLEAN_EPOCHS = 2  # at the end of a run
ALPHA = 0.2  # of mixup


class CleanEnd(TensorEngine):
    """Distortions that stop: after so many epochs images are shown as they are scored.

    So the network ends on the images that it is for (He et al., "Data augmentation revisited", 2019), and so do the
    statistics of its norms. Counts the epochs that it draws for.
    """

    def __init__(self, policy: Policy, distorted_epochs: int):
        super().__init__(policy)
        self.left = distorted_epochs

    def draw(self, images: int, generator: Generator) -> Tensor:
        """Return (images, 8), as the engine does; the same random numbers are used up in every epoch."""
        policy, self.left = self.policy if self.left > 0 else Policy(), self.left - 1
        return TensorEngine(policy).draw(images, generator)


class BalancedEngine(TensorEngine):
    """Distortions drawn as a Sobol sequence: any run of images, and so a batch, gets them in nearly equal shares.

    Drawn independently, a batch happens to turn more images to the left than to the right. Each image's own draw is as
    random as before (scrambled as by Owen, Journal of Complexity 1998); only the draws of an epoch know of each other.
    """

    def draw(self, images: int, generator: Generator) -> Tensor:
        """Return (images, 8), as the engine does."""
        seed = int(torch.randint(SEED_LIMIT, (), generator=generator))
        places = SobolEngine(7, scramble=True, seed=seed).draw(images, dtype=torch.float64)  # (images, 7) in [0, 1)
        policy = self.policy

        def whole(places: Tensor, low: int, high: int) -> Tensor:
            return low + (places * (high + 1 - low)).floor()

        turns, scales, slants = (2 * places[:, :3] - 1).float().unbind(1)
        draws = Draws(
            rotation=policy.rotation * turns,
            shift=whole(places[:, 3:5], -policy.shift, policy.shift).float(),
            scale=1 + policy.scale * scales,
            shear=policy.shear * slants,
            corner=whole(places[:, 5:], 0, 28 - policy.cutout).float(),
        )
        return torch.cat([compose(draws).flatten(1), draws.corner], dim=1)


class Mixup(TensorEngine):
    """Each image of a batch blended with the one before it (Zhang et al., "mixup", ICLR 2018), after the distortion.

    They blend the labels, too: with a share drawn from Beta(a, a), the loss is share * loss(label) + (1 - share) *
    loss(other label). Swapping the two images shows that both terms have the same mean, and weighing Beta(a, a) by
    the share makes it Beta(a + 1, a): with the share drawn from that and one label kept, the loss has the same mean
    (Huszár, "mixup: data-dependent data augmentation", 2017). So no label changes here, at the price of a noisier
    gradient. In a stack, the image before may be another seed's: just as random, but not what a seed alone would get.
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


DISTORTIONS: dict[str, Callable[[Policy, int], TensorEngine]] = {  # of a policy and a number of epochs
    "clean end": lambda policy, epochs: CleanEnd(policy, epochs - CLEAN_EPOCHS),
    "balanced": lambda policy, epochs: BalancedEngine(policy),
    "mixup": lambda policy, epochs: Mixup(policy),
}
