from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from mnist_lab import experiment
from mnist_lab.batches import OrderedBatches
from mnist_lab.models import leaves
from mnist_lab.recipe import Recipe
from mnist_lab.training import evaluate


@pytest.fixture
def small(settings):
    return experiment.load_data(settings)


def history(run: experiment.Run) -> list:
    return [(epoch.number, epoch.learning_rate, epoch.train, epoch.test) for epoch in run.history]


@pytest.mark.parametrize("name", ["CompactNet", "C3"])  # without and with dropout
def test_a_seed_repeats_a_run_exactly_and_another_does_not(name, recipe, small, settings):
    recipe = replace(recipe, model=name)
    first, again = (experiment.train(recipe, small, settings) for _ in range(2))
    other = experiment.train(recipe, small, replace(settings, seed=1))
    assert history(first) == history(again)
    assert torch.equal(first.probabilities, again.probabilities)
    assert history(first) != history(other)


def test_the_result_is_that_of_the_averaged_network(recipe, small, settings):
    run = experiment.train(recipe, small, settings)
    assert evaluate(run.model, OrderedBatches(small.test)) == run.history[-1].test
    accuracy = int((run.probabilities.argmax(1) == small.test.labels).sum()) / len(small.test)
    assert accuracy == run.history[-1].test.accuracy
    plain = experiment.train(replace(recipe, averaging=0.0), small, settings)
    assert [epoch.train for epoch in plain.history] == [epoch.train for epoch in run.history]  # averaging only looks
    assert [epoch.test for epoch in plain.history] != [epoch.test for epoch in run.history]


class FreshStatistics(Recipe):
    fresh_statistics = True


@pytest.mark.parametrize("averaging", [0.9, 0.0])
def test_norms_can_be_measured_anew_before_scoring(averaging, recipe, small, settings):
    """By hand: what the first norm sees of the undistorted training images, at once and not as a moving average."""
    plain = replace(recipe, averaging=averaging)
    usual, fresh = (experiment.train(kind(**asdict(plain)), small, settings) for kind in (Recipe, FreshStatistics))
    assert [epoch.train for epoch in fresh.history] == [epoch.train for epoch in usual.history]  # it only looks
    convolution, pooling, norm, *_ = leaves(fresh.model)
    images = torch.cat([images for images, _ in OrderedBatches(small.train)])
    with torch.no_grad():
        seen = pooling(convolution(images))
    assert torch.allclose(norm.running_mean, seen.mean((0, 2, 3)), atol=1e-3)
    assert torch.allclose(norm.running_var, seen.var((0, 2, 3)), rtol=1e-2)
    assert not torch.allclose(leaves(usual.model)[2].running_mean, norm.running_mean, atol=1e-2)
    assert evaluate(fresh.model, OrderedBatches(small.test)) == fresh.history[-1].test
    assert [epoch.test for epoch in fresh.history] != [epoch.test for epoch in usual.history]


def test_norms_of_a_stack_are_measured_one_by_one(recipe, small, settings):
    fresh = FreshStatistics(**asdict(recipe))
    (alone,) = experiment.train_together(fresh, small, settings, [1], on_epoch=lambda epoch: None)
    _, other = experiment.train_together(fresh, small, settings, [0, 1], on_epoch=lambda epoch: None)
    for ours, theirs in zip(leaves(other.model), leaves(alone.model), strict=True):
        if isinstance(ours, nn.BatchNorm2d):
            assert torch.allclose(ours.running_mean, theirs.running_mean, atol=0.02)
            assert torch.allclose(ours.running_var, theirs.running_var, rtol=0.05)


def test_a_line_per_epoch(recipe, small, settings, capsys):
    experiment.train(recipe, small, settings)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("epoch  2/2   train loss") and " test loss" in lines[1]


def test_the_opening_leaves_the_run_alone(recipe, small, settings, monkeypatch):
    run = experiment.train(recipe, small, settings)
    monkeypatch.setattr(experiment, "measure_opening", lambda *ignored: 0.0)
    without = experiment.train(recipe, small, settings)
    assert without.opening_loss == 0.0 != run.opening_loss
    assert history(without) == history(run)


def test_the_opening_tells_recipes_apart(recipe, small, settings):
    opening = experiment.measure_opening(recipe, small, settings, 0)
    assert experiment.measure_opening(recipe, small, settings, 0) == opening
    changes = {
        "rotation": 11.0,
        "learning_rate": 0.02,
        "schedule": "constant",
        "model": "SkeletonNet",
        "warmup": 0.3,
    }
    for name, value in changes.items():
        changed = experiment.measure_opening(replace(recipe, **{name: value}), small, settings, 0)
        assert abs(changed - opening) > 1e-3 * opening, name


def test_held_out_images_take_the_place_of_the_test_set(digits, settings):
    loaded = experiment.load_data(replace(settings, score_on="held-out", train_limit=None))
    assert len(loaded.train) + len(loaded.test) == len(digits.train)
    tested = {image.numpy().tobytes() for image in digits.test.images}
    trained = {image.numpy().tobytes() for image in digits.train.images}
    scored = {image.numpy().tobytes() for image in loaded.test.images}
    assert scored <= trained and not scored & tested


def test_a_limit_takes_fewer_training_images(settings):
    assert len(experiment.load_data(settings).train) == 300


def test_a_batch_larger_than_the_data_is_told_before_anything_is_drawn(recipe, small):
    with pytest.raises(ValueError, match="batch size 301 does not fit 300"):
        experiment.learning_rates(replace(recipe, batch_size=301), small)


def test_learning_rates_are_those_of_the_run(recipe, small, settings):
    batches = len(small.train) // recipe.batch_size
    rates = experiment.learning_rates(recipe, small)
    run = experiment.train(recipe, small, settings)
    assert len(rates) == 2 * batches
    assert [rates[0], rates[batches]] == [epoch.learning_rate for epoch in run.history]
    assert set(experiment.learning_rates(replace(recipe, schedule="constant"), small)) == {recipe.learning_rate}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_cuda_starts_as_the_cpu_does(recipe, settings):
    on_gpu = replace(settings, device="cuda")
    opening = experiment.measure_opening(recipe, experiment.load_data(on_gpu), on_gpu, 0)
    expected = experiment.measure_opening(recipe, experiment.load_data(settings), settings, 0)
    assert opening == pytest.approx(expected, rel=1e-3)
