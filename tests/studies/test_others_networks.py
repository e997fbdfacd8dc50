"""The networks of the published series are those that their repositories describe."""

import pytest
import torch
from torch import nn

from mnist_lab.batches import OrderedBatches
from mnist_lab.evidence.records import find_mistakes
from mnist_lab.fields.trace import trace
from mnist_lab.models import leaves
from mnist_lab.studies.others.catalogue import networks
from mnist_lab.studies.others.series_a import A2, A3
from mnist_lab.studies.others.series_b import B1, B2, B3, B3Later
from mnist_lab.studies.others.series_c import C1, C2, C3
from mnist_lab.studies.others.series_d import D1, D2, D3
from mnist_lab.studies.others.series_e import E1, E2, E3
from mnist_lab.training import evaluate, predict

A_2 = [72 + 16, 576 + 16, 64, 0, 1008 + 28, 1764 + 28, 1764 + 28, 1764 + 28, 0, 140 + 20]
D_2 = [100 + 20, 930, 930, 0, 930, 930, 930, 1092 + 24, 0, 130]
E_2 = [108 + 24, 1728 + 32, 160, 0, 1080 + 24, 1296 + 24, 1296 + 24, 1296 + 24, 0, 120]
PARAMETERS = {
    "A1": [72 + 16, 576 + 16, 64, 0, 864 + 24, 1296 + 24, 1296 + 24, 1296 + 24, 0, 120 + 20],
    "A2": A_2,
    "A3": A_2,
    "B1": [90, 1080, 1296, 120, 0, 1080, 1296, 1296, 1296, 3000],
    "B2": [90 + 20, 1080 + 24, 1296 + 24, 120, 0, 1080 + 24, 1296 + 24, 1296 + 24, 1080 + 20, 0],
    "B3": [108 + 24, 1512 + 28, 1764 + 28, 140 + 20, 0, 1260 + 28, 1764 + 28, 1764 + 28, 1260 + 20, 0],
    "B3Later": [126 + 28, 1512 + 24, 1296 + 24, 120 + 20, 0, 1080 + 24, 1296 + 24, 1296 + 24, 1080 + 20, 20],
    "C1": [36 + 4, 288 + 8, 0, 1152 + 16, 160 + 10, 0],
    "C2": [72 + 16, 864 + 24, 1728 + 32, 0, 128 + 16, 864 + 24, 1296 + 24, 120, 0],
    "C3": [72 + 16, 720 + 20, 0, 1080 + 24, 1728 + 32, 0, 2304 + 32, 0, 160],
    "D1": [150 + 30, 2070, 2070, 0, 2070, 2070, 2070, 1620 + 12 + 24, 0, 130],
    "D2": D_2,
    "D3": D_2,
    "E1": [72 + 16, 576 + 16, 0, 864 + 24, 1296 + 24, 0, 1728 + 32, 2304 + 32, 0, 0],
    "E2": E_2,
    "E3": E_2,
}
SIZES = {
    "A": [26, 24, 24, 12, 10, 8, 8, 8, 1, 1],
    "B": [26, 24, 22, 22, 11, 9, 7, 5, 5, 1],
    "C3": [26, 24, 12, 10, 8, 4, 2, 1, 1],
    "D": [26, 24, 22, 11, 9, 7, 5, 3, 1, 1],
    "E1": [28, 28, 14, 14, 14, 7, 7, 7, 3, 1],
    "E2": [26, 24, 24, 12, 10, 8, 6, 6, 1, 1],
}
FIELDS = {"A": 36, "B": 32, "C1": 28, "C2": 30, "C3": 28, "D": 28, "E1": 52, "E2": 32, "E3": 32}
# The layers in the order that an image meets them, by their first letters: (C)onvolution, (B)atch norm, (R)eLU,
# (L)eaky ReLU, (D)ropout, (M)ax and (A)verage pooling, (F)latten.
A_BLOCK, C_BLOCK, D_BLOCK = "CRBD", "CBR", "CRB"
ORDERS = {
    A2: 2 * A_BLOCK + "CM" + 4 * A_BLOCK + "A" + "CBRF",  # norm and ReLU on the logits
    B1: "CRCR" + "CCM" + 4 * "CR" + "CF",  # no ReLU around the squeeze
    B2: 3 * A_BLOCK + "CM" + 4 * A_BLOCK + "AF",  # the class maps are a block like any other
    B3: 3 * A_BLOCK + "CBM" + 4 * A_BLOCK + "AF",
    B3Later: 3 * A_BLOCK + "CBDM" + 4 * A_BLOCK + "ABF",
    C1: "CRCRM" + "CR" + "CAF",
    C2: 3 * C_BLOCK + "M" + 3 * C_BLOCK + "CRAF",  # ReLU on the class maps
    C3: 2 * C_BLOCK + "MD" + 2 * C_BLOCK + "MD" + C_BLOCK + "ADCF",
    D1: 3 * D_BLOCK + "M" + D_BLOCK + "CRBD" + 2 * D_BLOCK + "ACF",
    D2: 2 * "CRBD" + "CRB" + "M" + 2 * "CRBD" + 2 * "CRB" + "ACF",
    D3: 3 * "CRBD" + "M" + 4 * "CRBD" + "ACF",
    E1: 3 * "CBLCBLM" + "AF",
    E2: 2 * "CRB" + "CM" + 4 * "CRB" + "ACF",
    E3: 2 * "CRBD" + "CM" + 4 * "CRBD" + "ACF",
}
DROPOUT = {A3: 0.05, B2: 0.07, B3: 0.07, B3Later: 0.07, C3: 0.008, D1: 0.05, D2: 0.05, D3: 0.05, E3: 0.04}


def of(table: dict, name: str):
    """Return what ``table`` says of a network, or of its whole series."""
    return table.get(name, table.get(name[0]))


@pytest.mark.parametrize("name", PARAMETERS)
def test_each_layer_has_the_published_shape(name):
    network = networks()[name][0]()
    rows = trace(network)
    assert [row.parameters for row in rows] == PARAMETERS[name]
    assert [row.size_out for row in rows] == (of(SIZES, name) or [row.size_out for row in rows])
    assert rows[-1].field_out == of(FIELDS, name)


def test_every_published_network_is_listed_with_its_repository():
    assert networks().keys() == PARAMETERS.keys()
    assert networks()["C3"] == (C3, "nagalakshmi-nimmagadda/MNIST-CNN-COLAB")


@pytest.mark.parametrize("network", ORDERS, ids=lambda network: network.__name__)
def test_layers_come_in_the_published_order(network):
    assert "".join(type(layer).__name__[0] for layer in leaves(network())) == ORDERS[network]


@pytest.mark.parametrize("network", DROPOUT, ids=lambda network: network.__name__)
def test_dropout_is_as_strong_as_published(network):
    assert {layer.p for layer in leaves(network()) if isinstance(layer, nn.Dropout)} == {DROPOUT[network]}


@pytest.mark.parametrize(("earlier", "later"), [(A2, A3), (D2, D3), (E2, E3)])
def test_steps_2_and_3_differ_in_dropout_at_most(earlier, later):
    second, third = earlier().eval(), later().eval()
    third.load_state_dict(second.state_dict())
    images = torch.rand(5, 1, 28, 28)
    assert torch.equal(second(images), third(images))


def test_the_head_of_c3_is_a_linear_layer():
    """It has as many weights, draws them from the same distribution, and makes the same logits."""
    convolution = C3()[-2]
    torch.manual_seed(0)
    linear = nn.Linear(16, 10, bias=False)
    torch.manual_seed(0)
    convolution.reset_parameters()
    assert torch.equal(convolution.weight.flatten(1), linear.weight)
    features = torch.rand(5, 16)
    assert torch.allclose(convolution(features[:, :, None, None]).flatten(1), linear(features), atol=1e-6)


def test_an_image_that_e1_reads_as_one_of_the_six_classes_that_are_no_digit_is_misread(few):
    network, batches = E1(), OrderedBatches(few)
    norm = network[7][1]
    nn.init.constant_(norm.bias[12:13], 9.0)
    probabilities = predict(network, batches)
    assert probabilities.shape == (103, 16)
    assert torch.allclose(probabilities.sum(1), torch.ones(103), atol=1e-5)
    assert [mistake.predicted for mistake in find_mistakes(probabilities, few)] == [12] * 103
    assert evaluate(network, batches).accuracy == 0
