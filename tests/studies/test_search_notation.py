import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mnist_lab.fields.trace import facts
from mnist_lab.models import CompactNet, count_parameters, leaves
from mnist_lab.studies.search.notation import COMPACT, Layer, build, check, count, read, write

TEXTS = (
    COMPACT,
    "5x5 16 pool, separable 32 bent, separable 40, separable 48 bent padded, templates",
    "3x3 8, 3x3 16 pool, separable 32, separable 40, separable 44, templates",
    "3x3 12, separable 20, separable 24, separable 32 pool, separable 36, separable 40, templates",
    "3x3 16, 3x3 16 groups 2 pool, separable 32 padded, separable 40, average",
    "6x6 24 stride 2, separable 32, separable 40, separable 44, templates",
)


def seeded(make) -> nn.Sequential:
    torch.manual_seed(0)
    return make()


@pytest.mark.parametrize("text", TEXTS)
def test_a_network_reads_images_and_can_be_written_back(text):
    assert write(*read(text)) == text
    network = build(text)
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    assert count(*read(text)) == count_parameters(network) == facts(network).trainable


def test_it_can_say_compactnet():
    ours, theirs = seeded(lambda: build(COMPACT)), seeded(CompactNet)
    assert list(map(repr, leaves(ours))) == list(map(repr, leaves(theirs)))
    assert all(torch.equal(*pair) for pair in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_every_option_is_in_the_layers():
    layers, head = read("3x3 8 padded stride 2 groups 1, 5x5 12 groups 4 pool, separable 16 padded, average")
    assert layers == [
        Layer(8, padded=True, stride=2),
        Layer(12, kernel=5, groups=4, pool=True),
        Layer(16, separable=True, padded=True),
    ]
    assert head == "average"
    network = build("3x3 8 padded stride 2, 5x5 12 groups 4 pool, separable 16 padded, average", "ReLU", dropout=0.1)
    kinds = [type(layer) for layer in leaves(network)]
    assert kinds.count(nn.ReLU) == kinds.count(nn.Dropout) == 3 and nn.SiLU not in kinds
    first, second, across, own = [layer for layer in leaves(network) if isinstance(layer, nn.Conv2d)][:4]
    assert (first.stride, first.padding) == ((2, 2), (1, 1))
    assert (second.groups, second.padding) == (4, (0, 0))
    assert (across.groups, across.padding, own.kernel_size) == (12, (1, 1), (1, 1))
    assert isinstance(network[-1][0], nn.AvgPool2d) and network[-1][0].kernel_size == 5


def test_pooling_is_before_norm_and_activation():
    network = build("3x3 8 pool, separable 12 pool, templates")
    for block in network[:2]:
        assert [type(layer).__name__ for layer in block][-3:] == ["MaxPool2d", "BatchNorm", "SiLU"]
    images = torch.rand(4, 1, 28, 28)
    assert torch.equal(network[0][:2](images), F.max_pool2d(network[0][0](images), 2))


def test_a_bent_block_has_norm_and_activation_in_its_middle():
    block = build("3x3 8, separable 12 bent pool, average", "LeakyReLU")[1]
    kinds = ["Conv2d", "BatchNorm", "LeakyReLU", "Conv2d", "MaxPool2d", "BatchNorm", "LeakyReLU"]
    assert [type(layer).__name__ for layer in block] == kinds


def test_without_norms_convolutions_have_biases():
    layers = leaves(build("3x3 8, separable 8, separable 12 bent pool, templates", norm="none"))
    assert not [layer for layer in layers if isinstance(layer, nn.BatchNorm2d)]
    biases = [layer.bias is not None for layer in layers if isinstance(layer, nn.Conv2d)]
    assert biases == [True, False, True, True, True, True, True]  # of a plain pair only the second acts like a norm's
    for text in (COMPACT, "5x5 16 pool, separable 32 bent, average"):
        assert count_parameters(build(text, norm="none")) == count_parameters(build(text))


def test_norms_may_learn_a_scale():
    norms = [layer for layer in leaves(build(COMPACT, norm="scale and shift")) if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) == 7 and all(isinstance(norm.weight, nn.Parameter) for norm in norms)
    assert not any(isinstance(layer, nn.BatchNorm2d) and layer.weight.requires_grad for layer in leaves(build(COMPACT)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("5x5 16 pool, separable 32", "a network ends in templates or average"),
        ("templates", "nothing of the image is left"),
        ("5x5 sixteen, templates", "cannot read '5x5 sixteen'"),
        ("5x3 16, templates", "cannot read '5x3 16'"),
        ("5x5 16 pooled, templates", "cannot read '5x5 16 pooled'"),
        ("5x5 16 pool, 5x5 16 pool, 5x5 16, templates", "nothing of the image is left"),
        ("3x3 8, 3x3 9 groups 2, templates", "groups"),
        ("3x3 8 bent, templates", "'bent' is for separable"),
        ("3x3 8, separable 12 groups 2, templates", "'groups' for the others"),
        ("6x6 8 padded, templates", "a kernel with a middle"),
        ("3x3 8 stride 0, templates", "begin at 1"),
        ("3x3 0, templates", "begin at 1"),
        ("0x0 8, templates", "begin at 1"),
    ],
)
def test_what_says_no_network_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        check(text)
