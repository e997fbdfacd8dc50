"""From a picture to images as MNIST has them: paper and ink told apart, digits separated, each scaled and centred.

MNIST's own recipe is that of LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document
recognition", Proceedings of the IEEE 1998, section III.A; Yadav and Bottou, "Cold case: the lost MNIST digits",
NeurIPS 2019, rebuilt it to within a pixel. The drawing page has :func:`fit` in JavaScript.
"""

import io
import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from mnist_lab import LabError

SIDE = 28  # pixels of an image, either way
BOX = 20  # pixels of the digit's longer side
MIDDLE = 14  # where the centre of mass goes, as an index of rows and columns: MNIST's lie in [13.5, 14.5)
INK = 0.2  # a pixel with more ink than this share of the darkest belongs to the digit

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")  # that Pillow reads without another program
MOST_PIXELS = 90_000_000  # of a picture: more than any phone's, and what Pillow warns of
WORKING_SIDE = 1500  # pixels; larger pictures are made smaller first
CONTRAST = 0.12  # the least share of the paper's light that ink must swallow
NOISE = 4  # standard deviations of the paper's grain that are no ink
MOST_DIGITS = 30  # in one picture
SPECK = 0.1  # of the tallest part: nothing smaller is part of a digit
SMALL = 0.4  # of the tallest part: lower ones are no digits of their own
NEAR = 0.1  # of the tallest part: how far a stroke may lie from the rest of its digit
SAME = 0.5  # of the narrower width: parts side by side that share more columns are strokes of one digit
WIDEST = 2.5  # times its height
LINE, LONGER = 10, 1.5  # a ruled line is so many times as long as thick, and as long as any digit

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; right and bottom are excluded
Part = tuple[Box, list[int]]  # with the labels of what lies in it


class PictureError(LabError):
    """A file is not a picture that can be read."""


class NoDigit(LabError):
    """A picture in which no digit can be told."""


@dataclass(frozen=True)
class Digit:
    """A digit that was found in a picture."""

    image: np.ndarray  # (28, 28) in [0, 1], white on black, as the network sees it
    box: Box  # in pixels of the picture


def find_digits(source: Path | bytes) -> list[Digit]:
    """Return the digits in a picture (a file, or its content), from left to right.

    Raises PictureError for what is not a picture, and NoDigit for one without digits.
    """
    brightness, size = read_picture(source)
    scales = [whole / side for whole, side in zip(size, brightness.shape[::-1], strict=True)] * 2
    return [
        Digit(fit(ink), tuple(round(scale * side) for scale, side in zip(scales, box, strict=True)))
        for ink, box in separate(find_ink(brightness))
    ]


def read_picture(source: Path | bytes) -> tuple[np.ndarray, tuple[int, int]]:
    """Return a picture's brightness (H, W), 0 black and 1 white, a large one made smaller; and its width and height.

    Turned as its camera was held, on white paper where it is transparent (on black if it then shows nothing).
    Raises PictureError.
    """
    if source == b"" or (isinstance(source, Path) and source.is_file() and not source.stat().st_size):
        raise PictureError("it is empty: 0 bytes")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow, about large pictures and odd metadata
            picture = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
            with picture:
                if picture.width * picture.height > MOST_PIXELS:
                    raise Image.DecompressionBombError
                return as_brightness(ImageOps.exif_transpose(picture))
    except Image.UnidentifiedImageError:
        raise PictureError(
            "it is not a picture of a kind that is read here (PNG, JPEG, GIF, BMP, TIFF, WebP): save it, or a PDF's "
            "page, as PNG"
        ) from None
    except Image.DecompressionBombError:
        raise PictureError(
            f"it has more than {MOST_PIXELS // 1_000_000} million pixels: make it smaller, 1,500 pixels are plenty"
        ) from None
    except (OSError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "too little memory"
        raise PictureError(f"it cannot be read ({reason}): get it again, or save it anew as PNG") from None
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        raise PictureError(f"it is damaged ({error}): get it again, or save it anew as PNG") from None


def as_brightness(picture: Image.Image) -> tuple[np.ndarray, tuple[int, int]]:
    """Return what :func:`read_picture` does, of a picture that is open."""
    if picture.has_transparency_data:
        drawing = picture.convert("RGBA")
        for paper in ("white", "black"):
            picture = Image.alpha_composite(Image.new("RGBA", drawing.size, paper), drawing).convert("L")
            if np.ptp(picture.getextrema()) > 255 * CONTRAST:
                break
    if picture.mode[0] in "IF":  # 16 or 32 bits of grey, whatever its range
        values = np.nan_to_num(np.asarray(picture, dtype=np.float64))
        values = (values - values.min()) / (np.ptp(values) or 1)
        full = Image.fromarray(values.astype(np.float32))
    else:
        full = Image.fromarray(np.asarray(picture.convert("L"), dtype=np.float32) / 255)
    scale = max(full.size) / WORKING_SIDE
    if scale > 1:
        full = full.resize([max(1, round(side / scale)) for side in full.size], Image.Resampling.BOX)
    return np.asarray(full, dtype=np.float64), picture.size


def find_ink(brightness: np.ndarray) -> np.ndarray:
    """Return how much ink is where, from 0 to 1, in the shape (H, W) of ``brightness``; dark on light or light on dark.

    The light on the paper is a smooth surface, fitted to the pixels but for those that stray from it. What strays
    mostly one way, darker or lighter, is ink: the share of the light that it swallows. The paper's grain is no ink.
    Raises NoDigit if nothing stands out.
    """
    light = paper_light(brightness)
    strays = brightness - light
    if np.einsum("ij,ij,ij", strays, strays, strays) > 0:  # the third moment: lighter pixels stray further
        brightness, light = 1 - brightness, 1 - light
    swallowed = 1 - brightness / np.maximum(light, 0.02)
    grain = 1.4826 * np.median(np.abs(swallowed))  # a standard deviation, were it Gaussian
    least = max(NOISE * grain, 0.1 * swallowed.max())
    is_ink = swallowed > least
    full = np.quantile(swallowed[is_ink], 0.9) if is_ink.any() else 0
    if full < CONTRAST:
        raise NoDigit("nothing in it stands out from the paper: draw or photograph a digit with more contrast")
    return np.where(is_ink, np.clip(swallowed / full, 0, 1), 0)


def paper_light(brightness: np.ndarray) -> np.ndarray:
    """Return the brightness (H, W) of the bare paper: a surface of the second degree, by least trimmed squares.

    Rousseeuw and Van Driessen, "Computing LTS regression for large data sets", Data Mining and Knowledge Discovery
    2006: fit, keep the 60 % of the pixels that are nearest to the fit, and again. Ink may cover the other 40 %.
    """
    rows, columns = (np.linspace(-1, 1, side) for side in brightness.shape)
    step = [max(1, side // 50) for side in brightness.shape]
    few = brightness[:: step[0], :: step[1]]
    y, x = (axis.ravel() for axis in np.meshgrid(rows[:: step[0]], columns[:: step[1]], indexing="ij"))
    terms, values = np.stack([np.ones_like(x), x, y, x * y, x * x, y * y], axis=1), few.ravel()
    kept = np.ones(len(values), dtype=bool)
    for _ in range(20):
        weights = np.linalg.lstsq(terms[kept], values[kept], rcond=None)[0]
        strays = np.abs(values - terms @ weights)
        before, kept = kept, strays <= np.quantile(strays, 0.6) + 1e-9
        if (kept == before).all():
            break
    constant, x, y, xy, xx, yy = weights
    rows = rows[:, None]  # what depends on one of them alone is cheap
    return (constant + y * rows + yy * rows**2) + (x * columns + xx * columns**2) + xy * rows * columns


def separate(ink: np.ndarray) -> list[tuple[np.ndarray, Box]]:
    """Cut ``ink`` (H, W) into digits from left to right: the ink of each, and the box that it was cut from.

    Ink that touches is a part (with 8 neighbours). Parts above one another are strokes of one digit, and so is a small
    part close to another. Other small parts are dropped, and so are a frame and ruled lines. Raises NoDigit.
    """
    labels, _ = ndimage.label(ink > INK, structure=np.ones((3, 3)))
    boxes = [(x.start, y.start, x.stop, y.stop) for y, x in ndimage.find_objects(labels)]
    lines = are_lines(boxes, np.bincount(labels.ravel())[1:], ink.shape)
    parts = [(box, [label]) for label, box in enumerate(boxes, 1) if not lines[label - 1]]
    tallest = max((height(box) for box, _ in parts), default=0)
    parts = [part for part in parts if max(width(part[0]), height(part[0])) > SPECK * tallest]
    if len(parts) <= 4 * MOST_DIGITS:
        parts = [part for part in join(sorted(parts), tallest) if height(part[0]) >= SMALL * tallest]
    if not 1 <= len(parts) <= MOST_DIGITS:
        raise NoDigit(f"{len(parts) or 'no'} shapes stand out in it: show up to {MOST_DIGITS} digits on plain paper")
    for one, other in itertools.combinations([box for box, _ in parts], 2):
        if shared(one, other, 0) > SAME * min(width(one), width(other)):
            raise NoDigit("digits stand below one another in it: cut out one line")
    if any(width(box) > WIDEST * height(box) for box, _ in parts):
        raise NoDigit("a shape in it is too wide for one digit: leave paper between the digits")
    found = []
    for (left, top, right, bottom), own in parts:
        left, top = max(0, left - 1), max(0, top - 1)  # with faint edges
        right, bottom = min(right + 1, ink.shape[1]), min(bottom + 1, ink.shape[0])
        cut = slice(top, bottom), slice(left, right)
        is_own = (labels[cut] == 0) | np.isin(labels[cut], own)
        found.append((np.where(is_own, ink[cut], 0), (left, top, right, bottom)))
    return found


def are_lines(boxes: list[Box], areas: Sequence[int], shape: tuple[int, int]) -> list[bool]:
    """Say of each part whether it is a ruled line or a frame: thin, from edge to edge of a picture of ``shape`` (H, W),
    and far longer than any other part. ``areas`` are in pixels.
    """
    sides = ((width, shape[1]), (height, shape[0]))
    thin = [LINE * area < max(width(box), height(box)) ** 2 for box, area in zip(boxes, areas, strict=True)]
    through = [any(side(box) == length for side, length in sides) for box in boxes]
    others = [box for box, *both in zip(boxes, thin, through, strict=True) if not all(both)]
    far = [(side, length) for side, length in sides if others and LONGER * max(map(side, others)) < length]
    return [one and any(side(box) == length for side, length in far) for box, one in zip(boxes, thin, strict=True)]


def join(parts: list[Part], tallest: int) -> list[Part]:
    """Return ``parts`` with those joined that are strokes of one digit, from left to right."""
    for first, second in itertools.combinations(parts, 2):
        if are_one(first[0], second[0], tallest):
            (left, top, right, bottom), box = first[0], second[0]
            both = min(left, box[0]), min(top, box[1]), max(right, box[2]), max(bottom, box[3])
            rest = [part for part in parts if part not in (first, second)]
            return join(sorted([*rest, (both, first[1] + second[1])]), tallest)
    return parts


def are_one(one: Box, other: Box, tallest: int) -> bool:
    """Whether two boxes hold strokes of one digit, in a picture whose tallest part has so many pixels."""
    columns, rows = shared(one, other, 0), shared(one, other, 1)
    lower, higher = sorted([height(one), height(other)])
    if lower < SMALL * tallest:
        return higher >= SMALL * tallest and columns > -NEAR * tallest and rows > -SMALL * tallest
    stacked = rows < lower / 2  # as the bar of a 5 and its bow; not side by side
    return rows > -NEAR * tallest and columns > (NEAR if stacked else SAME) * min(width(one), width(other))


def shared(one: Box, other: Box, axis: int) -> int:
    """Return how many columns (``axis`` 0) or rows (1) two boxes share; below 0, how many lie between them."""
    return min(one[2 + axis], other[2 + axis]) - max(one[axis], other[axis])


def width(box: Box) -> int:
    """Return how many columns a box has."""
    return box[2] - box[0]


def height(box: Box) -> int:
    """Return how many rows a box has."""
    return box[3] - box[1]


def fit(ink: np.ndarray) -> np.ndarray:
    """Return a digit (28, 28) as MNIST would have it, of one drawn in any size and place.

    ``ink`` is (H, W), from 0 (paper) to 1 (ink), in any float type; the result has float64. Exactly these steps, in
    double precision, so that other programs can repeat them:

    1. Crop to the smallest box that holds every pixel with ``ink > INK * ink.max()``. It is h x w; values inside the
       box stay as they are, also the fainter ones.
    2. Scale to h' x w', where the longer side becomes 20 and the shorter one keeps the aspect: with m = max(h, w),
       h' = max(1, floor(20 h / m + 1/2)), and likewise w'. By area: see :func:`area_weights`.
    3. Divide by the largest value, so that the darkest pixel is 1: thin strokes are faint after scaling, and
       MNIST's images reach their full 255.
    4. Find the centre of mass in rows, r = sum(row * value) / sum(value), rows counted from 0; columns likewise.
    5. Paste into 28 x 28 zeros with the first row at 14 - floor(r + 1/2 + 1e-9), clipped to [0, 28 - h'], and the
       first column likewise: whole pixels, so nothing is blurred a second time; and the box never leaves the image.
       (Symmetric drawings have r at exactly 1/2; without the 1e-9, rounding errors would decide their place.)

    Raises NoDigit if there is no ink at all, and ValueError for another shape or for values that are not in [0, 1].
    """
    ink = np.asarray(ink, dtype=np.float64)
    if ink.ndim != 2 or not ink.size or not (ink.min() >= 0 and ink.max() <= 1):  # also refuses NaN
        raise ValueError(f"ink must be (H, W) in [0, 1], not {ink.shape}")
    if ink.max() == 0:
        raise NoDigit("there is no ink in it: draw a digit")
    rows, columns = (np.flatnonzero((ink > INK * ink.max()).any(axis)) for axis in (1, 0))
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    high, wide = (max(1, int(BOX * side / max(box.shape) + 0.5)) for side in box.shape)
    small = area_weights(high, box.shape[0]) @ box @ area_weights(wide, box.shape[1]).T  # (h', w')
    small /= small.max()
    top, left = (place(small.sum(axis), length) for axis, length in ((1, high), (0, wide)))
    image = np.zeros((SIDE, SIDE))
    image[top : top + high, left : left + wide] = small
    return image


def area_weights(out: int, size: int) -> np.ndarray:
    """Return the matrix (out, size) that averages ``size`` pixels in a row into ``out`` of equal length.

    Seen along the row, pixel j of the new ones covers [j s, (j + 1) s) with s = size / out, and pixel i of the old
    ones [i, i + 1). The weight is the length of what both cover, divided by s. A row of weights sums to 1.
    """
    edges = np.arange(out + 1)[:, None] * (size / out)
    left, right = np.maximum(edges[:-1], np.arange(size)), np.minimum(edges[1:], np.arange(1, size + 1))
    return np.maximum(0, right - left) / (size / out)


def place(mass: np.ndarray, length: int) -> int:
    """Return the first row (or column) of a digit of so many rows whose ink in each row is ``mass`` (length,)."""
    centre = float(mass @ np.arange(length)) / float(mass.sum())
    return min(max(MIDDLE - int(centre + 0.5 + 1e-9), 0), SIDE - length)
