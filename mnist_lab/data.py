"""MNIST as tensors in memory, every byte verified; and a sample of digits for machines without it."""

import contextlib
import hashlib
import http.client
import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from mnist_lab.runtime import ROOT

HOLD_OUT_SEED = 20_000  # fixes which training images are held out; never change it
MNIST_NAME, DIGITS_NAME = "MNIST", "digits sample, not MNIST"
# The test images whose label fewer than three of five people confirmed, by index: the 15 errors that cleanlab's study
# found in MNIST (mturk/mnist_mturk.json; Northcutt, Athalye and Mueller, Pervasive Label Errors in Test Sets, 2021).
WRONG_TEST_LABELS = (947, 1621, 1901, 2130, 2462, 2597, 2654, 3520, 3558, 5937, 6651, 6783, 8527, 9679, 9729)
DOWNLOAD_TIMEOUT = 15  # seconds of silence before a download is given up

# SHA-256 of the four raw files: torchvision checks only that they exist, so a flipped byte would pass.
MNIST_SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


class DataNotFound(RuntimeError):
    """MNIST is neither on disk nor to be downloaded."""


class DataCorrupt(RuntimeError):
    """A file of MNIST is there, but is not what it should be."""


@dataclass(frozen=True)
class Split:
    """Images (N, 1, 28, 28) as uint8 and labels (N,) as int64, on one device."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))

    def take(self, indices: Tensor) -> "Split":
        return Split(self.images[indices], self.labels[indices])

    def first(self, count: int) -> "Split":
        return Split(self.images[:count], self.labels[:count])


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
    if name == "MNIST":
        return load_mnist()
    if name == "digits":
        return load_digits_sample()
    raise ValueError(f'unknown data {name!r}: use "MNIST" or "digits"')


def load_mnist(folder: str | Path | None = None) -> Dataset:
    """Load MNIST through torchvision, every byte verified.

    ``folder`` (or the environment variable MNIST_LAB_DATA) holds torchvision's layout,
    ``MNIST/raw/train-images-idx3-ubyte`` and so on; it is read and never written to. Without one,
    ``data/`` of the checkout is used and filled by a download on first use.

    Raises DataNotFound if there is nothing to load, and DataCorrupt if a file is damaged.
    """
    from torchvision.datasets.mnist import read_image_file, read_label_file

    given = folder or os.environ.get("MNIST_LAB_DATA")
    root = Path(given).expanduser() if given else ROOT / "data"
    missing = missing_files(root)
    if missing and given:
        raise DataNotFound(
            f"no MNIST in {root}: {', '.join(missing)} missing from {raw_folder(root)}. "
            "Point MNIST_LAB_DATA (or --data) at a folder in torchvision's layout, or unset it to download MNIST"
        )
    if missing:
        download_mnist(root)
    verify_files(root)
    splits = []
    for part in ("train", "t10k"):
        # Not through torchvision's MNIST class: it prefers a folder "processed" beside the verified files.
        images = read_image_file(str(raw_folder(root) / f"{part}-images-idx3-ubyte"))
        labels = read_label_file(str(raw_folder(root) / f"{part}-labels-idx1-ubyte"))
        splits.append(Split(images.unsqueeze(1), labels))
    return Dataset(MNIST_NAME, *splits)


def raw_folder(root: Path) -> Path:
    """Return where torchvision keeps the four raw files below ``root``."""
    return root / "MNIST" / "raw"


def missing_files(root: Path) -> list[str]:
    """Return which of the four raw files are not below ``root``; DataCorrupt if one may not look."""
    try:
        return [name for name in MNIST_SHA256 if not (raw_folder(root) / name).is_file()]
    except OSError as error:
        raise DataCorrupt(f"cannot look into {raw_folder(root)}: {error.strerror}. Check its permissions") from error


def verify_files(root: Path) -> None:
    """Raise DataCorrupt unless each raw file can be read and has the SHA-256 it should have."""
    for name, expected in MNIST_SHA256.items():
        path = raw_folder(root) / name
        try:
            found = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise DataCorrupt(f"cannot read {path}: {error.strerror}. Check the file and its permissions") from error
        if found != expected:
            raise DataCorrupt(
                f"{path} is damaged: {path.stat().st_size:,} bytes with SHA-256 {found[:12]}..., "
                f"expected {expected[:12]}.... Delete it and get the original again"
            )


def download_mnist(root: Path) -> None:
    """Download MNIST with torchvision (and its progress bar) into ``root``.

    The files are fetched into a folder beside their place, verified, and only then moved there:
    a download that breaks in the middle leaves nothing behind. Raises DataNotFound if it breaks.
    """
    from torchvision.datasets import MNIST

    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as staging, socket_timeout(DOWNLOAD_TIMEOUT):
            MNIST(staging, download=True)
            verify_files(Path(staging))
            raw_folder(root).mkdir(parents=True, exist_ok=True)
            for name in MNIST_SHA256:
                (raw_folder(Path(staging)) / name).replace(raw_folder(root) / name)
    except (RuntimeError, OSError, http.client.HTTPException) as error:
        reason = " ".join(str(error).split())
        raise DataNotFound(
            f"MNIST is not in {root} and could not be downloaded ({reason}). Connect to the internet and run again, "
            "or point MNIST_LAB_DATA (or --data) at a folder that holds MNIST/raw/ with its four files"
        ) from error


@contextlib.contextmanager
def socket_timeout(seconds: float) -> Iterator[None]:
    """Give every new connection a time limit; torchvision sets none, and would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def load_digits_sample() -> Dataset:
    """Return scikit-learn's 1,797 embedded 8x8 digits, scaled to MNIST's format: 1,437 to train, 360 to test.

    They let the whole pipeline run on a machine with no network. They are not MNIST, and say so.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    small = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16  # (1797, 1, 8, 8), ink in 0 ... 16
    # MNIST's digits fill 20 x 20 pixels in the middle of 28 x 28.
    images = F.pad(F.interpolate(small, size=20, mode="bilinear"), [4, 4, 4, 4])
    everything = Split((images * 255).round().to(torch.uint8), torch.tensor(digits.target, dtype=torch.int64))
    return Dataset(DIGITS_NAME, *hold_out(everything, len(everything) // 5 + 1))


def hold_out(split: Split, count: int) -> tuple[Split, Split]:
    """Cut ``count`` images off ``split``, always the same ones, with its proportions of digits.

    Returns (rest, held out). Every choice is made on images held out of the training set, never on
    the test set. Raises ValueError if ``count`` leaves a side without one image of each digit.
    """
    from sklearn.model_selection import train_test_split

    indices = range(len(split))
    rest, held = train_test_split(indices, test_size=count, stratify=split.labels.cpu(), random_state=HOLD_OUT_SEED)
    return split.take(torch.tensor(rest)), split.take(torch.tensor(held))
