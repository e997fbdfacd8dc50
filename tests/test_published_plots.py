from dataclasses import replace

import pytest
from PIL import Image

from mnist_lab.published import plots as published_plots
from mnist_lab.published.claims import CLAIMS
from mnist_lab.published.recipes import RECIPES
from mnist_lab.published.tables import FIGURES


@pytest.fixture
def two_steps(seed_of):
    """Two seeds of A3 and of D1, which claims nothing."""
    return [
        seed_of(RECIPES[name], seed, *[99.0 + 0.02 * epoch + seed / 10 for epoch in range(15)])
        for name in ("A3", "D1")
        for seed in range(2)
    ]


def test_each_step_has_its_seeds_and_its_claim(two_steps, published, tmp_path):
    figure = published_plots.claims_and_seeds(two_steps, [published], "title (MNIST)")
    figure.savefig(tmp_path / "figure.png")
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["A3", "D1", "our\nstep 3"]
    crosses = [line for line in axis.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert [line.get_ydata()[0] for line in crosses] == [pytest.approx(0.0054)]
    last = axis.lines[0]
    assert list(last.get_ydata()) == [pytest.approx(0.0072), pytest.approx(0.0062)]


def test_a_panel_for_each_step_with_its_logs(two_steps, tmp_path):
    figure = published_plots.curves_of_the_series(two_steps, "title (MNIST)")
    figure.savefig(tmp_path / "figure.png")
    shown = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in shown] == ["A3: 2 seeds", "D1: 2 seeds, no log"]
    logs = [tuple(100 * (1 - value) for value in line.get_ydata()) for line in shown[0].lines[:2]]
    assert logs == [pytest.approx(log.accuracies) for log in CLAIMS["A3"].logs]


def test_saved_figures_carry_the_fingerprint_of_their_records(two_steps, published, tmp_path):
    assert published_plots.save_figures(two_steps, [published], tmp_path) == list(FIGURES)
    expected = published_plots.fingerprint(two_steps, [published])
    assert {Image.open(tmp_path / name).text["Description"] for name in FIGURES} == {expected}
    assert published_plots.fingerprint(two_steps[:3], [published]) != expected


def test_without_a_published_step_there_is_no_figure(two_steps, published, tmp_path):
    repairs = [replace(record, row="A3 no dropout") for record in two_steps]
    assert published_plots.save_figures(repairs, [published], tmp_path) == []
    assert published_plots.save_figures([], [published], tmp_path) == []
    assert not any(tmp_path.iterdir())
