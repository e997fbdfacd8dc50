import torch
from torch import nn

from mnist_lab.models import leaves
from mnist_lab.published.series_d import D1, D2, D3, block
from mnist_lab.receptive_field import trace


def test_parameters_layer_by_layer():
    wide, narrow = 2025 + 15 + 30, 910 + 20
    for network, rows in [
        (D1(), [150 + 30, wide, wide, 0, wide, wide, wide, 1620 + 12 + 24, 0, 130]),
        (D2(), [100 + 20, narrow, narrow, 0, narrow, narrow, narrow, 1092 + 24, 0, 130]),
    ]:
        assert [row.parameters for row in trace(network)] == rows


def test_a_block_is_in_the_order_of_the_series():
    assert [type(layer) for layer in block(1, 8)] == [nn.Conv2d, nn.ReLU, nn.BatchNorm2d]
    assert [type(layer) for layer in block(1, 8, dropout=0.05)][2:] == [nn.BatchNorm2d, nn.Dropout]


def test_which_blocks_end_with_dropout():
    for network, expected in [(D1(), {5}), (D2(), {1, 2, 4, 5}), (D3(), {1, 2, 3, 4, 5, 6, 7})]:
        number, found = 0, set()
        for layer in leaves(network):
            number += isinstance(layer, nn.Conv2d)
            if isinstance(layer, nn.Dropout):
                assert layer.p == 0.05
                found.add(number)
        assert found == expected


def test_steps_2_and_3_differ_in_dropout_alone():
    second, third = D2().eval(), D3().eval()
    third.load_state_dict(second.state_dict())
    images = torch.rand(5, 1, 28, 28)
    assert torch.equal(second(images), third(images))
