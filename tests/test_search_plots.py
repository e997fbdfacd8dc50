import math
from dataclasses import replace
from itertools import pairwise

import pytest
from PIL import Image

from mnist_lab.search import plots as search_plots
from mnist_lab.search import tables as search_tables


def test_every_change_has_its_interval(searched, tmp_path):
    figure = search_plots.changes(search_tables.trials(searched), "title (MNIST)")
    figure.savefig(tmp_path / "figure.png")
    (axis,) = figure.axes
    labels = [label.get_text() for label in axis.get_yticklabels()]
    assert labels[:2] == ["images: and a black square of 6 x 6 pixels", "images: not distorted"] and len(labels) == 4
    trial = next(trial for trial in search_tables.trials(searched) if trial.name == "cutout")
    assert list(axis.lines[0].get_xdata()) == [math.exp(end) for end in trial.gain.interval]
    assert list(axis.lines[1].get_xdata()) == [math.exp(trial.gain.mean)]


def test_the_scale_of_losses_can_be_read_when_one_is_ten_times_the_others(searched):
    cutout = next(trial for trial in search_tables.trials(searched) if trial.name == "cutout")
    far = replace(cutout, change="w" * 50, gain=replace(cutout.gain, mean=2.3, interval=(2.2, 2.4)))
    near = replace(cutout, gain=replace(cutout.gain, mean=-0.1, interval=(-0.3, 0.1)))
    figure = search_plots.changes([near, far], "title (MNIST)")
    figure.canvas.draw()
    (axis,) = figure.axes
    left, right = axis.get_xlim()
    boxes = [label.get_window_extent() for label in axis.get_xticklabels() if left <= label.get_position()[0] <= right]
    assert len(boxes) >= 5
    assert all(one.x1 < next_one.x0 for one, next_one in pairwise(boxes)), "labels run into each other"


def test_the_frontier_has_a_panel_for_each_cost(on_frontier, tmp_path):
    figure = search_plots.frontier(search_tables.trials(on_frontier), on_frontier, "title (MNIST)")
    figure.savefig(tmp_path / "figure.png")
    means = [next(line for line in axis.lines if line.get_linestyle() == "-" and line.get_marker() == "o")
             for axis in figure.axes]  # fmt: skip
    assert list(means[0].get_xdata()) == [1916, 3908, 7306]
    assert list(means[1].get_xdata()) == [5, 8, 15]
    assert means[1].get_ydata()[-1] == pytest.approx(0.005)


def test_figures_carry_the_fingerprint_of_their_records(searched, on_frontier, tmp_path):
    names = search_plots.save_figures(searched, on_frontier, tmp_path)
    assert names == [search_tables.SEARCH_FIGURE, search_tables.FRONTIER_FIGURE]
    for name, shown in zip(names, (searched, on_frontier), strict=True):
        assert Image.open(tmp_path / name).text["Description"] == search_plots.fingerprint(shown)
    assert search_plots.fingerprint(searched[1:]) != search_plots.fingerprint(searched)
    base = [record for record in searched if record.row == search_tables.BASE]
    assert search_plots.save_figures(base, [], tmp_path) == []
