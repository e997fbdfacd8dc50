import copy
import itertools

import pytest
import torch
from torch import nn

from mnist_lab.models import MODELS, build, leaves
from mnist_lab.receptive_field import trace


def measure(model: nn.Sequential, layers: int, size: int) -> tuple[int, float, int]:
    """Find by autograd what moves a unit in the middle of the maps after ``layers`` layers.

    Returns the width of the patch of the image, its centre, and the unit's position. A positive twin (no norms,
    equal weights, averages for maxima) lets every path through.
    """
    twin = []
    for layer in copy.deepcopy(leaves(model)[:layers]):
        if isinstance(layer, nn.MaxPool2d):
            layer = nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding)
        if isinstance(layer, nn.Conv2d):
            nn.init.ones_(layer.weight)
        if not isinstance(layer, (nn.BatchNorm2d, nn.ReLU)):
            twin.append(layer)
    image = torch.ones(1, 1, size, size, requires_grad=True)
    out = nn.Sequential(*twin)(image)
    middle = out.shape[-1] // 2 if out.dim() == 4 else 0  # a linear layer's units all see the same
    (out[0, 0, middle, middle] if out.dim() == 4 else out[0, 0]).backward()
    touched = (image.grad[0, 0].abs().sum(0) > 0).nonzero().flatten()
    first, last = int(touched[0]), int(touched[-1])
    return last - first + 1, (first + last) / 2, middle


class Residual(nn.Module):
    """Two paths: what the recurrence does not follow."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + self.convolution(images)


NETS = {name: (build(name), 28) for name in MODELS} | {
    "strided": (nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.Conv2d(2, 2, 3, padding=1), nn.AvgPool2d(3, 2)), 31),
    "dilated": (nn.Sequential(nn.Conv2d(1, 2, 3, dilation=2), nn.Conv2d(2, 4, 3, dilation=3, groups=2)), 28),
    "global": (nn.Sequential(nn.Conv2d(1, 2, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 10)), 28),
    "flattened": (nn.Sequential(nn.Conv2d(1, 2, 5, stride=3), nn.Flatten(), nn.Linear(2 * 8 * 8, 10)), 28),
    "pooled with padding": (nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(3, 2, padding=1), nn.Conv2d(2, 2, 3)), 28),
}


@pytest.mark.parametrize("name", NETS)
def test_the_trace_is_what_autograd_measures(name):
    model, size = NETS[name]
    rows = trace(model, size)
    for row in rows:
        width, centre, unit = measure(model, int(row.layer.split()[0]) + 1, size)
        assert width == min(row.field_out, size)
        if row.field_out < size:
            assert centre == pytest.approx(row.start + unit * row.jump_out)


def test_a_trace_by_hand():
    rows = trace(nn.Sequential(nn.Conv2d(1, 8, 3, bias=False), nn.MaxPool2d(2), nn.Conv2d(8, 4, 3, padding=1)))
    assert [(row.kernel, row.jump_in, row.jump_out, row.field_out, row.size_out, row.start) for row in rows] == [
        (3, 1, 1, 3, 26, 1.0),
        (2, 1, 2, 4, 13, 1.5),
        (3, 2, 2, 8, 13, 1.5),
    ]
    assert [row.parameters for row in rows] == [72, 0, 292]
    assert [row.multiply_accumulates for row in rows] == [72 * 26 * 26, 0, 288 * 13 * 13]


@pytest.mark.parametrize("name", MODELS)
def test_rows_account_for_every_parameter_and_pass_sizes_on(name):
    model = build(name)
    rows = trace(model)
    assert sum(row.parameters for row in rows) == sum(parameter.numel() for parameter in model.parameters())
    for before, after in itertools.pairwise(rows):
        assert (before.size_out, before.channels_out, before.jump_out, before.field_out) == (
            after.size_in,
            after.channels_in,
            after.jump_in,
            after.field_in,
        )


def test_tracing_leaves_the_model_and_the_random_numbers_alone():
    model = build("CompactNet").train()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    trace(model)
    assert model.training and all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Conv2d(1, 2, 3), "single path"),
        (nn.Sequential(nn.Conv2d(1, 2, (3, 5))), "not square"),
        (nn.Sequential(nn.Conv2d(1, 2, 3, padding="same")), "as a number"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(2)), "1 x 1"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveMaxPool2d(1)), "cannot trace AdaptiveMaxPool2d"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), Residual()), "cannot trace Residual"),
    ],
)
def test_what_the_recurrence_does_not_cover_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        trace(model)
