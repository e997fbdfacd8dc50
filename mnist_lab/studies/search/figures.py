"""Figures of the ablations and of the frontier."""

import math
from collections.abc import Mapping, Sequence
from itertools import groupby

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter

from mnist_lab.evidence.figures import COLOURS, TARGET_COLOUR, accuracy_scale, mark_target, share_misread, tidy
from mnist_lab.studies.search.tables import Outcome, by_epochs, by_size

SHADES = {"better": COLOURS[2], "worse": COLOURS[1], "no difference": "#777777"}


def ablations(found: Sequence[Outcome], title: str) -> Figure:
    """Show how far each ablation's loss lies from the baseline's, with its interval, family by family."""
    shown = [outcome for outcome in found if outcome.gain is not None]
    figure = Figure(figsize=(9.5, 0.27 * len(shown) + 1.5), layout="constrained")
    axis = figure.subplots()
    for place, outcome in enumerate(shown):
        low, high = map(math.exp, outcome.gain.interval)
        colour = SHADES[outcome.verdict]
        axis.plot([low, high], [place, place], color=colour, linewidth=1.5, solid_capstyle="butt")
        axis.plot(math.exp(outcome.gain.mean), place, "o", color=colour, markersize=5)
    first = 0
    for _, family in groupby(shown, key=lambda outcome: outcome.family):
        if first:
            axis.axhline(first - 0.5, color="#dddddd", linewidth=0.8)
        first += len(list(family))
    axis.axvline(1, color=TARGET_COLOUR, linewidth=1)
    axis.set_yticks(range(len(shown)), [f"{outcome.family}: {outcome.result.change}" for outcome in shown], fontsize=9)
    axis.set_ylim(len(shown) - 0.5, -0.5)
    axis.set(
        title=title,
        xlabel="held-out loss as a multiple of step 3's; less is better\n(95 % confidence that all intervals hold)",
        xscale="log",
    )
    axis.xaxis.set_major_locator(FixedLocator((0.5, 0.8, 1, 1.25, 1.6, 2, 3, 5, 10)))
    axis.xaxis.set_major_formatter("{x:g}")
    axis.xaxis.set_minor_formatter(NullFormatter())
    for name, colour in SHADES.items():
        axis.plot([], [], "o-", color=colour, label=name)
    figure.legend(frameon=False, fontsize=9, loc="outside lower right", ncols=len(SHADES))
    tidy(axis)
    return figure


def frontier(found: Sequence[Outcome], title: str) -> Figure:
    """Show accuracy against parameters and against epochs: every seed, the means and their intervals."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(1, 2, sharey=True)
    by_parameters = {outcome.result.trainable: outcome for outcome in by_size(found)}
    by_length = {outcome.result.epochs: outcome for outcome in by_epochs(found)}
    _curve(panels[0], by_parameters)
    _curve(panels[1], by_length)
    panels[0].set(xlabel=f"parameters, after {max(by_length)} epochs")
    panels[1].set(xlabel=f"epochs, with {max(by_parameters):,} parameters", xticks=list(by_length))
    shares = [share_misread(record.accuracy, record) for outcome in found for record in outcome.records]
    accuracy_scale(panels[0], max(shares), min(shares))
    return figure


def _curve(axis: Axes, outcomes: Mapping[int, Outcome]) -> None:
    """Draw the means with their intervals over what they cost, and each seed as a dot beside its mean."""
    beside = 0.02 * (max(outcomes) - min(outcomes))
    for cost, outcome in outcomes.items():
        seeds = [share_misread(record.accuracy, record) for record in outcome.records]
        axis.plot([cost - beside] * len(seeds), seeds, "o", color=COLOURS[0], alpha=0.3, markersize=4, mew=0)
        ends = [share_misread(end, outcome.records[0]) for end in outcome.result.interval or ()]
        axis.plot([cost] * len(ends), ends, color=COLOURS[0], linewidth=2)
    means = [share_misread(outcome.result.mean, outcome.records[0]) for outcome in outcomes.values()]
    axis.plot(list(outcomes), means, "o-", color=COLOURS[0], markersize=5, linewidth=1)
    mark_target(axis)
    tidy(axis)
