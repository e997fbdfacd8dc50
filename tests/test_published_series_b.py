import pytest
import torch
from torch import nn

from mnist_lab.models import leaves
from mnist_lab.published.series_b import B1, B2, B3, B3Later, block
from mnist_lab.receptive_field import trace


def test_parameters_layer_by_layer():
    for network, rows in [
        (B1(), [90, 1080, 1296, 120, 0, 1080, 1296, 1296, 1296, 3000]),
        (B2(), [90 + 20, 1080 + 24, 1296 + 24, 120, 0, 1080 + 24, 1296 + 24, 1296 + 24, 1080 + 20, 0]),
        (B3(), [108 + 24, 1512 + 28, 1764 + 28, 140 + 20, 0, 1260 + 28, 1764 + 28, 1764 + 28, 1260 + 20, 0]),
        (B3Later(), [126 + 28, 1512 + 24, 1296 + 24, 120 + 20, 0, 1080 + 24, 1296 + 24, 1296 + 24, 1080 + 20, 20]),
    ]:
        assert [row.parameters for row in trace(network)] == rows


def test_maps_shrink_as_published():
    for network in (B1(), B2(), B3(), B3Later()):
        assert [row.size_out for row in trace(network)] == [26, 24, 22, 22, 11, 9, 7, 5, 5, 1]


def test_a_block_is_in_the_order_of_the_series():
    assert [type(layer) for layer in block(1, 10)] == [nn.Conv2d, nn.ReLU, nn.BatchNorm2d, nn.Dropout]
    assert block(1, 10)[-1].p == 0.07


def test_step_1_is_convolutions_and_relus_with_none_around_the_squeeze():
    kinds = [type(layer).__name__[0] for layer in leaves(B1())]  # Conv2d, ReLU, MaxPool2d, Flatten
    assert "".join(kinds) == "CRCR" + "CCM" + "CRCRCRCR" + "CF"


@pytest.mark.parametrize("network", [B2, B3, B3Later])
def test_the_defect_class_maps_are_a_block_like_any_other(network):
    layers = leaves(network())
    average = next(place for place, layer in enumerate(layers) if isinstance(layer, nn.AvgPool2d))
    convolution, *treated = layers[average - 4 : average]
    assert convolution.out_channels == 10
    assert [type(layer) for layer in treated] == [nn.ReLU, nn.BatchNorm2d, nn.Dropout]


def test_what_follows_the_squeeze_and_the_average():
    ends = {B2: ([], []), B3: ([nn.BatchNorm2d], []), B3Later: ([nn.BatchNorm2d, nn.Dropout], [nn.BatchNorm2d])}
    for network, (squeezed, averaged) in ends.items():
        layers = [type(layer) for layer in leaves(network())]
        pooling, average = layers.index(nn.MaxPool2d), layers.index(nn.AvgPool2d)
        assert layers[13:pooling] == squeezed  # three blocks of four layers and the squeeze come first
        assert layers[average + 1 : -1] == averaged


def test_the_later_logits_are_normalised():
    logits = B3Later()(torch.rand(50, 1, 28, 28))
    assert torch.allclose(logits.mean(0), torch.zeros(10), atol=1e-4)
