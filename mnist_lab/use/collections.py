"""Digits that other people drew: black on white pictures with their labels, every byte verified where it is known.

Semeion (Semeion Research Center, Rome; UCI, doi 10.24432/C5SC8V) has about 80 writers, optdigits (Alpaydin and Kaynak
1998; UCI, doi 10.24432/C50P49) 13 in this part, USPS (Hull, IEEE TPAMI 1994) envelopes of the US postal service.
"""

from collections.abc import Callable, Iterator

import numpy as np
from PIL import Image

from mnist_lab.data import DataNotFound, Split, data_folder, load_mnist, read_verified
from mnist_lab.runtime import ROOT

SHA256 = {
    "semeion.data": "f43228ae3da5ea6a3c95069d53450b86166770e3b719dcc333182128fe08d4b1",
    "optdigits-orig.windep": "c09ab8735d588fdf980724f10a5072c0b757037dc80b448b2f6a10392751c9d6",
}
MARGIN = 4  # pixels of paper around a bitmap that its ink fills to the edge

Drawn = Iterator[tuple[np.ndarray, int]]  # pictures (H, W) of bytes, black on white, each with its digit


def drawn_large(split: Split | None = None) -> Drawn:
    """Yield images, by default MNIST's test images, as drawings: 4 to 10 times as large, black on white, anywhere on a
    larger page.
    """
    split, generator = split or load_mnist().test, np.random.default_rng(0)
    for image, label in zip(split.images[:, 0].cpu().numpy(), split.labels.tolist(), strict=True):
        side = 28 * int(generator.integers(4, 11))
        page = np.full(generator.integers(side, 2 * side, size=2), 255, dtype=np.uint8)
        top, left = (int(generator.integers(0, length - side + 1)) for length in page.shape)
        large = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
        page[top : top + side, left : left + side] = 255 - large
        yield page, label


def semeion() -> Drawn:
    """Yield Semeion's 1,593 bitmaps of 16 x 16, which its digits were stretched to fill. Raises DataNotFound."""
    for line in find("semeion.data").decode("ascii").splitlines():
        values = np.array(line.split(), dtype=np.float64)
        yield on_paper(values[:256].reshape(16, 16)), int(values[256:].argmax())


def optdigits() -> Drawn:
    """Yield the 1,797 bitmaps of 32 x 32 of optdigits' writer-independent part. Raises DataNotFound."""
    lines = find("optdigits-orig.windep").decode("ascii").split("\n")
    start = next(number for number, line in enumerate(lines) if set(line) == {"0", "1"})
    for first in range(start, len(lines) - 32, 33):
        rows = [[int(bit) for bit in line] for line in lines[first : first + 32]]
        yield on_paper(np.array(rows)), int(lines[first + 32])


def usps() -> Drawn:
    """Yield USPS' 2,007 test images, downloaded by torchvision, which verifies them. Raises DataNotFound."""
    from torchvision.datasets import USPS

    from mnist_lab.download import TIMEOUT, socket_timeout

    folder = ROOT / "data" / "USPS"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with socket_timeout(TIMEOUT):
            found = USPS(folder, train=False, download=True)
    except (RuntimeError, OSError) as error:
        raise DataNotFound(f"USPS could not be downloaded ({' '.join(str(error).split())})") from error
    for image, label in zip(found.data, found.targets, strict=True):
        yield on_paper(image / 255), label


def on_paper(ink: np.ndarray) -> np.ndarray:
    """Return a picture, black on white, of ``ink`` (H, W) in [0, 1] with a margin of paper."""
    return np.pad(255 - np.round(255 * ink).astype(np.uint8), MARGIN, constant_values=255)


def find(name: str) -> bytes:
    """Return the file ``name`` from anywhere in MNIST_LAB_DATA, or in the checkout's data folder, verified.

    Raises DataNotFound, and DataCorrupt.
    """
    root = data_folder()
    paths = sorted(root.rglob(name))
    if not paths:
        raise DataNotFound(f"{name} is not in {root}: get it from https://archive.ics.uci.edu")
    return bytes(read_verified(paths, SHA256[name]))


COLLECTIONS: dict[str, Callable[[], Drawn]] = {
    "MNIST's test images, drawn large": drawn_large,
    "Semeion": semeion,
    "optdigits": optdigits,
    "USPS": usps,
}
