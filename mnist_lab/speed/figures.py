"""Where the time of training goes, as a figure."""

from collections.abc import Mapping

from matplotlib.figure import Figure


def time_shares(shares: Mapping[str, float], title: str) -> Figure:
    """Show parts of a whole, as fractions of 1, as bars with the largest on top."""
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    axis = figure.subplots()
    parts = sorted(shares, key=shares.__getitem__)
    bars = axis.barh(parts, [100 * shares[part] for part in parts], color="#0072b2")
    axis.bar_label(bars, fmt="%.0f %%", padding=3, fontsize=9)
    axis.set(title=title, xlabel="share of the time, %")
    axis.spines[["top", "right"]].set_visible(False)
    return figure
