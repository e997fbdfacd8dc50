"""Digits drawn with a round pen, for tests: no data of anybody."""

import io

import numpy as np
from PIL import Image, ImageDraw

# Strokes on a sheet of 60 x 100: polylines of (x, y).
STROKES = {
    "0": [[(30 + 24 * np.cos(a), 50 + 44 * np.sin(a)) for a in np.linspace(0, 2 * np.pi, 40)]],
    "1": [[(32, 5), (28, 95)]],
    "2": [[(8, 25), (18, 8), (38, 6), (50, 20), (46, 40), (26, 68), (6, 92), (30, 90), (54, 92)]],
    "3": [[(10, 10), (30, 5), (46, 14), (46, 30), (26, 46), (46, 56), (52, 74), (38, 92), (8, 90)]],
    "4": [[(14, 8), (8, 52), (52, 50)], [(42, 20), (40, 96)]],
    "5": [[(14, 10), (10, 46), (34, 44), (50, 62), (42, 86), (20, 94), (6, 86)], [(16, 8), (52, 6)]],
    "7": [[(6, 12), (52, 10), (36, 48), (22, 96)]],
}


def draw(digits: str, height: int = 200, pen: float = 0.09, margin: float = 0.4, gap: float = 0.35) -> Image.Image:
    """Return black digits in a row on white paper; lengths are shares of their height, which is in pixels."""
    unit = height / 100
    width = round(height * (2 * margin + 0.6 * len(digits) + gap * (len(digits) - 1)))
    page = Image.new("L", (width, round(height * (1 + 2 * margin))), 255)
    pencil, radius = ImageDraw.Draw(page), pen * height / 2
    for place, digit in enumerate(digits):
        left, top = height * (margin + place * (0.6 + gap)), height * margin
        for stroke in STROKES[digit]:
            points = [(left + unit * x, top + unit * y) for x, y in stroke]
            pencil.line(points, fill=0, width=round(2 * radius), joint="curve")
            for x, y in points:
                pencil.ellipse((x - radius, y - radius, x + radius, y + radius), fill=0)
    return page


def photograph(page: Image.Image, ink: float = 0.25, grain: float = 0.02) -> Image.Image:
    """Return ``page`` as on a photo: lit from the left, darker to the corners, with the grain of paper and camera."""
    drawn = np.asarray(page) / 255
    y, x = (np.linspace(-1, 1, side) for side in drawn.shape)
    light = 0.65 - 0.25 * x - 0.08 * x**2 - 0.08 * y[:, None] ** 2
    photo = light * (ink + (1 - ink) * drawn) + np.random.default_rng(0).normal(0, grain, drawn.shape)
    return Image.fromarray(np.round(255 * photo.clip(0, 1)).astype(np.uint8))


def as_file(picture: Image.Image, form: str = "PNG", **options) -> bytes:
    """Return the content of a file with ``picture``."""
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()
