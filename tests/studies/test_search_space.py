from dataclasses import asdict, fields

import optuna
import pytest
from samples import STEP

from mnist_lab.fields.trace import facts
from mnist_lab.models import PARAMETER_BUDGET
from mnist_lab.recipe import Recipe
from mnist_lab.studies.search import space
from mnist_lab.studies.search.notation import read, size_left


def test_the_first_starting_point_is_step_3_as_it_was():
    before = Recipe("CompactNet", 15, 125, 0.01, "one-cycle", 0.2, 0.998, 13.0, 2, 0.15, 10.0, 0, "tensor")
    first = space.choose(space.starting_points()[0], STEP, 15)
    assert {field.name: getattr(first, field.name) for field in fields(Recipe)} == asdict(before)
    assert first.layers == "5x5 16 pool, separable 32, separable 40, separable 48, templates"
    others = (first.elastic, first.clean_epochs, first.teacher, first.dropout, first.smoothing, first.weight_decay)
    assert not any(others) and (first.beta1, first.beta2, first.views, first.method) == (0.9, 0.999, 1, "Adam")


def test_starting_points_are_different_and_within_budget():
    found = [space.choose(point, STEP, 15) for point in space.starting_points()]
    assert len({str(one) for one in found}) == len(found) >= 12
    counts = [facts(one.network()) for one in found]
    assert all(one.trainable == one.deployed < PARAMETER_BUDGET for one in counts)
    texts = [one.layers for one in found]
    assert "3x3 8, 3x3 16 pool, separable 32, separable 40, separable 44, templates" in texts
    assert "3x3 12, separable 20, separable 24, separable 32 pool, separable 36, separable 40, templates" in texts
    assert any(text.startswith("6x6 24 stride 2, ") for text in texts)


def test_whatever_is_sampled_is_a_network_within_budget_that_fills_it():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    stems, filled = set(), []
    for _ in range(60):
        trial = study.ask()
        recipe = space.recipe(trial, STEP, 5)
        counts, (layers, _) = facts(recipe.network()), read(recipe.layers)
        assert counts.trainable <= trial.params["parameters"] and counts.deployed < PARAMETER_BUDGET
        filled.append(trial.params["parameters"] - counts.trainable)
        assert size_left(layers) >= space.SMALLEST_HEAD
        assert sum(layer.pool or layer.stride == 2 for layer in layers) == 1
        assert all(layer.channels % trial.params["channel multiple"] == 0 for layer in layers)
        assert (recipe.epochs, recipe.name, recipe.kind) == (5, f"trial-{trial.number}", "trial")
        assert recipe == space.choose(trial.params, STEP, 5, trial.number)  # so a record can be made again
        stems.add((trial.params["stem"], trial.params.get("between")))
        study.tell(trial, 0.0)
    assert len(stems) >= 8
    assert sorted(filled)[30] < 250


@pytest.mark.parametrize("count", [1, 2, 5])
def test_a_ramp_ends_where_it_is_told(count):
    ramp = space.ramp(2, 10, count)
    assert len(ramp) == count and ramp[-1] == 10 and ramp[0] == (2 if count > 1 else 10)


def test_channels_fill_the_budget_in_multiples():
    widths = space.fill([1, 2], 4, lambda widths: sum(widths) <= 100)
    assert widths == [32, 68]
    assert space.fill([1, 1], 4, lambda widths: sum(widths) <= 13) == [4, 8]
    assert space.fill([1, 2], 16, lambda widths: sum(widths) <= 100) == [32, 64]
