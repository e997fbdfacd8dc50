"""One figure of a study: every row over its epochs, and where its seeds end."""

import statistics
from collections.abc import Sequence
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mnist_lab.plots import COLOURS, accuracy_scale, mark, misread, tidy
from mnist_lab.records import Record
from mnist_lab.results import LAST_EPOCHS, TARGET, by_row
from mnist_lab.uncertainty import mean_interval

GOLDEN = 0.618034  # its multiples fill an interval evenly: neighbours in rank are far apart
WIDTH = 0.5  # of the strip over which the dots of a row are spread


def all_seeds(records: Sequence[Record], title: str, own: int | None = None) -> Figure:
    """Show accuracy by epoch as bands over seeds, and the last epoch of every seed beside its row's mean.

    A band reaches from the lowest to the highest seed, its line is the median. The scale is logarithmic in the
    share misread. The seed ``own``, which a notebook trained, is shown apart.
    """
    groups = by_row(records)
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    figure.suptitle(title)
    epochs, ends = figure.subplots(1, 2, sharey=True, width_ratios=(3, max(1.2, 0.45 * len(groups))))
    for place, (colour, group) in enumerate(zip(cycle(COLOURS), groups, strict=False)):
        _band(epochs, group, own, colour)
        _strip(ends, place, group, own, colour)
    epochs.set(xlabel="epoch", ylabel=f"{groups[0][0].settings['score_on']} accuracy, %")
    epochs.set_title("median of the seeds; shaded: lowest to highest", fontsize=9)
    ends.set_title("last epoch of every seed", fontsize=9)
    ends.set(xlabel="step", xlim=(-0.6, len(groups) - 0.4))
    ends.set_xticks(range(len(groups)), [f"{group[0].row}\nn = {len(group)}" for group in groups])
    _scale(epochs, groups)
    mark(epochs, 1 - TARGET, "")
    mark(ends, 1 - TARGET, f"{100 * TARGET:.1f} %")
    named = {label: handle for axis in (epochs, ends) for handle, label in _labelled(axis)}
    figure.legend(named.values(), named.keys(), frameon=False, fontsize=9, loc="outside lower center", ncols=4)
    for axis in (epochs, ends):
        tidy(axis)
    return figure


def _labelled(axis: Axes) -> zip:
    return zip(*axis.get_legend_handles_labels(), strict=True)


def _band(axis: Axes, group: Sequence[Record], own: int | None, colour: str) -> None:
    """Draw the lowest to the highest seed as an area, the median as a line and the own seed as a thin one."""
    numbers = [epoch["number"] for epoch in group[0].history]
    curves = {record.seed: [misread(epoch["test"]["accuracy"], record) for epoch in record.history] for record in group}
    lowest, median, highest = (
        [choose(epoch) for epoch in zip(*curves.values(), strict=True)] for choose in (min, statistics.median, max)
    )
    style = "--" if group[0].is_rung else "-"
    axis.fill_between(numbers, lowest, highest, color=colour, alpha=0.2, linewidth=0)
    axis.plot(numbers, median, style, color=colour, linewidth=1.8, label=f"{group[0].row}  {group[0].change}")
    if own in curves and len(group) > 1:
        axis.plot(numbers, curves[own], style, color="black", linewidth=0.8)


def _strip(axis: Axes, place: int, group: Sequence[Record], own: int | None, colour: str) -> None:
    """Draw every seed as a dot, the own one as a diamond, and to their right the mean with its interval."""
    ranked = sorted(group, key=lambda record: (record.accuracy, record.seed))
    for rank, record in enumerate(ranked, 1):
        across = place + (WIDTH * (rank * GOLDEN % 1 - 0.5) - 0.1 if len(group) > 1 else 0)
        if record.seed == own:
            look = {"marker": "D", "color": "white", "markeredgecolor": "black", "markersize": 6, "zorder": 3}
            axis.plot(across, misread(record.accuracy, record), linestyle="", label=f"seed {own}, trained here", **look)
        else:
            axis.plot(across, misread(record.accuracy, record), "o", color=colour, alpha=0.6, markersize=5, mew=0)
    accuracies = [record.accuracy for record in group]
    interval = mean_interval(accuracies)
    if interval is not None:
        mean, high, low = (misread(value, group[0]) for value in (statistics.fmean(accuracies), *interval))
        style = {"fmt": "_", "color": "black", "capsize": 3, "label": "mean and its 95 % interval"}
        axis.errorbar(place + 0.32, mean, [[mean - low], [high - mean]], **style)


def _scale(axis: Axes, groups: Sequence[Sequence[Record]]) -> None:
    """Let the y axis rise with accuracy and show where the last epochs end; the first may begin below it."""
    records = [record for group in groups for record in group]
    worst = max(misread(record.accuracy, record) for record in records)
    best = min(misread(epoch["test"]["accuracy"], r) for r in records for epoch in r.history[-LAST_EPOCHS:])
    accuracy_scale(axis, worst, best)
