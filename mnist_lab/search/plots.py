"""Figures of the search and of the frontier."""

import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter

from mnist_lab import plots
from mnist_lab.plots import COLOURS, TARGET_COLOUR, accuracy_scale, mark, misread, tidy
from mnist_lab.records import Record
from mnist_lab.results import TARGET
from mnist_lab.search.tables import BASE, FRONTIER_FIGURE, SEARCH_FIGURE, Trial, trials, verdict

SHADES = {"better": COLOURS[2], "worse": COLOURS[1], "no difference": "#777777"}


def changes(found: Sequence[Trial], title: str) -> Figure:
    """Show how far each candidate's loss lies from step 3's, with its interval, family by family."""
    shown = [trial for trial in found if trial.gain is not None]
    figure = Figure(figsize=(9.5, 0.27 * len(shown) + 1.5), layout="constrained")
    axis = figure.subplots()
    for place, trial in enumerate(shown):
        low, high = map(math.exp, trial.gain.interval)
        colour = SHADES[verdict(trial)]
        axis.plot([low, high], [place, place], color=colour, linewidth=1.5, solid_capstyle="butt")
        axis.plot(math.exp(trial.gain.mean), place, "o", color=colour, markersize=5)
    first = 0
    for _, family in groupby(shown, key=lambda trial: trial.family):
        if first:
            axis.axhline(first - 0.5, color="#dddddd", linewidth=0.8)
        first += len(list(family))
    axis.axvline(1, color=TARGET_COLOUR, linewidth=1)
    axis.set_yticks(range(len(shown)), [f"{trial.family}: {trial.change}" for trial in shown], fontsize=9)
    axis.invert_yaxis()
    axis.set(title=title, xlabel="held-out loss, times step 3's; less is better\n(95 % intervals that hold together)")
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator((0.5, 0.8, 1, 1.25, 1.6, 2, 3, 5, 10)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    for name, colour in SHADES.items():
        axis.plot([], [], "o-", color=colour, label=name)
    figure.legend(frameon=False, fontsize=9, loc="outside lower right", ncols=len(SHADES))
    tidy(axis)
    return figure


def frontier(found: Sequence[Trial], records: Sequence[Record], title: str) -> Figure:
    """Show accuracy against parameters and against epochs: every seed, the means and their intervals."""
    largest, longest = max(trial.parameters for trial in found), max(trial.epochs for trial in found)
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(1, 2, sharey=True)
    by_size = sorted((trial for trial in found if trial.epochs == longest), key=lambda trial: trial.parameters)
    by_epochs = sorted((trial for trial in found if trial.parameters == largest), key=lambda trial: trial.epochs)
    _curve(panels[0], [trial.parameters for trial in by_size], by_size, records)
    _curve(panels[1], [trial.epochs for trial in by_epochs], by_epochs, records)
    panels[0].set(xlabel=f"parameters, after {longest} epochs", ylabel="test accuracy, %")
    panels[1].set(xlabel=f"epochs, with {largest:,} parameters", xticks=[trial.epochs for trial in by_epochs])
    shares = [misread(record.accuracy, record) for record in records]
    accuracy_scale(panels[0], max(shares), min(shares))
    return figure


def _curve(axis: Axes, places: Sequence[int], found: Sequence[Trial], records: Sequence[Record]) -> None:
    """Draw the means with their intervals over ``places``, and each seed as a dot."""
    beside = 0.02 * (max(places) - min(places))
    for place, trial in zip(places, found, strict=True):
        seeds = [misread(record.accuracy, record) for record in records if record.row == trial.name]
        axis.plot(
            [place - beside] * len(seeds), seeds, "o", color=COLOURS[0], alpha=0.3, markersize=4, markeredgewidth=0
        )
        if trial.interval is not None:
            axis.plot([place, place], [1 - end for end in trial.interval], color=COLOURS[0], linewidth=2)
    axis.plot(places, [1 - trial.mean for trial in found], "o-", color=COLOURS[0], markersize=5, linewidth=1)
    mark(axis, 1 - TARGET, f"{100 * TARGET:.1f} %")
    tidy(axis)


def save_figures(searched: Sequence[Record], frontier_records: Sequence[Record], folder: Path) -> list[str]:
    """Write into ``folder`` the figures that there are records for, and return the files' names.

    Each carries the fingerprint of its records as the PNG's description.
    """
    figures = {}
    if any(record.row != BASE for record in searched):
        figures[SEARCH_FIGURE] = changes(trials(searched), "Step 3 with one thing changed"), searched
    if frontier_records:
        title = "How few parameters, and how few epochs (MNIST)"
        figures[FRONTIER_FIGURE] = frontier(trials(frontier_records), frontier_records, title), frontier_records
    for name, (figure, shown) in figures.items():
        figure.savefig(folder / name, metadata={"Description": fingerprint(shown)})
    return list(figures)


def fingerprint(records: Sequence[Record]) -> str:
    """Return the fingerprint of what a figure shows of ``records``."""
    return plots.fingerprint([[r.row, r.change, r.seed, r.accuracy, r.loss] for r in records])
