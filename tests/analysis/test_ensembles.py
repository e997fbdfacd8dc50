import numpy as np
import pytest

from mnist_lab.analysis import ensembles, tables
from mnist_lab.models import PARAMETER_BUDGET


def said(*rows):
    """Probabilities of networks for one image: {digit: probability}."""
    found = np.full((len(rows), 1, 10), 1e-3)
    for network, row in enumerate(rows):
        for digit, share in row.items():
            found[network, 0, digit] = share
    return found


def test_votes_and_means_can_differ():
    found = said({1: 0.4, 2: 0.6}, {1: 0.4, 2: 0.6}, {1: 0.99})
    assert ensembles.vote(found) == [2] and ensembles.mean_answer(found) == [1]


def test_a_tie_goes_to_the_larger_mean():
    assert ensembles.vote(said({1: 0.6, 2: 0.4}, {2: 0.9})) == [2]


def test_what_all_are_sure_of_may_be_left_out(answers):
    """Three images more, of which all seeds are sure: right, wrong, and sure of different digits."""
    found, labels = answers
    sure = np.zeros((4, 3, 10))
    for seed, digits in enumerate([(1, 2, 3), (1, 2, 3), (1, 2, 4), (1, 2, 4)]):
        sure[seed, np.arange(3), digits] = 1
    found, labels = np.concatenate([found, sure], axis=1), np.append(labels, [1, 5, 4])
    told = ensembles.by_size(found, labels, sizes=(1, 4, 10))
    assert [one.networks for one in told] == [1, 4]  # there are no ten
    assert told[0].errors_by_mean == pytest.approx(np.mean((found.argmax(-1) != labels).sum(1)))
    assert told[1].errors_by_vote == (ensembles.vote(found) != labels).sum()
    assert told[1].errors_by_mean == (ensembles.mean_answer(found) != labels).sum() and told[1].draws == 1


def test_a_lesson_is_what_the_others_read():
    found = said({1: 0.7, 2: 0.3}, {2: 0.9}, {2: 0.8})
    told = ensembles.lesson(found, np.array([2]))
    assert (told.repaired, told.spoilt, told.second) == pytest.approx((1 / 3, 0, 1))
    assert (told.doubt, told.teacher) == pytest.approx((0.7, 0.85))


def test_networks_that_share_a_budget_stay_below_it(recipe):
    from dataclasses import replace

    from mnist_lab.fields.trace import facts
    from mnist_lab.studies.search.variants import frontier

    step = replace(recipe, epochs=15)
    chosen = ensembles.sharing(step, frontier(step))
    assert [count for _, _, count in chosen] == [2, 3, 8]
    shares = [count * facts(one.network()).trainable / PARAMETER_BUDGET for _, one, count in chosen]
    assert all(0.75 < share < 1 for share in shares)
    assert all(one.epochs == 15 for _, one, _ in chosen)


def test_ensembles_have_no_network_in_common(training):
    groups = ensembles.members("4k", training.recipe, 2, 3, training.settings)
    assert [[one.seed for one in group] for group in groups] == [[0, 1], [2, 3], [4, 5]]


def test_single_networks_stand_beside_ensembles(make_record):
    like = make_record("3", 0, (0.9,))
    found = ensembles.alone([40, 44], like)
    assert [(one.networks, one.errors_alone, one.errors_by_mean, one.errors_by_vote) for one in found] == [
        (1, [40], 40, 40),
        (1, [44], 44, 44),
    ]
    assert {one.parameters for one in found} == {like.model.trainable}
    lines = tables.shared_table(found).markdown().splitlines()
    assert [cell.strip() for cell in lines[2].split("|")[4:]] == ["42.0", "42.0", "42.0", "40 – 44", "2", ""]
