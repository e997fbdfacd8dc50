import random
from dataclasses import replace

import pytest
from matplotlib.collections import PolyCollection

from mnist_lab import study_plots


@pytest.fixture
def draw(tmp_path):
    """Draws for real, with every warning an error; returns the two axes."""

    def draw(*arguments, **options):
        figure = study_plots.all_seeds(*arguments, **options)
        figure.savefig(tmp_path / "figure.png")
        assert (tmp_path / "figure.png").stat().st_size > 1000
        return figure.axes

    return draw


def dots(axis, marker="o"):
    return [line for line in axis.lines if line.get_marker() == marker]


@pytest.mark.parametrize("count", [2, 10, 59])
def test_every_seed_is_a_dot_beside_the_mean_with_its_interval(seeds, draw, count):
    accuracies = [round(random.Random(seed).gauss(0.995, 0.0004), 4) for seed in range(count)]
    _, ends = draw(seeds(accuracies), "study (MNIST)")
    assert sorted(dot.get_ydata()[0] for dot in dots(ends)) == pytest.approx(sorted(1 - a for a in accuracies))
    assert len({round(dot.get_xdata()[0], 6) for dot in dots(ends)}) == count  # none hides another
    assert all(-0.5 < dot.get_xdata()[0] < 0.5 for dot in dots(ends))
    assert [label.get_text() for label in ends.get_xticklabels()] == [f"3\nn = {count}"]
    (mean,) = dots(ends, "_")[:1]
    assert mean.get_ydata()[0] == pytest.approx(1 - sum(accuracies) / count)


def test_the_same_seeds_give_the_same_dots_in_any_order(seeds, draw):
    records = seeds([0.9950, 0.9950, 0.9940, 0.9960])
    places = [
        sorted((dot.get_xdata()[0], dot.get_ydata()[0]) for dot in dots(draw(order, "study")[1]))
        for order in (records, records[::-1])
    ]
    assert places[0] == places[1]


def test_the_band_reaches_from_the_lowest_to_the_highest_seed(seeds, draw):
    epochs, _ = draw(seeds([0.9940, 0.9950, 0.9970]), "study (MNIST)")
    (band,) = [shape for shape in epochs.collections if isinstance(shape, PolyCollection)]
    last = [y for x, y in band.get_paths()[0].vertices if x == 15]
    assert (min(last), max(last)) == pytest.approx((0.0030, 0.0060))
    median = epochs.lines[0]
    assert median.get_ydata()[-1] == pytest.approx(0.0050)


def test_the_own_seed_stands_out(seeds, draw):
    epochs, ends = draw(seeds([0.9940, 0.9950, 0.9970]), "study (MNIST)", own=2)
    (own,) = dots(ends, "D")
    assert own.get_ydata()[0] == pytest.approx(0.0030)
    assert len(dots(ends)) == 2
    assert epochs.lines[1].get_ydata()[-1] == pytest.approx(0.0030)


def test_one_seed_is_a_dot_and_a_line_without_an_interval(published, draw):
    epochs, ends = draw([published], "study (MNIST)", own=0)
    assert len(dots(ends, "D")) == 1 and not dots(ends) and not dots(ends, "_")
    assert epochs.lines[0].get_ydata()[-1] == pytest.approx(1 - published.accuracy)
    legend = [text.get_text() for text in epochs.figure.legends[0].get_texts()]
    assert legend == ["3  OneCycleLR", "seed 0, trained here"]


def test_rows_are_named_in_order_and_rungs_are_dashed(seeds, draw):
    names = ("1", "2a", "2", "3a", "3b", "3")  # more than there are colours
    rows = [seeds([0.98, 0.99, 0.985], row=row, change=f"change {row}") for row in names]
    epochs, _ = draw([record for row in rows for record in row], "study (MNIST)")
    legend = [text.get_text() for text in epochs.figure.legends[0].get_texts()]
    assert legend == [*(f"{row}  change {row}" for row in names), "mean and its 95 % interval"]
    medians = [line for line in epochs.lines if len(line.get_xdata()) == 15]
    assert [line.get_linestyle() for line in medians] == ["-", "--", "-", "--", "--", "-"]


def test_higher_is_better_and_the_scale_says_accuracy(seeds, draw):
    epochs, _ = draw(seeds([0.9940, 0.9950]), "study (MNIST)")
    bottom, top = epochs.get_ylim()
    assert top < 0.005 < 0.006 < bottom
    labels = {text.get_text() for text in epochs.get_yticklabels()}
    assert {"99.4", "99.5"} <= labels


def test_extremes_are_drawn(seeds, draw, published):
    draw(seeds([1.0, 1.0, 0.9999], late=[1.0] * 4), "flawless")
    poor = [{**epoch, "test": {"loss": 2.3, "accuracy": 0.1}} for epoch in published.history[:1]]
    draw([replace(published, history=poor)], "chance (digits sample, not MNIST)", own=0)


def test_a_row_of_mixed_recipes_is_refused(published, draw):
    other = replace(published, recipe=published.recipe | {"rotation": 1.0}, settings=published.settings | {"seed": 1})
    with pytest.raises(ValueError, match="mixes different recipes"):
        draw([published, other], "study")
