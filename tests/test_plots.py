from dataclasses import replace

import pytest
import torch
from matplotlib.figure import Figure

from mnist_lab import plots
from mnist_lab.augment import Policy, TensorEngine


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


def test_the_ladder_has_a_line_per_row(published, target):
    figure = drawn(plots.ladder([published] * 7, "ladder"), target)  # more rows than colours
    assert len(figure.axes[0].get_legend().get_texts()) == 7


def test_confusion_counts_every_mistake(published, target):
    figure = drawn(plots.confusion(published, "confusion"), target)
    assert sum(int(text) for text in texts(figure)) == len(published.mistakes)


def test_mistakes_show_the_image_with_its_label_and_confidence(published, few, target):
    mistake = {"index": 5, "label": 4, "predicted": 9, "confidence": 0.874}
    figure = drawn(plots.mistakes(replace(published, mistakes=[mistake]), few, "mistakes"), target)
    assert figure.axes[0].get_title() == "4 > 9, 87%"
    assert (figure.axes[0].images[0].get_array() == few.images[5, 0].numpy()).all()


def test_no_mistake_is_no_crash(published, few, target):
    flawless = replace(published, mistakes=[])
    drawn(plots.mistakes(flawless, few, "mistakes"), target)
    drawn(plots.confusion(flawless, "confusion"), target)
