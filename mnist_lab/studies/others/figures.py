"""Figures of the published series: what is claimed of them, and what our seeds of their recipes reach."""

import statistics
from collections.abc import Sequence
from itertools import pairwise

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mnist_lab.evidence.figures import accuracy_scale, mark_target, share_misread
from mnist_lab.evidence.records import Record
from mnist_lab.fields.figures import COLOURS, tidy
from mnist_lab.studies.others.catalogue import CLAIMS
from mnist_lab.studies.others.tables import best_epoch, seeds_by_step

THEIRS, CLAIM, OURS = COLOURS[:3]
COLUMNS = 4


def claims_and_seeds(records: Sequence[Record], title: str) -> Figure:
    """Show each step's claim as a cross beside our seeds: last epochs as discs, best epochs as rings."""
    steps = seeds_by_step(records)
    figure = Figure(figsize=(10.5, 4.8), layout="constrained")
    axis = figure.subplots()
    shown = []
    for place, (name, seeds) in enumerate(steps.items()):
        colour = THEIRS if name in CLAIMS else OURS
        last = [share_misread(record.accuracy, record) for record in seeds]
        best = [share_misread(best_epoch(record), record) for record in seeds]
        shown += last + best
        axis.plot([place - 0.2] * len(last), last, "o", color=colour, alpha=0.6, markersize=5, markeredgewidth=0)
        axis.plot([place] * len(best), best, "o", color=colour, alpha=0.8, markersize=5, fillstyle="none")
        if name in CLAIMS and CLAIMS[name].best is not None:
            shown.append(1 - CLAIMS[name].best / 100)
            axis.plot(place + 0.2, shown[-1], "x", color=CLAIM, markersize=7, markeredgewidth=2)
    letters = [name[0] for name in steps]
    for place, (before, after) in enumerate(pairwise(letters)):
        if before != after:
            axis.axvline(place + 0.5, color="#dddddd", linewidth=0.8)  # between two series
    for marker, style, colour, label in [
        ("o", "full", THEIRS, "our seeds of their recipe, last epoch"),
        ("o", "none", THEIRS, "the same, best epoch on the test set"),
        ("x", "full", CLAIM, "claimed: best epoch of one seed"),
        ("o", "full", OURS, "our own steps"),
    ]:
        axis.plot([], [], marker, fillstyle=style, color=colour, label=label)
    names = [name.replace("Later", "\nlater").replace("our step", "our\nstep") for name in steps]
    axis.set(title=title)
    axis.set_xticks(range(len(steps)), names, fontsize=9)
    accuracy_scale(axis, max(shown), min(shown))
    tidy(axis)
    mark_target(axis)
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=2)
    return figure


def curves_of_the_series(records: Sequence[Record], title: str) -> Figure:
    """Show epoch by epoch, a panel for each published step, its logs beside the mean and range of our seeds."""
    steps = {name: seeds for name, seeds in seeds_by_step(records).items() if name in CLAIMS}
    lines = -(-len(steps) // COLUMNS)
    figure = Figure(figsize=(10.5, 2.1 * lines + 0.9), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(lines, COLUMNS, squeeze=False, sharey=True)
    for axis, (name, seeds) in zip(panels.flat, steps.items(), strict=False):
        for log, style in (CLAIMS[name].log, "-"), (CLAIMS[name].other, "--"):
            if log is not None:
                numbers = range(log.first_epoch, log.first_epoch + len(log.accuracies))
                shares = [1 - accuracy / 100 for accuracy in log.accuracies]
                axis.plot(numbers, shares, style, color=CLAIM, linewidth=1.2)
        epochs = [epoch.number for epoch in seeds[0].history]
        runs = [[share_misread(epoch.test.accuracy, record) for epoch in record.history] for record in seeds]
        shares = list(zip(*runs, strict=True))  # of all seeds, epoch by epoch
        axis.fill_between(epochs, [*map(min, shares)], [*map(max, shares)], color=THEIRS, alpha=0.25, linewidth=0)
        axis.plot(epochs, [*map(statistics.fmean, shares)], color=THEIRS, linewidth=1.2)
        count = f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}{'' if CLAIMS[name].log else ', no log'}"
        axis.set_title(f"{name.replace('Later', ' later')}: {count}", fontsize=9)
        tidy(axis)
        mark_target(axis, text="")
        axis.tick_params(labelsize=8)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    few_labels = (90, 95, 98, 99, 99.4, 99.6)  # panels are small
    accuracy_scale(panels.flat[0], worst=0.1, best=0.004, labels=few_labels)  # of all; first epochs may begin below
    panels.flat[0].set_ylabel("")
    for axis in panels.flat[len(steps) :]:
        axis.axis("off")
    panels.flat[0].plot([], [], color=THEIRS, label="our seeds: mean and range")
    panels.flat[0].plot([], [], color=CLAIM, label="published log (dashed: on SageMaker; of D3, read from a plot)")
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    for axis in panels[-1]:
        axis.set_xlabel("epoch", fontsize=9)
    figure.supylabel("test accuracy, % (logarithmic in the share misread)", fontsize=10)
    return figure
