"""The published recipes are optimizers, schedules and distortions as their repositories state them."""

import pickle
import re
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam
from torch.optim.lr_scheduler import StepLR

from mnist_lab import experiment
from mnist_lab.batches import MEAN
from mnist_lab.data import Dataset
from mnist_lab.models import leaves
from mnist_lab.studies.others.catalogue import CLAIMS, RECIPES, SERIES, VARIANTS, usual_seeds
from mnist_lab.studies.others.distortions import DISTORTIONS, Rotate

EVERY = {recipe.name: recipe for recipe in (*RECIPES.values(), *VARIANTS)}


def schedule(recipe, updates: int, number: str = "lr") -> list[float]:
    """Return the learning rate, or another number of the optimizer's, at each of ``updates`` updates."""
    optimizer = recipe.optimizer([nn.Parameter(torch.zeros(3))])
    scheduler = recipe.scheduler(optimizer, updates)
    found = []
    for _ in range(updates):
        value = optimizer.param_groups[0][number]
        found.append(value[0] if isinstance(value, tuple) else value)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return found


@pytest.mark.parametrize("name", EVERY)
def test_a_recipe_trains(name, digits, settings):
    """The loss falls within a few updates, whatever the distortion, optimizer and schedule are."""
    recipe = pickle.loads(pickle.dumps(replace(EVERY[name], epochs=2, batch_size=32)))  # as a worker gets it
    data = Dataset(digits.name, digits.train.first(320), digits.test.first(100))
    run = experiment.train(recipe, data, settings, on_epoch=lambda epoch: None)
    assert run.history[-1].train.loss < run.opening_loss + 0.05
    assert type(run.model).__name__ == recipe.model


@pytest.mark.parametrize(("name", "epochs", "factor"), [("A1", 5, 0.5), ("A3", 8, 0.1), ("B3", 7, 0.1)])
def test_steps_are_those_of_steplr(name, epochs, factor):
    recipe, batches = RECIPES[name], 4
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=recipe.learning_rate)
    expected, scheduler = [], StepLR(optimizer, epochs, factor)
    for _ in range(15):
        expected += batches * [optimizer.param_groups[0]["lr"]]
        optimizer.step()
        scheduler.step()
    assert schedule(recipe, 15 * batches) == pytest.approx(expected)


def test_a_constant_rate_stays():
    assert set(schedule(RECIPES["C1"], 30)) == {0.01}


@pytest.mark.parametrize(
    ("name", "momentum", "peak", "top", "end"),
    [("C3", "betas", 39, 0.003, 0.003 / 25 / 1000), ("E3", "momentum", 59, 0.15, 0.15 / 25 / 175)],
)
def test_a_cycle_has_the_published_peak_and_ends(name, momentum, peak, top, end):
    rates, moments = schedule(RECIPES[name], 200), schedule(RECIPES[name], 200, momentum)
    assert rates.index(max(rates)) == moments.index(min(moments)) == peak
    assert [rates[0], max(rates), rates[-1]] == pytest.approx([top / 25, top, end])
    assert [moments[0], min(moments)] == pytest.approx([0.95, 0.85])


@pytest.mark.parametrize(
    ("name", "kind", "numbers"),
    [
        ("A1", SGD, {"lr": 0.02, "momentum": 0.9, "weight_decay": 1e-4}),
        ("A3", SGD, {"lr": 0.01, "momentum": 0.9, "weight_decay": 0}),
        ("C3", Adam, {"betas": (0.9, 0.999), "weight_decay": 5e-5}),
        ("D1", Adam, {"lr": 0.001, "weight_decay": 0}),
        ("E3", SGD, {"lr": 0.15, "momentum": 0.95, "weight_decay": 5e-4}),
    ],
)
def test_optimizers_are_those_stated(name, kind, numbers):
    optimizer = RECIPES[name].optimizer([nn.Parameter(torch.zeros(3))])
    assert type(optimizer) is kind
    assert {number: optimizer.defaults[number] for number in numbers} == numbers


def test_series_b_scores_images_that_are_normalised_in_another_way(few):
    (own, _), (theirs, _) = (next(iter(RECIPES[name].scored(few))) for name in ("A3", "B3"))
    pixels = few.images.float() / 255
    assert torch.allclose(own, (pixels - 0.1307) / 0.3081)
    assert torch.allclose(theirs, (pixels - 0.1325) / 0.3104)


def layers(recipe) -> list[type]:
    return [type(layer) for layer in leaves(recipe.network())]


@pytest.mark.parametrize("name", ["A3 no dropout", "E3 no dropout"])
def test_a_variant_without_dropout_is_the_network_without_it_and_starts_from_the_same_weights(name, settings):
    variant, published = EVERY[name], RECIPES[name[:2]]
    assert layers(variant) == [kind for kind in layers(published) if kind is not nn.Dropout] != layers(published)
    starts = [experiment.initial_network(recipe, settings).parameters() for recipe in (variant, published)]
    assert all(torch.equal(one, other) for one, other in zip(*starts, strict=True))


@pytest.mark.parametrize("name", ["A3 unclipped logits", "C2 unclipped logits"])
def test_a_variant_without_the_relu_on_its_logits_lets_them_be_negative(name):
    torch.manual_seed(0)
    images = torch.rand(50, 1, 28, 28)
    variant, published = EVERY[name], RECIPES[name[:2]]
    assert published.network()(images).min() >= 0 > variant.network()(images).min()
    assert len(layers(variant)) == len(layers(published)) - 1


def test_a_variant_outside_of_the_network_changes_one_field():
    corners, batches = EVERY["B3Later black corners"], EVERY["D3 batches of 32"]
    assert DISTORTIONS[RECIPES["B3Later"].distortion][1] == Rotate(15, fill=MEAN)
    assert DISTORTIONS[corners.distortion][1] == Rotate(15, fill=0.0)
    assert batches == replace(RECIPES["D3"], variant=batches.variant, batch_size=32)
    assert all(layers(one) == layers(RECIPES[one.published]) for one in (corners, batches))


def test_a_misspelt_variant_is_not_ignored():
    with pytest.raises(KeyError, match="no drop-out"):
        replace(RECIPES["E3"], variant="no drop-out").network()


def test_records_are_told_what_was_trained():
    assert (RECIPES["A3"].name, RECIPES["A3"].change) == ("A3", "A3 as published")
    assert (VARIANTS[0].name, VARIANTS[0].change) == ("A3 unclipped logits", "A3 unclipped logits")


def test_what_a_series_advertises_gets_more_seeds():
    assert {name for name, recipe in EVERY.items() if usual_seeds(recipe) == 5} == {"A3", "B3", "C3", "D3", "E3"}


@pytest.mark.parametrize("name", [name for name, claim in CLAIMS.items() if claim.log])
def test_a_claim_is_the_best_epoch_of_its_log(name):
    claim = CLAIMS[name]
    assert max(claim.log.accuracies) == claim.best
    assert claim.log.first_epoch - 1 + len(claim.log.accuracies) == RECIPES[name].epochs
    assert claim.training is not None and claim.loss is not None


def test_what_was_not_found_claims_nothing_and_what_was_found_names_its_commit():
    assert CLAIMS.keys() == RECIPES.keys()
    for claim in CLAIMS.values():
        logs = [log for log in (claim.log, claim.other) if log]
        assert bool(logs) == (claim.best is not None)
        assert all(re.fullmatch("[0-9a-f]{40}", log.commit) and log.file for log in logs)
    assert all(re.fullmatch("[0-9a-f]{40}", series.COMMIT) for series in SERIES)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", ["A1", "C1", "C3", "D3", "E3"])
def test_cuda_starts_as_the_cpu_does(name, settings):
    """Without dropout, whose masks differ between devices."""
    recipe = replace(RECIPES[name], batch_size=32, variant="no dropout")
    openings = [
        experiment.measure_opening(recipe, experiment.load_data(where), where)
        for where in (settings, replace(settings, device="cuda"))
    ]
    assert openings[1] == pytest.approx(openings[0], rel=1e-3)
