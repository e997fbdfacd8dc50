import torch
from torch import nn

from mnist_lab.batches import OrderedBatches
from mnist_lab.models import leaves
from mnist_lab.published.series_e import E1, E2, E3, block, leaky_block
from mnist_lab.receptive_field import trace
from mnist_lab.records import find_mistakes
from mnist_lab.training import evaluate, predict


def test_parameters_layer_by_layer():
    for network, rows in [
        (E1(), [72 + 16, 576 + 16, 0, 864 + 24, 1296 + 24, 0, 1728 + 32, 2304 + 32, 0, 0]),
        (E2(), [108 + 24, 1728 + 32, 160, 0, 1080 + 24, 1296 + 24, 1296 + 24, 1296 + 24, 0, 120]),
    ]:
        assert [row.parameters for row in trace(network)] == rows


def test_maps_shrink_as_published():
    assert [row.size_out for row in trace(E1())] == [28, 28, 14, 14, 14, 7, 7, 7, 3, 1]


def test_blocks_are_in_the_order_of_the_series():
    assert [type(layer) for layer in leaky_block(1, 8)] == [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU]
    assert [type(layer) for layer in block(1, 8, dropout=0.04)] == [nn.Conv2d, nn.ReLU, nn.BatchNorm2d, nn.Dropout]
    assert [type(layer) for layer in block(1, 8)] == [nn.Conv2d, nn.ReLU, nn.BatchNorm2d]


def test_the_defect_of_step_1_six_classes_are_no_digit(few):
    """Probabilities are shared with them, and an image read as one of them is misread."""
    network, batches = E1(), OrderedBatches(few)
    norm = network[7][1]
    assert isinstance(norm, nn.BatchNorm2d)
    nn.init.constant_(norm.bias[12:13], 9.0)
    probabilities = predict(network, batches)
    assert probabilities.shape == (103, 16)
    assert torch.allclose(probabilities.sum(1), torch.ones(103), atol=1e-5)
    assert [mistake["predicted"] for mistake in find_mistakes(probabilities, few.labels)] == [12] * 103
    assert evaluate(network, batches).accuracy == 0


def test_dropout_is_four_percent_after_every_norm_of_step_3():
    layers = leaves(E3())
    dropouts = [place for place, layer in enumerate(layers) if isinstance(layer, nn.Dropout)]
    assert [layers[place].p for place in dropouts] == [0.04] * 6
    assert all(isinstance(layers[place - 1], nn.BatchNorm2d) for place in dropouts)
    assert not any(isinstance(layer, nn.Dropout) for layer in leaves(E2()))


def test_steps_2_and_3_differ_in_dropout_alone():
    second, third = E2().eval(), E3().eval()
    third.load_state_dict(second.state_dict())
    images = torch.rand(5, 1, 28, 28)
    assert torch.equal(second(images), third(images))
