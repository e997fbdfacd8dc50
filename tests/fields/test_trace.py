import copy
import itertools

import pytest
import torch
from torch import nn

from mnist_lab.fields.trace import facts, field_table, layer_table, nested_spans, trace
from mnist_lab.models import MODELS, build, count_parameters


class Residual(nn.Module):
    """Two paths: what the recurrence does not follow."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + self.convolution(images)


class Skipping(nn.Sequential):
    """A container that is more than its layers in a row."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images + super().forward(images)


def test_a_trace_by_hand():
    rows = trace(nn.Sequential(nn.Conv2d(1, 8, 3, bias=False), nn.MaxPool2d(2), nn.Conv2d(8, 4, 3, padding=1)))
    assert [(row.kernel, row.jump_in, row.jump_out, row.field_out, row.size_out, row.start) for row in rows] == [
        (3, 1, 1, 3, 26, 1.0),
        (2, 1, 2, 4, 13, 1.5),
        (3, 2, 2, 8, 13, 1.5),
    ]
    assert [row.parameters for row in rows] == [72, 0, 292]
    assert [row.multiply_accumulates for row in rows] == [72 * 26 * 26, 0, 288 * 13 * 13]


def test_what_a_layer_is_made_of():
    network = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4), nn.LeakyReLU(), nn.Dropout(0.1)),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 8, 3, groups=4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
        nn.ReLU(),
        nn.LogSoftmax(1),
    )
    rows = trace(network)
    assert [row.layer for row in rows] == [
        "0 Conv2d", "4 AvgPool2d", "5 Conv2d", "6 AdaptiveAvgPool2d", "8 Linear",
    ]  # fmt: skip
    assert [(row.groups, row.per_channel, row.covers_all) for row in rows] == [
        (1, 2, False),  # a norm with scale and bias
        (0, 0, False),
        (4, 1, False),
        (0, 0, True),
        (1, 1, True),
    ]
    assert [row.parameters for row in rows] == [36 + 8, 0, 72 + 8, 0, 90]
    assert [row.field_out for row in rows] == [3, 4, 8, 28, 28]


@pytest.mark.parametrize("layer", [nn.Tanh, nn.Sigmoid, nn.ELU, nn.ReLU6, nn.Hardswish, nn.Mish])
def test_an_activation_changes_no_field(layer):
    rows = trace(nn.Sequential(nn.Conv2d(1, 2, 3), layer(), nn.Conv2d(2, 2, 3)))
    assert [row.field_out for row in rows] == [3, 5]


def test_a_row_says_which_pixels_its_units_see():
    pooled = trace(nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.MaxPool2d(2)))[-1]
    assert [pooled.span(unit) for unit in (0, 1, 13)] == [(-1, 2), (1, 4), (25, 28)]  # the padding lies outside
    assert pooled.centre(1) == 2.5


@pytest.mark.parametrize("name", MODELS)
def test_nested_spans_hold_each_other(name):
    rows = trace(build(name))
    spans = nested_spans(rows)
    assert [last - first + 1 for first, last in spans] == [row.field_out for row in rows]
    assert spans[-1] == rows[-1].span(rows[-1].size_out // 2)
    for inner, outer in itertools.pairwise(spans):
        assert outer[0] <= inner[0] and inner[1] <= outer[1]


def test_nested_spans_follow_the_middle_of_every_kernel():
    rows = trace(nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3, stride=2), nn.AvgPool2d(12)))
    # From 12 units the 6th and the 7th are in the middle; the 7th looks at pixels 12 ... 16, about 14.
    assert nested_spans(rows) == [(13, 15), (12, 16), (0, 26)]


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


def test_looking_at_a_network_leaves_it_and_the_random_numbers_alone():
    model = build("CompactNet").train()
    before = copy.deepcopy(model.state_dict())
    state = torch.get_rng_state()
    trace(model)
    facts(model)
    layer_table(model)
    assert model.training and all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_facts_by_hand():
    found = facts(build("SkeletonNet"))
    assert found.trainable == found.deployed == 80 + 1168 + 3480 + 250
    assert found.multiply_accumulates == 72 * 26**2 + 1152 * 11**2 + 3456 * 3**2 + 240
    assert found.receptive_field == 26


@pytest.mark.parametrize("name", MODELS)
def test_both_tables_of_layers_end_with_the_totals(name):
    model = build(name)
    assert layer_table(model).endswith(f"Total params: {count_parameters(model):,}")
    lines = field_table(trace(model)).splitlines()
    assert len(lines) == len(trace(model)) + 3
    assert f"{count_parameters(model):,}" in lines[-2] and f"{facts(model).multiply_accumulates:,}" in lines[-2]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Conv2d(1, 2, 3), "single path"),
        (nn.Sequential(nn.Conv2d(1, 2, (3, 5))), "not square"),
        (nn.Sequential(nn.Conv2d(1, 2, 3, padding="same")), "as a number"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(2)), "1 x 1"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveMaxPool2d(1)), "cannot trace AdaptiveMaxPool2d"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), Residual()), "cannot trace Residual"),
        (
            nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False)),
            "without running statistics it sees all images of a batch",
        ),
        (nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3)), Skipping(nn.Conv2d(2, 2, 1))), "cannot trace Skipping"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(3, ceil_mode=True)), "ceil_mode"),
        (nn.Sequential(nn.Conv2d(1, 2, 3, padding=1, padding_mode="reflect")), "padding with zeros"),
        (nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 2, 3)), "follows no convolution"),
    ],
)
def test_what_the_recurrence_does_not_cover_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        trace(model)
