"""Figures that show images: misread ones, corrupted ones, filters, maps, neighbours. Each function returns a Figure."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnist_lab.analysis.corruptions import CORRUPTIONS, STRENGTHS, corrupt
from mnist_lab.analysis.inside import METHODS, Arrays, Inside
from mnist_lab.data import WRONG_TEST_LABELS, Split
from mnist_lab.evidence.figures import WRONG_COLOUR
from mnist_lab.fields.figures import image_grid, outline, show_image

COLUMNS, FILTERS, ROWS = 10, 16, 8  # of a gallery, of filters, of errors beside their neighbours
DIVERGING = "PuOr"  # told apart by colour-blind readers; its middle is white


def gallery(split: Split, images: Sequence[int], captions: Sequence[str], title: str) -> Figure:
    """Show test images with a caption each; a frame marks a label that is known to be wrong."""
    figure, axes = image_grid(max(1, -(-len(images) // COLUMNS)), COLUMNS, title, height=1.25, width=0.86)
    for axis, image, caption in zip(axes, images, captions, strict=False):
        _digit(axis, split, image)
        if image in WRONG_TEST_LABELS:
            outline(axis, (0, 27), 28, color=WRONG_COLOUR, linewidth=2)
        axis.set_title(caption, fontsize=8)
    return figure


def _digit(axis: Axes, split: Split, image: int) -> None:
    show_image(axis, split.images[image, 0])
    outline(axis, (0, 27), 28, color="#bbbbbb", linewidth=0.6)


def corruptions(split: Split, image: int, title: str) -> Figure:
    """Show one image under every corruption, from the weakest to the strongest."""
    names = list(CORRUPTIONS)
    figure, axes = image_grid(-(-len(names) // 2), 2 * (STRENGTHS + 1), title, width=0.74, height=0.74)
    one = split.take(slice(image, image + 1))
    panels = np.array(axes).reshape(-1, 2, STRENGTHS + 1)
    lines = [panels[row, side] for side in range(2) for row in range(len(panels))]
    for line, name in zip(lines, names, strict=False):
        line[0].text(1, 0.5, name.replace(" ", "\n"), ha="right", va="center", transform=line[0].transAxes, fontsize=9)
        for strength, axis in enumerate(line[1:], 1):
            show_image(axis, corrupt(one, name, strength).images[0, 0])
            outline(axis, (0, 27), 28, color="#bbbbbb", linewidth=0.6)
    return figure


def filters(seen: Inside, arrays: Arrays, title: str) -> Figure:
    """Show the first layer's filters, and each channel's template with the digit it speaks for most."""
    templates = sorted(zip(seen.digits_of_filters, arrays.templates, strict=True), key=lambda pair: pair[0])
    first = -(-len(arrays.filters) // FILTERS)
    rows = first + -(-len(templates) // FILTERS)
    figure, axes = image_grid(rows, FILTERS, title, width=0.54, height=0.7)
    for axis, weights in zip(axes, arrays.filters, strict=False):
        _weights(axis, weights)
    for axis, (digit, weights) in zip(axes[first * FILTERS :], templates, strict=False):
        _weights(axis, weights)
        axis.set_title(str(digit), fontsize=9, pad=2)
    return figure


def _weights(axis: Axes, weights: np.ndarray) -> None:
    """Draw weights, 0 in white."""
    limit = max(float(np.abs(weights).max()), 1e-9)
    axis.imshow(weights, cmap=DIVERGING, vmin=-limit, vmax=limit)
    outline(axis, (0, len(weights) - 1), len(weights), color="#bbbbbb", linewidth=0.6)


def maps(split: Split, seen: Inside, arrays: Arrays, title: str) -> Figure:
    """Show misread images above their maps, by the trained network and by one of random weights."""
    kinds = [f"{method}, {kind}" for method in METHODS for kind in ("trained", "another seed", "random")]
    figure, axes = image_grid(1 + len(kinds), 1 + len(seen.shown), title, width=0.86, height=0.9)
    panels = np.array(axes).reshape(1 + len(kinds), -1)
    for row, name in enumerate(["image", *kinds]):
        text = name.replace("trained", "this network").replace(", ", "\n")
        panels[row, 0].text(1, 0.5, text, ha="right", va="center", transform=panels[row, 0].transAxes, fontsize=9)
    for column, place in enumerate(seen.shown, 1):
        _digit(panels[0, column], split, seen.errors[place])
        panels[0, column].set_title(f"{seen.labels[place]} → {seen.predicted[place]}", fontsize=9)
        for row, kind in enumerate(kinds, 1):
            _weights(panels[row, column], arrays.maps[kind][column - 1])
    return figure


def neighbours(train: Split, test: Split, seen: Inside, title: str) -> Figure:
    """Show errors with the training images that the network finds most like them, and their labels."""
    near = len(seen.neighbours[0])
    figure, axes = image_grid(ROWS, 2 * (near + 1), title, width=0.74, height=0.92)
    panels = np.array(axes).reshape(ROWS, 2, near + 1)
    lines = [panels[row, side] for side in range(2) for row in range(ROWS)]
    for place, line in enumerate(lines[: len(seen.errors)]):
        _digit(line[0], test, seen.errors[place])
        outline(line[0], (0, 27), 28, color="black", linewidth=1.6)
        line[0].set_title(f"{seen.labels[place]} → {seen.predicted[place]}", fontsize=9, pad=3)
        pairs = zip(line[1:], seen.neighbours[place], seen.neighbour_labels[place], strict=True)
        for axis, image, label in pairs:
            _digit(axis, train, image)
            axis.set_title(
                str(label), fontsize=9, pad=3, color="black" if label == seen.labels[place] else WRONG_COLOUR
            )
    return figure
