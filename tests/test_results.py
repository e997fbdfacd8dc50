from dataclasses import replace

import pytest
from scipy import stats

from mnist_lab import results
from mnist_lab.data import WRONG_TEST_LABELS


def mistaking(record, indices):
    """Return ``record`` with these images misread, and the accuracy that this means."""
    mistakes = [{"index": i, "label": 1, "predicted": 7, "confidence": 0.6} for i in indices]
    accuracy = 1 - len(mistakes) / record.scored_images
    epoch = {**record.history[-1], "test": {"loss": 0.02, "accuracy": accuracy}}
    return replace(record, mistakes=mistakes, history=[*record.history[:-1], epoch])


def test_a_result_reduces_all_seeds(seeds):
    accuracies = [0.9950, 0.9940, 0.9939, 0.9961]
    (result,) = results.summarise(seeds(accuracies))
    expected = stats.ttest_1samp(accuracies, 0).confidence_interval(0.95)
    assert result.seeds == 4
    assert result.mean == pytest.approx(0.99475)
    assert result.sd == pytest.approx(stats.tstd(accuracies))
    assert result.interval == pytest.approx((expected.low, expected.high))
    assert (result.minimum, result.maximum) == (0.9939, 0.9961)
    assert result.seeds_on_target == 3  # 99.40 % itself is on target
    assert result.on_target_at_least == pytest.approx(stats.beta.ppf(0.05, 3, 2))
    assert result.misread == pytest.approx(52.5)
    low, high = result.two_way_interval
    assert low < 0.99475 - 0.0012 and high > 0.99475 + 0.0012  # 10,000 images alone leave this much open


def test_consistent_are_seeds_whose_last_five_epochs_all_are_on_target(seeds):
    always = seeds([0.9941, 0.9950, 0.9939], late=[0.9940] * 4)
    dipped = [replace(record, settings=record.settings | {"seed": 9}) for record in seeds([0.9960], late=[0.993] * 4)]
    (result,) = results.summarise([*always, *dipped])
    assert (result.late_epochs_on_target, result.late_epochs) == (5 + 5 + 4 + 1, 20)
    assert result.seeds_consistent == 2
    assert result.seeds_on_target == 3


def test_runs_shorter_than_five_epochs_count_what_they_have(seeds):
    (record,) = seeds([0.995])
    short = replace(record, history=record.history[-2:])
    (result,) = results.summarise([short])
    assert (result.late_epochs, result.late_epochs_on_target, result.seeds_consistent) == (2, 2, 1)


def test_one_seed_has_no_spread(published):
    (result,) = results.summarise([published])
    assert result.sd is None and result.interval is None and result.two_way_interval is None
    assert result.minimum == result.mean == result.maximum == published.accuracy
    assert result.on_target_at_least == pytest.approx(0.05)


def test_mistakes_of_the_labels_are_counted_beside_the_result(published):
    three = mistaking(published, [*WRONG_TEST_LABELS[:3], 0, 1])
    five = replace(mistaking(published, [*WRONG_TEST_LABELS[:5], 2]), settings=published.settings | {"seed": 1})
    assert results.misread_wrong_labels(three) == 3
    (result,) = results.summarise([three, five])
    assert (result.misread, result.misread_wrong_labels) == (5.5, 4)
    assert result.mean == pytest.approx(1 - 5.5 / 10_000)  # nothing is dropped
    held_out = replace(three, settings=three.settings | {"score_on": "held-out"})
    for other in (held_out, replace(three, data="digits sample, not MNIST")):
        assert results.misread_wrong_labels(other) is None
        assert results.summarise([other])[0].misread_wrong_labels is None


def test_rows_stay_apart_and_in_order(published):
    found = results.summarise([replace(published, row=row) for row in ("1", "2a", "2")])
    assert [result.row for result in found] == ["1", "2a", "2"]


def test_a_row_must_be_of_one_recipe_and_hold_a_seed_once(published):
    other = replace(published, recipe={**published.recipe, "epochs": 99}, settings={**published.settings, "seed": 1})
    for reduce in (results.summarise, results.gains):
        with pytest.raises(ValueError, match="mixes different recipes"):
            reduce([published, other])
        with pytest.raises(ValueError, match="a seed twice"):
            reduce([published, published])


def test_every_row_is_compared_with_the_one_before_and_every_step_with_the_step_before(published):
    rows = [replace(published, row=row) for row in ("1", "2a", "2b", "2", "3")]
    found = results.gains(rows)
    assert [(gain.row, gain.against) for gain in found] == [
        ("2a", "1"), ("2b", "2a"), ("2", "2b"), ("2", "1"), ("3", "2"),
    ]  # fmt: skip
    assert all(gain.points == 0 and gain.difference is None for gain in found)


def test_a_gain_is_in_points_and_over_seeds(seeds):
    before = seeds([0.9930, 0.9932, 0.9934], row="2")
    after = seeds([0.9950, 0.9951, 0.9955, 0.9956])
    (gain,) = results.gains([*before, *after])
    expected = stats.ttest_ind([99.50, 99.51, 99.55, 99.56], [99.30, 99.32, 99.34], equal_var=False)
    assert gain.points == pytest.approx(0.21)
    assert gain.difference.mean == pytest.approx(0.21)
    assert gain.difference.p_value == pytest.approx(expected.pvalue)
    assert gain.difference.interval == pytest.approx(tuple(expected.confidence_interval()))
    assert gain.difference.is_clear


def test_runs_are_compared_image_by_image(published):
    before, after = mistaking(published, range(0, 30)), mistaking(published, range(20, 35))
    found = results.compare(before, after)
    assert (found.gained, found.lost) == (20, 5)
    assert found.points == pytest.approx(0.15)
    assert found.p_value == pytest.approx(2 * stats.binom.cdf(5, 25, 0.5))
    assert results.compare(before, before).p_value == 1


def test_a_run_takes_the_place_of_its_seed_in_the_study(seeds):
    tracked = seeds([0.9950, 0.9951, 0.9952])
    live = replace(tracked[1], seconds=1.0)
    rung = seeds([0.9940, 0.9941], row="3a")
    assert results.study_of([live], [*rung, *tracked]) == [tracked[0], live, tracked[2]]
    assert results.study_of([rung[0], live], [*rung, *tracked]) == [*rung, tracked[0], live, tracked[2]]


def test_a_run_of_another_recipe_or_other_images_stays_alone(seeds):
    tracked = seeds([0.9950, 0.9951])
    changed = replace(tracked[0], recipe=tracked[0].recipe | {"rotation": 1.0})
    for live in (changed, replace(tracked[0], train_images=3000), replace(tracked[0], data="digits")):
        assert results.study_of([live], tracked) == [live]
    assert results.study_of([tracked[0]], []) == [tracked[0]]
