"""Where the time of training goes, as figures."""

import textwrap
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from mnist_lab.speed.step import CAUSES, EVERYTHING_ELSE, Cost

COLOURS = dict(zip(CAUSES, ("#0072b2", "#e69f00", "#d55e00", "#999999"), strict=True))
WORDS = {"page_faults": "page faults", "memory": "the rest"}
SMALL = 150  # microseconds


def time_shares(shares: Mapping[str, float], title: str) -> Figure:
    """Show parts of a whole, as fractions of 1, as bars: the largest on top, everything else last."""
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    axis = figure.subplots()
    parts = sorted(shares, key=lambda part: (part != EVERYTHING_ELSE, shares[part]))
    bars = axis.barh(parts, [100 * shares[part] for part in parts], color="#0072b2")
    axis.bar_label(bars, fmt="%.0f %%", padding=3, fontsize=9)
    figure.suptitle(title, fontsize=11)
    axis.set(xlabel="share of the time, %")
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def step_costs(costs: Sequence[Cost], title: str) -> Figure:
    """Show what each part of an update takes, in milliseconds by cause: a panel for each kind of layers.

    Parts that take less than SMALL with every kind are one bar.
    """
    by_kind = {kind: [cost for cost in costs if cost.layers == kind] for kind in dict.fromkeys(c.layers for c in costs)}
    large = [max(cost.total for cost in part) >= SMALL for part in zip(*by_kind.values(), strict=True)]
    kinds = list(by_kind) or ["not measured"]
    figure = Figure(figsize=(9.5, 1.8 + 0.36 * (sum(large) + 1)), layout="constrained")
    figure.suptitle(title)
    for axis, kind in zip(figure.subplots(1, len(kinds), sharex=True, squeeze=False)[0], kinds, strict=True):
        own = merged(by_kind.get(kind, []), large)
        places, left = range(len(own)), [0.0] * len(own)
        for cause in CAUSES:
            widths = [getattr(cost, cause) / 1000 for cost in own]
            axis.barh(places, widths, left=left, color=COLOURS[cause], label=WORDS.get(cause, cause))
            left = [start + width for start, width in zip(left, widths, strict=True)]
        named = [textwrap.fill(cost.part, 30) for cost in own] if axis.get_subplotspec().is_first_col() else []
        axis.set_yticks(places, named, fontsize=8)
        axis.set(xlabel="milliseconds of an update")
        axis.set_title(textwrap.fill(f"{kind}: {sum(left):.1f} ms", 26), fontsize=10)
        axis.invert_yaxis()
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axis.get_legend_handles_labels(), loc="outside lower right", frameon=False, fontsize=9, ncols=4)
    return figure


def merged(costs: Sequence[Cost], large: Sequence[bool]) -> list[Cost]:
    """Return the ``large`` ones of the costs of one kind, and the others as one."""
    small = [cost for cost, is_large in zip(costs, large, strict=True) if not is_large]
    kept = [cost for cost, is_large in zip(costs, large, strict=True) if is_large]
    if not small:
        return kept
    sums = {cause: sum(getattr(cost, cause) for cost in small) for cause in CAUSES}
    return [*kept, Cost(small[0].layers, f"{len(small)} small parts", **sums)]
