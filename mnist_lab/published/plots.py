"""Figures of the published series: what is claimed of them, and what our seeds of their recipes reach."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mnist_lab import plots
from mnist_lab.plots import COLOURS, accuracy_scale, mark, misread, tidy
from mnist_lab.published.claims import CLAIMS
from mnist_lab.published.recipes import RECIPES
from mnist_lab.published.tables import FIGURES, best_epoch, seeds_of
from mnist_lab.records import Record
from mnist_lab.results import TARGET

THEIRS, CLAIM, OURS = COLOURS[:3]
COLUMNS = 4


def claims_and_seeds(published: Sequence[Record], own: Sequence[Record], title: str) -> Figure:
    """Show each step's claim as a cross beside our seeds: last epochs as discs, best epochs as rings."""
    rows = [(name, seeds_of(published, name), THEIRS) for name in RECIPES]
    steps = dict.fromkeys(record.row for record in own if not record.is_rung)
    rows += [(f"our\nstep {row}", seeds_of(own, row), OURS) for row in steps]
    rows = [row for row in rows if row[1]]
    figure = Figure(figsize=(10.5, 4.8), layout="constrained")
    axis = figure.subplots()
    shown = []
    for place, (name, records, colour) in enumerate(rows):
        last = [misread(record.accuracy, record) for record in records]
        best = [misread(best_epoch(record), record) for record in records]
        shown += last + best
        axis.plot([place - 0.2] * len(last), last, "o", color=colour, alpha=0.6, markersize=5, markeredgewidth=0)
        axis.plot([place] * len(best), best, "o", color=colour, alpha=0.8, markersize=5, fillstyle="none")
        if name in CLAIMS and CLAIMS[name].best is not None:
            shown.append(1 - CLAIMS[name].best / 100)
            axis.plot(place + 0.2, shown[-1], "x", color=CLAIM, markersize=7, markeredgewidth=2)
    for marker, style, colour, label in [
        ("o", "full", THEIRS, "our seeds of their recipe, last epoch"),
        ("o", "none", THEIRS, "the same, best epoch on the test set"),
        ("x", "full", CLAIM, "claimed: best epoch of one seed"),
        ("o", "full", OURS, "our own steps"),
    ]:
        axis.plot([], [], marker, fillstyle=style, color=colour, label=label)
        if place and name[0] != rows[place - 1][0][0]:
            axis.axvline(place - 0.5, color="#dddddd", linewidth=0.8)  # between two series
    axis.set(title=title, ylabel="test accuracy, %")
    axis.set_xticks(range(len(rows)), [name.replace("Later", "\nlater") for name, _, _ in rows], fontsize=9)
    accuracy_scale(axis, max(shown), min(shown))
    tidy(axis)
    mark(axis, 1 - TARGET, f"{100 * TARGET:.1f} %")
    axis.legend(frameon=False, fontsize=9)
    return figure


def curves_of_the_series(published: Sequence[Record], title: str) -> Figure:
    """Show epoch by epoch, a panel for each step, the published logs beside mean and range of our seeds."""
    names = [name for name in RECIPES if seeds_of(published, name)]
    lines = -(-len(names) // COLUMNS)
    figure = Figure(figsize=(10.5, 2.1 * lines + 0.9), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(lines, COLUMNS, squeeze=False, sharey=True)
    for axis, name in zip(panels.flat, names, strict=False):
        records = seeds_of(published, name)
        epochs = [epoch["number"] for epoch in records[0].history]
        runs = [[misread(epoch["test"]["accuracy"], record) for epoch in record.history] for record in records]
        by_epoch = list(zip(*runs, strict=True))
        for log, style in zip(CLAIMS[name].logs, ("-", "--"), strict=False):
            numbers = range(log.first_epoch, log.first_epoch + len(log.accuracies))
            axis.plot(numbers, [1 - accuracy / 100 for accuracy in log.accuracies], style, color=CLAIM, linewidth=1.2)
        axis.fill_between(
            epochs, [min(values) for values in by_epoch], [max(values) for values in by_epoch],
            color=THEIRS, alpha=0.25, linewidth=0,
        )  # fmt: skip
        axis.plot(epochs, [sum(values) / len(values) for values in by_epoch], color=THEIRS, linewidth=1.2)
        log = "" if CLAIMS[name].logs else ", no log"
        axis.set_title(
            f"{name.replace('Later', ' later')}: {len(records)} seed{'s' if len(records) > 1 else ''}{log}", fontsize=9
        )
        tidy(axis)
        mark(axis, 1 - TARGET, "")
        axis.tick_params(labelsize=8)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    few_labels = (90, 95, 98, 99, 99.4, 99.6)  # panels are small
    accuracy_scale(panels.flat[0], worst=0.1, best=0.004, labels=few_labels)  # of all; first epochs may begin below
    for axis in panels.flat[len(names) :]:
        axis.axis("off")
    for colour, label in [
        (THEIRS, "our seeds: mean and range"),
        (CLAIM, "published log (dashed: on SageMaker, or exact)"),
    ]:
        panels.flat[0].plot([], [], color=colour, label=label)
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    for axis in panels[-1]:
        axis.set_xlabel("epoch", fontsize=9)
    figure.supylabel("test accuracy, %", fontsize=10)
    return figure


def save_figures(published: Sequence[Record], own: Sequence[Record], folder: Path) -> list[str]:
    """Write both figures into ``folder`` if there are records of published steps, and return the files' names.

    Each carries the fingerprint of its records as the PNG's description.
    """
    if not any(record.row == record.published for record in published):
        return []
    figures = [
        claims_and_seeds(published, own, "Claimed and reproduced (MNIST)"),
        curves_of_the_series(published, "The published logs, and our seeds of the same recipes (MNIST)"),
    ]
    for name, figure in zip(FIGURES, figures, strict=True):
        figure.savefig(folder / name, metadata={"Description": fingerprint(published, own)})
    return list(FIGURES)


def fingerprint(published: Sequence[Record], own: Sequence[Record]) -> str:
    """Return the fingerprint of what the figures show."""
    return plots.fingerprint([[record.row, record.seed, record.history] for record in [*published, *own]])
