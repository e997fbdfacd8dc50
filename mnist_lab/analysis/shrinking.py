"""What makes a network smaller: fewer bits, fewer weights, templates of low rank; and what the result costs.

Integers are simulated in floating point, which rounds as they do. Bytes are those of the deployed network: norms
folded, every weight with what it takes to read it back. Multiply-accumulates leave out those with a pruned weight, as
only hardware that skips zeros would; weights that are rounded to 0 count.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mnist_lab.data import Split
from mnist_lab.fields.trace import trace
from mnist_lab.models import leaves
from mnist_lab.recipe import AnyRecipe

CALIBRATION_IMAGES = 1000  # of training: they tell the range of what each layer is given
ACTIVATION_BITS = 8


@dataclass(frozen=True)
class Way:
    """One way to make a network smaller."""

    family: str  # "none", "bits", "zeros" or "rank"
    amount: float  # bits of a weight, share of weights that stay, rank of the templates
    tuned: bool

    @property
    def name(self) -> str:
        """Say it in words."""
        what = {
            "none": "32 bits",
            "bits": f"{self.amount:g} bits",
            "zeros": f"{self.amount:.0%} of the weights",
            "rank": f"templates of rank {self.amount:g}",
        }[self.family]
        return f"{what}, trained so" if self.tuned else what


def squeeze(way: Way, model: nn.Sequential, recipe: AnyRecipe, train: Split, progress: float) -> None:
    """Shrink a network between two epochs of its training; ``progress``, in (0, 1], is how far the shrinking has come.

    Most weights go in the first step, ever fewer later (Zhu and Gupta, 2017, equation 1); bits and rank go at once.
    """
    if way.family == "zeros":
        prune(model, way.amount + (1 - way.amount) * (1 - progress) ** 3)
    elif way.family == "rank":
        reduce_rank(model, int(way.amount))
    elif not parametrize.is_parametrized(convolutions(model)[0]):
        quantise(model, int(way.amount), ranges_of(recipe, model, train))


def shrink(way: Way, model: nn.Sequential) -> nn.Sequential:
    """Return a trained network made smaller at once; bits come after norms are folded."""
    model = copy.deepcopy(model)
    if way.family == "zeros":
        prune(model, way.amount)
    elif way.family == "rank":
        reduce_rank(model, int(way.amount))
    return model


def convolutions(model: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions of a network, in the order an image meets them: they hold nearly all weights."""
    return [layer for layer in leaves(model) if isinstance(layer, nn.Conv2d)]


@torch.no_grad()
def prune(model: nn.Sequential, share: float) -> None:
    """Set the weights of all convolutions that matter least to 0, so that this ``share`` of all is left."""
    weights = [layer.weight for layer in convolutions(model)]
    scores = [importance(weight) for weight in weights]
    every = torch.cat([score.flatten() for score in scores])
    gone = len(every) - round(share * len(every))
    threshold = every.kthvalue(gone).values if gone else -1
    for weight, score in zip(weights, scores, strict=True):
        weight[score <= threshold] = 0


def importance(weight: Tensor) -> Tensor:
    """Return how much each weight of a layer matters: its square, as a share of those that are no smaller.

    Lee et al., "Layer-adaptive sparsity for the magnitude-based pruning", ICLR 2021. A norm follows the layer, so its
    weights may be of any size: sizes alone would empty whole layers.
    """
    squares, order = weight.flatten().square().sort()
    shares = squares / squares.flip(0).cumsum(0).flip(0).clamp(min=1e-30)
    return torch.empty_like(shares).scatter(0, order, shares).view_as(weight)


@torch.no_grad()
def copy_zeros(model: nn.Sequential, to: nn.Sequential) -> None:
    """Set what is 0 in the convolutions of ``model`` to 0 in another network of the same shape."""
    for layer, other in zip(convolutions(model), convolutions(to), strict=True):
        other.weight *= layer.weight != 0


@torch.no_grad()
def reduce_rank(model: nn.Sequential, rank: int) -> None:
    """Replace the templates of all channels by the nearest ones that are mixtures of ``rank`` templates (by SVD)."""
    weight = templates(model).weight
    left, values, right = torch.linalg.svd(weight.flatten(1), full_matrices=False)
    weight.copy_((left[:, :rank] * values[:rank] @ right[:rank]).view_as(weight))


def templates(model: nn.Sequential) -> nn.Conv2d:
    """Return the layer that weighs each place of each channel: the depthwise convolution that ends the maps."""
    rows = [row for row in trace(model) if row.size_in > 1 and row.size_out == 1 and row.groups == row.channels_in > 1]
    if not rows:
        raise ValueError(f"{type(model).__name__} has no templates: no depthwise convolution ends its maps")
    return leaves(model)[rows[-1].position]


class Rounded(nn.Module):
    """Weights (C, ...) rounded to so many bits, with a scale for each channel; the gradient passes as if they were not.

    Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR
    2018; gradients straight through, as Bengio, Léonard and Courville (2013) propose.
    """

    def __init__(self, bits: int):
        super().__init__()
        self.largest = 2 ** (bits - 1) - 1

    def forward(self, weight: Tensor) -> Tensor:
        scale = weight.detach().flatten(1).abs().amax(1).clamp(min=1e-12).view(-1, 1, 1, 1) / self.largest
        return weight + ((weight / scale).round() * scale - weight).detach()


def quantise(model: nn.Sequential, bits: int, ranges: list[tuple[float, float]]) -> None:
    """Round the weights of every convolution to ``bits`` and what it is given to 8 bits, from now on."""
    for layer, (low, high) in zip(convolutions(model), ranges, strict=True):
        parametrize.register_parametrization(layer, "weight", Rounded(bits))
        layer.register_forward_pre_hook(partial(round_input, low=low, high=high))


def round_input(layer: nn.Module, inputs: tuple[Tensor], low: float, high: float) -> tuple[Tensor]:
    """Round what a layer is given to 8 bits between ``low`` and ``high``, of which 0 is one value exactly."""
    steps = 2**ACTIVATION_BITS - 1
    scale = (high - low) / steps
    zero = round(-low / scale)
    (given,) = inputs
    rounded = (((given.detach() / scale).round() + zero).clamp(0, steps) - zero) * scale
    return (given + (rounded - given.detach()),)


@torch.no_grad()
def ranges_of(recipe: AnyRecipe, model: nn.Sequential, train: Split) -> list[tuple[float, float]]:
    """Return the lowest and highest value that each convolution is given for some training images; 0 is inside."""
    found: dict[int, tuple[float, float]] = {}

    def note(place: int, layer: nn.Module, inputs: tuple[Tensor]) -> None:
        low, high = (min(0.0, float(inputs[0].min())), max(1e-6, float(inputs[0].max())))
        before = found.get(place, (0.0, 0.0))
        found[place] = (min(low, before[0]), max(high, before[1]))

    training = model.training
    hooks = [layer.register_forward_pre_hook(partial(note, place)) for place, layer in enumerate(convolutions(model))]
    model.eval()
    for images, _ in recipe.scored(train.first(CALIBRATION_IMAGES)):
        model(images)
    model.train(training)
    for hook in hooks:
        hook.remove()
    return [found[place] for place in range(len(hooks))]


def loosened(model: nn.Sequential) -> nn.Sequential:
    """Return a copy of a network without the rounding of :func:`quantise`: its weights as they were trained."""
    model = copy.deepcopy(model)
    for layer in convolutions(model):
        layer._forward_pre_hooks.clear()
        if parametrize.is_parametrized(layer):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    return model


def cost(way: Way, deployed: nn.Sequential) -> tuple[int, int]:
    """Return bytes and multiply-accumulates of a deployed network, whose norms are folded.

    Integers: the weights' bits, for each channel a bias of 32 bits and a scale of 32 bits, for each layer a scale and
    a zero of what it is given (5 bytes). Zeros: a bit for each weight says whether it is there. Rank: two factors.
    """
    layers = convolutions(deployed)
    weights = sum(layer.weight.numel() for layer in layers)
    biases = sum(layer.bias.numel() for layer in layers if layer.bias is not None)
    alive = [int((layer.weight != 0).sum()) for layer in layers]
    counts: dict[str, Callable[[], float]] = {
        "none": lambda: 4 * (weights + biases),
        "bits": lambda: 2 * (weights + biases) if way.amount == 16 else (
            way.amount * weights / 8 + 4 * biases + 4 * sum(layer.out_channels for layer in layers) + 5 * len(layers)
        ),
        "zeros": lambda: weights / 8 + 4 * (sum(alive) + biases),
        "rank": lambda: 4 * (weights + biases - saved(templates(deployed), int(way.amount))),
    }  # fmt: skip
    places = [row.size_out**2 for row in trace(deployed) if row.kind == "Conv2d"]
    return round(counts[way.family]()), sum(one * size for one, size in zip(alive, places, strict=True))


def saved(layer: nn.Conv2d, rank: int) -> int:
    """Return the weights that two factors of a ``rank`` save of a layer's templates."""
    rows, columns = layer.weight.flatten(1).shape
    return max(0, rows * columns - rank * (rows + columns))
