import copy

import pytest
import torch
from torch import nn

from mnist_lab.data import Split
from mnist_lab.fields.gradient import effective_field, measure_fields, width_of
from mnist_lab.fields.trace import Row, trace
from mnist_lab.models import MODELS, build

PUBLISHED = nn.Sequential(  # every kind of layer that such networks use
    nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(4), nn.Dropout(0.1)),
    nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.LeakyReLU()),
    nn.MaxPool2d(2),
    nn.Conv2d(4, 6, 3, padding=1),
    nn.Conv2d(6, 6, 5, padding=2, groups=6),
    nn.Conv2d(6, 6, 1),
    nn.MaxPool2d(3, 2, padding=1),
    nn.Conv2d(6, 8, 3, padding=1),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(8, 10),
    nn.ReLU(),
    nn.LogSoftmax(1),
)
NETS = {name: (build(name), 28) for name in MODELS} | {
    "published": (PUBLISHED, 28),
    "averaged": (nn.Sequential(nn.Conv2d(1, 2, 3), nn.AvgPool2d(3, 2, padding=1), nn.Conv2d(2, 2, 7, padding=3)), 16),
    "strided": (nn.Sequential(nn.Conv2d(1, 2, 3, stride=2), nn.Conv2d(2, 2, 3, padding=1), nn.AvgPool2d(3, 2)), 31),
    "dilated": (nn.Sequential(nn.Conv2d(1, 2, 3, dilation=2), nn.Conv2d(2, 4, 3, dilation=3, groups=2)), 28),
    "dilated pooling": (nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(3, 1, dilation=2), nn.Conv2d(2, 2, 3)), 28),
    "global": (nn.Sequential(nn.Conv2d(1, 2, 5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 10)), 28),
    "flattened": (nn.Sequential(nn.Conv2d(1, 2, 5, stride=3), nn.Flatten(), nn.Linear(2 * 8 * 8, 10)), 28),
}


def in_image(row: Row, size: int) -> tuple[int, int]:
    first, last = row.span(row.size_out // 2)
    return max(first, 0), min(last, size - 1)


@pytest.mark.parametrize("name", NETS)
def test_the_trace_is_what_autograd_measures(name):
    network, size = NETS[name]
    rows = trace(network, size)
    assert measure_fields(network, size) == [in_image(row, size) for row in rows]


def test_a_measurement_by_hand():
    network = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(2, 1, 3))
    assert measure_fields(network, 8) == [(3, 5), (3, 6), (1, 8 - 1)]


def test_closed_paths_hide_nothing():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 1, 3))
    nn.init.zeros_(network[0].weight)
    nn.init.constant_(network[0].bias, -1.0)
    before = copy.deepcopy(network.state_dict())
    assert measure_fields(network) == [in_image(row, 28) for row in trace(network)]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_what_cannot_be_traced_cannot_be_measured():
    with pytest.raises(ValueError, match="cannot trace AdaptiveMaxPool2d"):
        measure_fields(nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveMaxPool2d(1)))


def test_the_effective_field_of_a_linear_network_is_its_kernel(few):
    kernel = torch.tensor([[1.0, -2, 1], [0, 4, 0], [1, 0, -1]])
    network = nn.Sequential(nn.Conv2d(1, 1, 3, bias=False))
    network[0].weight.data.copy_(kernel)
    field = effective_field(network, few, trace(network)[-1])
    assert field.shape == (28, 28)
    assert torch.allclose(field[13:16, 13:16], kernel.abs() / kernel.abs().sum())
    assert field.sum() == pytest.approx(1)
    assert torch.count_nonzero(field) == 6


def test_channels_do_not_cancel(few):
    network = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False))
    network[0].weight.data.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
    assert effective_field(network, few, trace(network)[-1])[14, 14] == 1


def test_images_do_not_cancel():
    network = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 1, 1, bias=False))  # |x|
    network[0].weight.data.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))
    nn.init.ones_(network[2].weight)
    black_and_white = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 28, 28)
    field = effective_field(network, Split(black_and_white, torch.tensor([0, 1])), trace(network)[-1])
    assert field[14, 14] == 1


@pytest.mark.parametrize("name", MODELS)
def test_effective_fields_lie_within_the_theoretical_ones(name, digits):
    torch.manual_seed(0)
    network = build(name).train()
    before = copy.deepcopy(network.state_dict())
    for row in trace(network):
        first, last = in_image(row, 28)
        field = effective_field(network, digits.test.first(20), row)
        assert field[first : last + 1, first : last + 1].sum() == pytest.approx(1, abs=1e-5)
        assert (field >= 0).all()
    assert network.training and all(parameter.requires_grad for parameter in network.parameters())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_the_field_of_a_unit_that_nothing_moves_is_empty(few):
    network = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(), nn.Conv2d(1, 1, 3))
    nn.init.constant_(network[0].weight, 0.0)
    nn.init.constant_(network[0].bias, -1.0)
    field = effective_field(network, few, trace(network)[-1])
    assert not field.any() and width_of(field, centre=14, share=0.5) == 0


def test_the_width_is_that_of_the_smallest_central_square():
    field = torch.zeros(28, 28)
    field[10:15, 10:15] = 1  # 5 x 5 about 12
    assert width_of(field, centre=12, share=9 / 25) == 3
    assert width_of(field, centre=12, share=10 / 25) == 5
    field[11:13, 11:13] = 100  # 2 x 2 about 11.5
    assert width_of(field, centre=11.5, share=0.9) == 2
