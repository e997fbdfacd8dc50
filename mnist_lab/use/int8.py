"""A network in integers of 8 bits, for machines without floating point.

Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference", CVPR 2018,
section 2: a real value is scale * (integer - zero), with a scale for each output channel of the weights and one for
each layer of what flows between them, whose range is measured on training images. Activations are tables.
"""

import math
import textwrap
from dataclasses import dataclass, field

import numpy as np

from mnist_lab import LabError
from mnist_lab.use.network import apply
from mnist_lab.use.weights import Header, Network

LOGIT_UNIT = 1 / 256  # of the last layer's integers


class NotQuantisable(LabError):
    """The C program cannot compute a network."""


@dataclass
class Step:
    """One layer in integers; lengths are of the side of square maps."""

    kind: str  # as in the C program
    in_channels: int
    in_side: int
    out_channels: int
    out_side: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    zero: int = 0  # of what comes out
    numbers: dict[str, np.ndarray] = field(default_factory=dict)  # weights, biases, multipliers, shifts; table


@dataclass(frozen=True)
class Code:
    """The integers that stand for real values: real = scale * (integer - zero)."""

    scale: float
    zero: float

    def real(self, integers: np.ndarray) -> np.ndarray:
        return self.scale * (integers - self.zero)

    def integers(self, real: np.ndarray) -> np.ndarray:
        return np.clip(np.round(real / self.scale + self.zero), -128, 127).astype(np.int8)


def quantise(network: Network, pixels: np.ndarray) -> list[Step]:
    """Return ``network`` in integers, their ranges measured on ``pixels`` (N, 28, 28), bytes.

    Raises NotQuantisable for layers that the C program lacks, and for numbers that it has no room for.
    """
    header, steps = network.header, []
    code = Code(1 / (255 * header.std), 255 * header.mean - 128)  # of a pixel less 128
    maps = (pixels[:, None] / np.float32(255) - np.float32(header.mean)) / np.float32(header.std)
    kept = [(number, layer) for number, layer in enumerate(header.layers) if layer.kind != "flatten"]
    for place, (number, layer) in enumerate(kept):
        weight, bias = network.arrays.get(f"{number}.weight"), network.arrays.get(f"{number}.bias")
        if layer.padding or layer.kind == "linear":
            raise NotQuantisable(f"the C program has no {layer.kind} layer like layer {number}: export to onnx")
        before, maps = maps, apply(layer, maps, weight, bias)
        (channels, side), (out_channels, out_side) = before.shape[1:3], maps.shape[1:3]
        sizes = (channels, side, out_channels, out_side)
        if layer.kind == "convolution":
            is_last = place == len(kept) - 1
            out = Code(LOGIT_UNIT, 0) if is_last else measure(maps)
            numbers = integer_weights(weight, bias, code, out.scale)
            window = {"kernel": weight.shape[-1], "stride": layer.stride, "groups": layer.groups}
            steps.append(Step("CONVOLUTION", *sizes, **window, zero=int(out.zero), numbers=numbers))
        elif layer.kind in ("ReLU", "SiLU"):
            out = measure(maps)
            table = out.integers(apply(layer, code.real(np.arange(-128, 128)), None, None))
            steps.append(Step("TABLE", *sizes, numbers={"table": table}))
        else:
            out, kind = code, layer.kind.upper().replace(" ", "_")
            steps.append(Step(kind, *sizes, kernel=layer.kernel, stride=layer.stride))
        code = out
    if steps[-1].kind != "CONVOLUTION" or steps[-1].out_side != 1:
        raise NotQuantisable("the C program ends with a convolution to one place: export to onnx")
    return steps


def measure(maps: np.ndarray) -> Code:
    """Return the code that reaches from the smallest to the largest of ``maps``, with an integer for 0."""
    low, high = min(float(maps.min()), 0.0), max(float(maps.max()), 0.0)
    scale = (high - low) / 255 or 1.0
    return Code(scale, round(-128 - low / scale))


def integer_weights(weight: np.ndarray, bias: np.ndarray, code: Code, scale: float) -> dict[str, np.ndarray]:
    """Return weights, biases, multipliers and shifts of a convolution whose input is in ``code``.

    A sum of products, times the multiplier of its channel and shifted right, is what comes out, in units of ``scale``.
    A channel whose weights are next to nothing keeps its bias alone. Raises NotQuantisable for too large a multiplier.
    """
    largest = np.abs(weight).max(axis=(1, 2, 3)).astype(np.float64)
    least = np.maximum(np.abs(bias), scale) / 2.0**30 / code.scale  # so that biases fit into 32 bits, shifts into 62
    scales = np.maximum(largest / 127, least)  # of the weights, for each channel
    weights = np.round(weight / scales[:, None, None, None]).astype(np.int8)
    sums = weights.astype(np.int64).sum(axis=(1, 2, 3))
    biases = np.round(bias / (code.scale * scales) - code.zero * sums)
    ratios = code.scale * scales / scale
    shifts = np.array([30 - math.frexp(ratio)[1] for ratio in ratios])  # so that multipliers have 30 bits
    if shifts.min() < 1:
        raise NotQuantisable("its numbers grow too fast from layer to layer for 32 bits: export to onnx")
    multipliers = np.round(ratios * 2.0**shifts)
    return {"weights": weights, "biases": biases, "multipliers": multipliers, "shifts": shifts}


def as_header(steps: list[Step], header: Header) -> str:
    """Return the C header of a network in integers."""
    largest = max(size for step in steps for size in (step.in_channels * step.in_side**2,
                                                      step.out_channels * step.out_side**2))  # fmt: skip
    lines = [
        f"/* {header.model}, seed {header.seed}, in integers of 8 bits; written by mnist-lab export c.",
        f" * In floating point it reads {100 * header.accuracy:.2f} % of {header.scored_images:,} {header.scored_on} "
        f"images of {header.data}.",
        f" * Weights: SHA-256 {header.sha256}.",
        " * An image: a digit cropped to its ink, scaled by area until its longer side has 20 pixels, its darkest",
        " * pixel made 255 (paper is 0), and its centre of mass put into row and column 14 of 28, counted from 0. */",
        "#ifndef MNIST_LAB_INT8_H",
        "#define MNIST_LAB_INT8_H",
        "",
        "#include <stdint.h>",
        "",
        f"#define CLASSES {len(header.classes)}",
        f"#define LAYERS {len(steps)}",
        f"#define LARGEST_LAYER {largest} /* bytes */",
        "",
        "enum { CONVOLUTION, TABLE, MAX_POOLING, AVERAGE_POOLING };",
        "",
        "typedef struct {",
        "    int kind, in_channels, in_side, out_channels, out_side, kernel, stride, groups;",
        "    int zero; /* the integer of 0 in what comes out */",
        "    const int8_t *weights; /* output channel, input channel of its group, row, column */",
        "    const int32_t *biases, *multipliers; /* of each output channel */",
        "    const uint8_t *shifts;",
        "    const int8_t *table; /* of an activation, for -128 to 127 */",
        "} layer;",
        "",
    ]
    types = {"weights": "int8_t", "biases": "int32_t", "multipliers": "int32_t", "shifts": "uint8_t", "table": "int8_t"}
    rows = []
    for number, step in enumerate(steps):
        for name, values in step.numbers.items():
            text = ", ".join(str(int(value)) for value in values.ravel())
            lines += [f"static const {types[name]} {name}_{number}[{values.size}] = {{", *wrap(text), "};", ""]
        sizes = (
            step.in_channels,
            step.in_side,
            step.out_channels,
            step.out_side,
            step.kernel,
            step.stride,
            step.groups,
        )
        pointers = [f"{name}_{number}" if name in step.numbers else "0" for name in types]
        rows.append(f"    {{{step.kind}, {', '.join(map(str, (*sizes, step.zero)))}, {', '.join(pointers)}}},")
    return "\n".join([*lines, "static const layer layers[LAYERS] = {", *rows, "};", "", "#endif", ""])


def wrap(text: str) -> list[str]:
    """Return ``text`` in indented lines of at most 120 characters."""
    return textwrap.wrap(text, 120, initial_indent="    ", subsequent_indent="    ")
