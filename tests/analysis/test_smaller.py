"""Step 3 made smaller: what trains on, what is shared, and what is scored."""

from dataclasses import replace

import pytest
import torch
from torch.nn.utils import parametrize

from mnist_lab.analysis import networks, shrinking, smaller
from mnist_lab.analysis.networks import Training
from mnist_lab.analysis.shrinking import Way
from mnist_lab.experiment import assemble, initial_network, load_data, train
from mnist_lab.fields.trace import trace
from mnist_lab.models import fold_batch_norm
from mnist_lab.speed.compiled import compiled


@pytest.fixture(scope="module")
def data(settings):
    return load_data(settings)


@pytest.mark.parametrize("tuned", [False, True])
def test_so_many_weights_stay(training, store, data, tuned):
    way = Way("zeros", 0.3, tuned)
    trained = Training("3", replace(training.recipe, epochs=3), training.settings)
    if tuned:
        model = smaller.train_shrinking(way, trained, data, smaller.begin(trained, data))
    else:
        model = shrinking.shrink(way, networks.load(training, store))
    layers = shrinking.convolutions(model)
    alive = sum(int((layer.weight != 0).sum()) for layer in layers)
    assert alive / sum(layer.weight.numel() for layer in layers) == pytest.approx(0.3, abs=0.002)
    size, work = shrinking.cost(way, fold_batch_norm(model))
    products = sum(
        int((layer.weight != 0).sum()) * row.size_out**2
        for layer, row in zip(layers, [row for row in trace(model) if row.kind == "Conv2d"], strict=True)
    )
    assert size < 0.5 * 4 * 7946 and work == products < 450_312


def test_a_network_trains_on_while_weights_go_and_while_bits_are_few(training, data):
    """Its average still follows it after the change, which wraps the weights."""
    recipe = replace(training.recipe, epochs=3)
    plain = Training("3", recipe, training.settings)
    begun, ways = smaller.begin(plain, data), (Way("zeros", 0.5, True), Way("bits", 2, True))
    ended = {way: smaller.train_shrinking(way, plain, data, begun) for way in ways}
    full = train(recipe, data, plain.settings, on_epoch=lambda epoch: None).model
    last = {way: shrinking.convolutions(model)[-1].weight for way, model in ended.items()}
    reference = shrinking.convolutions(full)[-1].weight
    start = shrinking.convolutions(networks_start(plain))[-1].weight
    for weight in last.values():
        assert not torch.equal(weight, reference)  # the change told on the last epoch
        assert (weight - reference).abs().mean() < (start - reference).abs().mean()  # and it went the same way
    assert not any(parametrize.is_parametrized(layer) for layer in shrinking.convolutions(ended[Way("bits", 2, True)]))


def test_an_average_starts_anew_where_weights_go(training, data, monkeypatch):
    plain = Training("3", replace(training.recipe, epochs=3), training.settings)
    begun = smaller.begin(plain, data)
    monkeypatch.setattr(smaller, "learn", lambda parts, recipe: parts.average.update())  # nothing is learned
    pruned = smaller.train_shrinking(Way("zeros", 0.5, True), plain, data, begun).state_dict()
    for name, weight in pruned.items():
        left = weight != 0
        assert torch.allclose(weight[left], begun["model"][name][left], atol=1e-6), name
    assert not torch.allclose(begun["average"]["0.0.weight"], begun["model"]["0.0.weight"], atol=1e-3)


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


@pytest.mark.parametrize("way", [Way("bits", 8, False), Way("rank", 8, True), Way("none", 32, False)])
def test_every_way_ends_in_a_score(training, store, way):
    found = smaller.Smaller(**smaller.make(way, training, store))
    assert 0 < found.correct <= found.images and found.way == way.name
