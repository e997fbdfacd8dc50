"""What the errors of a recipe are made of: wrong labels, images nobody reads, the luck of a seed, and writers.

All of it is of the test images, looked at after the recipe was settled: nothing is chosen by it.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mnist_lab.data import WRONG_TEST_LABELS
from mnist_lab.evidence.records import Record
from mnist_lab.evidence.uncertainty import Interval, ratio_error
from mnist_lab.writers import Writers

SHUFFLES = 200
SERIES = {0: "Census employees", 4: "high-school students"}  # of NIST, by the numbers that QMNIST gives


@dataclass(frozen=True)
class Budget:
    """The errors of an average seed, image by image."""

    name: str  # of the recipe
    seeds: int
    images: int
    shares: np.ndarray  # (images,) of the seeds that misread the image

    @property
    def errors(self) -> float:
        """Return the errors of an average seed."""
        return float(self.shares.sum())

    def shares_by_part(self) -> dict[str, np.ndarray]:
        """Return the shares of the misread images by what these are."""
        wrong, shares = np.isin(np.arange(self.images), WRONG_TEST_LABELS), self.shares
        kinds = {
            "label known to be wrong": (shares > 0) & wrong,
            "misread by every seed": (shares == 1) & ~wrong,
            "misread by most seeds": (shares > 0.5) & (shares < 1) & ~wrong,
            "misread by half of them or fewer": (shares > 0) & (shares <= 0.5) & ~wrong,
        }
        return {kind: shares[chosen] for kind, chosen in kinds.items()}

    def parts(self) -> dict[str, float]:
        """Return the errors of an average seed by what they are, which add up to all of them."""
        return {kind: float(shares.sum()) for kind, shares in self.shares_by_part().items()}


def budget(records: Sequence[Record], name: str = "") -> Budget:
    """Return the errors of runs of one recipe on MNIST's test images; the recipe's name is told if none is given."""
    shares = np.zeros(records[0].scored_images)
    for one in records:
        shares[list(one.misread)] += 1 / len(records)
    return Budget(name or records[0].name, len(records), len(shares), shares.round(9))  # 30 times 1/30 is 1


def read_as(records: Sequence[Record]) -> dict[int, int]:
    """Return, for each image that any run misreads, the digit that most of those runs take it for."""
    seen: dict[int, Counter[int]] = defaultdict(Counter)
    for mistake in (mistake for one in records for mistake in one.mistakes):
        seen[mistake.index][mistake.predicted] += 1
    return {image: digits.most_common(1)[0][0] for image, digits in seen.items()}


@dataclass(frozen=True)
class Exchange:
    """What one recipe reads that another misreads, over the seeds of both.

    Fewer seeds exchange more by luck alone: only exchanges between equally many seeds are to be compared.
    """

    before: str
    after: str
    gains: np.ndarray  # (images,) share of seeds that misread the image before less the share after

    @property
    def gained(self) -> float:
        """Return the errors of an average seed that went away."""
        return float(self.gains.clip(min=0).sum())

    @property
    def lost(self) -> float:
        """Return the errors of an average seed that came."""
        return float((-self.gains).clip(min=0).sum())

    def most(self, count: int, sign: int = 1) -> list[int]:
        """Return the images gained most clearly, or with ``sign`` -1 those lost, the clearest first."""
        order = np.argsort(-sign * self.gains, kind="stable")[:count]
        return [int(image) for image in order if sign * self.gains[image] > 0]


def exchange(before: Budget, after: Budget) -> Exchange:
    """Compare two recipes image by image."""
    return Exchange(before.name, after.name, before.shares - after.shares)


@dataclass(frozen=True)
class Group:
    """The images of one population of writers."""

    name: str
    writers: int
    images: int
    rate: float  # misread by an average seed, in [0, 1]
    interval: Interval  # other writers of the kind


def by_population(found: Budget, known: Writers) -> list[Group]:
    """Return how often the digits of each population are misread, with intervals that resample writers."""
    groups = []
    for number, name in SERIES.items():
        errors, images = per_writer(found.shares, known, known.series == number)
        groups.append(Group(name, len(images), int(images.sum()), *ratio(errors, images)))
    return groups


def per_writer(shares: np.ndarray, known: Writers, chosen: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the errors of each writer and the images of each, (writers,), of all images or of those ``chosen``."""
    chosen = np.ones(len(shares), dtype=bool) if chosen is None else chosen
    _, writer = np.unique(known.writers[chosen], return_inverse=True)
    return np.bincount(writer, shares[chosen]), np.bincount(writer)


def ratio(events: np.ndarray, sizes: np.ndarray) -> tuple[float, Interval]:
    """Return the share of events in all clusters, and its 95 % interval when other clusters are drawn.

    ``events`` and ``sizes`` are of each cluster (clusters,): of a writer, or of an image with all its seeds. The
    interval is cut off at 0 and 1.
    """
    rate = float(events.sum() / sizes.sum())
    if len(sizes) < 2:
        return rate, (0.0, 1.0)
    half = 1.96 * ratio_error(events, sizes)
    return rate, (max(0.0, rate - half), min(1.0, rate + half))


def concentration(found: Budget, known: Writers) -> np.ndarray:
    """Return the share of all errors that the 1, 2, 3 ... writers with the most errors make, (writers,)."""
    errors, _ = per_writer(found.shares, known)
    return np.sort(errors)[::-1].cumsum() / errors.sum()


def concentration_by_chance(found: Budget, known: Writers) -> np.ndarray:
    """Return what :func:`concentration` would be, (SHUFFLES, writers), if errors fell on images at random.

    Few errors always fall on few writers. Each population keeps its errors.
    """
    generator, by_chance = np.random.default_rng(0), []
    for _ in range(SHUFFLES):
        shares = found.shares.copy()
        for number in np.unique(known.series):
            own = known.series == number
            shares[own] = generator.permutation(shares[own])
        by_chance.append(concentration(replace(found, shares=shares), known))
    return np.array(by_chance)
