"""Figures show what they are given; how they look was judged by eye."""

from types import SimpleNamespace

import numpy as np
import pytest

from mnist_lab.analysis import errors, figures, pictures
from mnist_lab.analysis.calibration import Bin
from mnist_lab.analysis.corruptions import CORRUPTIONS, STRENGTHS
from mnist_lab.analysis.ensembles import Shared, Together
from mnist_lab.analysis.errors import Budget
from mnist_lab.analysis.robustness import CLEAN, Robustness
from mnist_lab.analysis.smaller import Smaller
from mnist_lab.data import WRONG_TEST_LABELS


@pytest.fixture
def budget() -> Budget:
    shares = np.zeros(10_000)
    shares[[3, 4, 5, 6, WRONG_TEST_LABELS[0]]] = 1, 0.8, 0.5, 0.1, 0.9
    return Budget("3", 10, 10_000, shares)


def test_the_area_of_the_stairs_is_the_errors_of_a_mean_seed(budget):
    figure = figures.error_budget(budget, [], None, "a title")
    (axis,) = figure.axes
    area = sum(float(np.sum(patch.get_data().values)) for patch in axis.patches)
    assert area == pytest.approx(budget.errors) and figure.get_suptitle() == "a title"
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels[0] == "label known to be wrong: 0.9 (27 %)" and len(labels) == 4


def test_writers_get_panels_of_their_own(budget):
    groups = [errors.Group("Census employees", 2, 50, 0.003, (0.001, 0.005)),
              errors.Group("high-school students", 3, 50, 0.006, (0.004, 0.008))]  # fmt: skip
    concentration = np.array([0.5, 0.8, 1.0]), np.array([[0.4, 0.7, 1.0], [0.5, 0.6, 1.0]])
    figure = figures.error_budget(budget, groups, concentration, "a title")
    assert len(figure.axes) == 3
    assert {"1 writers make 33 %", "2 writers make 67 %"} == {text.get_text() for text in figure.axes[2].texts}
    assert figure.axes[1].get_yticklabels()[0].get_text() == "Census\nemployees\n(2 writers)"


def test_ensembles_are_drawn_with_and_without_a_shared_budget():
    together = [Together(1, 3, 48, 48, 5), Together(3, 1, 40, 39, 0)]
    assert len(figures.ensembles(together, [], "a title").axes) == 1
    shared = Shared(name="4k", trained="", networks=2, parameters=7816, multiply_accumulates=1, trial=0,
                    errors_by_vote=60, errors_by_mean=58, errors_alone=[66, 70])  # fmt: skip
    panel = figures.ensembles(together, [shared], "a title").axes[1]
    assert [label.get_text() for label in panel.get_xticklabels()] == ["2 x 3,908"]


def test_claims_without_an_error_are_left_out():
    claims = [Bin(0.3, 0.2, (0.1, 0.3), 10), Bin(0.001, 0.0, (0.0, 0.0), 500)]
    axis = figures.reliability({"one": claims, "two": claims[1:]}, "a title").axes[0]
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["as many as claimed", "one"]


@pytest.fixture
def spoilt() -> list[Robustness]:
    rights = {"1": 500, "2": 800, "3": 900, "A3": 700}
    told = []
    for name, right in rights.items():
        told.append(Robustness(name=name, trained="", corruption=CLEAN, images=1000, correct=[[right + 50]] * 2))
        for kind in CORRUPTIONS:
            seeds = [[right - 10 * strength - seed for strength in range(STRENGTHS)] for seed in range(2)]
            told.append(Robustness(name=name, trained="", corruption=kind, images=1000, correct=seeds))
    return told


def test_every_corruption_has_a_panel_with_every_recipe(spoilt):
    figure = figures.robustness(spoilt, "a title")
    assert [axis.get_title() for axis in figure.axes] == list(CORRUPTIONS)
    line = figure.axes[1].lines[-1]  # step 3
    assert line.get_ydata()[0] == pytest.approx(0.05) and line.get_ydata()[1] == pytest.approx(0.1005)


def test_a_step_of_ones_own_is_no_published_one(spoilt):
    own = [one.model_copy(update={"name": "4"}) for one in spoilt if one.name == "3"]
    _, labels = figures.robustness(spoilt + own, "a title").axes[0].get_legend_handles_labels()
    assert labels == ["step 1", "step 2", "step 3", "step 4", "published third steps: A3"]


def test_a_change_that_is_not_clear_has_no_number(spoilt):
    steps = [SimpleNamespace(name=name, opening_loss=float(name)) for name in ("1", "2", "3")]
    axis = figures.ingredients(spoilt, steps, "a title").axes[0]
    texts = [text.get_text() for text in axis.texts]
    assert texts[:2] == ["·", "·"]  # all seeds alike without a corruption: no spread to compare with
    assert texts[2].startswith("x 0.")


def test_the_frontier_is_what_nothing_cheaper_beats(make_record):
    assert figures._best_so_far([(3, 0.1), (1, 0.3), (2, 0.4), (4, 0.2), (5, 0.05)]) == [(1, 0.3), (3, 0.1), (5, 0.05)]
    found = [
        Smaller(trained="", way=way, family=family, tuned=False, seed=seed, images=1000, correct=990 - seed, loss=0.1,
                bytes=size, multiply_accumulates=9000)
        for way, family, size in (("32 bits", "none", 4000), ("8 bits", "bits", 1000)) for seed in range(2)
    ]  # fmt: skip
    narrow = [make_record(seed=seed, parameters=500, accuracies=(0.95 + seed / 100,)) for seed in range(2)]
    figure = figures.smaller(found, [narrow], "a title")
    assert 2.0 in figure.axes[0].lines[0].get_xdata()  # kB of the narrow networks, at four bytes a parameter
    assert [text.get_text() for text in figure.axes[0].texts] == ["8"]


def test_a_wrong_label_is_framed(digits):
    split = type(digits.test)(digits.test.images[:1].expand(10_000, -1, -1, -1), digits.test.labels[:1].expand(10_000))
    figure = pictures.gallery(split, [WRONG_TEST_LABELS[0], 1], ["one", "two"], "a title")
    assert [len(axis.patches) for axis in figure.axes[:2]] == [2, 1]


def test_an_image_is_shown_under_every_corruption(digits):
    figure = pictures.corruptions(digits.test, 0, "a title")
    assert sum(bool(axis.images) for axis in figure.axes) == len(CORRUPTIONS) * STRENGTHS


def test_what_is_marked_lies_where_it_should():
    risks = np.linspace(0.001, 0.01, 100)
    marked = [(0.02, 0.001), (0.1, 0.003)]
    axis = figures.risk_by_coverage({"one": risks, "two": 2 * risks}, marked, "here", "a title").axes[0]
    marks = [line for line in axis.lines if line.get_marker() == "D" and len(line.get_xdata())]
    assert [(float(line.get_xdata()[0]), float(line.get_ydata()[0])) for line in marks] == marked
    assert [text.get_text() for text in axis.get_legend().get_texts()] == ["one", "two", "here"]
    assert axis.get_xlim() == (0, 0.2)
