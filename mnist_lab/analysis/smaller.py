"""Step 3 made smaller: fewer bits, fewer weights, templates of low rank; after training, or while it trains.

What happens while it trains happens in the last third of the epochs, and costs none beside them. Integers are
simulated in floating point, which rounds as they do. Bytes are those of the deployed network: norms folded, every
weight with what it takes to read it back. Multiply-accumulates leave out those with a weight of 0, as only hardware
that skips them would.
"""

import copy
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mnist_lab.analysis.networks import Training, load
from mnist_lab.data import Dataset, Split
from mnist_lab.evidence.records import Record
from mnist_lab.experiment import Parts, assemble, load_data
from mnist_lab.fields.trace import trace
from mnist_lab.models import fold_batch_norm, leaves
from mnist_lab.recipe import AnyRecipe
from mnist_lab.runtime import write_whole
from mnist_lab.speed.compiled import compiled
from mnist_lab.training import evaluate, train_one_epoch

FILE = "smaller.json"
CALIBRATION_IMAGES = 1000  # of training: they tell the range of what each layer is given
ACTIVATION_BITS = 8


class Smaller(BaseModel):
    """One network that was made smaller, and what it reads."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    trained: str  # what it was made from, or as: see networks.Training
    way: str  # of making it smaller, in words
    family: str
    tuned: bool  # whether it trained on while it was made smaller
    seed: int
    images: int
    correct: int
    loss: float  # nats
    bytes: int
    multiply_accumulates: int  # for one image


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


WAYS = [
    Way("none", 32, tuned=False),
    *(Way("bits", bits, tuned=False) for bits in (16, 8, 6, 4)),
    *(Way("bits", bits, tuned=True) for bits in (8, 4)),
    *(Way("zeros", share, tuned=False) for share in (0.7, 0.5)),
    *(Way("zeros", share, tuned=True) for share in (0.5, 0.3, 0.2, 0.1)),
    *(Way("rank", rank, tuned=False) for rank in (16, 8)),
    *(Way("rank", rank, tuned=True) for rank in (8, 4)),
]


@dataclass(frozen=True)
class Mean:
    """What one way costs and misreads, means over seeds."""

    kilobytes: float
    errors: float  # images


def mean_of(found: Iterable[Smaller], way: str) -> Mean | None:
    """Return the mean over the seeds of a way by its name; None if there are none."""
    own = [one for one in found if one.way == way]
    if not own:
        return None
    return Mean(fmean(one.bytes for one in own) / 1000, fmean(one.images - one.correct for one in own))


@dataclass(frozen=True)
class Narrow:
    """A network that had fewer channels from the start, at 32 bits."""

    bytes: int
    multiply_accumulates: int
    accuracies: list[float]  # of its seeds, in [0, 1]


def narrow_networks(records: Iterable[Record]) -> list[Narrow]:
    """Return the networks of the frontier that trained for as many epochs as any, the smallest first."""
    records = [one for one in records if one.device_type == "cpu"]
    longest = max((one.recipe["epochs"] for one in records), default=0)
    found: dict[tuple[int, int], list[float]] = {}
    for one in records:
        if one.recipe["epochs"] == longest:
            found.setdefault((4 * one.model.deployed, one.model.multiply_accumulates), []).append(one.accuracy)
    return [Narrow(*costs, accuracies) for costs, accuracies in sorted(found.items())]


def make(way: Way, training: Training, folder: Path) -> dict:
    """Make a network smaller, and score it; return a :class:`Smaller` as plain values.

    A network that trains on while it shrinks goes on from :func:`keep_beginning`; any other one is taken from
    ``folder``.
    """
    data = load_data(training.settings)
    if way.tuned:
        begun = torch.load(folder / keep_beginning(training, folder), weights_only=True)
        model = train_shrinking(way, training, data, begun)
    else:
        model = shrink(way, load(training, folder))
    deployed = fold_batch_norm(model)
    size, work = cost(way, deployed)
    if way.family == "bits" and way.amount <= 8:
        quantise(deployed, int(way.amount), ranges_of(training.recipe, deployed, data.train))
    found = evaluate(deployed, training.recipe.scored(data.test))
    return {
        "trained": training.trained,
        "way": way.name,
        "family": way.family,
        "tuned": way.tuned,
        "seed": training.seed,
        "images": len(data.test),
        "correct": round(found.accuracy * len(data.test)),
        "loss": round(found.loss, 6),
        "bytes": size,
        "multiply_accumulates": work,
    }


def keep_beginning(training: Training, folder: Path) -> str:
    """Train for the epochs before the shrinking, which all ways share, unless ``folder`` has that; return its file."""
    path = folder / training.place.with_suffix(".begun")
    if not path.is_file():
        content = io.BytesIO()
        torch.save(begin(training, load_data(training.settings)), content)
        write_whole(path, content.getvalue())
    return path.relative_to(folder).as_posix()


def epochs_before(recipe: AnyRecipe) -> int:
    """Return after how many epochs the shrinking begins."""
    return recipe.epochs - max(1, recipe.epochs // 3)


def begin(training: Training, data: Dataset) -> dict:
    """Train for the epochs before the shrinking, and return the states of all that learns."""
    parts = assemble(training.recipe, data, training.settings, compiled)
    for _ in range(epochs_before(training.recipe)):
        learn(parts, training.recipe)
    return {name: part.state_dict() for name, part in learning(parts).items()}


def go_on(parts: Parts, begun: Mapping[str, dict], epochs: int) -> None:
    """Bring a new run to where another one had ``begun``, after so many ``epochs``."""
    for name, part in learning(parts).items():
        part.load_state_dict(begun[name])
    if parts.average is not None:
        parts.average.updates.fill_(epochs * len(parts.batches))
    for _ in range(epochs):
        parts.batches.draw_epoch()


def learning(parts: Parts) -> dict[str, nn.Module | Optimizer | LRScheduler]:
    """Return what changes while a run learns, by name; besides, an average and batches count."""
    average = None if parts.average is None else parts.average.model
    every = {"model": parts.model, "average": average, "optimizer": parts.optimizer, "scheduler": parts.scheduler}
    return {name: part for name, part in every.items() if part is not None}


def learn(parts: Parts, recipe: AnyRecipe) -> None:
    """Train for an epoch."""
    train_one_epoch(parts.model, parts.batches, parts.optimizer, parts.scheduler, parts.average, recipe.loss)


def train_shrinking(way: Way, training: Training, data: Dataset, begun: Mapping[str, dict]) -> nn.Sequential:
    """Train on from where a run has ``begun``, ever smaller, and return the network that is to be deployed."""
    recipe = training.recipe
    parts = assemble(recipe, data, training.settings, compiled)
    start = epochs_before(recipe)
    go_on(parts, begun, start)
    for epoch in range(start, recipe.epochs):
        if epoch:
            squeeze(way, parts.model, recipe, data.train, progress=(epoch - start + 1) / (recipe.epochs - start))
        learn(parts, recipe)
    scored = parts.model if parts.average is None else parts.average.model
    if way.family == "bits":
        scored = loosened(scored)
    if way.family == "zeros":
        copy_zeros(parts.model, scored)
    recipe.before_scoring(scored, data.train)
    return shrink(way, scored.eval()) if way.family == "rank" else scored.eval()


def squeeze(way: Way, model: nn.Sequential, recipe: AnyRecipe, train: Split, progress: float) -> None:
    """Make a network that trains on smaller; ``progress``, in (0, 1], is how far the shrinking has come.

    Most weights go in the first step, ever fewer later (Zhu and Gupta, 2017, equation 1); bits and rank go at once.
    """
    if way.family == "zeros":
        share = way.amount + (1 - way.amount) * (1 - progress) ** 3
        weights = [(layer, "weight") for layer in convolutions(model)]
        dead = sum(int((layer.weight == 0).sum()) for layer, _ in weights)
        total = sum(layer.weight.numel() for layer, _ in weights)
        more = round((1 - share) * total) - dead
        if more > 0:
            prune.global_unstructured(weights, prune.L1Unstructured, amount=more)
    elif way.family == "rank":
        reduce_rank(model, int(way.amount))
    elif not parametrize.is_parametrized(convolutions(model)[0]):
        quantise(model, int(way.amount), ranges_of(recipe, model, train))


def shrink(way: Way, model: nn.Sequential) -> nn.Sequential:
    """Return a trained network made smaller at once; bits of 8 and fewer come after norms are folded."""
    model = copy.deepcopy(model)
    if way.family == "bits" and way.amount == 16:
        model = model.half().float()
    elif way.family == "zeros":
        weights = [(layer, "weight") for layer in convolutions(model)]
        prune.global_unstructured(weights, prune.L1Unstructured, amount=1 - way.amount)
        copy_zeros(model, model)
    elif way.family == "rank":
        reduce_rank(model, int(way.amount))
    return model


def convolutions(model: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions of a network, in the order an image meets them: they hold nearly all weights."""
    return [layer for layer in leaves(model) if isinstance(layer, nn.Conv2d)]


def copy_zeros(model: nn.Sequential, to: nn.Sequential) -> None:
    """Set what is pruned in ``model`` to 0 in another network of the same shape, for good."""
    for layer, other in zip(convolutions(model), convolutions(to), strict=True):
        mask = getattr(layer, "weight_mask", torch.ones(()))
        if prune.is_pruned(other):
            prune.remove(other, "weight")
        with torch.no_grad():
            other.weight *= mask


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
