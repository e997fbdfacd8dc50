"""Which pixels move a unit, and how strongly, found by autograd; the first is a check on the recurrence."""

import copy

import torch
from torch import Tensor, nn

from mnist_lab.batches import normalise
from mnist_lab.data import Split
from mnist_lab.fields.trace import WITH_KERNEL, Row, trace
from mnist_lab.models import leaves


def measure_fields(model: nn.Sequential, size: int = 28) -> list[tuple[int, int]]:
    """Return the first and the last pixel of a row that move the middle unit of each layer of ``trace(model, size)``.

    The gradient is taken through a linear twin with the same geometry in which every weight is 1, a maximum is a
    sum, and norms, activations and dropout are left out. All its terms are positive, so none cancel: a pixel's
    gradient is 0 exactly if no path leads from it to the unit, whatever weights and image may be. In the network
    itself a ReLU, a maximum or a weight of 0 can close a path, and one image would show too little. Raises
    ValueError for what :func:`trace` refuses.
    """
    trace(model, size)
    image = torch.zeros(1, 1, size, size, dtype=torch.double, requires_grad=True)  # double: sums stay exact for longer
    maps, fields = image, []
    for layer in leaves(model):
        maps = _positive_twin(layer, channels=maps.shape[1])(maps)
        if isinstance(layer, WITH_KERNEL):
            (gradient,) = torch.autograd.grad(_middle(maps).sum(), image, retain_graph=True)
            columns = gradient[0, 0].any(dim=0).nonzero().flatten()
            fields.append((int(columns[0]), int(columns[-1])))
    return fields


def effective_field(model: nn.Sequential, split: Split, row: Row) -> Tensor:
    """Return how strongly each pixel moves the middle unit of the layer of ``row``: (28, 28), shares of their sum.

    The mean, over the images of ``split`` and the layer's channels, of the gradient's absolute value, in
    evaluation mode (Luo, Li, Urtasun and Zemel, "Understanding the Effective Receptive Field in Deep Convolutional
    Neural Networks", NeurIPS 2016). All are 0 if nothing moves the unit. The model is left as it was.
    """
    layers = leaves(copy.deepcopy(model).eval().requires_grad_(False))[: row.position + 1]
    images = normalise(split.images.float() / 255).requires_grad_()
    units = _middle(nn.Sequential(*layers)(images))  # (N, channels)
    strength = torch.zeros_like(images[0, 0])
    for channel in units.unbind(1):
        (gradient,) = torch.autograd.grad(channel.sum(), images, retain_graph=True)
        strength += gradient[:, 0].abs().sum(0)
    total = strength.sum()
    return (strength / total if total > 0 else strength).cpu()


def width_of(field: Tensor, centre: float, share: float) -> int:
    """Return the side, in pixels, of the smallest square about ``centre`` that holds ``share`` of ``field``.

    An empty field has the width 0.
    """
    if not field.any():
        return 0
    rows, columns = (torch.arange(length, dtype=torch.double) - centre for length in field.shape)
    distance = torch.maximum(rows.abs()[:, None], columns.abs()[None, :])
    rings = distance.unique()  # in order
    held = torch.stack([field[distance <= ring].sum() for ring in rings]) / field.sum()
    return round(2 * float(rings[int((held >= share).nonzero()[0])]) + 1)


def _middle(maps: Tensor) -> Tensor:
    """Return every channel of the middle unit, (N, channels); flat features have one unit only."""
    return maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2] if maps.dim() == 4 else maps


def _positive_twin(layer: nn.Module, channels: int) -> nn.Module:
    if isinstance(layer, nn.MaxPool2d):  # as a convolution of each channel, since only those can be dilated
        layer = nn.Conv2d(
            channels, channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation, groups=channels
        )
    if not isinstance(layer, (*WITH_KERNEL, nn.Flatten)):
        return nn.Identity()
    twin = copy.deepcopy(layer).to("cpu", torch.double)
    for parameter in twin.parameters():
        nn.init.ones_(parameter)
    return twin
