"""Tests of the confirmation: more seeds of the best trials, beside the baseline."""

import math
import re
import statistics
from dataclasses import replace

import numpy as np
import pytest
from optuna.trial import FixedTrial
from samples import made

from mnist_lab.recipe import Recipe
from mnist_lab.studies.search import confirmation, space

STEP = Recipe("CompactNet", 15, 100, 0.02, "one-cycle", 0.2, 0.99, 13.0, 1, 0.15, 8.0, 1, "tensor")
CHOSEN = space.choices(FixedTrial(space.starting_points()[0]))


@pytest.fixture
def confirmed(make_record):
    """Makes the records of a trial over seeds, whose losses and accuracies are those of its folds and a little more."""

    def make(number: int, factor: float, gain: float, seeds: int = 6, epochs: int = 3, noise: float = 0.0) -> list:
        generator = np.random.default_rng(number)
        found = []
        for seed in range(seeds):
            loss = 0.02 * (1 + seed % 6 / 10) * factor * math.exp(noise * generator.standard_normal())
            accuracy = round(0.994 + (seed % 6) / 10_000 + gain, 4)
            what = {"kind": "trial", "score_on": "held-out", "step": None, "change": "a network", "recipe": CHOSEN}
            found.append(make_record(f"trial-{number}", seed, (accuracy,) * epochs, (loss,) * epochs, **what))
        return found

    return make


def test_a_confirmation_is_compared_fold_by_fold(confirmed):
    """Folds differ by far more than the two recipes, which only pairs can show."""
    records = confirmed(0, 1.0, 0.0) + confirmed(7, 0.9, 0.0003, noise=0.01) + confirmed(8, 1.0, 0.0, seeds=5)
    tried = [made(number) for number in (0, 7, 8)]
    best, baseline = confirmation.compare(records, 3, tried, STEP)
    assert (best.number, baseline.number) == (7, 0) and baseline.loss_change is None
    logs = [math.log(ours.loss / theirs.loss) for ours, theirs in zip(best.records, baseline.records, strict=True)]
    assert best.loss_change.mean == pytest.approx(statistics.fmean(logs))
    assert best.loss_change.is_clear and best.loss_change.interval[1] < -0.08
    assert best.accuracy_change.mean == pytest.approx(0.0003) and best.accuracy_change.is_clear
    assert confirmation.compare(records, 15, tried, STEP) == []
    table = confirmation.comparison_table([best, baseline])
    assert [row[-1] for row in table.rows] == ["better", "baseline"]
    told = dict(zip(table.headers, table.rows[0], strict=True))
    assert re.fullmatch(r"0\.90 \(0\.\d\d – 0\.\d\d\)", told["times the baseline's"])
    assert told["on new folds alone"] == told["times the baseline's"]  # nothing was chosen on any
    assert re.fullmatch(r"\+0\.030 \(0\.\d{3} – 0\.\d{3}\)", told["gain"])


def test_new_folds_are_those_on_which_nothing_was_chosen(confirmed):
    records = confirmed(0, 1.0, 0.0, seeds=12) + confirmed(7, 0.9, 0.0, seeds=12, noise=0.1)
    found = confirmation.compare(records, 3, [made(0, 0.02, 0.03), made(7, 0.02, state="pruned")], STEP)[0]
    pairs = zip(confirmed(0, 1.0, 0.0, seeds=12), found.records, strict=True)
    logs = [math.log(ours.loss / theirs.loss) for theirs, ours in pairs]
    assert found.loss_change.mean == pytest.approx(statistics.fmean(logs))
    assert found.loss_change_on_new_folds.mean == pytest.approx(statistics.fmean(logs[2:6] + logs[8:]))
    assert found.loss_change_on_new_folds.interval != found.loss_change.interval
    alone = confirmation.compare(records, 3, [made(0, *[0.02] * 5), made(7)], STEP)[0]
    assert alone.loss_change_on_new_folds is None  # one new fold has no spread
    assert alone.loss_change == found.loss_change
    row = confirmation.comparison_table([alone]).rows[0]
    assert row[confirmation.comparison_table([alone]).headers.index("on new folds alone")] == "–"


def test_seeds_of_a_fold_are_one_value(confirmed):
    """Three times the same six folds say no more than the six."""
    tried = [made(0), made(7)]
    once = confirmation.compare(confirmed(0, 1.0, 0.0) + confirmed(7, 0.9, 0.0), 3, tried, STEP)[0].loss_change
    records = confirmed(0, 1.0, 0.0, seeds=18) + confirmed(7, 0.9, 0.0, seeds=18)
    thrice = confirmation.compare(records, 3, tried, STEP)[0].loss_change
    assert thrice.interval == pytest.approx(once.interval, abs=1e-12)
    mixed = confirmation.compare(confirmed(0, 1.0, 0.0) + confirmed(7, 0.9, 0.0, seeds=18), 3, tried, STEP)[0]
    assert len(mixed.records) == 18 and mixed.loss_change.mean == pytest.approx(once.mean)


def test_what_was_confirmed_comes_before_what_only_looked_better(confirmed):
    found = [made(number, 0.02 - number / 1000, 0.02) for number in range(6)]
    assert confirmation.best(found, [], 2, STEP) == [0, 5, 4]
    records = confirmed(0, 1.0, 0.0) + confirmed(2, 0.9, 0.0) + confirmed(5, 1.1, 0.0)
    seen = confirmation.compare(records, 3, found, STEP)
    assert confirmation.best(found, seen, 3, STEP) == [0, 2, 5, 4]


def test_todays_step_is_one_of_those_that_others_are_held_against(confirmed):
    """It may have been tried: then the search chose just what its recipe says."""
    network = {"stem": "3x3", "between": "separable", "stem layers": 3, "first width": 0.5, "stem width": 0.4}
    recipe = {"growth": 1.2, "parameters": 7950, "channel multiple": 8, "clean epochs": 1, "shift": 1, "shear": 8.0}
    own = space.BASELINE | network | recipe | {"batch size": 100, "peak": 0.02, "average": 100}
    found = [made(0), made(3, 0.0185, choices=own), made(7, 0.0190), made(8, 0.0195)]
    assert confirmation.trial_of(STEP, found) == 3
    assert confirmation.trial_of(replace(STEP, shear=9.0), found) is None
    assert confirmation.trial_of(replace(STEP, model="SkeletonNet"), found) is None
    assert confirmation.best(found, [], 1, STEP) == [0, 3, 7]
    runs = confirmed(3, 0.95, 0.0, noise=0.01)
    runs = [one.model_copy(update={"recipe": one.recipe | space.choices(FixedTrial(own))}) for one in runs]
    records = confirmed(0, 1.0, 0.0) + confirmed(7, 0.9, 0.0, noise=0.01) + runs
    seen = confirmation.compare(records, 3, found, STEP)
    assert [(one.number, one.is_step) for one in seen] == [(7, False), (3, True), (0, False)]
    logs = [math.log(ours.loss / theirs.loss) for ours, theirs in zip(seen[0].records, runs, strict=True)]
    assert seen[0].loss_change_from_step.mean == pytest.approx(statistics.fmean(logs))
    assert seen[1].loss_change_from_step is None and seen[2].loss_change_from_step.mean > 0.03
    table = confirmation.comparison_table(seen)
    column = table.headers.index("times step 3's")
    assert [row[0] for row in table.rows] == ["7", "3, step 3", "0"]
    assert [row[column][:5] for row in table.rows] == ["0.95 ", "–", "1.05 "]


def test_trials_of_another_search_are_not_taken_for_those_of_this_one(confirmed):
    """Every search counts its trials from 0."""
    records = confirmed(0, 1.0, 0.0) + confirmed(7, 0.9, 0.0)
    other = made(7, 0.02, choices=space.starting_points()[1])
    assert [one.number for one in confirmation.compare(records, 3, [made(0, 0.02), other], STEP)] == [0]
    assert [one.number for one in confirmation.compare(records, 3, [made(0, 0.02)], STEP)] == [0]
