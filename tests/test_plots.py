import itertools
from dataclasses import replace

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from mnist_lab import plots
from mnist_lab.augment import Policy, TensorEngine
from mnist_lab.models import build
from mnist_lab.receptive_field import trace


def drawn(figure: Figure, path) -> Figure:
    """Draw for real, with every warning an error, and return the figure."""
    figure.savefig(path)
    assert path.stat().st_size > 1000
    return figure


@pytest.fixture
def target(tmp_path):
    return tmp_path / "figure.png"


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def test_sample_grid_shows_each_digit_in_its_column(digits, target):
    figure = drawn(plots.sample_grid(digits.train, "samples (digits sample, not MNIST)", rows=3), target)
    assert figure.get_suptitle() == "samples (digits sample, not MNIST)"
    assert sum(bool(axis.images) for axis in figure.axes) == 30
    third_eight = digits.train.images[digits.train.labels == 8][2, 0]
    assert (figure.axes[2 * 10 + 8].images[0].get_array() == third_eight.numpy()).all()


def test_augmentation_preview_keeps_the_original_at_the_left(digits, target):
    before = digits.train.images.clone()
    engine = TensorEngine(Policy(rotation=20))
    figure = drawn(plots.augmentation_preview(digits.train, engine, "preview", rows=2, draws=3), target)
    shown = [torch.as_tensor(axis.images[0].get_array()) for axis in figure.axes]
    assert len(shown) == 8
    assert torch.allclose(shown[0], before[0, 0] / 255)
    assert not torch.equal(shown[1], shown[0]) and not torch.equal(shown[2], shown[1])
    assert torch.equal(digits.train.images, before)


def test_preview_of_no_augmentation(digits, target):
    drawn(plots.augmentation_preview(digits.train, None, "preview", rows=2, draws=1), target)


def test_nested_fields_have_a_panel_per_layer_that_sees_more(few, target):
    rows = trace(build("CompactNet"))
    figure = drawn(plots.nested_fields(rows, few, "fields (digits sample, not MNIST)"), target)
    shown = [axis for axis in figure.axes if axis.images]
    assert [axis.get_title() for axis in shown] == [
        f"{layer}\nkernel {kernel}: {field} pixels"
        for layer, kernel, field in [
            ("0 Conv2d", 5, 5), ("1 MaxPool2d", 2, 6), ("4 Conv2d", 3, 10), ("8 Conv2d", 3, 14), ("12 Conv2d", 3, 18),
            ("16 Conv2d", 6, 28),
        ]
    ]  # fmt: skip
    assert (shown[0].images[0].get_array() == few.images[0, 0].numpy()).all()
    for number, axis in enumerate(shown, 1):
        *_, own = axis.patches
        assert len(axis.patches) == 1 + number  # the image's edge, the fields before, and its own
        assert own.get_width() == int(axis.get_title().split()[-2])
        clear = axis.images[1].get_alpha() == 0
        assert clear.sum() == own.get_width() ** 2


def test_a_field_that_leaves_the_image_is_drawn_up_to_its_edge(few, target):
    rows = trace(nn.Sequential(*(nn.Conv2d(1, 1, 5, padding=2) for _ in range(8))))
    figure = drawn(plots.nested_fields(rows, few, "fields"), target)
    shown = [axis for axis in figure.axes if axis.images]
    assert len(shown) == 8 and shown[-1].get_title().endswith("33 pixels")
    assert (shown[-1].patches[-1].get_x(), shown[-1].patches[-1].get_width()) == (-0.5, 28)


def test_effective_fields_stand_beside_the_theoretical_one(few, target):
    torch.manual_seed(0)
    stages = {"before": build("CompactNet"), "after": build("CompactNet")}
    figure = drawn(plots.effective_fields(stages, few, "effective"), target)
    titles = [axis.get_title().split("\n")[0] for axis in figure.axes]
    assert titles == ["13 Conv2d: 18 pixels", "before", "after", "18 Conv2d: 28 pixels", "before", "after"]
    theory, before, after = (axis.images[0].get_array() for axis in figure.axes[:3])
    assert theory.sum() == 18**2
    assert (before[theory == 0] == 0).all() and (before != after).any()
    assert figure.axes[0].get_title().endswith("half within 14 pixels")


def test_a_dead_network_has_no_effective_field(few, target):
    dead = build("SkeletonNet")
    for parameter in dead.parameters():
        nn.init.constant_(parameter, -1.0)
    figure = drawn(plots.effective_fields({"dead": dead}, few, "effective"), target)
    assert figure.axes[-1].get_title() == "dead\nnothing moves it"


def test_learning_rate_is_drawn_over_epochs(target):
    figure = drawn(plots.learning_rate({"a": [0.1, 0.2, 0.3, 0.4], "b": [0.1] * 4}, epochs=2, title="rate"), target)
    line = figure.axes[0].lines[0]
    assert line.get_xdata().tolist() == [0, 0.5, 1, 1.5]
    assert [text.get_text() for text in figure.axes[0].get_legend().get_texts()] == ["a", "b"]


def test_learning_curves_show_the_record(published, target):
    figure = drawn(plots.learning_curves([published], "curves (MNIST)"), target)
    loss, accuracy = figure.axes
    assert loss.lines[0].get_ydata().tolist() == [epoch["test"]["loss"] for epoch in published.history]
    assert accuracy.lines[1].get_ydata().tolist() == [100 * epoch["train"]["accuracy"] for epoch in published.history]
    assert "99.4 %" in texts(figure)
    assert accuracy.get_ylim()[0] <= 100 * min(epoch["test"]["accuracy"] for epoch in published.history[2:])


@pytest.mark.parametrize("row", ["1", "3"])
def test_numbers_at_the_loss_axis_do_not_overlap(published, target, row):
    opening = {"1": 0.55, "3": 0.66}[row]
    history = [
        {**epoch, "train": {**epoch["train"], "loss": opening / n}} for n, epoch in enumerate(published.history, 1)
    ]
    figure = drawn(plots.learning_curves([replace(published, history=history)], "curves"), target)
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


def test_confusion_counts_every_mistake(published, target):
    figure = drawn(plots.confusion(published, "confusion"), target)
    assert sum(int(text) for text in texts(figure)) == len(published.mistakes)


def test_confusion_shows_classes_that_are_no_digit(published, target):
    mistake = {"index": 5, "label": 4, "predicted": 12, "confidence": 0.5}
    figure = drawn(plots.confusion(replace(published, mistakes=[mistake]), "confusion"), target)
    (axis,) = figure.axes
    assert [(text.get_text(), text.get_position()) for text in axis.texts] == [("1", (12, 4))]
    assert list(axis.get_xticks()) == list(range(13)) and list(axis.get_yticks()) == list(range(10))


def test_mistakes_show_the_image_with_its_label_and_confidence(published, few, target):
    mistake = {"index": 5, "label": 4, "predicted": 9, "confidence": 0.874}
    figure = drawn(plots.mistakes(replace(published, mistakes=[mistake]), few, "mistakes"), target)
    assert figure.axes[0].get_title() == "4 > 9, 87%"
    assert (figure.axes[0].images[0].get_array() == few.images[5, 0].numpy()).all()


def test_no_mistake_is_no_crash(published, few, target):
    flawless = replace(published, mistakes=[])
    drawn(plots.mistakes(flawless, few, "mistakes"), target)
    drawn(plots.confusion(flawless, "confusion"), target)


def test_the_scale_of_accuracies_rises_and_has_the_target_in_sight():
    axis = Figure().subplots()
    plots.accuracy_scale(axis, worst=0.1, best=0.02, labels=(95, 99))
    bottom, top = axis.get_ylim()
    assert top < 0.006 < 0.1 < bottom and axis.get_yscale() == "log"
    assert [text.get_text() for text in axis.get_yticklabels()] == ["95", "99"]


def test_no_mistake_is_a_third_of_one_on_the_scale(published):
    assert plots.misread(0.98, published) == pytest.approx(0.02)
    assert plots.misread(1.0, published) == pytest.approx(1 / 3 / published.scored_images)
