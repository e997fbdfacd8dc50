"""Many networks of one architecture as a single network, so that a GPU trains many seeds at once.

A convolution of the stack is grouped: group i holds the filters of network i and sees its channels only. Every other
layer works channel by channel anyway. Nothing is shared, so each network learns what it would learn alone. Dropout
alone draws for the stack as a whole: each network gets masks of its own, just as random, but not those that its seed
would draw alone.
"""

import copy
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from mnist_lab.batches import ShuffledBatches
from mnist_lab.models import leaves

CHANNELWISE = (nn.ReLU, nn.LeakyReLU, nn.SiLU, nn.Dropout, nn.MaxPool2d, nn.AvgPool2d)


class Unstack(nn.Module):
    """Flatten the last 1 x 1 units: (B, N * classes, 1, 1) -> (B, N, classes)."""

    def __init__(self, networks: int):
        super().__init__()
        self.networks = networks

    def forward(self, units: Tensor) -> Tensor:
        return units.view(len(units), self.networks, -1)


def stack(networks: Sequence[nn.Sequential]) -> nn.Sequential:
    """Return one network that maps (B, N, 28, 28) to logits (B, N, classes), network i working on channel i.

    It starts from copies of the networks' weights. Raises ValueError for a layer that cannot be stacked.
    """
    return nn.Sequential(*[join(layers) for layers in zip(*map(leaves, networks), strict=True)])


def join(layers: Sequence[nn.Module]) -> nn.Module:
    """Return the layers of N networks as one layer."""
    joined, count = copy.deepcopy(layers[0]), len(layers)
    if isinstance(joined, nn.Flatten):
        return Unstack(count)
    if isinstance(joined, nn.Conv2d):
        joined.in_channels, joined.out_channels = count * joined.in_channels, count * joined.out_channels
        joined.groups *= count
    elif isinstance(joined, nn.BatchNorm2d):
        joined.num_features *= count
    elif not isinstance(joined, CHANNELWISE):
        raise ValueError(f"{joined} cannot be stacked")
    for name, tensor in weights(joined):
        tensor.data = torch.cat([getattr(layer, name).detach() for layer in layers])
    return joined


def unstack(stacked: nn.Sequential, networks: Sequence[nn.Sequential]) -> list[nn.Sequential]:
    """Return copies of ``networks`` that share the weights and statistics of ``stacked``, their stack.

    They are windows on it: however it goes on training, each scores as its part of the stack does.
    """
    windows = [copy.deepcopy(network) for network in networks]
    for whole, *parts in zip(leaves(stacked), *map(leaves, windows), strict=True):
        for name, tensor in weights(whole):
            for layer, part in zip(parts, tensor.detach().chunk(len(parts)), strict=True):
                getattr(layer, name).data = part
    return windows


def weights(layer: nn.Module) -> list[tuple[str, Tensor]]:
    """Return the parameters and statistics of a layer by name; not the norm's counter of batches."""
    named = [*layer.named_parameters(), *layer.named_buffers()]
    return [(name, tensor) for name, tensor in named if tensor.is_floating_point()]


class StackedBatches:
    """The batches of N seeds side by side: images (B, N, 28, 28) and labels (B, N), those of each seed in its order."""

    def __init__(self, seeds: Sequence[ShuffledBatches]):
        self.seeds = seeds

    def __len__(self) -> int:
        return len(self.seeds[0])

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        first, count = self.seeds[0], len(self.seeds)
        orders, draws = zip(*[batches.draw_epoch() for batches in self.seeds], strict=True)
        order = torch.stack(orders, dim=1)  # (images, N)
        drawn = None if draws[0] is None else torch.stack(draws, dim=1)
        for start in range(0, len(order), first.size):
            batch = slice(start, start + first.size)
            flat = None if drawn is None else drawn[batch].flatten(0, 1)
            images, labels = first.cut(order[batch].flatten(), flat)
            yield images.view(-1, count, 28, 28), labels.view(-1, count)
