"""Against published values; Student's sleep data are those of R's documentation, the p-values what R prints."""

import math

import numpy as np
import pytest
from scipy import stats

from mnist_lab.evidence import uncertainty
from mnist_lab.evidence.uncertainty import Misread

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


def test_pairs_of_students_sleep_data():
    found = uncertainty.paired(DRUG_1, DRUG_2)  # R: t.test(extra ~ group, data = sleep, paired = TRUE)
    assert found.mean == pytest.approx(1.58)
    assert found.interval == pytest.approx((0.7001142, 2.4598858), abs=1e-7)
    assert found.p_value == pytest.approx(0.002833, abs=5e-7)
    assert found.effect == pytest.approx(1.2845580 * (1 - 3 / (4 * 9 - 1)), rel=2e-3)
    assert found.is_clear
    assert uncertainty.paired([0.5], [0.6]) is None
    assert uncertainty.paired([1.0, 2.0], [2.0, 3.0]) is None  # nothing says how sure that is
    assert uncertainty.paired([99.50, 99.60], [99.52, 99.62]) is None  # nor here: rounding is no spread
    assert uncertainty.paired([0.5, 0.7], [0.5, 0.7]) is None
    with pytest.raises(ValueError):
        uncertainty.paired([1.0, 2.0], [2.0, 3.0, 4.0])


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


def test_dunnett_in_blocks_of_one_sample_is_the_test_of_pairs():
    (found,) = uncertainty.dunnett(DRUG_1, [DRUG_2], in_blocks=True)
    expected = uncertainty.paired(DRUG_1, DRUG_2)
    assert found.interval == pytest.approx(expected.interval, rel=1e-3)
    assert found.p_value == pytest.approx(expected.p_value, abs=1e-4)


def test_what_a_block_has_in_common_is_no_spread():
    generator = np.random.default_rng(2)
    values, folds = generator.normal(size=(4, 6)), 100 * generator.normal(size=6)
    found, moved = (uncertainty.dunnett(one[0], list(one[1:]), in_blocks=True) for one in (values, values + folds))
    for one, other in zip(found, moved, strict=True):
        assert other.interval == pytest.approx(one.interval)
    assert moved[0].interval[1] - moved[0].interval[0] < 10
    apart = uncertainty.dunnett(values[0] + folds, list(values[1:] + folds))
    assert apart[0].interval[1] - apart[0].interval[0] > 100


def test_dunnett_in_blocks_is_wrong_in_one_of_twenty_whole_sets():
    wrong, sets = 0, 1500
    generator = np.random.default_rng(0)
    values = generator.normal(size=(6, 4))
    left = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
    (half,) = {
        round(one.interval[1] - one.mean, 9) for one in uncertainty.dunnett(values[0], values[1:], in_blocks=True)
    }
    bound = half / math.sqrt((left**2).sum() / 15)  # in spreads; 15 degrees of freedom are left of 24 values
    for _ in range(sets):
        values = generator.normal(size=(6, 4)) + 5 * generator.normal(size=4)
        left = values - values.mean(0) - values.mean(1, keepdims=True) + values.mean()
        wrong += np.abs((values[1:] - values[0]).mean(1)).max() > bound * math.sqrt((left**2).sum() / 15)
    assert wrong / sets == pytest.approx(0.05, abs=0.017)


def test_nothing_varies_nothing_is_compared():
    assert uncertainty.dunnett([0.5, 0.5], [[0.6, 0.6], [0.7, 0.7]]) is None
    assert uncertainty.dunnett([0.5, 0.5], [[0.6, 0.6], [0.7, 0.8]])[0].mean == pytest.approx(0.1)


def drawn_one_by_one(folds: list[Misread], times: int, generator) -> np.ndarray:
    """Return shares misread by seeds and writers drawn again, index by index."""
    shares = []
    for _ in range(times):
        wrong = images = 0
        for fold in folds:
            runs, writers = (generator.integers(0, count, count) for count in fold.wrong.shape)
            wrong += fold.wrong[runs][:, writers].sum() / len(runs)
            images += fold.images[writers].sum()
        shares.append(wrong / images)
    return np.array(shares)


@pytest.fixture
def some() -> list[Misread]:
    """Two folds: 5 and 4 seeds that are not equally good, 40 and 30 writers who are not equally hard to read."""
    generator = np.random.default_rng(1)
    found = []
    for runs, writers in ((5, 40), (4, 30)):
        images = generator.integers(5, 40, writers)
        chances = np.outer(np.linspace(0.5, 1.5, runs), generator.gamma(0.5, 0.1, writers)).clip(max=1)
        found.append(Misread(generator.binomial(images, chances).astype(float), images))
    return found


def test_interval_of_seeds_that_agree_is_that_of_the_writers():
    """Each writes 20 images, all read or all misread: then the number of writers misread is binomial."""
    wrong = np.zeros((5, 50))
    wrong[:, :10] = 20
    low, high = uncertainty.interval_by_writer([Misread(wrong, np.full(50, 20))])
    expected = 1 - stats.binom.ppf([0.975, 0.025], 50, 0.2) / 50
    assert (low, high) == pytest.approx(tuple(expected), abs=1e-3)


def test_interval_holds_the_spread_of_seeds_and_of_writers(some):
    for folds in (some, some[:1]):
        found = uncertainty.interval_by_writer(folds)
        drawn = 1 - drawn_one_by_one(folds, 4000, np.random.default_rng(0))
        assert found == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.004)
    alike = [Misread(fold.wrong.mean(0, keepdims=True).repeat(4, 0), fold.images) for fold in some]
    narrow, wide = uncertainty.interval_by_writer(alike), uncertainty.interval_by_writer(some)
    assert wide[1] - wide[0] > 1.1 * (narrow[1] - narrow[0])


def test_interval_holds_the_truth_in_19_of_20_sets_of_writers():
    """Some people write badly; a run misreads a tenth of all images of all people."""
    generator, inside, sets = np.random.default_rng(4), 0, 80
    for _ in range(sets):
        images = generator.integers(10, 50, 60)
        hard = generator.beta(0.5, 4.5, 60)
        wrong = generator.binomial(images, hard)  # the same for all seeds
        low, high = uncertainty.interval_by_writer([Misread(np.tile(wrong, (3, 1)).astype(float), images)])
        inside += low <= 0.9 <= high
    assert inside / sets == pytest.approx(0.93, abs=0.06)  # with 60 writers, percentiles are a little too narrow


def test_interval_is_repeatable_and_bears_extremes(some):
    assert uncertainty.interval_by_writer(some) == uncertainty.interval_by_writer(some)
    images = np.array([3, 7])
    assert uncertainty.interval_by_writer([Misread(np.zeros((2, 2)), images)]) == (1, 1)
    assert uncertainty.interval_by_writer([Misread(np.array([images, images], float), images)]) == pytest.approx((0, 0))
    assert uncertainty.interval_by_writer([Misread(np.ones((1, 2)), images)]) is None
    assert uncertainty.interval_by_writer([Misread(np.ones((1, 2)), images)] * 2) is not None  # a run for each fold


def test_gain_is_paired_by_writer(some):
    """A recipe that misreads one image less of each second writer, however hard that one is."""
    better = [Misread(np.maximum(fold.wrong - np.arange(len(fold.images)) % 2, 0), fold.images) for fold in some]
    found = uncertainty.gain_by_writer(some, better)
    generator, drawn = np.random.default_rng(5), []
    for _ in range(4000):
        gained = images = 0
        for before, after in zip(some, better, strict=True):
            count, writers = before.wrong.shape
            people = generator.integers(0, writers, writers)
            first, second = (generator.integers(0, count, count) for _ in range(2))
            gained += (before.wrong[first].mean(0) - after.wrong[second].mean(0))[people].sum()
            images += before.images[people].sum()
        drawn.append(gained / images)
    assert found == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.004)
    whole = uncertainty.interval_by_writer(some)
    assert found[1] - found[0] < whole[1] - whole[0]


def test_gain_of_a_recipe_over_itself_is_none():
    wrong = np.tile(np.random.default_rng(0).integers(0, 9, 30), (3, 1)).astype(float)
    same = [Misread(wrong, np.full(30, 10))]
    assert uncertainty.gain_by_writer(same, same) == pytest.approx((0, 0))
    assert uncertainty.gain_by_writer(same, [Misread(wrong[:1], same[0].images)]) is None
    low, high = uncertainty.gain_by_writer(same, [Misread(wrong / 2, same[0].images)])
    assert 0 < low < high  # fewer misread is a gain


def test_error_by_writer_is_that_of_drawing_writers_again(some):
    for fold in some:
        alike = Misread(fold.wrong.mean(0, keepdims=True), fold.images)
        drawn = drawn_one_by_one([alike], 4000, np.random.default_rng(0))
        assert uncertainty.error_by_writer(fold) == pytest.approx(drawn.std(), rel=0.05)


def test_spreads_by_hand():
    """Mean squares: between 2 * (2^2 + 2^2) / 1 = 16, within (1 + 1 + 1 + 1) / 2 = 2; (16 - 2) / 2 = 7."""
    assert uncertainty.nested_spreads([[1, 3], [5, 7]]) == pytest.approx((7**0.5, 2**0.5))
    assert uncertainty.nested_spreads([[1, 5], [5, 1]]) == (0, pytest.approx(8**0.5))
    assert uncertainty.nested_spreads([[1], [2], [3]]) == (1, None)


def test_spreads_are_those_that_made_the_values():
    generator, variances = np.random.default_rng(0), []
    for _ in range(2000):
        folds = [generator.normal(generator.normal(0, 2), 1, size).tolist() for size in (1, 2, 3, 3, 4, 2)]
        variances.append(np.square(uncertainty.nested_spreads(folds)))
    assert np.mean(variances, axis=0) == pytest.approx([4, 1], rel=0.08)


def test_two_pairs_have_an_interval_and_no_effect_size():
    found = uncertainty.paired([1.0, 2.0], [2.0, 4.0])
    assert found.mean == 1.5 and found.interval == pytest.approx((1.5 - 12.706 * 0.5, 1.5 + 12.706 * 0.5), rel=1e-3)
    assert found.effect is None
    (one,) = uncertainty.dunnett([1.0, 2.0], [[2.0, 4.0]], in_blocks=True)
    assert one.mean == 1.5 and one.interval[0] < 0 < one.interval[1] and one.effect is None
