"""Figures of data and of records. Each function returns a Figure; :func:`show` saves it."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from mnist_lab.augment import Augment
from mnist_lab.data import Split
from mnist_lab.evidence.records import Record
from mnist_lab.evidence.results import LAST_EPOCHS, by_row, misread_wrong_labels, row_name
from mnist_lab.evidence.uncertainty import mean_interval
from mnist_lab.experiment import TARGET
from mnist_lab.fields.figures import COLOURS, image_grid, outline, show_image, tidy

# One colour for each step and what lies on the way to it, in every figure; told apart by colour-blind readers too.
STEP_COLOURS = {"1": "#000000", "2a": "#e69f00", "2": "#56b4e9", "3a": "#009e73", "3b": "#cc79a7", "3": "#332288"}
TARGET_COLOUR = "#555555"
WRONG_COLOUR = "#c00000"
ACCURACIES = (0, 50, 80, 90, 95, 97, 98, 98.5, 99, 99.2, 99.4, 99.5, 99.6, 99.7, 99.8, 99.9)  # labelled, %
WORST_SHOWN, SIDE_BY_SIDE = 30, 10  # misread images
DOTS_PER_INCH = 200  # of saved figures: twice what a page shows, for screens with small pixels
GOLDEN = 0.618034  # its multiples fill an interval evenly: neighbours in rank are far apart
WIDTH = 0.5  # of the strip over which the dots of a row are spread


def show(figure: Figure, path: Path) -> Figure:
    """Save ``figure`` as a PNG and return it, so that a notebook shows it. Raises OSError."""
    figure.savefig(path, dpi=DOTS_PER_INCH)
    return figure


def sample_grid(split: Split, title: str, rows: int = 5) -> Figure:
    """Show the first images of each digit, a digit per column."""
    figure, axes = image_grid(rows, 10, title)
    for digit in range(10):
        for axis, image in zip(axes[digit::10], split.images[split.labels == digit], strict=False):
            show_image(axis, image[0])
    return figure


def augmentation_preview(split: Split, augment: Augment | None, title: str, rows: int = 6, draws: int = 9) -> Figure:
    """Show images as they are (left) and as ``augment`` may distort them.

    The draws come from a generator of their own, so that a preview changes nothing in training.
    """
    figure, axes = image_grid(rows, draws + 1, title)
    originals = split.images[:rows].float() / 255
    columns, generator = [originals] * (draws + 1), torch.Generator().manual_seed(0)
    if augment is not None:
        drawn = augment.draw(rows * draws, generator).to(originals.device)  # at once, as for an epoch
        columns[1:] = [augment(originals, numbers) for numbers in drawn.split(rows)]
    for column, images in enumerate(columns):
        for axis, image in zip(axes[column :: draws + 1], images, strict=True):
            show_image(axis, 255 * image[0])
            outline(axis, (0, image.shape[-1] - 1), image.shape[-1], color="#999999", linewidth=0.6)
    axes[0].set_title("original", fontsize=9)
    axes[1].set_title("drawn anew each time" if augment else "nothing is distorted", fontsize=9, loc="left")
    return figure


def learning_rate(rates: Mapping[str, Sequence[float]], epochs: int, title: str) -> Figure:
    """Show the learning rate of every update of runs of ``epochs`` epochs; a label may begin with a step's name."""
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    axis = figure.subplots()
    for name, values, colour in zip(rates, rates.values(), colours([name.split()[0] for name in rates]), strict=True):
        axis.plot([epochs * update / len(values) for update in range(len(values))], values, color=colour, label=name)
    axis.set(title=title, xlabel="epoch", ylabel="learning rate")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False)
    tidy(axis)
    return figure


def learning_curves(records: Sequence[Record]) -> Figure:
    """Show loss and accuracy by epoch: scored images solid, training images dashed, the target dotted.

    Records that trained alike, as one with averaged weights and one without, share a dashed line.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    ends = ", ".join(f"{row_name(record)} at {100 * record.accuracy:.2f} %" for record in records)
    figure.suptitle(f"After {len(records[0].history)} epochs: step {ends} ({records[0].data})")
    panels = loss, accuracy = figure.subplots(1, 2)
    dashed: dict[tuple, list[str]] = {}
    for record in records:
        dashed.setdefault(tuple(epoch.train for epoch in record.history), []).append(record.name)
    shares: list[float] = []  # misread in the later epochs
    for place, (record, colour) in enumerate(zip(records, colours([record.name for record in records]), strict=True)):
        numbers, trained = [epoch.number for epoch in record.history], tuple(epoch.train for epoch in record.history)
        said = f"{row_name(record)}  {record.change}: {record.settings.score_on} images"
        curves = [("-", [epoch.test for epoch in record.history], said)]
        if dashed[trained][0] == record.name:
            curves.append(("--", trained, f"{' and '.join(dashed[trained])}: training images"))
        for style, values, said in curves:
            misread = [share_misread(value.accuracy, record) for value in values]
            shares += misread[2:] or misread
            look = {"color": colour, "linewidth": 1.3 + 0.7 * place, "zorder": 2 - place / 10}  # equal curves show
            loss.plot(numbers, [value.loss for value in values], style, label=said, **look)
            accuracy.plot(numbers, misread, style, **look)
    loss.set(xlabel="epoch", ylabel="cross-entropy, nats (logarithmic)", yscale="log")
    loss.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    loss.yaxis.set_major_formatter("{x:g}")
    loss.yaxis.set_minor_formatter(NullFormatter())
    accuracy.set(xlabel="epoch")
    accuracy_scale(accuracy, max(shares), min(shares), title="accuracy")
    mark_target(accuracy)
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=2)
    for axis in panels:
        tidy(axis)
    return figure


def all_seeds(records: Sequence[Record], title: str, marked: int | None = None) -> Figure:
    """Show accuracy by epoch as bands over seeds, and the last epoch of every seed beside the mean.

    A step's band reaches from the lowest to the highest seed; the line is the median, dashed for what lies on the way
    to a step. The scale is logarithmic in the share misread. The seed ``marked`` is shown apart.
    """
    groups = by_row(records)
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    figure.suptitle(title)
    panels = epochs, ends = figure.subplots(1, 2, sharey=True, width_ratios=(3, max(1.2, 0.45 * len(groups))))
    for place, (colour, group) in enumerate(zip(colours([group[0].name for group in groups]), groups, strict=True)):
        _band(epochs, group, marked, colour)
        _strip(ends, place, group, marked, colour)
    epochs.set(xlabel="epoch")
    dashed = "; dashed: on the way to a step" if any(group[0].kind == "intermediate" for group in groups) else ""
    epochs.set_title(f"median of the seeds; shaded: lowest to highest{dashed}", fontsize=9)
    ends.set_title("last epoch of every seed", fontsize=9)
    ends.set(xlabel="step", xlim=(-0.6, len(groups) - 0.4))
    ends.set_xticks(range(len(groups)), [f"{row_name(group[0])}\nn = {len(group)}" for group in groups])
    worst = max(share_misread(record.accuracy, record) for record in records)
    best = min(share_misread(epoch.test.accuracy, one) for one in records for epoch in one.history[-LAST_EPOCHS:])
    accuracy_scale(epochs, worst, best, title=f"{records[0].settings.score_on} accuracy")
    mark_target(epochs, text="")
    mark_target(ends, text="target")
    named = {}
    for axis in panels:
        tidy(axis)
        handles, labels = axis.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    figure.legend(named.values(), named.keys(), frameon=False, fontsize=9, loc="outside lower center", ncols=4)
    return figure


def _band(axis: Axes, group: Sequence[Record], marked: int | None, colour: str) -> None:
    """Draw a step's lowest to highest seed as an area, the median as a line and the marked seed as a thin one."""
    numbers = [epoch.number for epoch in group[0].history]
    curves = {one.seed: [share_misread(epoch.test.accuracy, one) for epoch in one.history] for one in group}
    lowest, median, highest = (
        [choose(epoch) for epoch in zip(*curves.values(), strict=True)] for choose in (min, statistics.median, max)
    )
    style = "--" if group[0].kind == "intermediate" else "-"
    if group[0].kind == "step":
        axis.fill_between(numbers, lowest, highest, color=colour, alpha=0.2, linewidth=0)
    axis.plot(numbers, median, style, color=colour, linewidth=1.8, label=f"{row_name(group[0])}  {group[0].change}")
    if marked in curves and len(group) > 1:
        axis.plot(numbers, curves[marked], color=colour, marker="D", mfc="white", markersize=3.5, linewidth=0.8)


def _strip(axis: Axes, place: int, group: Sequence[Record], marked: int | None, colour: str) -> None:
    """Draw every seed as a dot, the marked one as a diamond, and to their right the mean with its interval."""
    ranked = sorted(group, key=lambda record: (record.accuracy, record.seed))
    for rank, record in enumerate(ranked, 1):
        across = place + (WIDTH * (rank * GOLDEN % 1 - 0.5) - 0.1 if len(group) > 1 else 0)
        share = share_misread(record.accuracy, record)
        if record.seed == marked:
            axis.plot(across, share, "kD", mfc="white", markersize=6, zorder=3, label=f"seed {marked}")
        else:
            axis.plot(across, share, "o", color=colour, alpha=0.6, markersize=5, mew=0)
    accuracies = [record.accuracy for record in group]
    interval = mean_interval(accuracies)
    if interval is not None:
        mean, high, low = (share_misread(value, group[0]) for value in (statistics.fmean(accuracies), *interval))
        style = {"fmt": "_", "color": "black", "capsize": 3, "label": "mean and its 95 % interval"}
        axis.errorbar(place + 0.32, mean, [[mean - low], [high - mean]], **style)


def confusion(record: Record) -> Figure:
    """Show which digits are taken for which: the mistakes alone, since correct images would hide them.

    A network with more than ten classes gets a column for each further class up to the last that it predicted.
    """
    classes = 1 + max([9, *(mistake.predicted for mistake in record.mistakes)])
    counts = torch.zeros(10, classes, dtype=torch.int64)
    for mistake in record.mistakes:
        counts[mistake.label, mistake.predicted] += 1
    most = (counts == counts.max()).nonzero().tolist()
    often = "most often " + " and ".join(f"{label} as {predicted}" for label, predicted in most[:3])
    often = often if record.mistakes else "none at all"
    title = f"{len(record.mistakes)} of {record.scored_images:,} images misread, {often} ({record.data})"
    figure = Figure(figsize=(5.8, 5), layout="constrained")
    axis = figure.subplots()
    shade = LogNorm(vmin=0.5, vmax=2 * max(2, int(counts.max())))
    axis.imshow(counts.where(counts > 0, torch.nan).numpy(), cmap="Blues", norm=shade)
    for label, predicted in counts.nonzero().tolist():
        count = int(counts[label, predicted])
        colour = "white" if shade(count) > 0.6 else "black"
        axis.text(predicted, label, str(count), ha="center", va="center", fontsize=9, color=colour)
    axis.set_title(title, fontsize=10)
    axis.set(xlabel="predicted digit", ylabel="label: how many misread", xticks=range(classes))
    axis.set_yticks(range(10), [f"{label}: {int(count):2}" for label, count in enumerate(counts.sum(1))])
    axis.set_xticks([edge - 0.5 for edge in range(1, classes)], minor=True)
    axis.set_yticks([edge - 0.5 for edge in range(1, 10)], minor=True)
    axis.grid(which="minor", color="#dddddd", linewidth=0.6)
    axis.tick_params(which="both", length=0)
    return figure


def mistakes(record: Record, split: Split) -> Figure:
    """Show the misread images, the most confident mistake first, each as "label → predicted digit, its probability".

    Images whose label is known to be wrong are framed; ``split`` is the one that the record was scored on.
    """
    indices = range(len(split)) if split.indices is None else split.indices.tolist()
    places = {index: place for place, index in enumerate(indices)}
    shown, wrong = record.mistakes[:WORST_SHOWN], misread_wrong_labels(record) or ()
    title = f"{len(record.mistakes)} of {record.scored_images:,} images misread, most confident first ({record.data})"
    said = f"{len(shown)} shown: label → predicted digit, its probability"
    said += "; framed: the label is known to be wrong" if wrong else ""
    figure, axes = image_grid(max(1, -(-len(shown) // SIDE_BY_SIDE)), SIDE_BY_SIDE, f"{title}\n{said}", height=1.3)
    for axis, mistake in zip(axes, shown, strict=False):
        image = split.images[places[mistake.index], 0]
        show_image(axis, image)
        is_wrong = mistake.index in wrong
        if is_wrong:
            outline(axis, (0, len(image) - 1), len(image), color=WRONG_COLOUR, linewidth=2)
        text = f"{mistake.label} → {mistake.predicted}, {mistake.confidence:.0%}"
        axis.set_title(text, fontsize=8, color=WRONG_COLOUR if is_wrong else "black")
    return figure


def colours(names: Sequence[str]) -> list[str]:
    """Return a colour for each name: a step's own where it is one, else the next of the palette."""
    others = cycle(COLOURS)
    return [STEP_COLOURS.get(name) or next(others) for name in names]


def share_misread(accuracy: float, record: Record) -> float:
    """Return the share misread, but at least a third of an image: :func:`accuracy_scale` has no 0."""
    return max(1 - accuracy, 1 / (3 * record.scored_images))


def accuracy_scale(
    axis: Axes, worst: float, best: float, labels: Sequence[float] = ACCURACIES, title: str = "test accuracy"
) -> None:
    """Let the y axis show shares misread on a logarithmic scale, from ``worst`` to ``best``, as rising accuracies.

    Half as many mistakes are the same step everywhere, and the target is always in sight. ``labels`` are the
    accuracies to label, in per cent; the axis gets the ``title`` and says that it is logarithmic.
    """
    axis.set(ylabel=f"{title}, %\n(logarithmic in the share misread)", yscale="log")
    axis.set_ylim(min(1.0, 1.8 * max(worst, 1 - TARGET)), 0.85 * min(best, 1 - TARGET))
    axis.yaxis.set_major_locator(FixedLocator([1 - accuracy / 100 for accuracy in labels]))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{round(100 * (1 - share), 2):g}"))
    axis.yaxis.set_minor_locator(NullLocator())


def mark_target(axis: Axes, text: str = f"{100 * TARGET:.1f} %") -> None:
    """Draw the target as a dotted line across, with ``text`` at its right end."""
    place = (1.01, 1 - TARGET)
    axis.axhline(1 - TARGET, color=TARGET_COLOUR, linestyle=":", linewidth=1)
    axis.annotate(text, place, xycoords=("axes fraction", "data"), va="center", fontsize=8, color=TARGET_COLOUR)
