"""How sure a number is: intervals, tests and effect sizes, on scipy. All intervals are of 95 % confidence.

scipy.stats takes long to import, so only the functions that need it do.
"""

import math
import statistics
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

Interval = tuple[float, float]
CONFIDENCE = 0.95
RESAMPLES = 10_000  # of a bootstrap: its ends then move by hundredths of the interval's width


def mean_interval(values: Sequence[float]) -> Interval | None:
    """Return Student's t-interval of the mean; None with one value, which says nothing of the spread."""
    return _student_interval(values, 1 / len(values))


def prediction_interval(values: Sequence[float]) -> Interval | None:
    """Return where one more value is expected (Student's t); None with one value."""
    return _student_interval(values, 1 + 1 / len(values))


def _student_interval(values: Sequence[float], variances: float) -> Interval | None:
    """Return the interval about the mean for what strays from it by so many variances of one value."""
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
    effect: float  # Hedges' g: the difference in standard deviations, corrected for few values

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


def hedges_g(before: Sequence[float], after: Sequence[float]) -> float:
    """Return Hedges' g* of two samples that vary: their means' difference in units of the root of the
    mean of both variances, not pooled, as goes with Welch's test (Delacre et al., 2021, doi 10.31234/osf.io/tu6mp).
    """
    first, second = statistics.variance(before), statistics.variance(after)
    n, m = len(before), len(after)
    degrees = (n - 1) * (m - 1) * (first + second) ** 2 / ((m - 1) * first**2 + (n - 1) * second**2)
    difference = statistics.fmean(after) - statistics.fmean(before)
    return _for_few(degrees) * difference / math.sqrt((first + second) / 2)


def _for_few(degrees: float) -> float:
    """Return the factor that makes an effect size right on average when few values gave its spread."""
    return math.exp(math.lgamma(degrees / 2) - math.lgamma((degrees - 1) / 2)) / math.sqrt(degrees / 2)


def dunnett(control: Sequence[float], samples: Sequence[Sequence[float]]) -> list[Difference] | None:
    """Compare the means of many samples with that of one control, all at once (Dunnett, JASA 1955).

    The intervals hold together: of many sets of such comparisons, 95 % have the true difference in every interval.
    The spread is taken to be the same in all samples and pooled, so that a few values in each are enough. None if no
    sample varies.

    scipy.stats.dunnett does the same by random points, which takes a minute for thirty samples. But samples are only
    related through the control's mean and the pooled spread: given these two, the chances multiply, and the two are
    integrated over (Dunnett's own way). The tests compare both.
    """
    from scipy import optimize

    everything, sizes = [control, *samples], np.array([len(sample) for sample in samples])
    degrees = int(sizes.sum()) - len(samples) + len(control) - 1
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
                effect=_for_few(degrees) * mean / spread,
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


def two_way_interval(misread: Sequence[Collection[int]], count: int) -> Interval | None:
    """Return the interval of a recipe's accuracy when other seeds train it and other images are read.

    ``misread`` holds for each seed the indices of the images it misread, of ``count``. Seeds and images are drawn
    again, independently of each other (Owen, The pigeonhole bootstrap, Annals of Applied Statistics 2007: of many
    seeds rather too wide than too narrow; a few show too little of their spread); with a fixed generator, so that the
    same records give the same interval. None with one seed.
    """
    if len(misread) < 2:
        return None
    images, seeds = sorted(set().union(*misread)), len(misread)
    wrong = np.array([[image in seed for image in images] for seed in map(set, misread)], dtype=float)  # (S, W)
    wrong, alike = np.unique(wrong, axis=1, return_counts=True)  # (S, P): images that the same seeds misread are one
    chances = [*(alike / count), max(0.0, 1 - len(images) / count)]
    generator, accuracies = np.random.default_rng(0), []
    for _ in range(RESAMPLES // 1000):  # in parts: a poor network misreads thousands of images
        drawn_seeds = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=1000)  # how often each: (R, S)
        drawn_images = generator.multinomial(count, chances, size=1000)[:, :-1]  # (R, P)
        accuracies.append(1 - ((drawn_seeds @ wrong) * drawn_images).sum(axis=1) / (seeds * count))
    low, high = np.quantile(accuracies, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)
