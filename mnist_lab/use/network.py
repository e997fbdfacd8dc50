"""A trained network without PyTorch: its layers and numbers as arrays, and what they compute from an image.

Every batch norm is folded into its convolution, as :func:`mnist_lab.models.fold_batch_norm` does it. NumPy computes
the rest in under a millisecond an image; the drawing page and the exports are made from the same layers.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from pydantic import BaseModel, ConfigDict, Field

SIDE = 28  # pixels of an image, either way
STRICT = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)  # of what a file may hold

Size = Annotated[int, Field(ge=1, le=4096)]


class Layer(BaseModel):
    """One layer; the weights and the bias of layer 3 are the arrays "3.weight" and "3.bias"."""

    model_config = STRICT

    kind: Literal["convolution", "linear", "max pooling", "average pooling", "ReLU", "SiLU", "flatten"]
    kernel: Size = 1  # of a pooling; a convolution's is in the shape of its weights
    stride: Size = 1
    padding: Annotated[int, Field(ge=0, le=64)] = 0  # zeros, on each side
    groups: Size = 1  # of a convolution


def output_shapes(layers: Sequence[Layer], arrays: Mapping[str, np.ndarray]) -> list[tuple[int, ...]]:
    """Return what leaves each layer for one image: (C, H, W), or (C,) once flattened.

    Raises ValueError where an array is missing, too many, or does not fit what comes in.
    """
    shape: tuple[int, ...] = (1, SIDE, SIDE)
    shapes, used = [], set()
    for number, layer in enumerate(layers):
        names = [f"{number}.weight", f"{number}.bias"] if layer.kind in ("convolution", "linear") else []
        used.update(names)
        if any(name not in arrays for name in names):
            raise ValueError(f"layer {number}, {layer.kind}, has no {' and '.join(names)}")
        wanted = {"flatten": (1, 3), "linear": (1,), "ReLU": (1, 3), "SiLU": (1, 3)}.get(layer.kind, (3,))
        kernel, fits = layer.kernel, len(shape) in wanted
        if names and fits:
            weight, bias = (arrays[name] for name in names)
            per_group, rest = divmod(shape[0], layer.groups)
            tail = (per_group, *weight.shape[-1:] * 2) if layer.kind == "convolution" else shape
            fits = not rest and weight.shape[1:] == tail and bias.shape == weight.shape[:1] and len(bias) > 0
            fits = fits and not len(bias) % layer.groups
            kernel = weight.shape[-1] if fits else 0
        if fits and layer.kind in ("convolution", "max pooling", "average pooling"):
            side = (shape[1] + 2 * layer.padding - kernel) // layer.stride + 1
            shape = (len(bias) if names else shape[0], side, side)
            fits = side > 0
        elif fits and layer.kind == "linear":
            shape = (len(bias),)
        elif fits and layer.kind == "flatten":
            shape = (int(np.prod(shape)),)
        if not fits:
            raise ValueError(f"layer {number}, {layer.kind}, does not fit what comes into it, {shape}")
        shapes.append(shape)
    if used != set(arrays):
        raise ValueError(f"no layer uses {', '.join(sorted(set(arrays) - used))}")
    return shapes


def compute(layers: Sequence[Layer], arrays: Mapping[str, np.ndarray], maps: np.ndarray) -> np.ndarray:
    """Return the logits (N, classes) for normalised images ``maps`` (N, 1, 28, 28), in float32."""
    for number, layer in enumerate(layers):
        maps = apply(layer, maps, arrays.get(f"{number}.weight"), arrays.get(f"{number}.bias"))
    return maps


def apply(layer: Layer, maps: np.ndarray, weight: np.ndarray | None, bias: np.ndarray | None) -> np.ndarray:
    """Return what ``layer`` makes of ``maps`` (N, C, H, W)."""
    match layer.kind:
        case "convolution":
            return convolve(maps, weight, bias, layer)
        case "linear":
            return maps @ weight.T + bias
        case "max pooling":
            return windows(maps, layer.kernel, layer, -np.inf).max(axis=(4, 5))
        case "average pooling":
            return windows(maps, layer.kernel, layer).mean(axis=(4, 5))
        case "ReLU":
            return np.maximum(maps, 0)
        case "SiLU":
            return maps / (1 + np.exp(-np.maximum(maps, np.float32(-80))))  # further down, exp overflows
        case "flatten":
            return maps.reshape(len(maps), -1)


def windows(maps: np.ndarray, kernel: int, layer: Layer, padded: float = 0) -> np.ndarray:
    """Return what each unit sees: (N, C, H, W) -> (N, C, H', W', kernel, kernel), without a copy if not padded."""
    if layer.padding:
        around = (layer.padding, layer.padding)
        maps = np.pad(maps, ((0, 0), (0, 0), around, around), constant_values=padded)
    return sliding_window_view(maps, (kernel, kernel), axis=(2, 3))[:, :, :: layer.stride, :: layer.stride]


def convolve(maps: np.ndarray, weight: np.ndarray, bias: np.ndarray, layer: Layer) -> np.ndarray:
    """Return the convolution of ``maps`` (N, C, H, W) with ``weight`` (C', C / groups, K, K), plus ``bias`` (C',)."""
    seen = windows(maps, weight.shape[-1], layer)  # (N, C, H', W', K, K)
    count, _, high, wide = seen.shape[:4]
    groups, inputs, outputs = layer.groups, weight[0].size, len(weight) // layer.groups
    # For each group, a product of matrices: (N H' W', inputs) @ (inputs, outputs).
    rows = seen.reshape(count, groups, -1, *seen.shape[2:]).transpose(1, 0, 3, 4, 2, 5, 6)
    found = rows.reshape(groups, -1, inputs) @ weight.reshape(groups, outputs, inputs).transpose(0, 2, 1)
    found = found.reshape(groups, count, high, wide, outputs).transpose(1, 0, 4, 2, 3)
    return found.reshape(count, -1, high, wide) + bias[:, None, None]
