"""Shared data: all offline. Tests that need MNIST itself use ``mnist`` and are skipped without it."""

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

os.environ["TQDM_DISABLE"] = "1"

import pytest
import torch

from mnist_lab import data
from mnist_lab.benchmark import Benchmark
from mnist_lab.data import Dataset, Split
from mnist_lab.publish import RECORDS
from mnist_lab.published import PublishedRecipe
from mnist_lab.recipe import Recipe, Settings
from mnist_lab.records import Record, load_record
from mnist_lab.runtime import ROOT

torch.set_num_threads(1)  # small batches gain nothing from more, and lose much on a busy machine


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return data.load_digits_sample()


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    given = os.environ.get("MNIST_LAB_DATA")
    if not given and data.missing_files(ROOT / "data"):
        pytest.skip("MNIST is not on this machine: set MNIST_LAB_DATA")
    return data.load_mnist(given or ROOT / "data")  # a folder that was named must hold it


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
        cutout=0,
        engine="tensor",
    )


@pytest.fixture(scope="session")
def settings() -> Settings:
    return Settings(seed=0, device="cpu", threads=1, data="digits", score_on="test", train_limit=300)


@pytest.fixture
def published() -> Record:
    """The tracked record of step 3."""
    return load_record(RECORDS / "step-3-seed-0.json")


@pytest.fixture
def on_gpu(published) -> Record:
    """The tracked record of step 3, as if a GPU had made it."""
    environment = {**published.environment, "device": "Tesla T4", "device_type": "cuda"}
    return replace(published, environment=environment, settings={**published.settings, "device": "cuda"})


@pytest.fixture
def seed_of(published):
    """A maker of records: a published recipe, a seed, and test accuracies in per cent, epoch by epoch."""

    def make(recipe: PublishedRecipe, seed: int, *accuracies: float) -> Record:
        history = [
            epoch | {"number": number, "test": {"loss": 0.02, "accuracy": accuracy / 100}}
            for number, (epoch, accuracy) in enumerate(zip(published.history, accuracies, strict=False), 1)
        ]
        settings = published.settings | {"seed": seed}
        return replace(published, row=recipe.row, recipe=asdict(recipe), settings=settings, history=history)

    return make


@pytest.fixture
def seeds(published) -> Callable[..., list[Record]]:
    """Makes records of step 3 that no training made: one per accuracy of the last epoch, from seed 0 on.

    Each misreads the first images, as many as its accuracy means; ``late`` are the accuracies of the four epochs
    before the last. ``changes`` go into the records, such as another row.
    """

    def make(accuracies: Sequence[float], late: Sequence[float] = (0.995,) * 4, **changes) -> list[Record]:
        made = []
        for seed, accuracy in enumerate(accuracies):
            history = [dict(epoch) for epoch in published.history]
            for epoch, reached in zip(history[-5:], [*late, accuracy], strict=True):
                epoch["test"] = {"loss": 0.02, "accuracy": reached}
            wrong = round((1 - accuracy) * published.scored_images)
            mistakes = [{"index": i, "label": 1, "predicted": 7, "confidence": 0.6} for i in range(wrong)]
            settings = published.settings | {"seed": seed}
            made.append(replace(published, settings=settings, history=history, mistakes=mistakes, **changes))
        return made

    return make


@pytest.fixture
def speed() -> Benchmark:
    """A benchmark with numbers that one can check by eye."""
    way = {"model": "CompactNet", "batch_size": 125}
    return Benchmark(
        recipe={"model": "CompactNet"},
        ways=[
            {"name": "whole batches in memory", **way, "threads": 2, "seconds_per_epoch": 10.0, "ratio": 1.0},
            {"name": "whole batches in memory", **way, "threads": 1, "seconds_per_epoch": 15.0, "ratio": 1.5},
            {"name": "image by image", **way, "threads": 2, "seconds_per_epoch": 40.0, "ratio": 4.0},
        ],
        floor=3.0,
        matrix_rate=5e10,
        shares={"convolution": 0.7, "everything else": 0.3},
        two_processes=1.9,
        epochs_to_target=5,
        seconds_to_target=61.4,
        peak_memory=0.8,
        gpu_run=None,
        gpu_many=None,
        environment={"device": "a processor", "device_type": "cpu", "packages": {"torch": "2.15.0"}},
    )


@pytest.fixture(scope="session")
def emulator():
    """AWS on a port of this machine; see emulator.py."""
    from emulator import Emulator

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = Emulator()
    yield server
    server.stop()


@pytest.fixture
def aws(emulator, monkeypatch):
    """An empty AWS that this process and its children talk to, with one role; what can be set of it is returned."""
    import boto3

    for name in [name for name in os.environ if name.startswith(("AWS_", "MNIST_LAB_SAGEMAKER_"))]:
        monkeypatch.delenv(name)
    for name, value in emulator.variables.items():
        monkeypatch.setenv(name, value)
    world = emulator.reset()
    trust = '{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": '
    trust += '"sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}]}'
    boto3.client("iam", region_name="us-east-1").create_role(RoleName="lab", AssumeRolePolicyDocument=trust)
    yield world
    world.__init__()


@pytest.fixture
def machine(aws, emulator, tmp_path):
    """The machine behind the instance "mnist-lab": its start script is carried out; nothing of it outlives a test."""
    from emulator import Machine

    made = Machine(tmp_path / "machine", emulator, told="3.10.9-2.10.0")
    aws.on_boot, aws.on_halt = made.boot, made.halt
    yield made
    made.halt()
    assert made.processes() == []
