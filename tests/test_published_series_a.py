import torch
from torch import nn

from mnist_lab.published.series_a import A1, A2, A3, block
from mnist_lab.receptive_field import trace


def test_parameters_layer_by_layer():
    for network, rows in [
        (A1(), [72 + 16, 576 + 16, 64, 0, 864 + 24, 1296 + 24, 1296 + 24, 1296 + 24, 0, 120 + 20]),
        (A2(), [72 + 16, 576 + 16, 64, 0, 1008 + 28, 1764 + 28, 1764 + 28, 1764 + 28, 0, 140 + 20]),
    ]:
        assert [row.parameters for row in trace(network)] == rows


def test_a_block_is_in_the_order_of_the_series():
    assert [type(layer) for layer in block(1, 8)] == [nn.Conv2d, nn.ReLU, nn.BatchNorm2d, nn.Dropout]


def test_dropout_is_five_percent_after_each_of_the_six_norms_below_the_head():
    for network in (A1(), A2(), A3()):
        assert [layer.p for layer in network.modules() if isinstance(layer, nn.Dropout)] == [0.05] * 6


def test_the_defect_logits_pass_a_norm_and_a_relu():
    torch.manual_seed(0)
    logits = A3()(torch.rand(50, 1, 28, 28))
    assert (logits >= 0).all() and 0.2 < (logits == 0).double().mean() < 0.8  # the norm has centred them


def test_the_networks_of_steps_2_and_3_are_one():
    assert str(A3()).replace("A3", "A2") == str(A2())
