"""The picture of how a run goes from here to a GPU and back: ``python -m mnist_lab.cloud.flow`` draws it anew."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from mnist_lab.plots import COLOURS
from mnist_lab.runtime import ROOT

PICTURE = ROOT / "images" / "sagemaker_flow.png"
LANES = {"your machine": 0.0, "S3": 4.1, "notebook instance": 8.2}  # left edges
WIDTH = 3.3
TOP = 10.4
ACTIONS = [  # lane, height of its middle, what happens there
    ("your machine", 9.2, "mnist-lab sagemaker run\npacks step 3, named by its SHA-256"),
    ("S3", 9.2, "src/<sha256>.tar.gz"),
    ("your machine", 7.3, "writes the start script: checksum, cap;\ncreates or starts the instance"),
    ("notebook instance", 7.3, "start script, as root, in a second:\nleaves watchdog and worker"),
    ("notebook instance", 5.4, "worker: verifies the bundle, proves\nCUDA, executes step 3 under the cap"),
    ("S3", 5.4, "runs/<id>/\nstatus, and the log every few seconds"),
    ("your machine", 5.4, "shows log and state"),
    ("notebook instance", 3.5, "uploads notebook, records, figures,\nand last the marker of success"),
    ("S3", 3.5, "runs/<id>/output/\n_SUCCESS"),
    ("your machine", 3.5, "fetches: notebook, record, figures;\naccuracy, GPU, minutes, cost"),
    ("notebook instance", 1.9, "stops itself, again and again\nwhile it is still Pending"),
]
ARROWS = [  # from one action to another, by their position above
    (0, 1), (0, 2), (2, 3), (3, 4), (1, 4), (4, 5), (5, 6), (4, 7), (7, 8), (8, 9), (7, 10),
]  # fmt: skip
HALF = 0.45  # of a box's height
STOPPERS = (
    "Four stop the machine, each without the others:  the worker at its end, whatever that is  ·  the watchdog when "
    "cap and grace are over  ·\nthe command here at its own deadline or on Ctrl-C  ·  mnist-lab sagemaker stop, or down"
)


def draw() -> Figure:
    """Return the picture."""
    figure = Figure(figsize=(11.5, 7.6), layout="constrained")
    axis = figure.subplots()
    axis.set(xlim=(-0.2, 11.7), ylim=(0, TOP + 0.5))
    axis.axis("off")
    for colour, (name, left) in zip(COLOURS, LANES.items(), strict=False):
        axis.fill_between([left - 0.12, left + WIDTH + 0.12], 1.2, TOP - 0.3, color=colour, alpha=0.07, linewidth=0)
        axis.text(left + WIDTH / 2, TOP, name, ha="center", va="center", fontsize=13, color=colour, weight="bold")
        for lane, height, text in ACTIONS:
            if lane == name:
                corner, style = (left, height - HALF), "round,pad=0,rounding_size=0.12"
                box = FancyBboxPatch(corner, WIDTH, 2 * HALF, style, facecolor="white", edgecolor=colour)
                axis.add_patch(box)
                axis.text(left + WIDTH / 2, height, text, ha="center", va="center", fontsize=9)
    for start, end in ARROWS:
        arrow(axis, ACTIONS[start], ACTIONS[end])
    axis.text(5.75, 0.55, STOPPERS, ha="center", va="center", fontsize=9.2)
    return figure


def arrow(axis: Axes, start: tuple[str, float, str], end: tuple[str, float, str]) -> None:
    """Draw an arrow between two actions: downwards in a lane, else from edge to edge."""
    (x0, y0), (x1, y1) = ((LANES[lane] + WIDTH / 2, height) for lane, height, _ in (start, end))
    if x0 == x1:
        tail, tip = (x0, y0 - HALF), (x1, y1 + HALF)
    else:
        side = 1 if x1 > x0 else -1
        tail, tip = (x0 + side * WIDTH / 2, y0), (x1 - side * WIDTH / 2, y1)
    style = {"arrowstyle": "-|>", "color": "#555555", "linewidth": 1.1, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", tip, tail, arrowprops=style)


def main(path: Path = PICTURE) -> None:
    """Write the picture."""
    draw().savefig(path, dpi=130, metadata={"Software": None})


if __name__ == "__main__":
    main()
