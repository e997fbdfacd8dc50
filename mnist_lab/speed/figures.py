"""Where the time of training goes, as figures."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from mnist_lab.speed.step import CAUSES, EVERYTHING_ELSE, Cost

COLOURS = dict(zip(CAUSES, ("#0072b2", "#e69f00", "#d55e00", "#999999"), strict=True))


def time_shares(shares: Mapping[str, float], title: str) -> Figure:
    """Show parts of a whole, as fractions of 1, as bars: the largest on top, everything else last."""
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    axis = figure.subplots()
    parts = sorted(shares, key=lambda part: (part != EVERYTHING_ELSE, shares[part]))
    bars = axis.barh(parts, [100 * shares[part] for part in parts], color="#0072b2")
    axis.bar_label(bars, fmt="%.0f %%", padding=3, fontsize=9)
    axis.set(title=title, xlabel="share of the time, %")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def step_costs(costs: Sequence[Cost], title: str) -> Figure:
    """Show what each part of a training step takes, in milliseconds by cause: a panel for each kind of layers."""
    kinds = list(dict.fromkeys(cost.layers for cost in costs)) or ["not measured"]
    figure = Figure(figsize=(4 + 3 * len(kinds), 4.2), layout="constrained")
    figure.suptitle(title)
    for axis, kind in zip(figure.subplots(1, len(kinds), sharex=True, squeeze=False)[0], kinds, strict=True):
        own = [cost for cost in costs if cost.layers == kind]
        places, left = range(len(own)), [0.0] * len(own)
        for cause in CAUSES:
            widths = [getattr(cost, cause) / 1000 for cost in own]
            axis.barh(places, widths, left=left, color=COLOURS[cause], label=cause.replace("_", " "))
            left = [start + width for start, width in zip(left, widths, strict=True)]
        axis.set_yticks(places, [cost.part for cost in own] if axis.get_subplotspec().is_first_col() else [])
        axis.set(title=f"{kind}: {sum(left):.1f} ms", xlabel="milliseconds of a step")
        axis.title.set_fontsize(10)
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="lower right", frameon=False, fontsize=9)
    return figure
