from dataclasses import asdict, replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.swa_utils import update_bn

from mnist_lab import experiment
from mnist_lab.batches import OrderedBatches
from mnist_lab.models import MODELS, build
from mnist_lab.recipe import ParameterError, Recipe
from mnist_lab.runtime import make_repeatable
from mnist_lab.speed.side_by_side import assemble_stack, pick_precision, train_together
from mnist_lab.training import Diverged

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


class Varied(Recipe):
    """What a recipe of another room may do: smooth the labels, and measure the norms anew before it is scored."""

    def loss(self, logits, labels):
        return F.cross_entropy(logits, labels, label_smoothing=0.1)

    def before_scoring(self, model, train):
        update_bn(OrderedBatches(train), model)


class SometimesRuined(Recipe):
    """A recipe whose network is full of NaN for seed 4."""

    def network(self):
        network = build(self.model)
        if torch.initial_seed() == 4:
            for parameter in network.parameters():
                nn.init.constant_(parameter, float("nan"))
        return network


def vary(kind: type[Recipe], recipe: Recipe, **changes) -> Recipe:
    return kind(**asdict(recipe) | changes)


@pytest.mark.parametrize("kind", [Recipe, Varied])
@pytest.mark.parametrize("name", MODELS)
def test_seeds_trained_together_are_those_trained_alone(name, kind, recipe, small, settings):
    recipe, seen = vary(kind, recipe, model=name, clean_epochs=1), []
    together = train_together(recipe, small, settings, [3, 4], seen.append)
    assert [epoch.number for epoch in seen] == [1, 1, 2, 2]
    for seed, found in zip([3, 4], together, strict=True):
        alone = experiment.train(recipe, small, replace(settings, seed=seed), on_epoch=lambda epoch: None)
        assert found.opening_loss == alone.opening_loss
        for ours, theirs in zip(found.history, alone.history, strict=True):
            assert (ours.number, ours.learning_rate) == (theirs.number, theirs.learning_rate)
            assert ours.train.loss == pytest.approx(theirs.train.loss, rel=1e-3)
            assert ours.test.loss == pytest.approx(theirs.test.loss, rel=1e-3)
        assert torch.allclose(found.probabilities, alone.probabilities, atol=5e-3)


def test_without_an_average_the_networks_themselves_are_scored(recipe, small, settings):
    recipe = replace(recipe, averaging=0.0, epochs=1)
    (found,) = train_together(recipe, small, settings, [3])
    alone = experiment.train(recipe, small, replace(settings, seed=3), on_epoch=lambda epoch: None)
    assert torch.allclose(found.probabilities, alone.probabilities, atol=5e-3)


def test_a_seed_that_diverges_leaves_the_others_alone(recipe, small, settings):
    ruined, healthy = ([kind(**asdict(recipe)), small, settings, [3, 4, 5]] for kind in (SometimesRuined, Recipe))
    first, diverged, last = train_together(*ruined)
    assert isinstance(diverged, Diverged) and "epoch 1: the loss is nan" in str(diverged)
    for found, expected in zip([first, last], train_together(*healthy)[::2], strict=True):
        assert torch.equal(found.probabilities, expected.probabilities)
        assert [epoch.train for epoch in found.history] == [epoch.train for epoch in expected.history]


def test_training_ends_when_every_seed_has_diverged(recipe, small, settings):
    (outcome,) = train_together(vary(SometimesRuined, recipe, epochs=1000), small, settings, [4])
    assert isinstance(outcome, Diverged)


@pytest.mark.parametrize("clean_epochs", [0, 1])
def test_albumentations_can_train_one_seed_only(recipe, small, settings, clean_epochs):
    recipe = replace(recipe, engine="albumentations", epochs=1, clean_epochs=clean_epochs)
    with pytest.raises(ParameterError, match=r"ENGINE 'albumentations'.* --parallel 1"):
        train_together(recipe, small, settings, [0, 1])
    (found,) = train_together(recipe, small, settings, [0])
    assert len(found.history) == 1


def test_a_cpu_computes_in_single_precision():
    assert pick_precision(torch.device("cpu"), 64) == torch.float32


@needs_cuda
def test_a_gpu_gives_the_same_numbers_twice(recipe, small, settings):
    data = small.to(torch.device("cuda"))
    first, second = (train_together(recipe, data, settings, [3, 4]) for _ in range(2))
    for found, again in zip(first, second, strict=True):
        assert torch.equal(found.probabilities, again.probabilities)
        assert [(epoch.train, epoch.test) for epoch in found.history] == [(e.train, e.test) for e in again.history]


@needs_cuda
def test_one_seed_on_a_gpu_learns_what_it_learns_on_a_cpu(recipe, small, settings):
    recipe = replace(recipe, epochs=1)
    (found,) = train_together(recipe, small.to(torch.device("cuda")), settings, [3])
    (expected,) = train_together(recipe, small, settings, [3])
    assert found.opening_loss == pytest.approx(expected.opening_loss, rel=1e-3)
    assert found.history[-1].train.loss == pytest.approx(expected.history[-1].train.loss, rel=1e-2)


@needs_cuda
def test_a_seed_that_diverges_on_a_gpu_does_not_change_a_bit_of_the_others(recipe, small, settings):
    data = small.to(torch.device("cuda"))
    first, diverged, last = train_together(vary(SometimesRuined, recipe), data, settings, [3, 4, 5])
    assert isinstance(diverged, Diverged)
    for found, expected in zip([first, last], train_together(recipe, data, settings, [3, 4, 5])[::2], strict=True):
        assert torch.equal(found.probabilities, expected.probabilities)


@needs_cuda
def test_a_stack_on_a_gpu_is_recorded_and_its_scored_networks_live_there(recipe, small, settings):
    make_repeatable(0, 1)
    update, batches, _, networks = assemble_stack(recipe, small.to(torch.device("cuda")), settings, [3, 4])
    update(*next(iter(batches)))
    assert update.step is not None and update.step.__name__ == "replay"
    assert {tensor.device.type for network in networks for tensor in network.state_dict().values()} == {"cuda"}
