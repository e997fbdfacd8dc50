from dataclasses import replace

import pytest
from scipy import stats

from mnist_lab import results


def with_accuracies(record, accuracies):
    """Return one record per accuracy, with its seed and as many mistakes as that means."""
    made = []
    for seed, accuracy in enumerate(accuracies):
        epoch = {**record.history[-1], "test": {"loss": 0.02, "accuracy": accuracy}}
        made.append(replace(record, settings={**record.settings, "seed": seed}, history=[*record.history[:-1], epoch]))
    return made


def test_a_result_reduces_all_seeds(published):
    accuracies = [0.9950, 0.9940, 0.9939, 0.9961]
    result = results.summarise(with_accuracies(published, accuracies))[0]
    expected = stats.ttest_1samp(accuracies, 0).confidence_interval(0.95)
    assert result.seeds == 4
    assert result.mean == pytest.approx(0.99475)
    assert result.sd == pytest.approx(stats.tstd(accuracies))
    assert result.interval == pytest.approx((expected.low, expected.high))
    assert (result.minimum, result.maximum) == (0.9939, 0.9961)
    assert result.share_on_target == 0.75  # 99.40 % itself is on target


def test_one_seed_has_no_spread(published):
    result = results.summarise([published])[0]
    assert result.sd is None and result.interval is None
    assert "±" not in results.text_table([result])


def test_rows_stay_apart_and_in_order(published):
    found = results.summarise([replace(published, row=row) for row in ("1", "2a", "2")])
    assert [result.row for result in found] == ["1", "2a", "2"]


def test_a_row_must_be_of_one_recipe_and_hold_a_seed_once(published):
    other = replace(published, recipe={**published.recipe, "epochs": 99}, settings={**published.settings, "seed": 1})
    with pytest.raises(ValueError, match="mixes different recipes"):
        results.summarise([published, other])
    with pytest.raises(ValueError, match="a seed twice"):
        results.summarise([published, published])


def test_tables_show_the_numbers_and_where_they_come_from(published):
    found = results.summarise(with_accuracies(published, [0.9950, 0.9960]))
    for table in (results.text_table(found), results.markdown_table(found)):
        assert "99.55 ± 0.07 %" in table
        assert "2 of 2" in table
        assert "scored on test images of MNIST." in table and "threads" in table
    sample = results.markdown_table(results.summarise([replace(published, data="digits sample, not MNIST")]))
    assert "digits sample, not MNIST" in sample


def mistaking(record, indices):
    mistakes = [{"index": i, "label": 1, "predicted": 7, "confidence": 0.6} for i in indices]
    accuracy = 1 - len(mistakes) / record.scored_images
    epoch = {**record.history[-1], "test": {"loss": 0.02, "accuracy": accuracy}}
    return replace(record, mistakes=mistakes, history=[*record.history[:-1], epoch])


def test_runs_are_compared_image_by_image(published):
    before, after = mistaking(published, range(0, 30)), mistaking(published, range(20, 35))
    found = results.compare(before, after)
    assert (found.gained, found.lost) == (20, 5)
    assert found.points == pytest.approx(0.15)
    # the exact test by hand: twice the chance of at most 5 heads in 25 throws
    assert found.p_value == pytest.approx(2 * stats.binom.cdf(5, 25, 0.5))
    assert results.compare(before, before).p_value == 1


def test_wilson_interval_against_its_formula():
    low, high = results.accuracy_interval(9950, 10_000)
    z, n, share = stats.norm.ppf(0.975), 10_000, 0.995
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    assert (low, high) == pytest.approx((middle - half, middle + half))


def test_the_comparison_table_compares_with_the_row_above(published):
    before, after = mistaking(published, range(0, 30)), replace(mistaking(published, range(20, 35)), row="9")
    lines = results.comparison_table([before, after]).splitlines()
    assert "30 of 10,000" in lines[2] and "+" not in lines[2]
    assert "+0.15 | 20 | 5 |" in lines[3]
    assert "test images of MNIST" in lines[-1]
