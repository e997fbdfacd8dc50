"""What rounds, prunes and reduces a network, and what the result costs."""

import pytest
import torch

from mnist_lab.analysis import networks, shrinking
from mnist_lab.analysis.shrinking import Way
from mnist_lab.experiment import load_data
from mnist_lab.models import CompactNet, SkeletonNet, fold_batch_norm
from mnist_lab.training import predict


@pytest.fixture
def network(training, store):
    return networks.load(training, store)


@pytest.fixture(scope="module")
def data(settings):
    return load_data(settings)


def test_rounded_weights_are_integers_times_a_scale_of_their_channel(network):
    weight = shrinking.convolutions(network)[1].weight.detach()
    for bits in (8, 4, 2):
        rounded = shrinking.Rounded(bits)(weight)
        scale = weight.flatten(1).abs().amax(1).view(-1, 1, 1, 1) / (2 ** (bits - 1) - 1)
        integers = rounded / scale
        assert torch.allclose(integers, integers.round(), atol=1e-4)
        assert integers.abs().max() <= 2 ** (bits - 1) - 1 + 1e-4
        assert ((rounded - weight).abs() <= scale / 2 + 1e-7).all()


def test_gradients_pass_through_rounding():
    weight = torch.tensor([[[[0.3, -1.0]]]], requires_grad=True)
    (shrinking.Rounded(2)(weight) * torch.tensor([5.0, 7.0])).sum().backward()
    assert weight.grad.flatten().tolist() == [5.0, 7.0]


def test_a_layer_computes_what_integer_arithmetic_computes(network, data, recipe):
    """The first layer of a quantised network against a convolution of int64 numbers."""
    deployed = fold_batch_norm(network)
    ranges = shrinking.ranges_of(recipe, deployed, data.train)
    images = next(iter(recipe.scored(data.test.first(8))))[0]
    layer = shrinking.convolutions(deployed)[0]
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    shrinking.quantise(deployed, 8, ranges)
    low, high = ranges[0]
    scale = (high - low) / 255
    given = (images.double() / scale).round()
    scales = weight.flatten(1).abs().amax(1) / 127
    integers = (weight / scales.view(-1, 1, 1, 1)).round()
    summed = torch.nn.functional.conv2d(given.long().double(), integers)  # exact: sums are far below 2 ** 53
    expected = summed * scale * scales.view(1, -1, 1, 1) + bias.view(1, -1, 1, 1)
    assert torch.allclose(layer(images).double(), expected, atol=2e-5)


def test_8_bits_change_little_and_2_bits_much(network, data, recipe):
    before = predict(network, recipe.scored(data.test))
    found = {}
    for bits in (8, 2):
        deployed = fold_batch_norm(network)
        shrinking.quantise(deployed, bits, shrinking.ranges_of(recipe, deployed, data.train))
        found[bits] = (predict(deployed, recipe.scored(data.test)) - before).abs().max()
    assert 0 < 10 * found[8] < found[2]


def test_ranges_hold_what_layers_are_given(network, data, recipe):
    ranges = shrinking.ranges_of(recipe, network, data.train)
    low, high = ranges[0]
    assert (low, high) == pytest.approx((-0.1307 / 0.3081, (1 - 0.1307) / 0.3081), abs=1e-3)
    assert len(ranges) == len(shrinking.convolutions(network)) and not network.training
    assert not any(layer._forward_pre_hooks for layer in shrinking.convolutions(network))


def test_templates_become_mixtures_of_a_few(network):
    before = shrinking.templates(network).weight.detach().flatten(1)
    reduced = shrinking.shrink(Way("rank", 4, False), network)
    after = shrinking.templates(reduced).weight.detach().flatten(1)
    assert torch.linalg.matrix_rank(after, rtol=1e-4) == 4
    values = torch.linalg.svdvals(before)
    assert (after - before).norm() == pytest.approx(float(values[4:].norm()), rel=1e-3)
    assert torch.equal(shrinking.templates(network).weight.flatten(1), before)


def test_costs_are_those_of_the_deployed_network():
    deployed = fold_batch_norm(CompactNet())
    assert shrinking.cost(Way("none", 32, False), deployed) == (4 * 7946, 450_312)
    assert shrinking.cost(Way("bits", 16, False), deployed)[0] == 2 * 7946
    biases = 8 + 8 + 16 + 40 + 40 + 56 + 56 + 10
    channels = 8 + (8 + 8) + (8 + 16) + (16 + 40) + (40 + 40) + (40 + 56) + 56 + 10
    assert shrinking.cost(Way("bits", 8, False), deployed)[0] == (7946 - biases) + 4 * biases + 4 * channels + 5 * 13
    assert shrinking.cost(Way("rank", 4, False), deployed)[0] == 4 * (7946 - 56 * 25 + 4 * (56 + 25))


def test_a_network_without_templates_is_refused():
    with pytest.raises(ValueError, match="has no templates"):
        shrinking.templates(SkeletonNet())


def test_the_importance_of_a_weight_is_by_its_layer():
    small = torch.tensor([3.0, -1.0, 0.0, 2.0]).view(4, 1, 1, 1)
    found = shrinking.importance(small).flatten().tolist()
    assert found == pytest.approx([1, 1 / 14, 0, 4 / 13])
    assert shrinking.importance(100 * small).flatten().tolist() == pytest.approx(found)


def test_no_layer_is_emptied(network):
    with torch.no_grad():
        shrinking.convolutions(network)[3].weight *= 1e-4  # a norm follows
    shrinking.prune(network, 0.3)
    alive = [int((layer.weight != 0).sum()) for layer in shrinking.convolutions(network)]
    assert min(alive) > 0 and alive[3] > 0.1 * shrinking.convolutions(network)[3].weight.numel()
