"""Figures of reading: what becomes of a picture on its way into the network, and what that is worth."""

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from PIL import Image

from mnist_lab.use.handwriting import CONDITIONS, Handwriting
from mnist_lab.use.preprocess import NoDigit, find_digits, find_ink, paper_light, read_picture
from mnist_lab.use.weights import Network

COLOURS = dict(
    zip(CONDITIONS, ("#d55e00", "#0072b2", "#009e73"), strict=True)
)  # told apart by colour-blind readers too
SHARES = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100)  # labelled, %


def on_the_way(picture: bytes, network: Network, title: str) -> Figure:
    """Show a picture file, the light on its paper, its ink, and each digit as the network sees and reads it."""
    brightness, (width, _) = read_picture(picture)
    scale = width / brightness.shape[1]
    found, readings = find_digits(picture), network.read(picture)
    heights = 0.3 + 10 / 3 * brightness.shape[0] / brightness.shape[1], 2.0  # of the rows, inches
    figure = Figure(figsize=(10, 0.4 + sum(heights)), layout="constrained")
    figure.suptitle(title)
    above, below = figure.subfigures(2, 1, height_ratios=heights)
    ink = find_ink(brightness)
    panels = {"the picture": brightness, "the light on its paper": paper_light(brightness), "ink": 1 - ink}
    for axis, (name, values) in zip(above.subplots(1, 3), panels.items(), strict=True):
        axis.imshow(values, cmap="gray", vmin=0, vmax=1)
        axis.set_title(name, fontsize=9)
        axis.axis("off")
        for digit in found if name == "ink" else ():
            left, top, right, bottom = (side / scale for side in digit.box)
            box = Rectangle((left, top), right - left, bottom - top, fill=False, color=COLOURS["fitted"], linewidth=1.5)
            axis.add_patch(box)
    for axis, reading in zip(below.subplots(1, len(readings), squeeze=False)[0], readings, strict=True):
        axis.imshow(reading.image, cmap="gray", vmin=0, vmax=1)
        axis.set_title(reading.describe(), fontsize=9)
        axis.axis("off")
    return figure


def as_read(pages: Sequence[np.ndarray], network: Network, title: str) -> Figure:
    """Show pages (H, W) of bytes, and below each its first digit as the network sees and reads it."""
    figure = Figure(figsize=(1.6 * len(pages), 3.9), layout="constrained")
    figure.suptitle(title)
    above, below = figure.subplots(2, len(pages), squeeze=False)
    for page, top, bottom in zip(pages, above, below, strict=True):
        file = io.BytesIO()
        Image.fromarray(page).save(file, "PNG")
        top.imshow(page, cmap="gray", vmin=0, vmax=255)
        top.set(xticks=[], yticks=[])
        bottom.axis("off")
        try:
            reading = network.read(file.getvalue())[0]
        except NoDigit:
            bottom.set_title("no digit found", fontsize=9)
            continue
        bottom.imshow(reading.image, cmap="gray", vmin=0, vmax=1)
        bottom.set_title(reading.describe(), fontsize=9)
    return figure


def conditions(found: Handwriting, title: str) -> Figure:
    """Show the share misread of each collection under each condition: a dot for each seed, its mean labelled."""
    figure = Figure(figsize=(8, 0.9 + 0.8 * len(found.pictures)), layout="constrained")
    axis = figure.subplots()
    for place, (name, count) in enumerate(found.pictures.items()):
        for condition, colour in COLOURS.items():
            shares = [100 * one.collections[name].wrong[condition] / count for one in found.readers]
            style = {"color": colour, "alpha": 0.6, "mew": 0, "clip_on": False}
            axis.plot(shares, [place] * len(shares), "o", label=condition, **style)
            mean = float(np.mean(shares))
            style = {"textcoords": "offset points", "ha": "center", "va": "center", "fontsize": 8}
            axis.annotate(f"{mean:.1f} %", (mean, place), (0, -11 if condition == "inverted" else 11), **style)
    axis.set(xscale="log", xlim=(0.1, 100), xlabel="misread, % (logarithmic)", ylim=(len(found.pictures) - 0.5, -0.5))
    figure.suptitle(title)
    axis.set_yticks(range(len(found.pictures)), found.pictures)
    axis.xaxis.set_major_locator(FixedLocator(SHARES))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:g}"))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.spines[["top", "right"]].set_visible(False)
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles[: len(COLOURS)], labels[: len(COLOURS)], frameon=False, loc="outside lower center", ncols=3)
    return figure
