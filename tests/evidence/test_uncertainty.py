"""Against published values; Student's sleep data are those of R's documentation, the p-values what R prints."""

import math

import numpy as np
import pytest
from scipy import stats

from mnist_lab.evidence import uncertainty

DRUG_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
DRUG_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


def test_mean_interval_of_students_sleep_data():
    assert uncertainty.mean_interval(DRUG_1 + DRUG_2) == pytest.approx((0.5955845, 2.4844155), abs=1e-7)
    assert uncertainty.mean_interval([0.5]) is None
    assert uncertainty.mean_interval([0.5, 0.5]) == (0.5, 0.5)


@pytest.mark.parametrize("count", [2, 5, 10])
def test_one_more_value_is_as_often_inside_as_said(count):
    inside = 0
    for *seen, more in stats.norm.rvs(size=(4000, count + 1), random_state=1):
        low, high = uncertainty.prediction_interval(seen)
        inside += low <= more <= high
    assert inside / 4000 == pytest.approx(0.95, abs=0.012)
    assert uncertainty.prediction_interval([0.99]) is None


@pytest.mark.parametrize(  # Newcombe, Statistics in Medicine 1998, table I
    ("hits", "count", "wilson", "exact"),
    [
        (81, 263, (0.2553, 0.3662), 0.2527),
        (15, 148, (0.0624, 0.1605), 0.0578),
        (0, 20, (0.0, 0.1611), 0.0),
        (1, 29, (0.0061, 0.1718), 0.0009),
    ],
)
def test_shares_as_newcombe_prints_them(hits, count, wilson, exact):
    assert uncertainty.wilson_interval(hits, count) == pytest.approx(wilson, abs=5e-5)
    assert uncertainty.share_at_least(hits, count, confidence=0.975) == pytest.approx(exact, abs=5e-5)


def test_59_of_59_are_the_fewest_that_prove_95_per_cent():
    assert uncertainty.share_at_least(59, 59) >= 0.95 > uncertainty.share_at_least(58, 58)
    assert uncertainty.share_at_least(59, 59) == pytest.approx(0.05 ** (1 / 59))
    assert uncertainty.share_at_least(1, 1) == pytest.approx(0.05)
    assert uncertainty.share_at_least(0, 1) == 0


def test_mcnemar_as_published():
    # Fagerland, Lydersen and Laake, BMC Medical Research Methodology 2013: 1 and 7 discordant pairs, p = 0.070
    assert uncertainty.mcnemar(1, 7) == uncertainty.mcnemar(7, 1) == pytest.approx(0.070, abs=5e-4)
    assert uncertainty.mcnemar(20, 5) == pytest.approx(2 * stats.binom.cdf(5, 25, 0.5))
    assert uncertainty.mcnemar(4, 4) == 1 and uncertainty.mcnemar(0, 0) == 1


def test_welch_of_students_sleep_data():
    found = uncertainty.welch(DRUG_1, DRUG_2)
    assert found.mean == pytest.approx(1.58)
    assert found.interval == pytest.approx((-0.2054832, 3.3654832), abs=1e-7)
    assert found.p_value == pytest.approx(0.07939, abs=5e-6)
    assert not found.is_clear
    higher = uncertainty.welch(DRUG_1, [value + 1 for value in DRUG_2])
    lower = uncertainty.welch([value + 4 for value in DRUG_1], DRUG_2)
    assert higher.is_clear and lower.is_clear and higher.mean > 0 > lower.mean


def test_effect_size_of_students_sleep_data():
    # Cohen's d as R's effsize prints it (equal counts: pooled or not is the same), and Hedges' usual approximation
    degrees = 17.776
    expected = 0.8321811 * (1 - 3 / (4 * degrees - 1))
    assert uncertainty.hedges_g(DRUG_1, DRUG_2) == pytest.approx(expected, rel=3e-4)
    assert uncertainty.hedges_g(DRUG_2, DRUG_1) == -uncertainty.hedges_g(DRUG_1, DRUG_2)


def test_effect_size_of_unequal_samples_is_unbiased():
    """The mean of g* over many samples is the true difference in the root of the mean variance."""
    generator = np.random.default_rng(0)
    pairs = ((generator.normal(0, 1, 10), generator.normal(2, 3, 30)) for _ in range(1000))
    found = np.mean([uncertainty.hedges_g(before.tolist(), after.tolist()) for before, after in pairs])
    assert found == pytest.approx(2 / math.sqrt((1 + 9) / 2), rel=0.04)


def test_no_spread_no_comparison():
    assert uncertainty.welch([0.5], [0.6, 0.7]) is None
    assert uncertainty.welch([0.6, 0.7], [0.5]) is None
    assert uncertainty.welch([0.5, 0.5], [0.6, 0.6]) is None
    assert uncertainty.welch([0.5, 0.5], [0.6, 0.7]) is None


MUCUS = [[3.8, 2.7, 4.0, 2.4], [2.8, 3.4, 3.7, 2.2, 2.0]]  # Thomson and Short, 1969, table 1
NORMAL = [2.9, 3.0, 2.5, 2.6, 3.2]


def test_dunnett_is_scipys():
    found = uncertainty.dunnett(NORMAL, MUCUS)
    assert [one.p_value for one in found] == pytest.approx([0.58325114, 0.99819341], abs=3e-4)  # as scipy prints them
    generator = np.random.default_rng(3)
    for sizes, count in [((3, 3, 2, 5, 3), 5), ((2, 2), 2)]:
        control, samples = generator.normal(size=count), [generator.normal(size=n) + n - 3 for n in sizes]
        theirs = stats.dunnett(*samples, control=control, random_state=generator)
        interval = theirs.confidence_interval()
        ours = uncertainty.dunnett(control.tolist(), [sample.tolist() for sample in samples])
        assert [one.mean for one in ours] == pytest.approx(list((interval.low + interval.high) / 2))
        assert [one.interval[0] for one in ours] == pytest.approx(list(interval.low), abs=0.01)
        assert [one.p_value for one in ours] == pytest.approx(list(theirs.pvalue), abs=1e-3)


def test_dunnett_of_one_sample_is_students_test():
    (found,) = uncertainty.dunnett(DRUG_1, [DRUG_2])
    expected = stats.ttest_ind(DRUG_2, DRUG_1)
    assert found.interval == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-3)
    assert found.p_value == pytest.approx(expected.pvalue, abs=1e-4)
    assert found.effect == pytest.approx(0.8321811 * (1 - 3 / (4 * 18 - 1)), rel=3e-4)


def test_dunnett_is_wrong_in_one_of_twenty_whole_sets():
    wrong, sets = 0, 1500
    generator = np.random.default_rng(0)
    (bound,) = {round(one.interval[1] - one.mean, 9) for one in uncertainty.dunnett([-1, 1], [[-1, 1]] * 8)}
    bound /= math.sqrt(2)  # the spread, of which every mean's error is the same share here
    for _ in range(sets):
        values = generator.normal(size=(9, 2))
        spread = math.sqrt(values.var(axis=1, ddof=1).mean())
        wrong += np.abs(values[1:].mean(axis=1) - values[0].mean()).max() > bound * spread
    assert wrong / sets == pytest.approx(0.05, abs=0.017)


def test_nothing_varies_nothing_is_compared():
    assert uncertainty.dunnett([0.5, 0.5], [[0.6, 0.6], [0.7, 0.7]]) is None
    assert uncertainty.dunnett([0.5, 0.5], [[0.6, 0.6], [0.7, 0.8]])[0].mean == pytest.approx(0.1)


def test_two_way_interval_of_seeds_that_agree_is_that_of_the_images():
    """Then the number misread of 1,000 drawn again is binomial."""
    low, high = uncertainty.two_way_interval([range(20)] * 5, 1000)
    expected = 1 - stats.binom.ppf([0.975, 0.025], 1000, 0.02) / 1000
    assert (low, high) == pytest.approx(tuple(expected), abs=1e-3)


def test_two_way_interval_holds_the_spread_of_seeds_too():
    """Against the same by drawing index by index, as scipy's bootstrap does along one axis."""
    generator = np.random.default_rng(1)
    wrong = generator.random((8, 200)) < np.linspace(0.02, 0.3, 8)[:, None]
    found = uncertainty.two_way_interval([np.flatnonzero(seed).tolist() for seed in wrong], 200)
    drawn = [1 - wrong[generator.integers(0, 8, 8)][:, generator.integers(0, 200, 200)].mean() for _ in range(4000)]
    assert found == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.006)
    images_alone = stats.bootstrap((wrong.mean(axis=0),), np.mean, n_resamples=2000, rng=0).confidence_interval
    assert found[1] - found[0] > 1.3 * (images_alone.high - images_alone.low)


def test_two_way_interval_is_repeatable_and_bears_extremes():
    misread = [{1, 5}, {5}, {2, 5, 7}]
    assert uncertainty.two_way_interval(misread, 360) == uncertainty.two_way_interval(misread, 360)
    assert uncertainty.two_way_interval([set(), set()], 360) == (1, 1)
    assert uncertainty.two_way_interval([range(10), range(10)], 10) == pytest.approx((0, 0))
    assert uncertainty.two_way_interval([{1, 5}], 360) is None
