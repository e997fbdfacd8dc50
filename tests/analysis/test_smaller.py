from dataclasses import replace

import pytest
import torch
from torch.nn.utils import parametrize

from mnist_lab.analysis import networks, smaller
from mnist_lab.analysis.networks import Training
from mnist_lab.analysis.smaller import Way
from mnist_lab.experiment import assemble, initial_network, load_data, train
from mnist_lab.models import CompactNet, SkeletonNet, fold_batch_norm
from mnist_lab.speed.compiled import compiled
from mnist_lab.training import predict


@pytest.fixture
def network(training, store):
    return networks.load(training, store)


@pytest.fixture(scope="module")
def data(settings):
    return load_data(settings)


def test_rounded_weights_are_integers_times_a_scale_of_their_channel(network):
    weight = smaller.convolutions(network)[1].weight.detach()
    for bits in (8, 4, 2):
        rounded = smaller.Rounded(bits)(weight)
        scale = weight.flatten(1).abs().amax(1).view(-1, 1, 1, 1) / (2 ** (bits - 1) - 1)
        integers = rounded / scale
        assert torch.allclose(integers, integers.round(), atol=1e-4)
        assert integers.abs().max() <= 2 ** (bits - 1) - 1 + 1e-4
        assert ((rounded - weight).abs() <= scale / 2 + 1e-7).all()


def test_gradients_pass_through_rounding():
    weight = torch.tensor([[[[0.3, -1.0]]]], requires_grad=True)
    (smaller.Rounded(2)(weight) * torch.tensor([5.0, 7.0])).sum().backward()
    assert weight.grad.flatten().tolist() == [5.0, 7.0]


def test_a_layer_computes_what_integer_arithmetic_computes(network, data, recipe):
    """The first layer of a quantised network against a convolution of int64 numbers."""
    deployed = fold_batch_norm(network)
    ranges = smaller.ranges_of(recipe, deployed, data.train)
    images = next(iter(recipe.scored(data.test.first(8))))[0]
    layer = smaller.convolutions(deployed)[0]
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    smaller.quantise(deployed, 8, ranges)
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
        smaller.quantise(deployed, bits, smaller.ranges_of(recipe, deployed, data.train))
        found[bits] = (predict(deployed, recipe.scored(data.test)) - before).abs().max()
    assert 0 < 10 * found[8] < found[2]


def test_ranges_hold_what_layers_are_given(network, data, recipe):
    ranges = smaller.ranges_of(recipe, network, data.train)
    low, high = ranges[0]
    assert (low, high) == pytest.approx((-0.1307 / 0.3081, (1 - 0.1307) / 0.3081), abs=1e-3)
    assert len(ranges) == len(smaller.convolutions(network)) and not network.training
    assert not any(layer._forward_pre_hooks for layer in smaller.convolutions(network))


@pytest.mark.parametrize("tuned", [False, True])
def test_so_many_weights_stay(training, store, data, tuned):
    way = Way("zeros", 0.3, tuned)
    trained = Training("3", replace(training.recipe, epochs=3), training.settings)
    if tuned:
        model = smaller.train_shrinking(way, trained, data, smaller.begin(trained, data))
    else:
        model = smaller.shrink(way, networks.load(training, store))
    layers = smaller.convolutions(model)
    alive = sum(int((layer.weight != 0).sum()) for layer in layers)
    assert alive / sum(layer.weight.numel() for layer in layers) == pytest.approx(0.3, abs=0.002)
    size, work = smaller.cost(way, fold_batch_norm(model))
    assert size < 0.5 * 4 * 7946 and work < 450_312 / 2


def test_a_network_trains_on_while_weights_go_and_while_bits_are_few(training, data):
    """Its average still follows it after the change, which wraps the weights."""
    recipe = replace(training.recipe, epochs=3)
    plain = Training("3", recipe, training.settings)
    begun, ways = smaller.begin(plain, data), (Way("zeros", 0.5, True), Way("bits", 2, True))
    ended = {way: smaller.train_shrinking(way, plain, data, begun) for way in ways}
    full = train(recipe, data, plain.settings, on_epoch=lambda epoch: None).model
    last = {way: smaller.convolutions(model)[-1].weight for way, model in ended.items()}
    reference = smaller.convolutions(full)[-1].weight
    start = smaller.convolutions(networks_start(plain))[-1].weight
    for weight in last.values():
        assert not torch.equal(weight, reference)  # the change told on the last epoch
        assert (weight - reference).abs().mean() < (start - reference).abs().mean()  # and it went the same way
    assert not any(parametrize.is_parametrized(layer) for layer in smaller.convolutions(ended[Way("bits", 2, True)]))


@pytest.mark.parametrize("epochs", [1, 2, 4])
def test_a_run_that_goes_on_ends_like_one_that_did_not_stop(training, data, epochs):
    plain = Training("3", replace(training.recipe, epochs=epochs), training.settings)
    whole = train(plain.recipe, data, plain.settings, on_epoch=lambda epoch: None, prepare=compiled).model.state_dict()
    parts, before = assemble(plain.recipe, data, plain.settings, compiled), smaller.epochs_before(plain.recipe)
    smaller.go_on(parts, smaller.begin(plain, data), before)
    for _ in range(before, epochs):
        smaller.learn(parts, plain.recipe)
    gone_on = parts.average.model.state_dict()
    assert all(torch.equal(gone_on[name], weight) for name, weight in whole.items())


def networks_start(training):
    return initial_network(training.recipe, training.settings)


def test_templates_become_mixtures_of_a_few(network):
    before = smaller.templates(network).weight.detach().flatten(1)
    reduced = smaller.shrink(Way("rank", 4, False), network)
    after = smaller.templates(reduced).weight.detach().flatten(1)
    assert torch.linalg.matrix_rank(after, rtol=1e-4) == 4
    values = torch.linalg.svdvals(before)
    assert (after - before).norm() == pytest.approx(float(values[4:].norm()), rel=1e-3)
    assert torch.equal(smaller.templates(network).weight.flatten(1), before)


def test_costs_are_those_of_the_deployed_network():
    deployed = fold_batch_norm(CompactNet())
    assert smaller.cost(Way("none", 32, False), deployed) == (4 * 7946, 450_312)
    assert smaller.cost(Way("bits", 16, False), deployed)[0] == 2 * 7946
    biases = 8 + 8 + 16 + 40 + 40 + 56 + 56 + 10
    channels = 8 + (8 + 8) + (8 + 16) + (16 + 40) + (40 + 40) + (40 + 56) + 56 + 10
    assert smaller.cost(Way("bits", 8, False), deployed)[0] == (7946 - biases) + 4 * biases + 4 * channels + 5 * 13
    assert smaller.cost(Way("rank", 4, False), deployed)[0] == 4 * (7946 - 56 * 25 + 4 * (56 + 25))


def test_a_network_without_templates_is_refused():
    with pytest.raises(ValueError, match="has no templates"):
        smaller.templates(SkeletonNet())


@pytest.mark.parametrize("way", [Way("bits", 8, False), Way("rank", 8, True), Way("none", 32, False)])
def test_every_way_ends_in_a_score(training, store, way):
    found = smaller.Smaller(**smaller.make(way, training, store))
    assert 0 < found.correct <= found.images and found.way == way.name
