"""What one unit of a layer sees of the image, and what each layer costs.

The recurrence is that of Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural
Networks", Distill 2019 (doi 10.23915/distill.00021), followed from the image upwards.
"""

from dataclasses import dataclass, replace

import torch
from torch import nn

from mnist_lab.models import leaves

POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
PASSING = (  # layers that look at one place at a time
    nn.BatchNorm2d, nn.ReLU, nn.LeakyReLU, nn.GELU, nn.SiLU, nn.Dropout, nn.Dropout2d, nn.Identity, nn.Flatten,
    nn.LogSoftmax,
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One layer that moves or grows the field; lengths in pixels of the image unless said otherwise."""

    layer: str  # its position, as in "3 Conv2d"
    kernel: int  # units of the layer below
    stride: int
    padding: int
    dilation: int
    size_in: int  # height and width of what comes in, units
    size_out: int
    channels_in: int
    channels_out: int
    jump_in: int  # distance between neighbouring units below the layer
    jump_out: int  # ... and above it
    field_in: int  # receptive field of a unit below the layer
    field_out: int  # ... and above it
    start: float  # centre of the first unit; the first pixel is at 0
    parameters: int  # of the layer and of the norm that follows it
    multiply_accumulates: int  # for one image


def trace(model: nn.Sequential, size: int = 28) -> list[Row]:
    """Follow one blank image (1, 1, size, size) through ``model``: a row per convolution, pooling and linear layer.

    The model, its norms' statistics and the random number generators are left as they were. Raises
    ValueError for what the recurrence does not cover: branches and other layers, kernels that are not square,
    padding by name.
    """
    if not isinstance(model, nn.Sequential):
        raise ValueError(f"cannot trace {type(model).__name__}: only nested nn.Sequential is a single path")
    rows: list[Row] = []
    training = {module: module.training for module in model.modules()}
    device = next(model.parameters()).device
    try:
        model.eval()
        with torch.no_grad():
            maps = torch.zeros(1, 1, size, size, device=device)
            channels, side = 1, size  # of the last maps, remembered across a flattening
            for position, layer in enumerate(leaves(model)):
                out = layer(maps)
                if isinstance(layer, (nn.Conv2d, nn.Linear, *POOLING)):
                    shape_out = (out.shape[1], out.shape[-1] if out.dim() == 4 else 1)
                    rows.append(_row(f"{position} {type(layer).__name__}", layer, (channels, side), shape_out, rows))
                    channels, side = shape_out
                elif not isinstance(layer, PASSING):
                    raise ValueError(f"cannot trace {type(layer).__name__}: its receptive field is not known here")
                elif rows:
                    own = sum(parameter.numel() for parameter in layer.parameters())
                    rows[-1] = replace(rows[-1], parameters=rows[-1].parameters + own)
                maps = out
    finally:
        for module, mode in training.items():
            module.training = mode
    return rows


def _row(name: str, layer: nn.Module, shape_in: tuple[int, int], shape_out: tuple[int, int], below: list[Row]) -> Row:
    kernel, stride, padding, dilation = _geometry(layer, size_in=shape_in[1])
    jump, field, start = (below[-1].jump_out, below[-1].field_out, below[-1].start) if below else (1, 1, 0.0)
    reach = dilation * (kernel - 1)  # units below, from the first to the last that the kernel touches
    weights = sum(parameter.numel() for parameter in layer.parameters())
    return Row(
        layer=name,
        kernel=kernel,
        stride=stride,
        padding=padding,
        dilation=dilation,
        size_in=shape_in[1],
        size_out=shape_out[1],
        channels_in=shape_in[0],
        channels_out=shape_out[0],
        jump_in=jump,
        jump_out=jump * stride,
        field_in=field,
        field_out=field + reach * jump,
        start=start + (reach / 2 - padding) * jump,
        parameters=weights,
        multiply_accumulates=layer.weight.numel() * shape_out[1] ** 2 if hasattr(layer, "weight") else 0,
    )


def _geometry(layer: nn.Module, size_in: int) -> tuple[int, int, int, int]:
    """Return kernel, stride, padding and dilation; a linear layer is a kernel that covers what it flattened."""
    if isinstance(layer, nn.Linear):
        return size_in, 1, 0, 1
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        if layer.output_size not in (1, (1, 1)):
            raise ValueError(f"cannot trace {layer}: only adaptive pooling to 1 x 1 has one kernel size")
        return size_in, 1, 0, 1
    dilation = getattr(layer, "dilation", 1)  # average pooling has none
    return tuple(_square(value, layer) for value in (layer.kernel_size, layer.stride, layer.padding, dilation))


def _square(value: int | tuple[int, int] | str, layer: nn.Module) -> int:
    if isinstance(value, str):
        raise ValueError(f"cannot trace {layer}: give its padding as a number")
    pair = (value, value) if isinstance(value, int) else value
    if pair[0] != pair[1]:
        raise ValueError(f"cannot trace {layer}: it is not square")
    return pair[0]
