import itertools
import random

import matplotlib.image
import pytest
import torch
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure

from mnist_lab.augment import CleanEnd, Policy, TensorEngine
from mnist_lab.data import WRONG_TEST_LABELS
from mnist_lab.evidence import figures
from mnist_lab.evidence.records import Mistake, RecordError
from mnist_lab.evidence.uncertainty import mean_interval


@pytest.fixture
def drawn(tmp_path):
    """Draws for real, with every warning an error, and returns the figure."""

    def draw(figure: Figure) -> Figure:
        assert figures.show(figure, tmp_path / "figure.png") is figure
        width, height = figure.get_size_inches()
        pixels = matplotlib.image.imread(tmp_path / "figure.png").shape[:2]
        assert pixels == pytest.approx((200 * height, 200 * width), abs=1)
        return figure

    return draw


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def dots(axis, marker="o"):
    return [line for line in axis.lines if line.get_marker() == marker and line.get_linestyle() == "None"]


def test_sample_grid_shows_each_digit_in_its_column(digits, drawn):
    figure = drawn(figures.sample_grid(digits.train, "samples", rows=3))
    assert sum(bool(axis.images) for axis in figure.axes) == 30
    third_eight = digits.train.images[digits.train.labels == 8][2, 0]
    assert (figure.axes[2 * 10 + 8].images[0].get_array() == third_eight.numpy()).all()


def test_augmentation_preview_keeps_the_original_at_the_left(digits, drawn):
    before = digits.train.images.clone()
    figure = drawn(figures.augmentation_preview(digits.train, TensorEngine(Policy(rotation=20)), "preview", 2, 3))
    shown = [torch.as_tensor(axis.images[0].get_array()) for axis in figure.axes]
    assert len(shown) == 8
    assert torch.allclose(shown[0], before[0, 0].float())
    assert not torch.equal(shown[1], shown[0]) and not torch.equal(shown[2], shown[1])
    assert torch.equal(digits.train.images, before)
    assert all(axis.patches for axis in figure.axes)  # framed, or one would not see what was shifted
    drawn(figures.augmentation_preview(digits.train, None, "no augmentation", rows=2, draws=1))


def test_a_preview_is_of_an_epoch_that_is_distorted(digits):
    engine = CleanEnd(TensorEngine(Policy(rotation=20)), distorted_epochs=1)
    figure = figures.augmentation_preview(digits.train, engine, "preview", rows=1, draws=3)
    original, *shown = [axis.images[0].get_array() for axis in figure.axes]
    assert all((image != original).any() for image in shown)


def test_learning_rate_is_drawn_over_epochs(drawn):
    figure = drawn(figures.learning_rate({"3a constant": [0.1, 0.2, 0.3, 0.4], "other": [0.1] * 4}, 2, "rate"))
    line = figure.axes[0].lines[0]
    assert line.get_xdata().tolist() == [0, 0.5, 1, 1.5]
    assert line.get_color() == figures.STEP_COLOURS["3a"]


def test_learning_curves_show_the_record(make_record, drawn):
    record = make_record(losses=(0.5, 0.1, 0.05, 0.02, 0.015), training=(0.9, 0.98, 0.97, 0.99, 0.992))
    figure = drawn(figures.learning_curves([record]))
    loss, accuracy = figure.axes
    assert loss.lines[0].get_ydata().tolist() == [0.5, 0.1, 0.05, 0.02, 0.015]
    assert accuracy.lines[1].get_ydata() == pytest.approx([0.1, 0.02, 0.03, 0.01, 0.008])
    bottom, top = accuracy.get_ylim()
    assert top < 1 - 0.9952 and 0.03 < bottom < 0.1  # later epochs in sight, of the training images too
    assert "99.4 %" in texts(figure)


def test_runs_that_trained_alike_share_a_line(make_record, drawn):
    plain, averaged = make_record("2a", training=(0.95,) * 5), make_record("2", training=(0.95,) * 5)
    figure = drawn(figures.learning_curves([plain, averaged]))
    assert legend(figure) == ["2a  a change: test images", "2a and 2: training images", "2  a change: test images"]
    other = make_record("2", training=(0.96,) * 5)
    assert len(legend(figures.learning_curves([plain, other]))) == 4


@pytest.mark.parametrize("opening", [0.55, 0.66])
def test_numbers_at_the_loss_axis_do_not_overlap(make_record, drawn, opening):
    losses = tuple(opening / number for number in range(1, 31))
    figure = drawn(figures.learning_curves([make_record(accuracies=(0.99,) * 30, losses=losses)]))
    axis = figure.axes[0]
    low, high = axis.get_ylim()
    ticks = [*axis.yaxis.get_major_ticks(), *axis.yaxis.get_minor_ticks()]
    shown = sorted(
        (box.y0, box.y1, tick.label1.get_text())
        for tick in ticks
        for box in [tick.label1.get_window_extent()]
        if tick.label1.get_text() and low <= tick.get_loc() <= high
    )
    assert {"0.02", "0.05", "0.1"} <= {text for *_, text in shown}
    assert all(above[0] >= below[1] for below, above in itertools.pairwise(shown))


def test_confusion_counts_every_mistake(make_record, drawn):
    record = make_record(
        accuracies=(0.9997,), mistakes=[Mistake(5, 4, 12, 0.5), Mistake(6, 4, 9, 0.5), Mistake(8, 4, 9, 0.5)]
    )
    (axis,) = drawn(figures.confusion(record)).axes
    assert axis.get_title() == "3 of 10,000 images misread, most often 4 as 9 (MNIST)"
    assert {text.get_position(): text.get_text() for text in axis.texts} == {(12, 4): "1", (9, 4): "2"}
    assert list(axis.get_xticks()) == list(range(13)) and list(axis.get_yticks()) == list(range(10))
    assert axis.get_yticklabels()[4].get_text() == "4:  3"


def test_mistakes_show_the_image_with_its_label_and_confidence(make_record, few, drawn):
    record = make_record(accuracies=(0.9999,), mistakes=[Mistake(5, 4, 9, 0.874)], data="another set")
    figure = drawn(figures.mistakes(record, few))
    assert figure.axes[0].get_title() == "4 → 9, 87%"
    assert (figure.axes[0].images[0].get_array() == few.images[5, 0].numpy()).all()
    assert not figure.axes[0].patches


def test_mistakes_say_how_many_are_shown_and_mark_wrong_labels(make_record, digits, drawn):
    indices = [WRONG_TEST_LABELS[0], *range(40)]
    record = make_record(accuracies=(0.9959,), mistakes=[Mistake(index, 1, 7, 0.6) for index in indices])
    figure = drawn(figures.mistakes(record, digits.train))
    assert "first (MNIST)\n30 shown: label → predicted digit, its probability; framed: " in figure.get_suptitle()
    assert figure.get_suptitle().startswith("41 of 10,000 images misread")
    assert [bool(axis.patches) for axis in figure.axes] == [True] + [False] * 29


def test_a_mistake_among_held_out_images_is_shown_as_that_image(make_record, few, drawn):
    held = few.take(torch.tensor([4, 30, 101]))
    record = make_record(accuracies=(0.9999,), mistakes=[Mistake(30, 0, 7, 0.6)])
    figure = drawn(figures.mistakes(record, held))
    assert (figure.axes[0].images[0].get_array() == few.images[30, 0].numpy()).all()


def test_no_mistake_is_no_crash(make_record, few, drawn):
    flawless = make_record(accuracies=(0.99, 1.0))
    drawn(figures.mistakes(flawless, few))
    drawn(figures.confusion(flawless))
    drawn(figures.all_seeds([flawless, make_record(seed=1, accuracies=(1.0, 1.0))], "flawless"))


@pytest.mark.parametrize("count", [2, 10, 59])
def test_every_seed_is_a_dot_beside_the_mean_with_its_interval(seeds, drawn, count):
    accuracies = [round(random.Random(seed).gauss(0.995, 0.0004), 4) for seed in range(count)]
    _, ends = drawn(figures.all_seeds(seeds(accuracies), "study")).axes
    assert sorted(dot.get_ydata()[0] for dot in dots(ends)) == pytest.approx(sorted(1 - a for a in accuracies))
    assert len({round(dot.get_xdata()[0], 6) for dot in dots(ends)}) == count  # none hides another
    assert all(-0.5 < dot.get_xdata()[0] < 0.5 for dot in dots(ends))
    assert [label.get_text() for label in ends.get_xticklabels()] == [f"3\nn = {count}"]
    mean, *bar = dots(ends, "_")  # then the ends of its interval
    assert mean.get_ydata()[0] == pytest.approx(1 - sum(accuracies) / count)
    assert [end.get_ydata()[0] for end in bar] == pytest.approx([1 - end for end in mean_interval(accuracies)][::-1])


def test_the_same_seeds_give_the_same_dots_in_any_order(seeds):
    records = seeds([0.9950, 0.9950, 0.9940, 0.9960])
    places = [
        sorted((dot.get_xdata()[0], dot.get_ydata()[0]) for dot in dots(figures.all_seeds(order, "study").axes[1]))
        for order in (records, records[::-1])
    ]
    assert places[0] == places[1]


def test_the_band_reaches_from_the_lowest_to_the_highest_seed(seeds, drawn):
    epochs, _ = drawn(figures.all_seeds(seeds([0.9940, 0.9950, 0.9970]), "study")).axes
    (band,) = [shape for shape in epochs.collections if isinstance(shape, PolyCollection)]
    last = [y for x, y in band.get_paths()[0].vertices if x == 5]
    assert (min(last), max(last)) == pytest.approx((0.0030, 0.0060))
    assert epochs.lines[0].get_ydata()[-1] == pytest.approx(0.0050)


def test_a_marked_seed_stands_out(seeds, make_record, drawn):
    figure = drawn(figures.all_seeds(seeds([0.9940, 0.9950, 0.9970]), "study", marked=2))
    epochs, ends = figure.axes
    (diamond,) = dots(ends, "D")
    assert diamond.get_ydata()[0] == epochs.lines[1].get_ydata()[-1] == pytest.approx(0.0030)
    assert len(dots(ends)) == 2 and "seed 2" in legend(figure)
    alone = drawn(figures.all_seeds([make_record(accuracies=(0.1,))], "one poor seed", marked=0))
    assert legend(alone) == ["3  a change", "seed 0"]


def test_each_recipe_has_its_colour_whatever_stands_beside_it(seeds, drawn):
    names = ("1", "2a", "2", "3a", "3b", "3", "sgd")
    records = [seeds([0.98, 0.99], name, kind="intermediate" if name[1:] in ("a", "b") else "step") for name in names]
    figure = drawn(figures.all_seeds([one for group in records for one in group], "study"))
    medians = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 5]
    assert [line.get_color() for line in medians] == [*figures.STEP_COLOURS.values(), figures.COLOURS[0]]
    assert [line.get_linestyle() for line in medians] == ["-", "--", "-", "--", "--", "-", "-"]
    bands = [shape for shape in figure.axes[0].collections if isinstance(shape, PolyCollection)]
    assert len(bands) == 4 and "dashed: on the way to a step" in figure.axes[0].get_title()
    alone = figures.all_seeds(records[5], "study").axes[0].lines[0]
    assert alone.get_color() == figures.STEP_COLOURS["3"]


def test_a_row_of_mixed_recipes_is_refused(make_record):
    with pytest.raises(RecordError, match="differ in their recipes"):
        figures.all_seeds([make_record(), make_record(seed=1, recipe={"rotation": 1.0})], "study")


def test_the_scale_of_accuracies_rises_and_has_the_target_in_sight():
    axis = Figure().subplots()
    figures.accuracy_scale(axis, worst=0.1, best=0.02, labels=(95, 99))
    bottom, top = axis.get_ylim()
    assert top < 0.006 < 0.1 < bottom and axis.get_yscale() == "log" and "logarithmic" in axis.get_ylabel()
    assert [text.get_text() for text in axis.get_yticklabels()] == ["95", "99"]


def test_no_mistake_is_a_third_of_one_on_the_scale(make_record):
    assert figures.share_misread(0.98, make_record()) == pytest.approx(0.02)
    assert figures.share_misread(1.0, make_record()) == pytest.approx(1 / 3 / 10_000)
