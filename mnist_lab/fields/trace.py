"""What one unit of each layer sees of the image, and what the layer costs.

The recurrence is that of Araujo, Norris and Sim, "Computing Receptive Fields of Convolutional Neural
Networks", Distill 2019 (doi 10.23915/distill.00021), followed from the image upwards.
"""

import contextlib
import copy
import io
from dataclasses import dataclass, replace

import torch
from torch import nn

from mnist_lab.models import BatchNorm, count_parameters, fold_batch_norm, leaves

POOLING = (nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d)
WITH_KERNEL = (nn.Conv2d, nn.Linear, *POOLING)  # layers that get a row: their units may see several places at once
POINTWISE = (  # layers whose units see one place each
    nn.BatchNorm2d, nn.Dropout, nn.Dropout2d, nn.ELU, nn.Flatten, nn.GELU, nn.Hardswish, nn.Hardtanh, nn.Identity,
    nn.LeakyReLU, nn.LogSoftmax, nn.Mish, nn.ReLU, nn.SiLU, nn.Sigmoid, nn.Softmax, nn.Tanh,
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One layer that moves or grows the field; lengths in pixels of the image unless said otherwise."""

    position: int  # among models.leaves, from 0
    kind: str  # as in "Conv2d"
    kernel: int  # units of the layer below
    stride: int
    padding: int
    dilation: int
    size_in: int  # height and width of what comes in, units
    size_out: int
    channels_in: int
    channels_out: int
    groups: int  # of a convolution; 0 for a pooling, which has no weights
    per_channel: int  # parameters per outgoing channel besides the weights: the bias, and those of norms that follow
    covers_all: bool  # whether the kernel is as large as whatever comes in, as a linear layer's is
    jump_in: int  # distance between neighbouring units below the layer
    jump_out: int  # ... and above it
    field_in: int  # receptive field of a unit below the layer
    field_out: int  # ... and above it
    start: float  # centre of the first unit; the first pixel is at 0
    parameters: int  # of the layer and of the norm that follows it
    multiply_accumulates: int  # for one image

    @property
    def layer(self) -> str:
        """Position and kind, as in "3 Conv2d"."""
        return f"{self.position} {self.kind}"

    def centre(self, unit: int) -> float:
        """Return the middle of what ``unit`` sees, counted along one side."""
        return self.start + unit * self.jump_out

    def span(self, unit: int) -> tuple[int, int]:
        """Return the first and the last pixel that ``unit`` sees, counted along one side; padding lies outside."""
        first = round(self.centre(unit) - (self.field_out - 1) / 2)
        return first, first + self.field_out - 1


def trace(model: nn.Sequential, size: int = 28) -> list[Row]:
    """Follow one blank image (1, 1, size, size) through ``model``: a row per convolution, pooling and linear layer.

    The model, its norms' statistics and the random number generators are left as they were. Raises
    ValueError for what the recurrence does not cover: branches and other layers, kernels that are not square,
    padding by name or with something else than a constant, sizes rounded up.
    """
    for module in model.modules():
        container = module is model or isinstance(module, nn.Sequential)
        if container and type(module).forward is not nn.Sequential.forward:
            raise ValueError(f"cannot trace {type(module).__name__}: only nested nn.Sequential is a single path")
    rows: list[Row] = []
    training = {module: module.training for module in model.modules()}
    device = next((parameter.device for parameter in model.parameters()), None)
    try:
        model.eval()
        with torch.no_grad():
            maps = torch.zeros(1, 1, size, size, device=device)
            channels, side = 1, size  # of the last maps, remembered across a flattening
            for position, layer in enumerate(leaves(model)):
                out = layer(maps)
                if isinstance(layer, WITH_KERNEL):
                    shape_out = (out.shape[1], out.shape[-1] if out.dim() == 4 else 1)
                    rows.append(_row(position, layer, (channels, side), shape_out, rows))
                    channels, side = shape_out
                elif not isinstance(layer, POINTWISE):
                    raise ValueError(f"cannot trace {type(layer).__name__}: its receptive field is not known here")
                elif isinstance(layer, nn.BatchNorm2d) and layer.running_mean is None:
                    raise ValueError(f"cannot trace {layer}: without running statistics it sees all images of a batch")
                elif own := count_parameters(layer):
                    if not rows:
                        raise ValueError(f"cannot trace {layer}: it has parameters, but follows no convolution")
                    per_channel = rows[-1].per_channel + own // channels
                    rows[-1] = replace(rows[-1], parameters=rows[-1].parameters + own, per_channel=per_channel)
                maps = out
    finally:
        for module, mode in training.items():
            module.training = mode
    return rows


def nested_spans(rows: list[Row]) -> list[tuple[int, int]]:
    """Return the pixels (first, last) seen by a chain of units, one per row, each in the middle of the next one's.

    The chain ends in the middle of the last maps, and each span holds the one before it. An even kernel has two
    middle units: the one nearer to the middle of the image is taken.
    """
    middle = (rows[0].size_in - 1) / 2
    unit = rows[-1].size_out // 2
    spans = [rows[-1].span(unit)]
    for row, below in zip(rows[:0:-1], rows[-2::-1], strict=True):
        first = unit * row.stride - row.padding
        centres = {first + row.dilation * step for step in ((row.kernel - 1) // 2, row.kernel // 2)}
        unit = min(sorted(centres), key=lambda unit, below=below: abs(below.centre(unit) - middle))
        spans.append(below.span(unit))
    return spans[::-1]


def _row(
    position: int, layer: nn.Module, shape_in: tuple[int, int], shape_out: tuple[int, int], below: list[Row]
) -> Row:
    kernel, stride, padding, dilation = _geometry(layer, size_in=shape_in[1])
    jump, field, start = (below[-1].jump_out, below[-1].field_out, below[-1].start) if below else (1, 1, 0.0)
    reach = dilation * (kernel - 1)  # units below, from the first to the last that the kernel touches
    weighs = hasattr(layer, "weight")
    return Row(
        position=position, kind=type(layer).__name__, kernel=kernel, stride=stride, padding=padding, dilation=dilation,
        size_in=shape_in[1], size_out=shape_out[1], channels_in=shape_in[0], channels_out=shape_out[0],
        groups=getattr(layer, "groups", 1) if weighs else 0,
        per_channel=int(weighs and layer.bias is not None),
        covers_all=isinstance(layer, (nn.Linear, nn.AdaptiveAvgPool2d)),
        jump_in=jump, jump_out=jump * stride, field_in=field, field_out=field + reach * jump,
        start=start + (reach / 2 - padding) * jump,
        parameters=count_parameters(layer),
        multiply_accumulates=layer.weight.numel() * shape_out[1] ** 2 if weighs else 0,
    )  # fmt: skip


def _geometry(layer: nn.Module, size_in: int) -> tuple[int, int, int, int]:
    """Return kernel, stride, padding and dilation; a linear layer is a kernel as large as what was flattened."""
    if isinstance(layer, nn.Linear):
        return size_in, 1, 0, 1
    if isinstance(layer, nn.AdaptiveAvgPool2d):
        if layer.output_size not in (1, (1, 1)):
            raise ValueError(f"cannot trace {layer}: only adaptive pooling to 1 x 1 has one kernel size")
        return size_in, 1, 0, 1
    if getattr(layer, "ceil_mode", False):
        raise ValueError(f"cannot trace {layer}: with ceil_mode its last unit lies partly outside")
    if getattr(layer, "padding_mode", "zeros") != "zeros":
        raise ValueError(f"cannot trace {layer}: only padding with zeros adds no pixels to what a unit sees")
    dilation = getattr(layer, "dilation", 1)  # average pooling has none
    return tuple(_square(value, layer) for value in (layer.kernel_size, layer.stride, layer.padding, dilation))


def _square(value: int | tuple[int, int] | str, layer: nn.Module) -> int:
    if isinstance(value, str):
        raise ValueError(f"cannot trace {layer}: give its padding as a number")
    pair = (value, value) if isinstance(value, int) else value
    if pair[0] != pair[1]:
        raise ValueError(f"cannot trace {layer}: it is not square")
    return pair[0]


@dataclass(frozen=True)
class Facts:
    """The numbers by which networks are compared."""

    name: str
    trainable: int  # parameters
    deployed: int  # parameters once every norm that follows a convolution is folded into it
    multiply_accumulates: int  # for one image
    receptive_field: int  # of the logits, pixels


def facts(model: nn.Sequential) -> Facts:
    """Count parameters both ways, multiply-accumulates, and the pixels that the logits see."""
    rows = trace(model)
    return Facts(
        name=type(model).__name__,
        trainable=count_parameters(model),
        deployed=count_parameters(fold_batch_norm(model)),
        multiply_accumulates=sum(row.multiply_accumulates for row in rows),
        receptive_field=rows[-1].field_out,
    )


def layer_table(model: nn.Module) -> str:
    """Return torchsummary's table as text.

    torchsummary sends random images through the network to find the shapes; it gets a copy in evaluation mode and a
    borrowed random number generator, so that a summary changes neither the model nor a seeded run.
    """
    from torchsummary import summary

    text = io.StringIO()
    clone = copy.deepcopy(model).eval().cpu()
    for layer in clone.modules():
        if isinstance(layer, BatchNorm):
            layer.weight = None  # a constant 1, which torchsummary would count
    with torch.random.fork_rng(devices=[]), torch.no_grad(), contextlib.redirect_stdout(text):
        # torchsummary makes its random images on CUDA whenever there is one, unless told "cpu".
        summary(clone, (1, 28, 28), device="cpu")
    # What follows the total is wrong for a norm without scale, and of no use at this size.
    return text.getvalue().partition("\nTrainable params")[0].strip()


def field_table(rows: list[Row]) -> str:
    """Return a trace as text, one line per layer, with the totals and a note below."""
    width = max(14, *(len(row.layer) + 1 for row in rows))
    lines = [
        f"{'layer':<{width}}{'kernel':>7}{'stride':>7}{'out':>12}{'jump':>6}{'field':>7}{'parameters':>12}{'MACs':>10}"
    ]
    for row in rows:
        out = f"{row.channels_out}x{row.size_out}x{row.size_out}"
        lines.append(
            f"{row.layer:<{width}}{row.kernel:>7}{row.stride:>7}{out:>12}{row.jump_out:>6}{row.field_out:>7}"
            f"{row.parameters:>12,}{row.multiply_accumulates:>10,}"
        )
    parameters, products = sum(row.parameters for row in rows), sum(row.multiply_accumulates for row in rows)
    lines.append(f"{'total':<{width + 39}}{parameters:>12,}{products:>10,}")
    lines.append("Parameters of a norm are counted with the convolution or pooling before it.")
    return "\n".join(lines)
