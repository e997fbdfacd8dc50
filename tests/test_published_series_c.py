import torch
from torch import nn

from mnist_lab.models import leaves
from mnist_lab.published.series_c import C1, C2, C3, block
from mnist_lab.receptive_field import trace


def test_parameters_layer_by_layer():
    for network, rows in [
        (C1(), [36 + 4, 288 + 8, 0, 1152 + 16, 160 + 10, 0]),
        (C2(), [72 + 16, 864 + 24, 1728 + 32, 0, 128 + 16, 864 + 24, 1296 + 24, 120, 0]),
        (C3(), [72 + 16, 720 + 20, 0, 1080 + 24, 1728 + 32, 0, 2304 + 32, 0, 160]),
    ]:
        assert [row.parameters for row in trace(network)] == rows


def test_maps_shrink_as_published():
    assert [row.size_out for row in trace(C3())] == [26, 24, 12, 10, 8, 4, 2, 1, 1]


def test_a_block_is_in_the_order_of_the_series():
    assert [type(layer) for layer in block(1, 8)] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]


def test_step_1_has_no_norm():
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in leaves(C1()))


def test_the_defect_of_step_2_class_maps_pass_a_relu_and_no_norm():
    assert [type(layer) for layer in leaves(C2())[-4:]] == [nn.Conv2d, nn.ReLU, nn.AvgPool2d, nn.Flatten]
    assert (C2()(torch.rand(50, 1, 28, 28)) >= 0).all()


def test_step_3_drops_little_after_both_poolings_and_the_average():
    layers = leaves(C3())
    before = [type(layers[place - 1]) for place, layer in enumerate(layers) if isinstance(layer, nn.Dropout)]
    assert before == [nn.MaxPool2d, nn.MaxPool2d, nn.AvgPool2d]
    assert {layer.p for layer in layers if isinstance(layer, nn.Dropout)} == {0.008}


def test_the_head_of_step_3_is_its_linear_layer():
    """The same number of weights, drawn from the same distribution, and the same logits."""
    convolution = C3()[-2]
    torch.manual_seed(0)
    linear = nn.Linear(16, 10, bias=False)
    torch.manual_seed(0)
    convolution.reset_parameters()
    assert torch.equal(convolution.weight.flatten(1), linear.weight)
    features = torch.rand(5, 16)
    assert torch.allclose(convolution(features[:, :, None, None]).flatten(1), linear(features), atol=1e-6)
