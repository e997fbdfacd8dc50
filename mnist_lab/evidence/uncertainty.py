"""How sure a number is: intervals, tests and effect sizes, on scipy. All intervals are of 95 % confidence.

scipy.stats takes long to import, so only the functions that need it do.
"""

import functools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

Interval = tuple[float, float]
CONFIDENCE = 0.95
ROUNDING = 1e-9  # of numbers that are equal but for it, as a share of them
RESAMPLES = 10_000  # of a bootstrap: its ends then move by hundredths of the interval's width


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Return Student's t-interval of the mean; None with one value, which says nothing of the spread."""
    return _student_interval(values, 1 / len(values))


def prediction_interval(values: Sequence[float]) -> Interval | None:
    """Return where one more value is expected (Student's t); None with one value."""
    return _student_interval(values, 1 + 1 / len(values))


def _student_interval(values: Sequence[float], variances: float) -> Interval | None:
    """Return mean ± t sd √variances: ``variances`` is 1/n for the mean of n values, 1 + 1/n for one more value."""
    from scipy import stats

    if len(values) < 2:
        return None
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)
    mean, half = statistics.fmean(values), quantile * statistics.stdev(values) * math.sqrt(variances)
    return float(mean - half), float(mean + half)


def wilson_interval(hits: int, count: int) -> Interval:
    """Return Wilson's score interval of the share that ``hits`` of ``count`` estimate (Wilson, JASA 1927)."""
    from scipy import stats

    found = stats.binomtest(hits, count).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def share_at_least(hits: int, count: int, confidence: float = CONFIDENCE) -> float:
    """Return the share that ``hits`` of ``count`` prove at least: the one-sided exact bound.

    59 of 59 are the fewest that prove 95 %. The bound of confidence 97.5 % is the lower end of the two-sided
    95 % interval (Clopper and Pearson, Biometrika 1934).
    """
    from scipy import stats

    found = stats.binomtest(hits, count, alternative="greater").proportion_ci(confidence, method="exact")
    return float(found.low)


def mcnemar(gained: int, lost: int) -> float:
    """Return the p-value of McNemar's test (Psychometrika 1947), exact: how likely a split at least so uneven is
    of the images that only one of two networks reads right, if neither network is the better one."""
    from scipy import stats

    return float(stats.binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0


@dataclass(frozen=True)
class Difference:
    """The mean of later values less the mean of earlier ones."""

    mean: float
    interval: Interval
    p_value: float
    effect: float | None  # Hedges' g: the difference in standard deviations, corrected for few values; None for two

    @property
    def is_clear(self) -> bool:
        """Whether the difference is larger than its uncertainty: whether 0 lies outside of the interval."""
        return not self.interval[0] <= 0 <= self.interval[1]


def welch(before: Sequence[float], after: Sequence[float]) -> Difference | None:
    """Compare the means of two samples whose variances may differ (Welch, Biometrika 1947).

    None if a sample has fewer than two different values: then nothing says how sure its mean is.
    """
    from scipy import stats

    if min(len(set(before)), len(set(after))) < 2:
        return None
    found = stats.ttest_ind(after, before, equal_var=False)
    interval = found.confidence_interval(CONFIDENCE)
    return Difference(
        mean=statistics.fmean(after) - statistics.fmean(before),
        interval=(float(interval.low), float(interval.high)),
        p_value=float(found.pvalue),
        effect=hedges_g(before, after),
    )


def paired(before: Sequence[float], after: Sequence[float]) -> Difference | None:
    """Compare samples whose values belong together in pairs, as those of the same fold and seed (Student, 1908).

    None with fewer than two pairs, or if all differ alike, but for rounding. The effect is in standard deviations of
    the differences.
    """
    differences = [later - earlier for earlier, later in zip(before, after, strict=True)]
    rounding = ROUNDING * max(map(abs, (*before, *after)), default=0)
    if len(differences) < 2 or statistics.stdev(differences) <= rounding:
        return None
    from scipy import stats

    found, mean = stats.ttest_rel(after, before), statistics.fmean(differences)
    effect = for_few(len(differences) - 1, mean / statistics.stdev(differences))
    return Difference(mean, mean_interval(differences), float(found.pvalue), effect)


def hedges_g(before: Sequence[float], after: Sequence[float]) -> float | None:
    """Return Hedges' g* of two samples that vary: their means' difference in units of the root of the
    mean of both variances, not pooled, as goes with Welch's test (Delacre et al., 2021, doi 10.31234/osf.io/tu6mp).
    """
    first, second = statistics.variance(before), statistics.variance(after)
    n, m = len(before), len(after)
    degrees = (n - 1) * (m - 1) * (first + second) ** 2 / ((m - 1) * first**2 + (n - 1) * second**2)
    difference = statistics.fmean(after) - statistics.fmean(before)
    return for_few(degrees, difference / math.sqrt((first + second) / 2))


def for_few(degrees: float, effect: float) -> float | None:
    """Return an effect size made right on average where few values gave its spread; None for one degree of freedom,
    where no factor does."""
    if degrees <= 1:
        return None
    return effect * math.exp(math.lgamma(degrees / 2) - math.lgamma((degrees - 1) / 2)) / math.sqrt(degrees / 2)


def dunnett(
    control: Sequence[float], samples: Sequence[Sequence[float]], in_blocks: bool = False
) -> list[Difference] | None:
    """Compare the means of many samples with that of one control, all at once (Dunnett, JASA 1955).

    The intervals hold together: of many sets of such comparisons, 95 % have the true difference in every interval.
    The spread is taken to be the same in all samples and pooled, so that a few values in each are enough. With
    ``in_blocks``, what values at the same place in all samples have in common does not count as spread: they are of
    the same fold and seed. None if no sample varies.

    scipy.stats.dunnett does the same by random points, which takes a minute for thirty samples. But samples are only
    related through the control's mean and the pooled spread: given these two, the chances multiply, and the two are
    integrated over (Dunnett's own way). The tests compare both.
    """
    from scipy import optimize

    everything, sizes = [control, *samples], np.array([len(sample) for sample in samples])
    degrees = int(sizes.sum()) - len(samples) + len(control) - 1
    if in_blocks:
        everything, degrees = np.array(everything) - np.mean(everything, axis=0), degrees - len(control) + 1
    spread = math.sqrt(sum(float(np.var(values)) * len(values) for values in everything) / max(degrees, 1))
    if spread == 0:
        return None
    inside = _largest_of(np.sqrt(sizes / (sizes + len(control))), degrees)
    bound = optimize.brentq(lambda bound: inside(bound) - CONFIDENCE, 0, 1000)
    found = []
    for sample in samples:
        mean = statistics.fmean(sample) - statistics.fmean(control)
        error = spread * math.sqrt(1 / len(sample) + 1 / len(control))
        found.append(
            Difference(
                mean=mean,
                interval=(mean - bound * error, mean + bound * error),
                p_value=max(0.0, 1 - inside(abs(mean) / error)),
                effect=for_few(degrees, mean / spread),
            )
        )
    return found


def _largest_of(loads: np.ndarray, degrees: int) -> Callable[[float], float]:
    """Return the chance that Student's t stays within a bound, either way, in every one of several comparisons.

    ``loads`` (comparisons,) are the correlations with what they share, the control's mean. By 64 Gaussian points for
    that mean and 64 for the spread of so many degrees of freedom; the bound of 95 % is right to one in ten thousand.
    """
    from scipy import stats

    points, weights = np.polynomial.legendre.leggauss(64)
    levels, weights = (points + 1) / 2, weights / 2
    shared = stats.norm.ppf(levels)[:, None, None]
    spread = np.sqrt(stats.chi2.ppf(levels, degrees) / degrees)[:, None]
    loads, alike = np.unique(loads, return_counts=True)
    own = np.sqrt(1 - loads**2)

    def inside(bound: float) -> float:
        high, low = ((end * spread - loads * shared) / own for end in (bound, -bound))
        chances = (stats.norm.cdf(high) - stats.norm.cdf(low)) ** alike  # (64, 64, different loads)
        return float(weights @ chances.prod(axis=2) @ weights)

    return inside


@dataclass(frozen=True)
class Misread:
    """What runs that were scored on the same images misread, counted by writer."""

    wrong: np.ndarray  # (runs, writers): how many images of each writer a run misread
    images: np.ndarray  # (writers,): how many there are of each


def interval_by_writer(folds: Sequence[Misread]) -> Interval | None:
    """Return the interval of a recipe's accuracy when other seeds train it and other people write the digits.

    ``folds`` has an item for each set of images; the test set is one. In each, seeds and writers are drawn again,
    independently of each other (Owen, The pigeonhole bootstrap, Annals of Applied Statistics 2007: of many seeds rather
    too wide than too narrow; a few show too little of their spread, and a single one for each fold shows none). Since
    mistakes cluster by writer, who is drawn brings all of their images along (the cluster bootstrap; Davison and
    Hinkley, Bootstrap Methods and their Application, 1997, section 3.8, and Field and Welsh, JRSS B 2007): to draw
    these images once more would count their luck twice. The generator is fixed, so that the same records give the same
    interval. None with one run.
    """
    return _ends(1 - _shares_misread(folds, 0)) if sum(len(fold.wrong) for fold in folds) > 1 else None


def gain_by_writer(before: Sequence[Misread], after: Sequence[Misread]) -> Interval | None:
    """Return the same interval of the accuracy of ``after`` less that of ``before``, scored on the same images.

    They are paired image by image: every drawing has the same writers for both. Seeds are drawn for each by itself.
    None if either has one run.
    """
    if min(sum(len(fold.wrong) for fold in folds) for folds in (before, after)) < 2:
        return None
    return _ends(_shares_misread(before, 0) - _shares_misread(after, 1))


def error_by_writer(fold: Misread) -> float:
    """Return the standard error of the runs' mean accuracy that comes from who wrote the images."""
    return ratio_error(fold.wrong.mean(axis=0), fold.images)


def ratio_error(events: np.ndarray, sizes: np.ndarray) -> float:
    """Return the standard error of the share of events in all clusters when other clusters are drawn.

    ``events`` and ``sizes`` are of each cluster (clusters,), of which there are at least two. By the linearised
    variance of a ratio (Cochran, Sampling Techniques, 3rd edition, 1977, section 6.3).
    """
    count, strays = len(sizes), events - events.sum() / sizes.sum() * sizes
    return math.sqrt(count / (count - 1) * float(strays @ strays)) / float(sizes.sum())


def _shares_misread(folds: Sequence[Misread], recipe: int) -> np.ndarray:
    """Return the share misread (resamples,) of one of two recipes by seeds and writers that are drawn again."""
    wrong = images = np.zeros(RESAMPLES)
    for place, fold in enumerate(folds):
        runs, writers = fold.wrong.shape
        drawn_runs = np.random.default_rng([place, recipe]).multinomial(runs, np.full(runs, 1 / runs), size=RESAMPLES)
        drawn_writers = _draw_writers(writers, place)
        wrong = wrong + np.einsum("rw,rw->r", drawn_runs / runs @ fold.wrong, drawn_writers)
        images = images + drawn_writers @ fold.images
    return wrong / images


@functools.cache
def _draw_writers(count: int, fold: int) -> np.ndarray:
    """Return how often each writer is drawn (resamples, writers); half a second's work, and the same for all."""
    drawn = np.random.default_rng([fold, 2]).multinomial(count, np.full(count, 1 / count), size=RESAMPLES)
    return drawn.astype(np.float64)


def _ends(values: np.ndarray) -> Interval:
    """Return the ends of the interval that holds 95 % of ``values``, as much to either side."""
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def nested_spreads(folds: Sequence[Sequence[float]]) -> tuple[float, float | None]:
    """Return the standard deviations between folds and between the seeds of a fold; ``folds`` hold a value per seed.

    By the analysis of variance (Searle, Casella and McCulloch, Variance Components, 1992, chapter 3): what the means
    of folds scatter more than their few seeds explain is due to the folds. With one seed each, the first is of both
    together, and the second None.
    """
    means, sizes = np.array([np.mean(fold) for fold in folds]), np.array([len(fold) for fold in folds])
    count, degrees = sizes.sum(), sizes.sum() - len(folds)
    between = sizes @ (means - sizes @ means / count) ** 2 / (len(folds) - 1)
    if degrees == 0:
        return math.sqrt(between), None
    within = sum(float(np.var(fold)) * len(fold) for fold in folds) / degrees
    each = (count - sizes @ sizes / count) / (len(folds) - 1)  # seeds of a fold; their mean if all have as many
    return math.sqrt(max(0.0, (between - within) / each)), math.sqrt(within)
