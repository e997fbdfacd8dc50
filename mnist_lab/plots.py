"""Figures from plain data. Each function returns a Figure; showing and saving is the caller's."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import cycle

import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator
from torch import Tensor, nn

from mnist_lab.batches import Augment
from mnist_lab.data import Split
from mnist_lab.input_gradient import effective_field, width_of
from mnist_lab.receptive_field import Row, nested_spans, trace
from mnist_lab.records import Record
from mnist_lab.results import TARGET

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")  # told apart by colour-blind readers too
TARGET_COLOUR = "#555555"
ACCURACIES = (0, 50, 80, 90, 95, 97, 98, 98.5, 99, 99.2, 99.4, 99.5, 99.6, 99.7, 99.8, 99.9)  # labelled, %
WORST_SHOWN = 30
FIELD_IMAGES = 200  # more change an effective field by no visible shade


def sample_grid(split: Split, title: str, rows: int = 5) -> Figure:
    """Show the first images of each digit, a digit per column."""
    figure, axes = _image_grid(rows, 10, title)
    for digit in range(10):
        images = split.images[split.labels == digit][:rows].cpu()
        for row, image in enumerate(images):
            axes[row][digit].imshow(image[0].numpy(), cmap="gray_r", vmin=0, vmax=255)
    return figure


def augmentation_preview(split: Split, augment: Augment | None, title: str, rows: int = 6, draws: int = 9) -> Figure:
    """Show images as they are (left) and as ``augment`` may draw them; with its own generator, so that
    looking changes nothing in training."""
    figure, axes = _image_grid(rows, draws + 1, title)
    originals = split.images[:rows].float() / 255
    generator = torch.Generator().manual_seed(0)
    columns = [originals]
    for _ in range(draws):
        columns.append(
            originals if augment is None else augment(originals, augment.draw(rows, generator).to(originals.device))
        )
    for column, images in enumerate(columns):
        for row in range(rows):
            axes[row][column].imshow(images[row, 0].cpu().numpy(), cmap="gray_r", vmin=0, vmax=1)
    axes[0][0].set_title("original", fontsize=9)
    axes[0][1].set_title("drawn anew each time", fontsize=9, loc="left")
    return figure


def nested_fields(rows: Sequence[Row], split: Split, title: str, columns: int = 6) -> Figure:
    """Show on the first image what one unit of each layer sees, a panel per layer that sees more than the one below.

    What lies outside is pale; thin squares are the fields of the layers before.
    """
    growing = [(row, span) for row, span in zip(rows, nested_spans(rows), strict=True) if row.field_out > row.field_in]
    figure, axes = _image_grid(-(-len(growing) // columns), columns, title, width=1.55, height=1.85)
    image = split.images[0, 0].cpu().float()
    for index, (axis, (row, span)) in enumerate(zip(axes.flat, growing, strict=False)):
        axis.imshow(image.numpy(), cmap="gray_r", vmin=0, vmax=255)
        axis.imshow(
            torch.ones_like(image).numpy(), cmap="gray", vmin=0, vmax=1, alpha=0.75 * (1 - _inside(span, image))
        )
        _outline(axis, (0, len(image) - 1), len(image), color="#bbbbbb", linewidth=0.6)
        for _, before in growing[:index]:
            _outline(axis, before, len(image), color=COLOURS[0], linewidth=0.6)
        _outline(axis, span, len(image), color=COLOURS[1], linewidth=1.8)
        axis.set_title(f"{row.layer}\nkernel {row.kernel}: {row.field_out} pixels", fontsize=8)
    return figure


def effective_fields(stages: Mapping[str, nn.Sequential], split: Split, title: str) -> Figure:
    """Show what one unit can see beside how strongly each pixel moves it in the network at each stage.

    Above, the last layer with more than one unit; below, the logits. Colours go up to each panel's strongest
    pixel, the square is the theoretical field, and the titles give the central square that holds half of it all.
    """
    rows = trace(next(iter(stages.values())))
    shown = [*[row for row in rows if row.size_out > 1][-1:], rows[-1]]
    figure, axes = _image_grid(len(shown), len(stages) + 1, title, width=2.1, height=2.35)
    for row, line in zip(shown, axes, strict=True):
        unit = row.size_out // 2
        fields = {f"{row.layer}: {row.field_out} pixels": _inside(row.span(unit), split.images[0, 0])}
        fields |= {stage: effective_field(model, split.first(FIELD_IMAGES), row) for stage, model in stages.items()}
        for axis, (stage, field) in zip(line, fields.items(), strict=True):
            axis.imshow(field.numpy(), cmap="Blues", vmin=0, vmax=float(field.max()))
            _outline(axis, row.span(unit), len(field), color=COLOURS[1], linewidth=1.2)
            half = width_of(field, row.centre(unit), share=0.5)
            axis.set_title(f"{stage}\n{f'half within {half} pixels' if half else 'nothing moves it'}", fontsize=9)
    return figure


def learning_rate(rates: Mapping[str, Sequence[float]], epochs: int, title: str) -> Figure:
    """Show the learning rate of every update of a run of ``epochs`` epochs."""
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    axis = figure.subplots()
    for colour, (name, values) in zip(cycle(COLOURS), rates.items(), strict=False):
        axis.plot([epochs * update / len(values) for update in range(len(values))], values, color=colour, label=name)
    axis.set(title=title, xlabel="epoch", ylabel="learning rate")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False)
    tidy(axis)
    return figure


def learning_curves(records: Sequence[Record], title: str) -> Figure:
    """Show loss and accuracy by epoch: scored images solid, training dashed, the target dotted."""
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    figure.suptitle(title)
    loss, accuracy = figure.subplots(1, 2)
    for colour, record in zip(cycle(COLOURS), records, strict=False):
        epochs = [epoch["number"] for epoch in record.history]
        scored = record.settings["score_on"]
        for part, style in (("test", "-"), ("train", "--")):
            values = [epoch[part] for epoch in record.history]
            label = f"{record.row} {record.change}: {scored if part == 'test' else part}"
            loss.plot(epochs, [value["loss"] for value in values], style, color=colour, label=label)
            accuracy.plot(epochs, [100 * value["accuracy"] for value in values], style, color=colour)
    loss.set(xlabel="epoch", ylabel="cross-entropy, nats", yscale="log")
    loss.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    loss.yaxis.set_major_formatter("{x:g}")
    loss.yaxis.set_minor_formatter(NullFormatter())
    loss.legend(frameon=False, fontsize=8)
    accuracy.set(xlabel="epoch", ylabel="accuracy, %")
    _zoom(accuracy, records)
    for axis in (loss, accuracy):
        tidy(axis)
    return figure


def time_shares(shares: Mapping[str, float], title: str) -> Figure:
    """Show parts of a whole as bars, the largest on top."""
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    axis = figure.subplots()
    parts = sorted(shares, key=shares.__getitem__)
    bars = axis.barh(parts, [100 * shares[part] for part in parts], color=COLOURS[0])
    axis.bar_label(bars, fmt="%.0f %%", padding=3, fontsize=9)
    axis.set(title=title, xlabel="share of the time, %")
    tidy(axis)
    return figure


def confusion(record: Record, title: str) -> Figure:
    """Show which digits are taken for which: the mistakes alone, since correct images would hide them.

    A network with more than ten classes gets a column for each further class up to the last that it predicted.
    """
    classes = 1 + max([9, *(mistake["predicted"] for mistake in record.mistakes)])
    counts = torch.zeros(10, classes, dtype=torch.int64)
    for mistake in record.mistakes:
        counts[mistake["label"], mistake["predicted"]] += 1
    figure = Figure(figsize=(5.6, 5), layout="constrained")
    axis = figure.subplots()
    most = max(2, int(counts.max()))
    axis.imshow(counts.where(counts > 0, torch.nan).numpy(), cmap="Blues", norm=LogNorm(vmin=0.5, vmax=2 * most))
    for label, predicted in counts.nonzero().tolist():
        axis.text(predicted, label, int(counts[label, predicted]), ha="center", va="center", fontsize=9)
    axis.set(title=title, xlabel="predicted digit", ylabel="true digit", xticks=range(classes), yticks=range(10))
    axis.set_xticks([edge - 0.5 for edge in range(1, classes)], minor=True)
    axis.set_yticks([edge - 0.5 for edge in range(1, 10)], minor=True)
    axis.grid(which="minor", color="#dddddd", linewidth=0.6)
    axis.tick_params(which="both", length=0)
    return figure


def mistakes(record: Record, split: Split, title: str, columns: int = 10) -> Figure:
    """Show the misread images, the most confident mistake first, each as "true > predicted, confidence"."""
    shown = record.mistakes[:WORST_SHOWN]
    figure, axes = _image_grid(max(1, -(-len(shown) // columns)), columns, title, height=1.25)
    for axis, mistake in zip((axis for row in axes for axis in row), shown, strict=False):
        axis.imshow(split.images[mistake["index"], 0].cpu().numpy(), cmap="gray_r", vmin=0, vmax=255)
        axis.set_title(f"{mistake['label']} > {mistake['predicted']}, {mistake['confidence']:.0%}", fontsize=8)
    return figure


def _inside(span: tuple[int, int], image: Tensor) -> Tensor:
    """Return (H, W): 1 in the square with the first and last pixel ``span``, 0 elsewhere."""
    inside = torch.zeros(image.shape)
    first, last = max(span[0], 0), span[1]
    inside[first : last + 1, first : last + 1] = 1
    return inside


def _outline(axis: Axes, span: tuple[int, int], size: int, **style) -> None:
    """Draw the part of the square ``span`` that lies in an image of ``size`` pixels."""
    first, last = max(span[0], 0), min(span[1], size - 1)
    side = last - first + 1
    axis.add_patch(Rectangle((first - 0.5, first - 0.5), side, side, fill=False, clip_on=False, **style))


def _image_grid(
    rows: int, columns: int, title: str, width: float = 0.95, height: float = 0.95
) -> tuple[Figure, list[list[Axes]]]:
    figure = Figure(figsize=(width * columns, height * rows + 0.4), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    return figure, axes


def _zoom(axis: Axes, records: Sequence[Record]) -> None:
    """Mark the target and show the range in which the later epochs differ; the first may lie below it."""
    mark(axis, 100 * TARGET, f"{100 * TARGET:.1f} %")
    later = [100 * epoch["test"]["accuracy"] for record in records for epoch in record.history[2:] or record.history]
    low = min(99.0, min(later) - 0.1)
    axis.set_ylim(low, 100)


def misread(accuracy: float, record: Record) -> float:
    """Return the share misread, but at least a third of an image: :func:`accuracy_scale` has no 0."""
    return max(1 - accuracy, 1 / (3 * record.scored_images))


def accuracy_scale(axis: Axes, worst: float, best: float, labels: Sequence[float] = ACCURACIES) -> None:
    """Let the y axis, shares misread on a logarithmic scale, rise with accuracy and say it, from ``worst`` to ``best``.

    Half as many mistakes are the same step everywhere, and the target is always in sight.
    """
    axis.set_yscale("log")
    axis.set_ylim(min(1.0, 1.8 * max(worst, 1 - TARGET)), 0.85 * min(best, 1 - TARGET))
    axis.yaxis.set_major_locator(FixedLocator([1 - accuracy / 100 for accuracy in labels]))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{round(100 * (1 - share), 2):g}"))
    axis.yaxis.set_minor_locator(NullLocator())


def fingerprint(shown: list) -> str:
    """Return the SHA-256 of the plain data that a figure shows; saved with it, it tells when the figure is stale."""
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()


def mark(axis: Axes, value: float, text: str) -> None:
    """Draw a dotted line across at ``value``, with ``text`` at its right end."""
    axis.axhline(value, color=TARGET_COLOUR, linestyle=":", linewidth=1)
    axis.annotate(text, (1.01, value), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=TARGET_COLOUR)


def tidy(axis: Axes) -> None:
    """Take away the frame's upper and right side; epochs are whole numbers."""
    axis.spines[["top", "right"]].set_visible(False)
    if axis.get_xlabel() == "epoch":
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
