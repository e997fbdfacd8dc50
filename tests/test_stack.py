import pytest
import torch
from torch import nn

from mnist_lab import experiment
from mnist_lab.batches import OrderedBatches, ShuffledBatches
from mnist_lab.models import MODELS, OWN, build
from mnist_lab.recipe import Recipe
from mnist_lab.stack import StackedBatches, stack, unstack
from mnist_lab.training import Update, evaluate, train_one_epoch


@pytest.fixture
def small(settings):
    return experiment.load_data(settings)


def certain(name: str) -> nn.Sequential:
    """Build a network whose dropout, if it has any, drops nothing."""
    network = build(name)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return network


@pytest.mark.parametrize("name", MODELS)
def test_a_stack_gives_every_network_its_own_logits(name):
    networks = [certain(name) for _ in range(3)]
    images = torch.randn(5, 3, 28, 28)
    stacked = stack(networks)
    for mode in (True, False):  # in training, norms work by the batch: each network by its own
        found = stacked.train(mode)(images)
        assert found.shape[:2] == (5, 3)
        for i, network in enumerate(networks):
            assert torch.allclose(found[:, i], network.train(mode)(images[:, i : i + 1]), atol=1e-5)


@pytest.mark.parametrize("name", OWN)
def test_two_seeds_trained_together_equal_the_same_two_trained_alone(name, recipe, small, settings):
    recipe = Recipe(**{**vars(recipe), "model": name})
    together = experiment.train_together(recipe, small, settings, [3, 4], on_epoch=lambda epoch: None)
    for seed, found in zip([3, 4], together, strict=True):
        (alone,) = experiment.train_together(recipe, small, settings, [seed], on_epoch=lambda epoch: None)
        assert found.opening_loss == alone.opening_loss
        for ours, theirs in zip(found.history, alone.history, strict=True):
            assert ours.train.loss == pytest.approx(theirs.train.loss, rel=1e-3)
            assert ours.test.loss == pytest.approx(theirs.test.loss, rel=1e-3)
        assert torch.allclose(found.probabilities, alone.probabilities, atol=5e-3)


@pytest.mark.parametrize("name", MODELS)
def test_updates_of_a_stack_are_those_of_its_networks(name, few):
    """In double precision, where two orders of summing differ far less than two networks do."""

    def double(batches):
        return [(images.double(), labels) for images, labels in batches]

    def epoch(model, batches):
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        return train_one_epoch(Update(model, optimizer), double(batches))

    seeds, networks = (5, 6), [certain(name).double() for _ in range(2)]
    stacked = stack(networks)
    found = epoch(stacked, StackedBatches([ShuffledBatches(few, 20, seed=seed) for seed in seeds]))
    for seed, network, metrics, window in zip(seeds, networks, found, unstack(stacked, networks), strict=True):
        (expected,) = epoch(network, ShuffledBatches(few, 20, seed=seed))
        assert metrics.loss == pytest.approx(expected.loss, rel=1e-6)  # losses are read in single precision
        assert metrics.accuracy == expected.accuracy
        for (key, ours), theirs in zip(window.state_dict().items(), network.state_dict().values(), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-6) or key.endswith("num_batches_tracked")


def test_dropout_of_a_stack_gives_each_network_masks_of_its_own():
    networks = [nn.Sequential(nn.Conv2d(1, 5, 1), nn.Dropout(0.2)) for _ in range(3)]
    for network in networks:
        nn.init.zeros_(network[0].weight)
        nn.init.ones_(network[0].bias)
    stacked = stack(networks)
    dropped = (stacked(torch.zeros(50, 3, 28, 28)) == 0).view(50, 3, 5, 28, 28)
    shares = dropped.double().mean(dim=(0, 2, 3, 4))
    assert torch.allclose(shares, torch.full_like(shares, 0.2), atol=0.01)
    together = (dropped[:, 0] & dropped[:, 1]).double().mean()
    assert together.item() == pytest.approx(0.2**2, abs=0.005)
    assert not (stacked.eval()(torch.zeros(50, 3, 28, 28)) == 0).any()


def test_windows_follow_the_stack(few):
    networks = [build("CompactNet") for _ in range(2)]
    stacked = stack(networks).to(memory_format=torch.channels_last)
    windows = unstack(stacked, networks)
    with torch.no_grad():
        for tensor in [*stacked.parameters(), *stacked.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor))
    images = torch.randn(5, 2, 28, 28)
    found = stacked.eval()(images)
    for i, window in enumerate(windows):
        assert torch.allclose(found[:, i], window.eval()(images[:, i : i + 1]), atol=1e-4)
        assert not torch.equal(networks[i][0][0].weight, window[0][0].weight)  # the originals stay


def test_a_network_that_diverges_leaves_the_others_alone(recipe, small, settings, monkeypatch):
    made = []

    def ruined_once(name):
        made.append(build(name))
        if len(made) % 2 == 0:  # the second of the two seeds
            nn.init.constant_(made[-1][0][0].weight, float("nan"))
        return made[-1]

    (alone,) = experiment.train_together(recipe, small, settings, [3], on_epoch=lambda epoch: None)
    monkeypatch.setattr(experiment, "measure_opening", lambda *ignored: 0.0)
    monkeypatch.setattr("mnist_lab.recipe.build", ruined_once)
    found, diverged = experiment.train_together(recipe, small, settings, [3, 4], on_epoch=lambda epoch: None)
    assert isinstance(diverged, experiment.Diverged)
    assert found.history[-1].train.loss == pytest.approx(alone.history[-1].train.loss, rel=1e-3)


def test_stacked_batches_are_those_of_each_seed(few, recipe):
    def batches(seed):
        return ShuffledBatches(few, 20, seed=seed, augment=recipe.augment())

    for augmented in (True, False):
        alone = [batches(seed) for seed in (5, 6)]
        together = StackedBatches([batches(seed) for seed in (5, 6)])
        if not augmented:
            for one in [*alone, *together.seeds]:
                one.augment = None
        assert len(together) == len(alone[0])
        for (images, labels), *singles in zip(together, *alone, strict=True):
            assert images.shape == (20, 2, 28, 28)
            for i, (own_images, own_labels) in enumerate(singles):
                assert torch.equal(labels[:, i], own_labels)
                assert torch.allclose(images[:, i : i + 1], own_images, atol=1e-6)


def test_a_layer_that_mixes_networks_is_refused():
    with pytest.raises(ValueError, match=r"Softmax.* cannot be stacked"):
        stack([nn.Sequential(nn.Softmax(1)) for _ in range(2)])


def test_the_networks_of_a_stack_can_be_scored(few, recipe, small, settings):
    parts = experiment.assemble(recipe, small, settings, [0, 1])
    scores = [evaluate(network, OrderedBatches(small.test)) for network in parts.scored]
    assert scores[0] != scores[1]
