"""Networks written as text, so that a search can make them up and a record can hold them.

A text lists what an image meets: convolutions of all channels (``5x5 16``) or of each by itself and then across
(``separable 32``), and last a head: ``templates``, one for each channel and as large as what is left of the image, or
an ``average``. Behind a convolution may stand ``bent`` (a separable one with norm and activation in its middle, too),
``padded`` (the image keeps its size), ``stride N``, ``groups N`` and ``pool`` (2x2, by the maximum). COMPACT is
CompactNet.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from mnist_lab.models import BatchNorm, spatial_head

COMPACT = "3x3 8, separable 8, separable 16 pool, separable 40, separable 40, separable 56, templates"
LAYER = re.compile(
    r"(?:(?P<kernel>\d+)x(?P=kernel)|separable) (?P<channels>\d+)"
    r"(?P<bent> bent)?(?P<padded> padded)?(?: stride (?P<stride>\d+))?(?: groups (?P<groups>\d+))?(?P<pool> pool)?"
)
HEADS = ("templates", "average")
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "SiLU": nn.SiLU,
    "ReLU": nn.ReLU,
    "LeakyReLU": lambda: nn.LeakyReLU(0.1),
}
NORMS: dict[str, Callable[[int], nn.Module] | None] = {
    "shift": BatchNorm,
    "scale and shift": nn.BatchNorm2d,
    "none": None,  # the convolutions have biases instead
}  # what a norm learns
SIZE = 28  # of an image, pixels


@dataclass(frozen=True)
class Layer:
    """One convolution, or a separable pair."""

    channels: int
    kernel: int = 3
    separable: bool = False
    bent: bool = False
    padded: bool = False
    stride: int = 1
    groups: int = 1
    pool: bool = False

    def __str__(self) -> str:
        said = "separable" if self.separable else f"{self.kernel}x{self.kernel}"
        options = [" bent"] * self.bent + [" padded"] * self.padded + [f" stride {self.stride}"] * (self.stride > 1)
        options += [f" groups {self.groups}"] * (self.groups > 1) + [" pool"] * self.pool
        return f"{said} {self.channels}{''.join(options)}"

    def size_after(self, size: int) -> int:
        """Return how high and wide an image of ``size`` pixels leaves it."""
        size = (size + 2 * self.padding - self.kernel) // self.stride + 1
        return size // 2 if self.pool else size

    @property
    def padding(self) -> int:
        return self.kernel // 2 if self.padded else 0

    def parameters(self, c_in: int) -> int:
        """Return how many parameters the block has that c_in channels enter, with norms that learn a shift."""
        taps = self.kernel**2 * c_in
        filters = taps + c_in * self.channels if self.separable else taps // self.groups * self.channels
        return filters + c_in * self.bent + self.channels

    def block(self, c_in: int, activation: str, norm: str) -> nn.Sequential:
        """Return it as the blocks of models.py are: convolutions, pooling, norm, activation."""
        places, bias = {"stride": self.stride, "padding": self.padding}, NORMS[norm] is None
        act = ACTIVATIONS[activation]
        if self.separable:
            middle = [*normed(norm, c_in), act()] if self.bent else []
            between = bias and self.bent  # else the bias of the second convolution can do what the first one's would
            depthwise = nn.Conv2d(c_in, c_in, self.kernel, groups=c_in, bias=between, **places)
            convolutions = [depthwise, *middle, nn.Conv2d(c_in, self.channels, 1, bias=bias)]
        else:
            convolutions = [nn.Conv2d(c_in, self.channels, self.kernel, groups=self.groups, bias=bias, **places)]
        pooling = [nn.MaxPool2d(2)] if self.pool else []
        return nn.Sequential(*convolutions, *pooling, *normed(norm, self.channels), act())


def normed(norm: str, channels: int) -> list[nn.Module]:
    """Return the norm of this name, or nothing if there is to be none."""
    make = NORMS[norm]
    return [] if make is None else [make(channels)]


def read(text: str) -> tuple[list[Layer], str]:
    """Return the layers of ``text`` and its head. Raises ValueError, which says what cannot be read."""
    *parts, head = [part.strip() for part in text.split(",")]
    if head not in HEADS:
        raise ValueError(f"a network ends in {' or '.join(HEADS)}, not in {head!r}")
    layers = []
    for part in parts:
        found = LAYER.fullmatch(part)
        if not found:
            raise ValueError(f"cannot read {part!r}: write it as '5x5 16 pool' or 'separable 32 padded'")
        layer = Layer(
            channels=int(found["channels"]),
            kernel=int(found["kernel"] or 3),
            separable=found["kernel"] is None,
            bent=bool(found["bent"]),
            padded=bool(found["padded"]),
            stride=int(found["stride"] or 1),
            groups=int(found["groups"] or 1),
            pool=bool(found["pool"]),
        )
        if not all((layer.channels, layer.kernel, layer.stride, layer.groups)):
            raise ValueError(f"cannot read {part!r}: its numbers begin at 1")
        misplaced = layer.groups > 1 if layer.separable else layer.bent
        if misplaced:
            raise ValueError(f"cannot read {part!r}: 'bent' is for separable convolutions, 'groups' for the others")
        if layer.padded and layer.kernel % 2 == 0:
            raise ValueError(f"cannot read {part!r}: 'padded' takes a kernel with a middle, such as 3x3")
        layers.append(layer)
    return layers, head


def write(layers: Sequence[Layer], head: str) -> str:
    """Return the text that :func:`read` reads."""
    return ", ".join([*map(str, layers), head])


def size_left(layers: Sequence[Layer]) -> int:
    """Return how high and wide an image leaves the last of ``layers``; below 1 if nothing is left of it."""
    size = SIZE
    for layer in layers:
        size = layer.size_after(size)
    return size


def build(text: str, activation: str = "SiLU", dropout: float = 0.0, norm: str = "shift") -> nn.Sequential:
    """Return the network that ``text`` says, with ``dropout`` after every block if it is above 0.

    Raises ValueError if the text cannot be read or nothing of the image is left.
    """
    layers, head = read(text)
    size, channels, blocks = size_left(layers), 1, []
    if not layers or size < 1:
        raise ValueError(f"nothing of the image is left for the head of {text!r}")
    for layer in layers:
        blocks.append(layer.block(channels, activation, norm))
        channels = layer.channels
        if dropout:
            blocks[-1].append(nn.Dropout(dropout))
    if head == "templates":
        templates, _, *others = spatial_head(channels, size)
        if NORMS[norm] is None:
            templates = nn.Conv2d(channels, channels, size, groups=channels)
        return nn.Sequential(*blocks, nn.Sequential(templates, *normed(norm, channels), *others))
    return nn.Sequential(*blocks, nn.Sequential(nn.AvgPool2d(size), nn.Conv2d(channels, 10, 1), nn.Flatten()))


def count(layers: Sequence[Layer], head: str) -> int:
    """Return how many parameters the network has, without building it."""
    entering = [1, *(layer.channels for layer in layers)]
    channels, size = entering[-1], size_left(layers)
    templates = channels * size**2 + channels if head == "templates" else 0
    return sum(map(Layer.parameters, layers, entering)) + templates + 10 * channels + 10


def check(text: str) -> str:
    """Return ``text`` if it says a network, or nothing at all. Raises ValueError otherwise."""
    if text:
        with torch.device("meta"):
            build(text)
    return text
