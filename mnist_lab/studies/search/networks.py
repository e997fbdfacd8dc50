"""Other networks for step 3: CompactNet with one thing changed, and smaller ones."""

from collections.abc import Callable
from itertools import pairwise

from torch import nn

from mnist_lab.models import BatchNorm, separable_block, spatial_head, stem

CHANNELS = (16, 32, 40, 48)  # of CompactNet: after the stem, and after each block
SIZES = {"1k": (4, 8, 8, 10), "2k": (6, 12, 16, 18), "4k": (10, 20, 26, 32), "6k": (14, 28, 36, 40)}


def compact(
    *channels: int,
    first: Callable[[int], nn.Sequential] = stem,
    block: Callable[[int, int], nn.Sequential] = separable_block,
) -> nn.Sequential:
    """Return CompactNet with other numbers of ``channels`` (see CHANNELS), another stem or other blocks."""
    blocks = (block(c_in, c_out) for c_in, c_out in pairwise(channels))  # drawn after the stem, as CompactNet's
    return nn.Sequential(first(channels[0]), *blocks, spatial_head(channels[-1], size=6))


def edited(kind: type[nn.Module], edit: Callable[[nn.Module], nn.Module]) -> nn.Sequential:
    """Return CompactNet with every layer of a ``kind`` put through ``edit``."""
    network = compact(*CHANNELS)
    for block in network:
        for place, layer in enumerate(block):
            if isinstance(layer, kind):
                block[place] = edit(layer)
    return network


def strided_stem(channels: int) -> nn.Sequential:
    """6x6 convolution with stride 2 -> norm -> SiLU: it sees what the stem sees, and does not pool."""
    return nn.Sequential(nn.Conv2d(1, channels, 6, stride=2, bias=False), BatchNorm(channels), nn.SiLU())


def bent_block(c_in: int, c_out: int) -> nn.Sequential:
    """A separable block with norm and SiLU between its two convolutions, too."""
    block = separable_block(c_in, c_out)
    return nn.Sequential(block[0], BatchNorm(c_in), nn.SiLU(), *block[1:])


def full_block(c_in: int, c_out: int) -> nn.Sequential:
    """3x3 convolution -> norm -> SiLU."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, bias=False), BatchNorm(c_out), nn.SiLU())


def with_dropout(share: float) -> nn.Sequential:
    """Return CompactNet with dropout after every block, as the published series have it."""
    network = compact(*CHANNELS)
    for block in network[:-1]:
        block.append(nn.Dropout(share))
    return network


def with_average_head() -> nn.Sequential:
    """Return CompactNet with average pooling instead of learned templates, and more channels for the weights saved."""
    network = compact(16, 36, 48, 60)
    network[-1] = nn.Sequential(nn.AvgPool2d(6), nn.Conv2d(60, 10, 1), nn.Flatten())
    return network


NETWORKS: dict[str, Callable[[], nn.Sequential]] = {
    "ReLU": lambda: edited(nn.SiLU, lambda layer: nn.ReLU()),
    "LeakyReLU": lambda: edited(nn.SiLU, lambda layer: nn.LeakyReLU(0.1)),
    "scaled norms": lambda: edited(BatchNorm, lambda layer: nn.BatchNorm2d(layer.num_features)),
    "bent blocks": lambda: compact(*CHANNELS, block=bent_block),
    "strided stem": lambda: compact(24, 32, 40, 44, first=strided_stem),
    "full convolutions": lambda: compact(8, 16, 16, 18, block=full_block),
    "average head": with_average_head,
    "wider": lambda: compact(16, 36, 44, 48),
    "dropout": lambda: with_dropout(0.05),
} | {size: lambda channels=channels: compact(*channels) for size, channels in SIZES.items()}
