import itertools
from dataclasses import replace

import pytest
import torch

from mnist_lab import experiment
from mnist_lab.batches import OrderedBatches
from mnist_lab.training import evaluate, train_one_epoch


@pytest.fixture
def small(settings):
    return experiment.load_data(settings)


def history(run: experiment.Run) -> list:
    return [(epoch.number, epoch.learning_rate, epoch.train, epoch.test) for epoch in run.history]


def test_a_seed_repeats_a_run_exactly_and_another_does_not(recipe, small, settings):
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
    assert [epoch.train for epoch in plain.history] == [epoch.train for epoch in run.history]
    assert [epoch.test for epoch in plain.history] != [epoch.test for epoch in run.history]


def test_one_training_gives_the_run_with_and_without_the_average(recipe, small, settings):
    both = experiment.train(recipe, small, settings, also_unaveraged=True)
    averaged, plain = (experiment.train(replace(recipe, averaging=decay), small, settings) for decay in (0.9, 0.0))
    assert history(both) == history(averaged)
    assert history(both.unaveraged) == history(plain)
    assert torch.equal(both.unaveraged.probabilities, plain.probabilities)
    assert averaged.unaveraged is None


def test_a_line_per_epoch(recipe, small, settings, capsys):
    experiment.train(recipe, small, settings)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("epoch  2/2   train: ") and "%   test: " in lines[1] and len(lines[1]) <= 86


def test_the_opening_is_that_of_the_first_batches(recipe, small, settings):
    """By hand: train on the first ten batches alone, and then look whether the run itself still starts afresh."""
    parts = experiment.assemble(recipe, small, settings)
    first = list(itertools.islice(parts.batches, 10))
    expected = train_one_epoch(parts.model, first, parts.optimizer, parts.scheduler).loss
    assert experiment.train(recipe, small, settings).opening_loss == expected


def test_the_opening_tells_recipes_apart(recipe, small, settings):
    opening = experiment.measure_opening(recipe, small, settings)
    assert experiment.measure_opening(recipe, small, settings) == opening
    changes = {
        "rotation": 13.0,
        "learning_rate": 0.02,
        "schedule": "constant",
        "model": "SkeletonNet",
        "warmup": 0.3,
    }
    for name, value in changes.items():
        changed = experiment.measure_opening(replace(recipe, **{name: value}), small, settings)
        assert abs(changed - opening) > 1e-3 * opening, name


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
    opening = experiment.measure_opening(recipe, experiment.load_data(on_gpu), on_gpu)
    expected = experiment.measure_opening(recipe, experiment.load_data(settings), settings)
    assert opening == pytest.approx(expected, rel=1e-3)


def test_a_network_may_be_made_faster_before_it_trains(recipe, settings):
    data, prepared = experiment.load_data(settings), []

    def prepare(model):
        prepared.append(model)
        return torch.nn.Sequential(model)  # another module, which computes the same

    run = experiment.train(recipe, data, settings, on_epoch=lambda epoch: None, prepare=prepare)
    plain = experiment.train(recipe, data, settings, on_epoch=lambda epoch: None)
    assert len(prepared) == 2  # for the opening, and for the run
    assert type(run.model) is torch.nn.Sequential and type(plain.model) is type(prepared[0])
    assert run.opening_loss == plain.opening_loss and torch.equal(run.probabilities, plain.probabilities)
