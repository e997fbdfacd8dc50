"""Figures from plain data. Each function returns a Figure; showing and saving is the caller's."""

from collections.abc import Mapping, Sequence
from itertools import cycle

import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mnist_lab.batches import Augment
from mnist_lab.data import Split
from mnist_lab.records import Record
from mnist_lab.results import TARGET

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")  # told apart by colour-blind readers too
TARGET_COLOUR = "#555555"
WORST_SHOWN = 30


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


def learning_rate(rates: Mapping[str, Sequence[float]], epochs: int, title: str) -> Figure:
    """Show the learning rate of every update of a run of ``epochs`` epochs."""
    figure = Figure(figsize=(8, 2.6), layout="constrained")
    axis = figure.subplots()
    for colour, (name, values) in zip(cycle(COLOURS), rates.items(), strict=False):
        axis.plot([epochs * update / len(values) for update in range(len(values))], values, color=colour, label=name)
    axis.set(title=title, xlabel="epoch", ylabel="learning rate")
    axis.set_ylim(bottom=0)
    axis.legend(frameon=False)
    _tidy(axis)
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
    _plain_numbers(loss)
    loss.legend(frameon=False, fontsize=8)
    accuracy.set(xlabel="epoch", ylabel="accuracy, %")
    _zoom(accuracy, records)
    for axis in (loss, accuracy):
        _tidy(axis)
    return figure


def ladder(records: Sequence[Record], title: str) -> Figure:
    """Show the share of misread images by epoch, a line for every row of the results; the scale is logarithmic."""
    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axis = figure.subplots()
    for colour, record in zip(cycle(COLOURS), records, strict=False):
        epochs = [epoch["number"] for epoch in record.history]
        values = [100 * (1 - epoch["test"]["accuracy"]) for epoch in record.history]
        axis.plot(epochs, values, "--" if record.is_rung else "-", color=colour, label=f"{record.row}  {record.change}")
        axis.plot(epochs[-1], values[-1], "o", color=colour, clip_on=False)
    axis.set(title=title, xlabel="epoch", ylabel="test images misread, %", yscale="log")
    _plain_numbers(axis)
    _mark(axis, 100 * (1 - TARGET), f"{100 * TARGET:.1f} % right")
    axis.legend(frameon=False, fontsize=9, loc="upper right")
    _tidy(axis)
    return figure


def confusion(record: Record, title: str) -> Figure:
    """Show which digits are taken for which: the mistakes alone, since correct images would hide them."""
    counts = torch.zeros(10, 10, dtype=torch.int64)
    for mistake in record.mistakes:
        counts[mistake["label"], mistake["predicted"]] += 1
    figure = Figure(figsize=(5.6, 5), layout="constrained")
    axis = figure.subplots()
    most = max(2, int(counts.max()))
    axis.imshow(counts.where(counts > 0, torch.nan).numpy(), cmap="Blues", norm=LogNorm(vmin=0.5, vmax=2 * most))
    for label, predicted in counts.nonzero().tolist():
        axis.text(predicted, label, int(counts[label, predicted]), ha="center", va="center", fontsize=9)
    axis.set(title=title, xlabel="predicted digit", ylabel="true digit", xticks=range(10), yticks=range(10))
    axis.set_xticks([edge - 0.5 for edge in range(1, 10)], minor=True)
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


def _image_grid(rows: int, columns: int, title: str, height: float = 0.95) -> tuple[Figure, list[list[Axes]]]:
    figure = Figure(figsize=(0.95 * columns, height * rows + 0.4), layout="constrained")
    figure.suptitle(title)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    return figure, axes


def _zoom(axis: Axes, records: Sequence[Record]) -> None:
    """Mark the target and show the range in which the later epochs differ; the first may lie below it."""
    _mark(axis, 100 * TARGET, f"{100 * TARGET:.1f} %")
    later = [100 * epoch["test"]["accuracy"] for record in records for epoch in record.history[2:] or record.history]
    low = min(99.0, min(later) - 0.1)
    axis.set_ylim(low, 100)


def _plain_numbers(axis: Axes) -> None:
    """Label a logarithmic y axis with 0.02 rather than with a power of ten."""
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter("{x:g}")


def _mark(axis: Axes, value: float, text: str) -> None:
    axis.axhline(value, color=TARGET_COLOUR, linestyle=":", linewidth=1)
    axis.annotate(text, (1.01, value), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=TARGET_COLOUR)


def _tidy(axis: Axes) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    if axis.get_xlabel() == "epoch":
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
