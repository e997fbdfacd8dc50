"""Ways to train, timed in turn: whole batches in memory, and the usual ways to feed a network image by image."""

import contextlib
import operator
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from pydantic.dataclasses import dataclass
from torch import nn
from torch.optim import SGD
from tqdm import tqdm

from mnist_lab.augment import Policy
from mnist_lab.data import Dataset
from mnist_lab.experiment import AS_IT_IS, Prepare, assemble, load_data
from mnist_lab.recipe import STRICT, Recipe, Settings
from mnist_lab.speed.compiled import compiled, compiler_of
from mnist_lab.speed.per_image import PerImageBatches, albumentations_transform, torchvision_transform
from mnist_lab.training import train_one_epoch

EPOCH = 60_000  # images: every speed is scaled to it
SAMPLE, ROUNDS = 6_000, 5  # images per measurement, and measurements
WORKERS = (0, 2)  # processes of a DataLoader
LONGEST = 60  # characters of a folder for temporary files: the sockets of a DataLoader need short names

# A recipe as others usually run it: batch size, and a distortion for a quarter of the images; see baseline_network.
BASELINE, BASELINE_BATCH = "E3", 512
BASELINE_POLICY, BASELINE_SHARE = Policy(rotation=7.0, shift=2, scale=0.05), 0.25
LAYERS: dict[str, Prepare] = {"compiled layers": compiled, "PyTorch's layers": AS_IT_IS}  # the fastest first


@dataclass(config=STRICT)
class Way:
    """One way to train, and how fast it was."""

    name: str
    model: str
    batch_size: int
    threads: int
    seconds_per_epoch: float  # of 60,000 images, median over the rounds
    ratio: float  # to the first way, median over the rounds


def compare_ways(
    recipe: Recipe, settings: Settings, rounds: int = ROUNDS, sample: int = SAMPLE, workers: Sequence[int] = WORKERS
) -> list[Way]:
    """Time one pass over ``sample`` images in every way in turn, ``rounds`` times after a first that does not count."""
    settings = replace(settings, train_limit=sample)
    data = load_data(settings)
    size, threads = recipe.batch_size, settings.threads
    ways: list[tuple[str, str, int, int, Callable[[], object]]] = []
    for layers, prepare in usable_layers(recipe, data.train.images.device).items():
        ours = train_once(recipe, data, settings, prepare)
        for count in sorted({threads, 1}, reverse=True):
            ways.append((f"whole batches in memory, {layers}", recipe.model, size, count, ours))
    images, policy, device = data.train.to(torch.device("cpu")), recipe.policy(), data.train.images.device
    for name, model, build, batch, transform in [
        ("albumentations, image by image", recipe.model, recipe.network, size, albumentations_transform(policy)),
        ("torchvision, image by image", recipe.model, recipe.network, size, torchvision_transform(policy)),
        ("albumentations, as published", BASELINE, baseline_network, BASELINE_BATCH,
         albumentations_transform(BASELINE_POLICY, BASELINE_SHARE)),
    ]:  # fmt: skip
        for count in workers:
            network = build().to(device)
            usual = SGD(network.parameters(), lr=0.01, momentum=0.95)
            batches = PerImageBatches(images, batch, transform, count, device)
            theirs = partial(train_one_epoch, network, batches, usual)
            ways.append((f"{name}, {count} workers", model, batch, threads, theirs))
    seconds: list[list[float]] = [[] for _ in ways]
    with short_names():
        for _ in tqdm(range(rounds + 1), desc="ways to train", unit="round", leave=False):
            for (_, _, size, threads, once), times in zip(ways, seconds, strict=True):
                torch.set_num_threads(threads)
                start = time.perf_counter()
                once()  # ends by reading its metrics: the device is done
                times.append((time.perf_counter() - start) * EPOCH / (sample // size * size))
    return [
        Way(*way[:4], statistics.median(times[1:]), statistics.median(map(operator.truediv, times[1:], seconds[0][1:])))
        for way, times in zip(ways, seconds, strict=True)
    ]


def usable_layers(recipe: Recipe, device: torch.device) -> dict[str, Prepare]:
    """Return those of LAYERS that can train ``recipe`` on ``device``, the fastest first."""
    can_compile = device.type == "cpu" and compiler_of(compiled(recipe.network())) is not None
    return {layers: prepare for layers, prepare in LAYERS.items() if can_compile or prepare is AS_IT_IS}


def train_once(recipe: Recipe, data: Dataset, settings: Settings, prepare: Prepare = AS_IT_IS) -> Callable[[], object]:
    """Return what trains ``recipe`` for one more epoch each time, at its first learning rate, on distorted images."""
    parts = assemble(replace(recipe, clean_epochs=0), data, settings, prepare)  # so many epochs may be its last ones
    return partial(train_one_epoch, parts.model, parts.batches, parts.optimizer, None, parts.average, recipe.loss)


@contextlib.contextmanager
def short_names() -> Iterator[None]:
    """Let temporary files have short names, whatever TMPDIR says: a socket's name has 108 characters at most."""
    before = tempfile.tempdir
    if len(tempfile.gettempdir()) > LONGEST and os.path.isdir("/tmp"):
        tempfile.tempdir = "/tmp"
    try:
        yield
    finally:
        tempfile.tempdir = before


def baseline_network() -> nn.Sequential:
    """Return step 3 of dhairyag/multi_models_MNIST, as its repository has it: 7,236 parameters."""

    def block(c_in: int, c_out: int, padding: int = 0) -> nn.Sequential:
        convolution = nn.Conv2d(c_in, c_out, 3, padding=padding, bias=False)
        return nn.Sequential(convolution, nn.ReLU(), nn.BatchNorm2d(c_out), nn.Dropout(0.04))

    return nn.Sequential(                           # output shape
        block(1, 12),                               # (N, 12, 26, 26)
        block(12, 16),                              # (N, 16, 24, 24)
        nn.Conv2d(16, 10, 1, bias=False),           # (N, 10, 24, 24)
        nn.MaxPool2d(2),                            # (N, 10, 12, 12)
        block(10, 12),                              # (N, 12, 10, 10)
        block(12, 12),                              # (N, 12,  8,  8)
        block(12, 12),                              # (N, 12,  6,  6)
        block(12, 12, padding=1),                   # (N, 12,  6,  6)
        nn.AvgPool2d(6),                            # (N, 12,  1,  1)
        nn.Conv2d(12, 10, 1, bias=False),           # (N, 10,  1,  1)
        nn.Flatten(),                               # (N, 10)
    )  # fmt: skip
