"""Shared data: all offline. Tests that need MNIST itself use ``mnist`` and are skipped without it."""

import logging
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

os.environ["TQDM_DISABLE"] = "1"

import pytest
import torch

from mnist_lab import data, publish, runner, study
from mnist_lab.benchmark import Benchmark
from mnist_lab.data import Dataset, Split
from mnist_lab.published.recipes import RECIPES, PublishedRecipe
from mnist_lab.recipe import Recipe, Settings
from mnist_lab.records import Record, load_record, load_records, save
from mnist_lab.runtime import ROOT
from mnist_lab.search import candidates, screening
from mnist_lab.search.tables import with_the_step

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
    return load_record(publish.RECORDS / "step-3-seed-0.json")


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
def three(seed_of) -> list[Record]:
    """Three seeds of E3, of two epochs each."""
    runs = [(99.52, 99.40), (99.48, 99.50), (99.40, 99.54)]
    return [seed_of(RECIPES["E3"], seed, *run) for seed, run in enumerate(runs)]


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
def tried(published):
    """Makes records of a candidate that no training made: one per pair of loss and accuracy."""
    step = candidates.search(screening.step_3()), candidates.frontier(screening.step_3())
    by_name = {candidate.name: candidate for group in step for candidate in group}

    def make(name: str, *scores: tuple[float, float], score_on: str = "held-out", parameters: int = 7306) -> list:
        candidate, made = by_name[name], []
        for seed, (loss, accuracy) in enumerate(scores):
            history = [*published.history[:-1], published.history[-1] | {"test": {"loss": loss, "accuracy": accuracy}}]
            settings = published.settings | {"seed": seed, "score_on": score_on}
            made.append(
                replace(
                    published, row=name, change=candidate.change, recipe=asdict(candidate), history=history,
                    settings=settings, model=published.model | {"trainable": parameters},
                )
            )  # fmt: skip
        return made

    return make


@pytest.fixture
def searched(tried) -> list[Record]:
    """Records of some candidates of the search."""
    return [
        *tried("sgd", (0.0150, 0.995), (0.0152, 0.995), (0.0151, 0.995)),
        *tried("cutout", (0.0130, 0.995), (0.0132, 0.996), (0.0125, 0.995)),
        *tried("no-augmentation", (0.0200, 0.993), (0.0210, 0.993), (0.0205, 0.993)),
        *tried("adamw", (0.0110, 0.996), (0.0111, 0.996), (0.0109, 0.997)),
        *tried("relu", (0.0130, 0.995)),
        *tried("step-3", (0.0128, 0.996), (0.0131, 0.995), (0.0127, 0.996)),
    ]


@pytest.fixture
def on_frontier(tried, seeds) -> list[Record]:
    """Records of some of the frontier, two seeds each, and of the step."""
    test = {"score_on": "test"}
    return with_the_step(
        [
            *tried("frontier-2k", (0.03, 0.9910), (0.03, 0.9920), parameters=1916, **test),
            *tried("frontier-4k", (0.02, 0.9938), (0.02, 0.9943), parameters=3908, **test),
            *tried("frontier-5-epochs", (0.02, 0.9939), (0.02, 0.9940), **test),
            *tried("frontier-8-epochs", (0.02, 0.9943), (0.02, 0.9943), (0.02, 0.9942), **test),
        ],
        [*seeds([0.99], row="2"), *seeds([0.9950, 0.9949, 0.9951])],
    )


@pytest.fixture
def no_training(tmp_path, monkeypatch) -> Path:
    """A copy of what is tracked, but for series and candidates, in a folder; and studies that train nothing."""
    shutil.copytree(publish.RECORDS, tmp_path / "records")
    shutil.copytree(publish.IMAGES, tmp_path / "images")
    shutil.copy(publish.README, tmp_path)
    (tmp_path / "runs").mkdir()
    places = {"RECORDS": "records", "IMAGES": "images", "README": "README.md"}
    for name, place in (places | {"PUBLISHED": "series", "SEARCH": "search", "FRONTIER": "frontier"}).items():
        monkeypatch.setattr(publish, name, tmp_path / place)
    for module in (runner, publish):
        monkeypatch.setattr(module, "RUNS", tmp_path / "runs")
    like = load_records(publish.RECORDS)[0]

    def conduct(plan, folder, parallel):
        made = [
            replace(
                like, row=plan.row, change=plan.change, recipe=asdict(plan.recipe),
                settings=asdict(plan.settings_of(seed)),
            )
            for seed in plan.seeds
        ]  # fmt: skip
        for record in made:
            save(record, folder)
        return made

    monkeypatch.setattr(study, "conduct", conduct)
    return tmp_path


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
