"""Data for the tests of speed."""

import pytest

from mnist_lab import experiment
from mnist_lab.data import Dataset
from mnist_lab.recipe import Recipe, Settings
from mnist_lab.runtime import Environment
from mnist_lab.speed.benchmark import Benchmark, Way
from mnist_lab.speed.processes import Reached, Throughput
from mnist_lab.speed.step import Cost


@pytest.fixture(scope="session")
def small(settings: Settings) -> Dataset:
    return experiment.load_data(settings)


@pytest.fixture(scope="session")
def measured(recipe: Recipe) -> Benchmark:
    """A benchmark with numbers that one can check by eye."""
    return Benchmark(
        kind="benchmark",
        recipe=recipe,
        ways=[
            Way("whole batches in memory", "CompactNet", 125, 2, 10.0, 1.0),
            Way("whole batches in memory", "CompactNet", 125, 1, 15.0, 1.5),
            Way("image by image", "CompactNet", 125, 2, 40.0, 4.0),
            Way("as published, 0 workers", "E3", 512, 2, 66.0, 6.6),
            Way("as published, 2 workers", "E3", 512, 2, 60.0, 6.0),
        ],
        floor=3.0,
        matrix_rate=5e10,
        shares={"convolution": 0.7, "everything else": 0.3},
        costs=[Cost("PyTorch's layers", "norm", 1.0, 2.0, 0.0, 3.0)],
        throughputs=[
            Throughput("PyTorch's layers", 1, 1, 4000.0, 1.0),
            Throughput("PyTorch's layers", 2, 1, 7600.0, 1.9),
        ],
        board=[Reached("one core", 1, [5, 6], [60.0, 62.0]), Reached("two cores", 2, [5, None], [40.0, None])],
        peak_memory=0.8,
        gpu_run=None,
        gpu_many=None,
        environment=Environment(
            "a processor", "cpu", "float32", 2, "3.11.9", "Linux x86_64", {"torch": "2.15.0"}, "abc"
        ),
    )
