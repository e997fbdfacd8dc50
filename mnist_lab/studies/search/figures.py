"""Figures of the search, of the ablations and of the frontier."""

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, groupby

from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, NullFormatter
from optuna.distributions import CategoricalDistribution

from mnist_lab.evidence.figures import TARGET_COLOUR, accuracy_scale, mark_target, share_misread
from mnist_lab.fields.figures import COLOURS, tidy
from mnist_lab.studies.search.space import distributions
from mnist_lab.studies.search.tables import Outcome, by_epochs, by_size
from mnist_lab.studies.search.trials import BASELINE, Trial, beside_baseline

MULTIPLE = "held-out loss, times the baseline's"
FAR = 2.0  # where the axis of such multiples ends
EDGE = 2.0  # where the axis of ablations ends
ACROSS = 3  # panels
MOST = 12  # bars of importances
WORDS = {  # for what the choices of a trial are called
    "stem": "first layer",
    "stem layers": "layers before the pooling",
    "stem width": "channels before the pooling",
    "first width": "channels of the first layer",
    "between": "kind of the first layers",
    "blocks": "blocks after the pooling",
    "growth": "widening of the blocks",
    "peak": "peak of the rate",
    "warm-up": "share of warm-up",
    "average": "updates averaged over",
    "beta1": "momentum (beta1)",
    "rotation": "rotation, degrees",
    "shift": "shift, pixels",
    "shear": "shear, degrees",
    "elastic": "elastic distortion, pixels",
    "clean epochs": "epochs without distortions",
    "teacher": "teacher's share of the label",
}
STATES = {"complete": (COLOURS[0], "trained on all its folds"), "pruned": ("#bbbbbb", "given up before")}
SHADES = {"better": COLOURS[2], "worse": COLOURS[1], "no difference": "#777777"}


def ablations(found: Sequence[Outcome], title: str, of: str = "step 3") -> Figure:
    """Show the loss of each change of step 3, or ``of`` another row, beside the row's own, with its interval.

    A loss beyond EDGE is not drawn to scale: an arrow tells it.
    """
    shown = [outcome for outcome in found if outcome.loss_change is not None]
    changes = [outcome.loss_change for outcome in shown]
    figure = Figure(figsize=(9.5, 0.27 * len(shown) + 1.5), layout="constrained")
    axis = figure.subplots()
    multiples = [(math.exp(one.mean), *map(math.exp, one.interval)) for one in changes]
    for place, (outcome, (mean, low, high)) in enumerate(zip(shown, multiples, strict=True)):
        colour = SHADES[outcome.verdict]
        if mean > EDGE:
            axis.text(EDGE, place, f"{mean:.1f} →", color=colour, fontsize=9, ha="right", va="center")
            continue
        axis.plot([low, high], [place, place], color=colour, linewidth=1.5, solid_capstyle="butt")
        axis.plot(mean, place, "o", color=colour, markersize=5)
    first = 0
    for name, family in groupby(shown, key=lambda outcome: outcome.family):
        if first:
            axis.axhline(first - 0.5, color="#dddddd", linewidth=0.8)
        last = first + len(list(family))
        axis.annotate(name, (1.01, (first + last - 1) / 2), xycoords=("axes fraction", "data"), va="center", fontsize=9)
        first = last
    axis.axvline(1, color=TARGET_COLOUR, linewidth=1)
    axis.set_yticks(range(len(shown)), [outcome.result.change for outcome in shown], fontsize=9)
    axis.set_ylim(len(shown) - 0.5, -0.5)
    axis.set(
        title=title,
        xlabel=f"held-out loss as a multiple of {of}'s; less is better\n(95 % confidence that all intervals hold)",
        xscale="log",
        xlim=(min([1.0, *(low for _, low, _ in multiples)]) / 1.03, EDGE),
    )
    axis.xaxis.set_major_locator(FixedLocator((0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2, 1.4, 1.6, 1.8, 2)))
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
    figure.supxlabel("pale: seeds; bar: 95 % interval of the mean", fontsize=9)
    panels = figure.subplots(1, 2, sharey=True)
    by_parameters = {outcome.result.trainable: outcome for outcome in by_size(found)}
    by_length = {outcome.result.epochs: outcome for outcome in by_epochs(found)}
    _curve(panels[0], by_parameters)
    _curve(panels[1], by_length)
    panels[0].set(xlabel=f"parameters, after {max(by_length)} epochs")
    panels[0].xaxis.set_major_formatter("{x:,.0f}")
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


def history(trials: Sequence[Trial], title: str) -> Figure:
    """Show how every trial of the search stands beside the baseline, in the order they began."""
    multiples = beside_baseline(trials)
    unseen = sum(one.number not in multiples for one in trials)
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axis = figure.subplots()
    for state, (colour, said) in STATES.items():
        numbers = [one.number for one in trials if one.state == state and one.number in multiples]
        axis.plot(numbers, [multiples[number] for number in numbers], "o", color=colour, markersize=4, label=said)
    complete = [one.number for one in trials if one.state == "complete" and one.number in multiples]
    best = list(accumulate((multiples[number] for number in complete), min))
    axis.step(complete, best, where="post", color=COLOURS[0], linewidth=1, label="best on all folds so far")
    axis.axhline(1, color=TARGET_COLOUR, linewidth=1)
    axis.set(title=title, xlabel="trial", ylabel=MULTIPLE, yscale="log")
    if unseen:
        axis.set_xlabel(f"trial ({unseen} of {len(trials)} have no dot: they did not finish their first fold)")
    _mark_multiples(axis, multiples.values())
    axis.legend(frameon=False, fontsize=9)
    tidy(axis)
    return figure


def importances(shares: Mapping[str, float], title: str) -> Figure:
    """Show each choice's share of what the choices explain one by one: the MOST important, the first on top."""
    shown = dict(list(shares.items())[:MOST])
    figure = Figure(figsize=(8, 0.25 * len(shown) + 1), layout="constrained")
    axis = figure.subplots()
    names = [WORDS.get(choice, choice) for choice in shown]
    axis.barh(names, [100 * share for share in shown.values()], color=COLOURS[0])
    axis.set_ylim(len(shown) - 0.4, -0.6)
    axis.set(title=title, xlabel="share of what the choices explain one by one, % (functional ANOVA)")
    tidy(axis)
    return figure


def slices(trials: Sequence[Trial], choices: Sequence[str], title: str) -> Figure:
    """Show every trial's loss over each of some ``choices``: the later ones darker, those given up hollow."""
    multiples = beside_baseline(trials)
    rows = math.ceil(len(choices) / ACROSS)
    figure = Figure(figsize=(9, 2.5 * rows + 0.6), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(rows, ACROSS, sharey=True, squeeze=False).flatten()
    shades = ScalarMappable(Normalize(-0.8 * len(trials), len(trials)), "Blues").to_rgba
    for choice, axis in zip(choices, panels, strict=False):
        shown = [one for one in trials if one.number in multiples and choice in one.choices]
        values = {one.number: one.choices[choice] for one in shown}
        kind = distributions(shown[0].choices)[choice]
        if isinstance(kind, CategoricalDistribution):
            axis.set_xticks(range(len(kind.choices)), kind.choices)
            axis.set_xlim(-0.5, len(kind.choices) - 0.5)
            values = {number: kind.choices.index(value) for number, value in values.items()}
        elif kind.log:
            axis.set_xscale("log")
            axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.xaxis.set_major_formatter("{x:g}")
            axis.xaxis.set_minor_formatter(NullFormatter())
        for one in shown:
            style = {"color": shades(one.number), "mfc": shades(one.number) if one.state == "complete" else "none"}
            if one.number == BASELINE:
                style = {"color": "black", "mfc": "none", "zorder": 3}
            axis.plot(values[one.number], multiples[one.number], "o", markersize=4, **style)
        axis.axhline(1, color=TARGET_COLOUR, linewidth=0.8)
        axis.set(xlabel=WORDS.get(choice, choice), yscale="log")
        _mark_multiples(axis, multiples.values())
        tidy(axis)
    for axis in panels[len(choices) :]:
        axis.set_axis_off()
    figure.supylabel(MULTIPLE, fontsize=9)
    return figure


def _mark_multiples(axis: Axes, multiples: Iterable[float]) -> None:
    """Let the vertical axis show losses up to FAR times the baseline's, and label it; the rest lies above it."""
    shown = [1.0, *multiples]
    axis.set_ylim(min(shown) / 1.03, min(max(shown), FAR) * 1.03)
    axis.yaxis.set_major_locator(FixedLocator((0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.4, 1.6, 2, 3)))
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())
