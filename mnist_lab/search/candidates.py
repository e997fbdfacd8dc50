"""What else step 3 could have been: its recipe with one thing changed, and with fewer parameters or epochs.

The ideas are those of the literature and of the published series. Most do not help a network this small, which is
worth as much to know. A change that has a best value of its own (a rate for another optimizer or batch size) has the
usual one: nothing here is tuned but step 3 itself, which favours it.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from mnist_lab.models import BatchNorm, separable_block, spatial_head, stem
from mnist_lab.recipe import Recipe

SIZES = {"1k": (4, 8, 8, 10), "2k": (6, 12, 16, 18), "4k": (10, 20, 26, 32), "6k": (14, 28, 36, 40)}  # channels
EPOCHS = (3, 5, 8)  # the step itself has 15
FAMILIES = ("step 3", "images", "labels", "rate", "average", "batch", "optimizer", "network", "frontier")


@dataclass(frozen=True)
class Candidate(Recipe):
    """Our own recipe, and what no step has use for."""

    family: str  # what kind of change it is
    name: str  # what its records are called
    change: str  # in words
    network_name: str = ""  # in NETWORKS; empty for the recipe's own model
    method: str = "Adam"  # or "AdamW" or "SGD"
    smoothing: float = 0.0  # of the labels, while training

    @property
    def title(self) -> str:
        """Say what is tried."""
        return self.change

    @property
    def row(self) -> str:
        """What its rows and records are called."""
        return self.name

    def network(self) -> nn.Sequential:
        """Return a new network, with the weights that it starts from."""
        return NETWORKS[self.network_name]() if self.network_name else super().network()

    def optimizer(self, parameters: Iterable[nn.Parameter], device: torch.device) -> Optimizer:
        """Return the optimizer for ``parameters`` on ``device``; it lets filters decay, and no biases."""
        if self.method == "Adam":
            return super().optimizer(parameters, device)
        parameters = list(parameters)
        groups = [
            {"params": [parameter for parameter in parameters if parameter.dim() > 1]},
            {"params": [parameter for parameter in parameters if parameter.dim() <= 1], "weight_decay": 0.0},
        ]
        on_cuda = device.type == "cuda"
        rate = torch.tensor(self.learning_rate, device=device) if on_cuda else self.learning_rate  # a graph reads it
        kinds: dict[str, Callable[..., Optimizer]] = {
            "AdamW": partial(AdamW, weight_decay=0.1, capturable=on_cuda),
            "SGD": partial(SGD, momentum=0.9, nesterov=True, weight_decay=1e-4),
        }
        return kinds[self.method](groups, rate, fused=True)


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


def search(step: Recipe) -> list[Candidate]:
    """Return step 3 as the first candidate, and what differs from it in one thing."""
    return [Candidate(**asdict(step), family="step 3", name="step-3", change="as it is"), *changed(step)]


def changed(step: Recipe) -> Iterator[Candidate]:
    """Yield what differs from ``step`` in one thing, family by family."""

    def change(family: str, name: str, words: str, **changes: object) -> Candidate:
        return Candidate(**(asdict(step) | {"family": family, "name": name, "change": words} | changes))

    def strength(factor: float) -> dict[str, object]:
        continuous = {name: factor * getattr(step, name) for name in ("rotation", "scale", "shear")}
        return {**continuous, "shift": round(factor * step.shift)}

    yield change("images", "no-augmentation", "no distortion", **strength(0))
    yield change("images", "half-augmentation", "half as strong", **strength(0.5))
    yield change("images", "more-augmentation", "half as strong again", **strength(1.5))
    yield change("images", "cutout", "and a black square of 6 pixels", cutout=6)
    yield change("labels", "smoothing", "smoothed by 0.1", smoothing=0.1)
    yield change("rate", "half-rate", "peak halved", learning_rate=step.learning_rate / 2)
    yield change("rate", "double-rate", "peak doubled", learning_rate=step.learning_rate * 2)
    yield change("rate", "constant", "constant", schedule="constant")
    yield change("rate", "short-warmup", "climbs for a twentieth of the run", warmup=0.05)
    yield change("average", "no-average", "none", averaging=0.0)
    yield change("batch", "half-batch", "62 images", batch_size=62, averaging=0.999, learning_rate=0.007)
    yield change("batch", "double-batch", "250 images", batch_size=250, averaging=0.996, learning_rate=0.014)
    yield change("optimizer", "adamw", "AdamW, filters decay by 0.1", method="AdamW")
    yield change("optimizer", "sgd", "SGD with Nesterov momentum, peak 0.2", method="SGD", learning_rate=0.2)
    yield change("network", "relu", "ReLU", network_name="ReLU")
    yield change("network", "leaky-relu", "LeakyReLU, slope 0.1", network_name="LeakyReLU")
    yield change("network", "scaled-norms", "norms with a scale", network_name="scaled norms")
    yield change("network", "bent-blocks", "norm and SiLU inside separable blocks", network_name="bent blocks")
    yield change("network", "strided-stem", "stride 2 in place of pooling", network_name="strided stem")
    yield change("network", "full-convolutions", "ordinary convolutions", network_name="full convolutions")
    yield change("network", "average-head", "average in place of templates", network_name="average head")
    yield change("network", "wider", "wider blocks", network_name="wider")
    yield change("network", "dropout", "dropout of 0.05 after every block", network_name="dropout")


def frontier(step: Recipe) -> list[Candidate]:
    """Return ``step`` with fewer parameters, and with fewer epochs; nothing else is changed or chosen for them."""
    common = asdict(step) | {"family": "frontier"}
    sizes = [
        Candidate(**common, name=f"frontier-{size}", change=f"{size} parameters", network_name=size) for size in SIZES
    ]
    shorter = [
        Candidate(**(common | {"epochs": epochs}), name=f"frontier-{epochs}-epochs", change=f"{epochs} epochs")
        for epochs in (*EPOCHS, step.epochs)
    ]
    return [*sizes, *shorter]
