"""Many networks of one architecture as a single network, the stack, so that a GPU trains many seeds at once.

A convolution of the stack is grouped: group i holds the filters of network i and sees only its channels. Every other
layer works channel by channel anyway. The networks share nothing, so each learns what it would learn alone. Only
dropout draws its masks for the whole stack: those of a network are just as random as the ones that its seed would draw
alone, but they are others.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mnist_lab.batches import ShuffledBatches
from mnist_lab.models import leaves
from mnist_lab.training import LossFunction, WeightAverage

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

    It holds copies of the networks' weights. Raises ValueError for a layer that cannot be stacked.
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
    """Return copies of ``networks`` that share the weights and norm statistics of ``stacked``, their stack.

    They are windows on the stack: while it goes on training, each computes what its part of the stack computes.
    """
    windows = [copy.deepcopy(network) for network in networks]
    for whole, *parts in zip(leaves(stacked), *map(leaves, windows), strict=True):
        for name, tensor in weights(whole):
            for layer, part in zip(parts, tensor.detach().chunk(len(parts)), strict=True):
                getattr(layer, name).data = part
    return windows


def weights(layer: nn.Module) -> list[tuple[str, Tensor]]:
    """Return a layer's parameters and buffers by name, all but the norm's counter of batches."""
    named = [*layer.named_parameters(), *layer.named_buffers()]
    return [(name, tensor) for name, tensor in named if tensor.is_floating_point()]


class StackedBatches:
    """The batches of N seeds side by side: images (B, N, 28, 28) and labels (B, N), in each seed's own order."""

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


@dataclass
class Update:
    """One update of a stack by one batch, of all its networks at once."""

    model: nn.Sequential  # the stack
    optimizer: Optimizer
    average: WeightAverage | None
    loss_function: LossFunction  # for the logits and labels of one network
    precision: torch.dtype = torch.float32  # of the forward and backward pass, wherever a lower one is safe

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Update by images (B, N, 28, 28) and labels (B, N).

        Returns each network's mean loss (N,), and how many images it read right (N,).
        """
        with torch.autocast(images.device.type, self.precision, enabled=self.precision != torch.float32):
            logits = self.model(images)
        logits = logits.float()
        # Networks share no weight, so the sum of their losses gives each its own gradient. A sum of N means is N times
        # the mean over everything. The backward pass of vmap would scatter, which copies from the CPU where it has to
        # be deterministic, and no CUDA graph allows that.
        loss = labels.shape[1] * self.loss_function(logits.flatten(0, 1), labels.flatten())
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if self.average is not None:
            self.average.update()
        with torch.no_grad():
            losses = torch.vmap(self.loss_function, in_dims=1)(logits, labels)
            return losses, (logits.argmax(2) == labels).sum(0)
