"""MNIST as tensors in memory, every byte verified; and a sample of digits for machines without it."""

import gzip
import hashlib
import os
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from mnist_lab import LabError
from mnist_lab.runtime import ROOT

DIGITS_SEED = 20_000  # decides which of the digits sample are trained on; never change it
MNIST_NAME, DIGITS_NAME = "MNIST", "digits sample, not MNIST"
# The test images whose label fewer than three of five people confirmed, by index: the 15 errors that cleanlab's study
# found in MNIST (mturk/mnist_mturk.json; Northcutt, Athalye and Mueller, Pervasive Label Errors in Test Sets, 2021).
WRONG_TEST_LABELS = (947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729)

# SHA-256 of the four raw files: torchvision checks only that they exist, so a flipped byte would pass.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


class DataNotFound(LabError):
    """MNIST is neither on disk nor to be downloaded."""


class DataCorrupt(LabError):
    """A file of MNIST is there, but is not what it should be."""


@dataclass(frozen=True)
class Split:
    """Images (N, 1, 28, 28) as uint8 and labels (N,) as int64, on one device."""

    images: Tensor
    labels: Tensor
    indices: Tensor | None = None  # (N,) of the images in the split that they were taken from, on the CPU

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Split":
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))

    def take(self, indices: Tensor | slice) -> "Split":
        kept = torch.arange(len(self)) if self.indices is None else self.indices
        return Split(self.images[indices], self.labels[indices], kept[indices])

    def first(self, count: int) -> "Split":
        return self.take(slice(count))


@dataclass(frozen=True)
class Dataset:
    """A training and a test split, with the name that tables, figure titles and records carry."""

    name: str
    train: Split
    test: Split

    def to(self, device: torch.device) -> "Dataset":
        return Dataset(self.name, self.train.to(device), self.test.to(device))


def load(name: str) -> Dataset:
    """Load "MNIST" (see :func:`load_mnist`) or "digits" (see :func:`load_digits_sample`)."""
    return {"MNIST": load_mnist, "digits": load_digits_sample}[name]()


def load_mnist(folder: str | Path | None = None) -> Dataset:
    """Load MNIST, every byte verified.

    ``folder`` (or the environment variable MNIST_LAB_DATA) is read and never written to; see :func:`find_files` for
    the forms it may have. Without one, ``data/`` of the checkout is used and filled by a download on first use.
    Raises DataNotFound if there is nothing to load, and DataCorrupt if a file is damaged.
    """
    contents = read_files("MNIST", MNIST_SHA256, folder)
    splits = []
    for part in ("train", "t10k"):  # IDX files: 16 or 8 bytes that tell the shape, then a byte for each number
        images = torch.frombuffer(contents[f"{part}-images-idx3-ubyte"], dtype=torch.uint8)[16:]
        labels = torch.frombuffer(contents[f"{part}-labels-idx1-ubyte"], dtype=torch.uint8)[8:]
        splits.append(Split(images.view(-1, 1, 28, 28), labels.long()))
    return Dataset(MNIST_NAME, *splits)


def read_files(
    kind: str, sha256: Mapping[str, str], folder: str | Path | None = None, may_download: bool = True
) -> dict[str, bytearray]:
    """Return the content of each file of torchvision's dataset ``kind``, unzipped, that ``sha256`` names and verifies.

    ``folder``, the download and what is raised are as in :func:`load_mnist`.
    """
    given, root = folder or os.environ.get("MNIST_LAB_DATA"), data_folder(folder)
    files = find_files(root, kind, sha256)
    missing = [name for name, paths in files.items() if not paths]
    if missing:
        from mnist_lab.download import download, explain_missing

        if given or not may_download:
            raise DataNotFound(explain_missing(root, kind, missing))
        download(root, kind, sha256)
        files = find_files(root, kind, sha256)
    return {name: read_verified(paths, sha256[name]) for name, paths in files.items()}


def data_folder(given: str | Path | None = None) -> Path:
    """Return the folder that was ``given``, else that of MNIST_LAB_DATA, else ``data/`` of the checkout."""
    root = Path(os.path.expanduser(given or os.environ.get("MNIST_LAB_DATA") or ROOT / "data"))
    return (root if os.path.exists(root) else ROOT / root).absolute()  # a notebook runs in a folder of its own


def find_files(root: Path, kind: str, names: Iterable[str]) -> dict[str, list[Path]]:
    """Return where in ``root`` each file of torchvision's dataset ``kind`` may be.

    As it is or gzipped, called ``train-images-idx3-ubyte`` or ``train-images.idx3-ubyte``, in the folder itself, in
    ``raw/``, in ``MNIST/raw/`` (for MNIST), or one folder deeper, as some archives unpack. Raises DataCorrupt if one is
    missing where one may not look.
    """
    found, closed, own = {name: [] for name in names}, [], (root / kind / "raw", root / "raw", root)

    def look(folder: Path) -> list[str]:
        try:
            return sorted(os.listdir(folder))
        except OSError as error:  # Path.glob would pass over a folder that one may not read
            if folder in own and not isinstance(error, (FileNotFoundError, NotADirectoryError)):
                closed.append(error)
            return []

    for above, place in product((root, *(root / name for name in look(root))), (f"{kind}/raw", "raw", "")):
        inside = look(above / place)
        for name, paths in found.items():
            spellings = [f"{stem}{end}" for stem in (name, name.replace("-idx", ".idx")) for end in ("", ".gz")]
            there = (above / place / one for one in spellings if one in inside)
            paths += (path for path in there if not os.path.isdir(path))
    if closed and not all(found.values()):
        raise DataCorrupt(f"cannot look into {closed[0].filename}: {closed[0].strerror}. Check its permissions")
    return found


def read_verified(paths: list[Path], sha256: str) -> bytearray:
    """Return the first of ``paths`` with this SHA-256, read and unzipped; DataCorrupt names the last if none has it."""
    for path in paths:
        try:
            content = path.read_bytes()
            if path.suffix == ".gz":
                content = gzip.decompress(content)
            digest = hashlib.sha256(content).hexdigest()
            if digest == sha256:
                return bytearray(content)
            problem = f"is damaged: {len(content):,} bytes with SHA-256 {digest[:12]}..., expected {sha256[:12]}...."
        except (OSError, EOFError, zlib.error) as error:
            problem = f"cannot be read: {getattr(error, 'strerror', None) or error}."
    raise DataCorrupt(f"{path} {problem} Delete it and get the original again")


def load_digits_sample() -> Dataset:
    """Return scikit-learn's 1,797 embedded 8x8 digits, scaled to MNIST's format: 1,437 to train, 360 to test.

    They let the whole pipeline run on a machine without the internet. They are not MNIST, and say so.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    small = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16  # (1797, 1, 8, 8), ink in 0 ... 16
    # MNIST's digits fill 20 x 20 pixels in the middle of 28 x 28.
    images = F.pad(F.interpolate(small, size=20, mode="bilinear"), [4, 4, 4, 4])
    images, labels = (images * 255).round().to(torch.uint8), torch.tensor(digits.target, dtype=torch.int64)
    options = {"test_size": len(images) // 5 + 1, "stratify": labels, "random_state": DIGITS_SEED}
    parts = train_test_split(range(len(images)), **options)
    return Dataset(DIGITS_NAME, *(Split(images[part], labels[part]) for part in parts))
