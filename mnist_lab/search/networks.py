"""What else step 3's network could have been: CompactNet with one thing changed, and smaller."""

from collections.abc import Callable

from torch import nn

from mnist_lab.models import BatchNorm, separable_block, spatial_head, stem

SIZES = {"1k": (4, 8, 8, 10), "2k": (6, 12, 16, 18), "4k": (10, 20, 26, 32), "6k": (14, 28, 36, 40)}  # channels


def compact(first: int, second: int, third: int, fourth: int, size: int = 6) -> nn.Sequential:
    """Return CompactNet with other numbers of channels: after the stem, and after each block."""
    return nn.Sequential(
        stem(first),
        separable_block(first, second),
        separable_block(second, third),
        separable_block(third, fourth),
        spatial_head(fourth, size),
    )


def edited(edit: Callable[[nn.Module], nn.Module | None]) -> nn.Sequential:
    """Return CompactNet with every layer put through ``edit``, which may leave it alone by returning None."""
    network = compact(16, 32, 40, 48)
    for block in network:
        for name, layer in list(block.named_children()):
            block[int(name)] = edit(layer) or layer
    return network


def strided_stem(channels: int) -> nn.Sequential:
    """6x6 convolution with stride 2 -> norm -> SiLU: sees what the stem sees, and pools nothing."""
    return nn.Sequential(nn.Conv2d(1, channels, 6, stride=2, bias=False), BatchNorm(channels), nn.SiLU())


def bent_block(c_in: int, c_out: int) -> nn.Sequential:
    """A separable block with norm and SiLU between its halves, too."""
    block = separable_block(c_in, c_out)
    return nn.Sequential(block[0], BatchNorm(c_in), nn.SiLU(), *block[1:])


def full_block(c_in: int, c_out: int) -> nn.Sequential:
    """3x3 convolution -> norm -> SiLU."""
    return nn.Sequential(nn.Conv2d(c_in, c_out, 3, bias=False), BatchNorm(c_out), nn.SiLU())


def with_dropout(share: float) -> nn.Sequential:
    """Return CompactNet with dropout after every block, as the published series have it."""
    network = compact(16, 32, 40, 48)
    for block in list(network)[:-1]:
        block.append(nn.Dropout(share))
    return network


def with_average_head() -> nn.Sequential:
    """Return CompactNet with a mean over places in the place of learned templates, and wider for it."""
    network = compact(16, 36, 48, 60)
    network[-1] = nn.Sequential(nn.AvgPool2d(6), nn.Conv2d(60, 10, 1), nn.Flatten())
    return network


def of_full_blocks() -> nn.Sequential:
    """Return a network of ordinary convolutions, of as many layers and nearly as many parameters as CompactNet."""
    return nn.Sequential(stem(8), full_block(8, 16), full_block(16, 16), full_block(16, 18), spatial_head(18, 6))


NETWORKS: dict[str, Callable[[], nn.Sequential]] = {
    "ReLU": lambda: edited(lambda layer: nn.ReLU() if isinstance(layer, nn.SiLU) else None),
    "LeakyReLU": lambda: edited(lambda layer: nn.LeakyReLU(0.1) if isinstance(layer, nn.SiLU) else None),
    "scaled norms": lambda: edited(
        lambda layer: nn.BatchNorm2d(layer.num_features) if isinstance(layer, BatchNorm) else None
    ),
    "bent blocks": lambda: nn.Sequential(
        stem(16), bent_block(16, 32), bent_block(32, 40), bent_block(40, 48), spatial_head(48, 6)
    ),
    "strided stem": lambda: nn.Sequential(
        strided_stem(24), separable_block(24, 32), separable_block(32, 40), separable_block(40, 44), spatial_head(44, 6)
    ),
    "full convolutions": of_full_blocks,
    "average head": with_average_head,
    "wider": lambda: compact(16, 36, 44, 48),
    "dropout": lambda: with_dropout(0.05),
} | {size: lambda channels=channels: compact(*channels) for size, channels in SIZES.items()}
