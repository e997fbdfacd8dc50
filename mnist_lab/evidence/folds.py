"""How much folds, writers and seeds each move a result: from runs of a recipe on all folds of held-out writers."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from mnist_lab.evidence.records import Record, RecordError
from mnist_lab.evidence.results import count_by_writer, row_name
from mnist_lab.evidence.uncertainty import error_by_writer, nested_spreads
from mnist_lab.fields.figures import COLOURS, tidy
from mnist_lab.writers import FOLDS

WITHIN = 1.96  # standard errors either way: 95 % of a normal distribution


@dataclass(frozen=True)
class Spread:
    """Standard deviations of the accuracy of one run, in percentage points."""

    seed: float | None  # from another seed on the same fold; None with one seed for each fold
    writers: float | None  # from as many other writers as a fold has; None if it is not known who wrote the images
    fold: float  # from another fold, which is scored and trained on others; with one seed for each, the seed's as well


def by_fold(runs: Sequence[Record]) -> list[list[Record]]:
    """Return the runs of a recipe on each fold. Raises RecordError if there are others, or none on some fold."""
    if any(run.settings.score_on != "held-out" for run in runs):
        raise RecordError(f"{row_name(runs[0])} was not scored on held-out writers: train it with SCORE_ON held-out")
    groups = [[run for run in runs if run.seed % FOLDS == fold] for fold in range(FOLDS)]
    if not all(groups):
        raise RecordError(f"{row_name(runs[0])} was not scored on all folds: train {FOLDS} seeds or a multiple of that")
    return groups


def measure_spread(runs: Sequence[Record]) -> Spread:
    """Take apart how the accuracies of a recipe's runs scatter. Raises RecordError like :func:`by_fold`."""
    between, within = nested_spreads([[100 * run.accuracy for run in group] for group in by_fold(runs)])
    errors = [100 * error_by_writer(counted) for counted in count_by_writer(runs) or ()]
    return Spread(within, math.sqrt(statistics.fmean(error**2 for error in errors)) if errors else None, between)


def spread_figure(runs: Sequence[Record], title: str) -> Figure:
    """Show the accuracy of every run on its fold, and beside it the standard deviations of :class:`Spread`.

    A fold's mean has its 95 % interval over writers, if these are known. Raises RecordError like :func:`by_fold`.
    """
    groups, counted, spread = by_fold(runs), count_by_writer(runs), measure_spread(runs)
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    figure.suptitle(title)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for fold, group in enumerate(groups):
        accuracies = [100 * run.accuracy for run in group]
        left.plot([fold - 0.15] * len(group), accuracies, "o", color=COLOURS[0], alpha=0.6, mew=0)
        half = 100 * WITHIN * error_by_writer(counted[fold]) if counted else None
        left.errorbar(fold + 0.15, statistics.fmean(accuracies), half, fmt="_", color="black", capsize=3, markersize=9)
    left.plot([], [], "o", color=COLOURS[0], alpha=0.6, mew=0, label="a seed")
    said = {"their mean": max(map(len, groups)) > 1, "bar: 95 % interval over writers": bool(counted)}
    label = "; ".join(words for words, drawn in said.items() if drawn) or "its accuracy"
    left.plot([], [], "_", color="black", markersize=9, label=label)
    left.set(xlabel=f"fold of held-out writers ({len(runs)} seeds in all)", ylabel="accuracy, %", xticks=range(FOLDS))
    left.margins(y=0.15)
    left.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.18), ncols=2)
    alone = "fold" if spread.seed is not None else "fold and seed"
    bars = {"another seed": spread.seed, "other writers": spread.writers, f"another {alone}": spread.fold}
    known = {name: value for name, value in bars.items() if value is not None}
    right.barh(list(known), list(known.values()), height=0.5, color=COLOURS[0])
    for place, value in enumerate(known.values()):
        right.annotate(f"{value:.3f}", (value, place), (4, 0), textcoords="offset points", va="center", fontsize=9)
    right.invert_yaxis()
    right.margins(x=0.2)
    right.set(xlabel="standard deviation of one result,\npercentage points")
    for axis in (left, right):
        tidy(axis)
    return figure
