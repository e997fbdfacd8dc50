"""Figures of receptive fields, and the style that all figures share."""

import itertools
from collections.abc import Mapping, Sequence

import matplotlib.style
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor, nn

from mnist_lab.data import Split
from mnist_lab.fields.gradient import effective_field, width_of
from mnist_lab.fields.trace import Row, nested_spans, trace
from mnist_lab.models import leaves

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9")  # told apart by colour-blind readers too
SMALL = {"fontsize": 8, "ha": "center", "va": "top"}
MAPS = 8  # that a square of a diagram stands for
FIELD_IMAGES = 200  # more images change an effective field by no visible shade

matplotlib.style.use("default")  # a personal matplotlibrc decides nothing here


def nested_fields(rows: Sequence[Row], split: Split, title: str, columns: int = 6) -> Figure:
    """Show on the first image what one unit of each layer sees, a panel per layer that sees more than the one below.

    What lies outside is pale; thin squares are the fields of the layers before.
    """
    growing = [(row, span) for row, span in zip(rows, nested_spans(rows), strict=True) if row.field_out > row.field_in]
    figure, axes = image_grid(-(-len(growing) // columns), columns, title, width=1.55, height=1.85)
    image = split.images[0, 0].cpu().float()
    whole = (0, len(image) - 1)
    for index, (axis, (row, span)) in enumerate(zip(axes, growing, strict=False)):
        show_image(axis, image)
        pale = 0.75 * (1 - inside(span, image))
        axis.imshow(torch.ones_like(image).numpy(), cmap="gray", vmin=0, vmax=1, alpha=pale.numpy())
        outline(axis, whole, len(image), color="#bbbbbb", linewidth=0.6)
        for _, before in growing[:index]:
            outline(axis, before, len(image), color=COLOURS[0], linewidth=0.6)
        outline(axis, span, len(image), color=COLOURS[1], linewidth=1.8)
        axis.set_title(f"{row.layer}\nkernel {row.kernel}: {row.field_out} pixels", fontsize=8)
    return figure


def network_diagram(model: nn.Sequential, split: Split, title: str) -> Figure:
    """Show a network block by block: its maps as a stack of squares, as large as they are, with its layers below.

    Above is the first image with what a unit in the middle of the block's maps sees of it.
    """
    rows = trace(model)
    ends = list(itertools.accumulate(len(leaves(block)) for block in model))
    last = [next((row for row in reversed(rows) if row.position < end), None) for end in ends]  # up to each block's end
    shown = [place for place, row in enumerate(last) if row and (place == 0 or row != last[place - 1])]
    figure = Figure(figsize=(1.45 * (len(shown) + 1), 3.6), layout="constrained")
    figure.suptitle(title)
    above, below = figure.subplots(2, len(shown) + 1, height_ratios=(1, 1.9))
    image = split.images[0, 0].cpu().float()
    show_image(above[0], image)
    draw_maps(below[0], 1, len(image), f"image\n1 x {len(image)} x {len(image)}\n\na square: up to\n{MAPS} maps")
    for place, (top, bottom) in zip(shown, zip(above[1:], below[1:], strict=True), strict=True):
        row = last[place]
        show_image(top, image)
        outline(top, row.span(row.size_out // 2), len(image), color=COLOURS[1], linewidth=1.8)
        top.set_title(f"sees {row.field_out} pixels", fontsize=9)
        own = [one for one in rows if ends[place] - len(leaves(model[place])) <= one.position < ends[place]]
        said = [f"{row.channels_out} x {row.size_out} x {row.size_out}", *map(in_words, own)]
        said.append(f"{sum(one.parameters for one in own):,} parameters")
        draw_maps(bottom, row.channels_out, row.size_out, "\n".join(said))
    for axis in (*above, *below):
        axis.axis("off")
    return figure


def in_words(row: Row) -> str:
    """Return what a layer is, as in "5x5 convolution"."""
    kind = {"Conv2d": "convolution", "Linear": "linear", "MaxPool2d": "max pooling"}.get(row.kind, "average pooling")
    if row.groups == row.channels_in > 1:
        kind = "depthwise"
    return f"{row.kernel}x{row.kernel} {kind}"


def draw_maps(axis: Axes, channels: int, size: int, text: str) -> None:
    """Draw ``channels`` maps of ``size`` units as a stack of squares, to the scale of an image, and a text below."""
    shown = -(-channels // MAPS)
    for depth in reversed(range(shown)):
        corner = (28 - size) / 2 + 1.5 * (depth - (shown - 1) / 2)
        axis.add_patch(
            Rectangle((corner, corner), size, size, facecolor="#dbe9f4", edgecolor=COLOURS[0], linewidth=0.8)
        )
    axis.set(xlim=(-2, 30), ylim=(-2, 30), aspect="equal")
    axis.text(0.5, -0.02, text, **SMALL, transform=axis.transAxes)


def effective_fields(stages: Mapping[str, nn.Sequential], split: Split, title: str) -> Figure:
    """Show what one unit can see beside how strongly each pixel moves it in the network at each stage.

    Above is the last layer with more than one unit, below are the logits. Colours go up to each panel's strongest
    pixel, the square is the theoretical field, and the titles give the central square that holds half of the sum
    of all gradients.
    """
    rows = trace(next(iter(stages.values())))
    shown = [*[row for row in rows if row.size_out > 1][-1:], rows[-1]]
    figure, axes = image_grid(len(shown), len(stages) + 1, title, width=2.1, height=2.35)
    panels = iter(axes)
    for row in shown:
        unit = row.size_out // 2
        fields = {f"{row.layer}: {row.field_out} pixels": inside(row.span(unit), split.images[0, 0])}
        fields |= {stage: effective_field(model, split.first(FIELD_IMAGES), row) for stage, model in stages.items()}
        for number, (stage, field) in enumerate(fields.items()):
            axis = next(panels)
            axis.imshow(field.numpy(), cmap="Blues", vmin=0, vmax=float(field.max()))
            outline(axis, row.span(unit), len(field), color=COLOURS[1], linewidth=1.2)
            half = width_of(field, row.centre(unit), share=0.5)
            said = f"half of its {'gradient' if number else 'area'}: {half} x {half}" if half else "nothing moves it"
            axis.set_title(f"{stage}\n{said}", fontsize=9)
    return figure


def image_grid(
    rows: int, columns: int, title: str, width: float = 0.95, height: float = 0.95
) -> tuple[Figure, list[Axes]]:
    """Return a figure of panels without axes, and the panels row by row; lengths are of one panel, in inches."""
    figure = Figure(figsize=(width * columns, height * rows + 0.4), layout="constrained")
    figure.suptitle(title)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.axis("off")
    return figure, axes


def show_image(axis: Axes, image: Tensor) -> None:
    """Show an image (H, W) with values from 0 (white) to 255 (black)."""
    axis.imshow(image.cpu().numpy(), cmap="gray_r", vmin=0, vmax=255)


def outline(axis: Axes, span: tuple[int, int], size: int, **style) -> None:
    """Draw the part of the square with the first and last pixel ``span`` that lies in an image of ``size`` pixels."""
    first, last = max(span[0], 0), min(span[1], size - 1)
    side = last - first + 1
    axis.add_patch(Rectangle((first - 0.5, first - 0.5), side, side, fill=False, clip_on=False, **style))


def inside(span: tuple[int, int], image: Tensor) -> Tensor:
    """Return 1 in the square with the first and last pixel ``span`` and 0 elsewhere, in the shape (H, W) of
    ``image``."""
    found = torch.zeros(image.shape)
    first, last = max(span[0], 0), span[1]
    found[first : last + 1, first : last + 1] = 1
    return found


def tidy(axis: Axes) -> None:
    """Take away the frame's upper and right side; epochs are whole numbers."""
    axis.spines[["top", "right"]].set_visible(False)
    if axis.get_xlabel() == "epoch":
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
