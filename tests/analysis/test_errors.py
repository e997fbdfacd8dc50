from types import SimpleNamespace

import numpy as np
import pytest

from mnist_lab.analysis import errors
from mnist_lab.data import WRONG_TEST_LABELS
from mnist_lab.evidence.records import Mistake


def run(make_record, seed, images, name="3"):
    return make_record(
        name=name, seed=seed, accuracies=(1 - len(images) / 10_000,), mistakes=[Mistake(i, 1, 7, 0.6) for i in images]
    )


@pytest.fixture
def found(make_record) -> errors.Budget:
    wrong = WRONG_TEST_LABELS[0]
    seeds = [[5, 6, 7, wrong], [5, 6, 8], [5, 6], [5]]
    return errors.budget([run(make_record, seed, images) for seed, images in enumerate(seeds)])


def test_the_parts_of_the_budget_add_up(found):
    assert found.errors == pytest.approx((4 + 3 + 2 + 1) / 4)
    assert list(found.parts().values()) == pytest.approx([0.25, 1, 0.75, 0.5])
    assert sum(found.parts().values()) == pytest.approx(found.errors)


def test_shares_of_thirty_seeds_reach_1(make_record):
    assert errors.budget([run(make_record, seed, [5]) for seed in range(30)]).parts()["misread by every seed"] == 1


def test_an_image_is_read_as_most_seeds_misread_it(make_record):
    answers = [[(5, 7), (6, 3)], [(5, 2)], [(5, 2)]]
    seeds = [
        make_record(accuracies=(1 - len(own) / 10_000,), mistakes=[Mistake(i, 1, read, 0.6) for i, read in own])
        for own in answers
    ]
    assert errors.read_as(seeds) == {5: 2, 6: 3}


def test_an_exchange_counts_both_ways(found, make_record):
    after = errors.budget([run(make_record, 0, [5, 900], name="4")])
    exchange = errors.exchange(found, after)
    assert (exchange.gained, exchange.lost) == pytest.approx((0.75 + 0.25 * 3, 1.0))
    assert exchange.gained - exchange.lost == pytest.approx(found.errors - after.errors)
    assert exchange.most(1) == [6] and exchange.most(5, sign=-1) == [900]


def test_populations_and_writers(found):
    series = np.where(np.arange(10_000) < 10, 4, 0)
    known = SimpleNamespace(series=series, writers=np.arange(10_000) // 2)
    census, school = errors.by_population(found, known)
    assert (school.images, school.writers, census.images) == (10, 5, 9990)
    assert school.rate == pytest.approx((1 + 0.75 + 0.25 + 0.25) / 10)
    shares = errors.concentration(found, known)
    assert shares[0] == pytest.approx((0.75 + 0.25) / 2.5) and shares[-1] == pytest.approx(1) and len(shares) == 5000


def test_clusters_widen_the_interval():
    """Images that come in identical pairs are half as many: the interval is wider by the root of 2."""
    events = np.random.default_rng(0).random(1000) < 0.1
    alone = errors.ratio(events.astype(float), np.ones(1000))
    paired = errors.ratio(2.0 * events, np.full(1000, 2.0))
    assert paired[0] == alone[0] and paired[1] == pytest.approx(alone[1])  # per image as wide as with half of them
    half = errors.ratio(np.r_[events[:500], events[:500]].astype(float), np.ones(1000))
    width = half[1][1] - half[1][0]
    true = errors.ratio(events[:500].astype(float), np.ones(500))
    assert true[1][1] - true[1][0] == pytest.approx(2**0.5 * width, rel=1e-2)
    assert errors.ratio(np.array([0.0]), np.array([3.0])) == (0.0, (0.0, 1.0))


def test_errors_that_fall_at_random_are_as_concentrated_as_chance_makes_them():
    generator = np.random.default_rng(1)
    writers = SimpleNamespace(writers=np.repeat(np.arange(50), 20), series=np.repeat([0, 4], 500))
    at_random = np.zeros(1000)
    at_random[generator.choice(1000, 40, replace=False)] = 1
    clustered = np.zeros(1000)
    clustered[:20] = clustered[500:520] = 1  # all by two writers
    for shares, alike in ((at_random, True), (clustered, False)):
        budget = errors.Budget("3", 10, 1000, shares)
        found, chance = errors.concentration(budget, writers), errors.concentration_by_chance(budget, writers)
        assert chance.shape == (errors.SHUFFLES, 50) and chance[:, -1] == pytest.approx(1)
        low, high = np.quantile(chance[:, 9], (0.01, 0.99))
        assert (low <= found[9] <= high) == alike
