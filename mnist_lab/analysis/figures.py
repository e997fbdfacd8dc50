"""Figures of errors, ensembles, trust, robustness and smaller networks. Each function returns a Figure."""

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, PercentFormatter

from mnist_lab.analysis.calibration import Bin
from mnist_lab.analysis.corruptions import CORRUPTIONS, STRENGTHS
from mnist_lab.analysis.ensembles import Shared, Together
from mnist_lab.analysis.errors import Budget, Exchange, Group
from mnist_lab.analysis.networks import published_third_steps
from mnist_lab.analysis.robustness import CLEAN, Robustness, clear_change
from mnist_lab.analysis.smaller import Smaller
from mnist_lab.evidence.figures import TARGET_COLOUR, colours
from mnist_lab.evidence.records import Record
from mnist_lab.evidence.results import begin_alike
from mnist_lab.evidence.uncertainty import mean_interval
from mnist_lab.fields.figures import COLOURS, tidy

PART_COLOURS = ("#222222", COLOURS[1], COLOURS[0], COLOURS[4])  # from what no network can help to what luck decides
OTHERS = "#999999"  # of the published third steps
PANELS = 6  # side by side, of corruptions
FAMILY_COLOURS = {"none": "#222222", "bits": COLOURS[0], "zeros": COLOURS[1], "rank": COLOURS[2]}
FAMILY_WORDS = {
    "none": "as trained",
    "bits": "so many bits for a weight",
    "zeros": "so many weights left",
    "rank": "templates of such a rank",
}


def _in_percent(value: float, _: int | None) -> str:
    """Return a tick's label on a logarithmic scale of shares."""
    return f"{100 * value:g} %"


def error_budget(
    found: Budget, groups: Sequence[Group], concentration: tuple[np.ndarray, np.ndarray] | None, title: str
) -> Figure:
    """Show each misread image as a step as high as the share of seeds that misread it, coloured by what it is.

    The area below is the errors of an average seed. Beside it, where writers are known: how often each population is
    misread, and how many writers make how many of the errors; ``concentration`` is that, and what chance would make of
    it: (writers,), and (shuffles, writers).
    """
    known = bool(groups)
    figure = Figure(figsize=(8.6, 5.6 if known else 3.4), layout="constrained")
    figure.suptitle(title)
    if known:
        grid = figure.add_gridspec(2, 2, height_ratios=(1.25, 1), width_ratios=(1, 1.25))
        _steps_of_images(figure.add_subplot(grid[0, :]), found)
        _populations(figure.add_subplot(grid[1, 0]), groups)
        _writers(figure.add_subplot(grid[1, 1]), *concentration)
    else:
        _steps_of_images(figure.subplots(), found)
    return figure


def _steps_of_images(axis: Axes, found: Budget) -> None:
    """Draw the images in order of their share of seeds; the known-wrong labels come first."""
    start = 0
    for (kind, shares), colour in zip(found.shares_by_part().items(), PART_COLOURS, strict=True):
        edges = np.arange(start, start + len(shares) + 1)
        label = f"{kind}: {shares.sum():.1f} ({100 * shares.sum() / max(found.errors, 1e-9):.0f} %)"
        axis.stairs(np.sort(shares)[::-1], edges, fill=True, color=colour, label=label)
        start += len(shares)
    axis.axhline(0.5, color="white", linewidth=0.8, linestyle=":")
    axis.set(xlabel=f"the {start} test images that any of {found.seeds} seeds misreads", ylabel="seeds that misread it")
    axis.set(xlim=(0, max(start, 1)), ylim=(0, 1))
    axis.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    legend = axis.legend(frameon=False, fontsize=9, loc="upper right")
    legend.set_title(f"{found.errors:.1f} errors of an average seed (the area)", prop={"size": 9})
    tidy(axis)


def _populations(axis: Axes, groups: Sequence[Group]) -> None:
    for place, group in enumerate(groups):
        low, high = group.interval
        axis.barh(place, group.rate, height=0.55, color=COLOURS[0])
        axis.plot([low, high], [place, place], color="black", linewidth=1.2)
        axis.text(high, place, f" {100 * group.rate:.2f} %", va="center", fontsize=9)
    named = ["{}\n({} writers)".format(one.name.replace(" ", "\n"), one.writers) for one in groups]
    axis.set_yticks(range(len(groups)), named)
    axis.tick_params(labelsize=9)
    axis.set(
        xlabel="digits misread, and 95 % interval\nfor other writers",
        xlim=(0, 1.3 * max(g.interval[1] for g in groups)),
    )
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=1, symbol=" %"))
    axis.xaxis.label.set_size(9)
    tidy(axis)


def _writers(axis: Axes, concentration: np.ndarray, by_chance: np.ndarray) -> None:
    count = len(concentration)
    axis.plot(range(1, count + 1), concentration, color=COLOURS[0], label="as it is")
    low, high = np.quantile(by_chance, (0.025, 0.975), axis=0)
    chance = {"color": OTHERS, "alpha": 0.4, "linewidth": 0, "label": "if it were chance (95 %)"}
    axis.fill_between(range(1, count + 1), low, high, **chance)
    axis.legend(frameon=False, fontsize=9, loc="lower right")
    for share in (1 / 3, 2 / 3):
        writers = int(np.searchsorted(concentration, share)) + 1
        axis.plot([writers, writers, 0], [0, share, share], ":", color=TARGET_COLOUR, linewidth=1)
        said = f"{writers} writers make {100 * share:.0f} %"
        box = {"color": "white", "pad": 0.5}  # no dotted line crosses the text
        axis.annotate(said, (writers, share), (6, -10), textcoords="offset points", fontsize=9, bbox=box)
    axis.set(
        xlabel=f"writers of {count}, the most misread first", ylabel="of all errors", xlim=(0, count), ylim=(0, 1.02)
    )
    axis.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axis.xaxis.label.set_size(9)
    axis.tick_params(labelsize=9)
    tidy(axis)


def exchanges(found: Sequence[Exchange], title: str) -> Figure:
    """Show how many errors of an average seed went away at each step, and how many came."""
    figure = Figure(figsize=(8, 0.62 * len(found) + 1.1), layout="constrained")
    figure.suptitle(title)
    axis = figure.subplots()
    for place, one in enumerate(found):
        axis.barh(place, one.gained, height=0.6, color=COLOURS[2], label="now read" if not place else None)
        axis.barh(place, -one.lost, height=0.6, color=COLOURS[1], label="now misread" if not place else None)
        axis.text(one.gained, place, f" {one.gained:.1f}", va="center", fontsize=9)
        axis.text(-one.lost, place, f"{one.lost:.1f} ", va="center", ha="right", fontsize=9)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(found)), [f"{one.before} → {one.after}" for one in found])
    axis.invert_yaxis()
    left, right = max(one.lost for one in found), max(one.gained for one in found)
    room = 0.09 * (left + right)  # for the numbers
    axis.set(xlabel="test images, means over seeds", xlim=(-left - room, right + room))
    axis.xaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axis.legend(frameon=False, fontsize=9, loc="lower right")
    tidy(axis)
    return figure


def ensembles(found: Sequence[Together], shared: Sequence[Shared], title: str) -> Figure:
    """Show the errors of ensembles by their size; and of ensembles whose networks share one budget of parameters."""
    figure = Figure(figsize=(8.6, 3.6), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(1, 2 if shared else 1, squeeze=False)[0]
    sizes = [one.networks for one in found]
    panels[0].plot(sizes, [one.errors_by_vote for one in found], "s--", color=COLOURS[1], label="votes")
    means = [one.errors_by_mean for one in found]
    panels[0].errorbar(sizes, means, [one.deviation for one in found], fmt="o-", capsize=3, color=COLOURS[0],
                       label="mean probability (± standard deviation)")  # fmt: skip
    panels[0].set(xlabel="networks of step 3, asked together", ylabel="test images misread", xscale="log")
    panels[0].xaxis.set_major_locator(FixedLocator(sizes))
    panels[0].xaxis.set_major_formatter("{x:g}")
    panels[0].xaxis.set_minor_locator(NullLocator())
    panels[0].legend(frameon=False, fontsize=9)
    if shared:
        _shared(panels[1], shared)
    for axis in panels:
        axis.set_ylim(bottom=0)
        tidy(axis)
    return figure


def _shared(axis: Axes, shared: Sequence[Shared]) -> None:
    """Draw trials, and means over them, by the number of networks."""
    counts = sorted({one.networks for one in shared})
    by_count = [[one for one in shared if one.networks == count] for count in counts]
    for place, group in enumerate(by_count):
        axis.plot([place] * len(group), [one.errors_by_mean for one in group], "o", color=COLOURS[0], alpha=0.5, mew=0)
        alone = [np.mean(one.errors_alone) for one in group if one.networks > 1]
        axis.plot([place] * len(alone), alone, "_", color=TARGET_COLOUR, markersize=10)
    means = [np.mean([one.errors_by_mean for one in group]) for group in by_count]
    axis.plot(range(len(counts)), means, "-", color=COLOURS[0], label="together, by mean probability")
    axis.plot([], [], "_", color=TARGET_COLOUR, markersize=10, label="one of them alone")
    labels = [f"{group[0].networks} x {group[0].parameters // group[0].networks:,}" for group in by_count]
    axis.set_xticks(range(len(counts)), labels)
    axis.set(xlabel="networks x parameters: one budget for all", xlim=(-0.5, len(counts) - 0.5))
    axis.legend(frameon=False, fontsize=9)


def reliability(claims: Mapping[str, Sequence[Bin]], title: str) -> Figure:
    """Show the errors that answers claim against those they make, on logarithmic scales, with 95 % intervals."""
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    figure.suptitle(title)
    axis = figure.subplots()
    line = [3e-5, 1]
    axis.plot(line, line, color="black", linewidth=0.8, label="as many as claimed")
    for (name, found), colour, shape in zip(claims.items(), COLOURS, "os^", strict=False):
        shown = [one for one in found if one.observed > 0]  # a logarithmic scale has no 0
        if not shown:
            continue
        observed = np.array([one.observed for one in shown])
        low, high = np.array([one.interval for one in shown]).T
        spread = [observed - np.maximum(low, 0.1 * observed), high - observed]
        axis.errorbar([one.claimed for one in shown], observed, spread, fmt=f"{shape}-", color=colour, capsize=2,
                      linewidth=1, markersize=5, label=name)  # fmt: skip
    axis.set(xlabel="chance of error that the answers claim", ylabel="share of them that is wrong")
    axis.set(xscale="log", yscale="log", xlim=(3e-5, 1), ylim=(1e-5, 1))
    for scale in (axis.xaxis, axis.yaxis):
        scale.set_major_formatter(_in_percent)
    axis.legend(frameon=False, fontsize=9)
    tidy(axis)
    return figure


def risk_by_coverage(
    curves: Mapping[str, np.ndarray], marked: Sequence[tuple[float, float]], words: str, title: str
) -> Figure:
    """Show the share of errors among answers when the least sure ones are left out; ``marked`` are (unsure, risk)."""
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    figure.suptitle(title)
    axis = figure.subplots()
    for (name, risks), colour in zip(curves.items(), COLOURS, strict=False):
        left_out = 1 - np.arange(1, len(risks) + 1) / len(risks)
        axis.plot(left_out, risks, color=colour, label=name)
    for unsure, risk in marked:
        axis.plot(unsure, risk, "D", color="black", mfc="white", zorder=3)
    axis.plot([], [], "D", color="black", mfc="white", linestyle="", label=words)
    shown = max(0.05, *(2 * unsure for unsure, _ in marked))
    axis.set(xlabel="answers left out, the least sure first", ylabel="errors among the others", xlim=(0, min(1, shown)))
    axis.set(yscale="log", ylim=(1e-4, None))
    axis.yaxis.set_major_locator(FixedLocator([digit * 10**power for power in (-4, -3, -2, -1) for digit in (1, 2, 5)]))
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(_in_percent)
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axis.legend(frameon=False, fontsize=9)
    tidy(axis)
    return figure


def robustness(found: Sequence[Robustness], title: str) -> Figure:
    """Show the share misread by the strength of each corruption: steps in colour, published third steps in grey."""
    by_kind = {(one.name, one.corruption): one.errors.mean(0) for one in found}
    names = list(dict.fromkeys(one.name for one in found))
    others = [name for name in names if name in published_third_steps()]
    steps = sorted((name for name in names if name.isdigit()), key=int)
    styles = {name: {"color": OTHERS, "linewidth": 0.7} for name in others}
    styles |= {name: {"color": colour, "linewidth": 1.8} for name, colour in zip(steps, colours(steps), strict=True)}
    lines = -(-len(CORRUPTIONS) // PANELS)
    figure = Figure(figsize=(9, 1.65 * lines + 0.9), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(lines, PANELS, sharex=True, sharey=True)
    for axis, kind in zip(panels.flat, CORRUPTIONS, strict=False):
        for name, style in styles.items():
            axis.plot(range(STRENGTHS + 1), [by_kind[name, CLEAN][0], *by_kind[name, kind]], **style)
        axis.set_title(kind, fontsize=9)
        if kind in list(CORRUPTIONS)[-PANELS:]:
            axis.set_xlabel("strength", fontsize=9)
        axis.set(yscale="log", ylim=(0.002, 1))
        axis.yaxis.set_major_formatter(_in_percent)
        axis.tick_params(labelsize=8)
        tidy(axis)
    for name in steps:
        panels.flat[0].plot([], [], **styles[name], label=f"step {name}")
    if others:
        panels.flat[0].plot([], [], **styles[others[0]], label=f"published third steps: {', '.join(others)}")
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=4)
    figure.supylabel("test images misread (logarithmic)", fontsize=9)
    return figure


def ingredients(found: Sequence[Robustness], steps: Sequence[Record], title: str) -> Figure:
    """Show by what factor each ingredient changes the errors on each corruption, from one row of the table of steps to
    the next; what is no larger than the luck of the seeds has no number. The records of ``steps`` are in their order.
    """
    of, rows = {(one.name, one.corruption): one for one in found}, {one.name: one for one in reversed(steps)}
    names = list(dict.fromkeys(one.name for one in steps))
    pairs = {(before, after): begin_alike(rows[before], rows[after]) for before, after in pairwise(names)}
    kinds = [CLEAN, *CORRUPTIONS]
    factors = [[clear_change(of[before, kind], of[after, kind], alike) for (before, after), alike in pairs.items()]
               for kind in kinds]  # fmt: skip
    shades = np.log2([[1.0 if one is None else one for one in line] for line in factors])
    figure = Figure(figsize=(8.3, 0.29 * len(kinds) + 1.2), layout="constrained")
    figure.suptitle(title)
    axis = figure.subplots()
    axis.imshow(shades, cmap="PuOr", norm=TwoSlopeNorm(0, -2, 2), aspect="auto")  # violet: more errors
    for row, line in enumerate(factors):
        for column, factor in enumerate(line):
            text, dark = ("·" if factor is None else f"x {factor:.2f}"), abs(shades[row, column]) > 1.3
            axis.text(column, row, text, ha="center", va="center", fontsize=9, color="white" if dark else "black")
    axis.set_xticks(range(len(pairs)), [f"{before} → {after}" for before, after in pairs])
    axis.set_yticks(range(len(kinds)), ["test images as they are", *CORRUPTIONS], fontsize=9)
    axis.xaxis.tick_top()
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_xlabel("errors, times those before (geometric mean over strengths; · no clear change)", fontsize=9)
    return figure


def smaller(found: Sequence[Smaller], narrow: Sequence[Sequence[Record]], title: str) -> Figure:
    """Show the share misread against bytes and multiply-accumulates: means and intervals of each way, and the frontier.

    ``narrow`` are the seeds of networks that had fewer channels from the start.
    """
    figure = Figure(figsize=(9, 4.8), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(1, 2, sharey=True)
    points: list[list[tuple[float, float]]] = [[], []]
    for seeds in narrow:
        costs = 4 * seeds[0].model.deployed / 1000, seeds[0].model.multiply_accumulates / 1000
        _point(panels, points, costs, [1 - one.accuracy for one in seeds], marker="^", color=OTHERS)
    for way in dict.fromkeys(one.way for one in found):
        group = [one for one in found if one.way == way]
        errors, (first, *_) = [1 - one.correct / one.images for one in group], group
        costs = tuple(np.mean([(one.bytes, one.multiply_accumulates) for one in group], axis=0) / 1000)
        hollow = {} if first.tuned or first.family == "none" else {"mfc": "white"}
        _point(panels, points, costs, errors, marker="o", color=FAMILY_COLOURS[first.family], **hollow)
        if first.family != "none" and not any(one.way == f"{way}, trained so" for one in found):
            amount = re.search(r"\d+%?", way)[0].replace("%", " %")
            panels[0].annotate(amount, (costs[0], np.mean(errors)), (5, -3), textcoords="offset points", fontsize=8,
                               color=FAMILY_COLOURS[first.family])  # fmt: skip
    for axis, kept in zip(panels, points, strict=True):
        best = _best_so_far(kept)
        axis.plot([cost for cost, _ in best], [errors for _, errors in best], color="black", linewidth=0.8, zorder=0)
        axis.set(xscale="log", yscale="log")
        axis.xaxis.set_major_locator(FixedLocator((1, 2, 4, 6, 8, 10, 15, 20, 30, 50, 75, 100, 150, 200, 300, 500)))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_major_locator(FixedLocator((0.003, 0.004, 0.005, 0.006, 0.008, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)))
        axis.yaxis.set_minor_locator(NullLocator())
        axis.yaxis.set_major_formatter(_in_percent)
        tidy(axis)
    means = [errors for _, errors in points[0]]
    top = min(1.6 * max(means), max(0.03, 3 * min(means)))  # what is worse is in the table only
    panels[0].set(xlabel="kB", ylabel="test images misread (logarithmic)", ylim=(0.75 * min(means), top))
    panels[1].set(xlabel="thousand multiply-accumulates for an image")
    for family, colour in FAMILY_COLOURS.items():
        panels[0].plot([], [], "o", color=colour, label=FAMILY_WORDS[family])
    panels[0].plot([], [], "o", color="black", mfc="white", label="hollow: after training")
    panels[0].plot([], [], "^", color=OTHERS, label="fewer channels from the start, 32 bits")
    panels[0].plot([], [], color="black", linewidth=0.8, label="Pareto front")
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=4)
    return figure


def _point(panels: Sequence[Axes], points: Sequence[list], costs: Sequence[float], errors: Sequence[float], **style):
    """Draw the mean with its interval over each cost, and note it among ``points``."""
    mean, ends = float(np.mean(errors)), mean_interval(errors)
    for axis, cost, kept in zip(panels, costs, points, strict=True):
        if ends is not None:
            axis.plot([cost, cost], np.maximum(ends, 1e-4), color=style["color"], linewidth=1)
        axis.plot(cost, mean, linestyle="", markersize=6, **style)
        kept.append((cost, mean))


def _best_so_far(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the points that no cheaper one reaches, the cheapest first."""
    best: list[tuple[float, float]] = []
    for cost, errors in sorted(points):
        if not best or errors < best[-1][1]:
            best.append((cost, errors))
    return best
