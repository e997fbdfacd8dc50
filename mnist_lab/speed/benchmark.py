"""How fast a recipe trains here: against the usual ways to feed a network, and against arithmetic alone.

What is compared takes turns within one run, since the speed of a machine varies: trust ratios before seconds.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ValidationError

from mnist_lab.experiment import load_data
from mnist_lab.recipe import STRICT, Recipe, Settings
from mnist_lab.runtime import Environment, environment, pick_device, write_whole
from mnist_lab.speed.processes import (
    SECONDS,
    BenchmarkError,
    Reached,
    Throughput,
    processes,
    throughputs,
    time_to_target,
)
from mnist_lab.speed.side_by_side import train_together
from mnist_lab.speed.step import REPEATED, Cost, matrix_rate, multiply_accumulates, step_costs, time_shares
from mnist_lab.speed.ways import EPOCH, ROUNDS, SAMPLE, Way, compare_ways

MANY = 64  # seeds at once on a GPU
SEEDS = range(5)  # that are trained until the target is reached


class Benchmark(BaseModel):
    """Everything that is measured; None is "not measured"."""

    model_config = STRICT

    kind: Literal["benchmark"]
    recipe: Recipe
    ways: list[Way]
    floor: float  # seconds per epoch of the multiply-accumulates alone, on one thread, forward and twice backward
    matrix_rate: float  # multiply-accumulates per second of a matrix product, on one thread
    shares: dict[str, float]  # of the time of PyTorch's layers on one thread, by part of training
    costs: list[Cost] = []  # of a step on one thread, by layers, part and cause
    throughputs: list[Throughput] = []
    board: list[Reached] = []  # how soon the accuracy on the test images stays at 99.4 % or above
    peak_memory: float | None  # GiB of a process that trains one seed
    gpu_run: float | None  # seconds of a whole run on the GPU, after a warm-up
    gpu_many: float | None  # seconds of 64 runs at once
    environment: Environment


def measure(
    recipe: Recipe, settings: Settings, seeds: Sequence[int] = SEEDS, rounds: int = ROUNDS, sample: int = SAMPLE
) -> Benchmark:
    """Measure everything; some twenty minutes on two cores. Needs a recipe that distorts images.

    Raises Diverged, and BenchmarkError if a process was killed.
    """
    device, share = pick_device(settings.device), sample / SAMPLE
    with processes(1) as pool:
        costs = pool.submit(step_costs, recipe, settings, share * REPEATED).result()
    ways = compare_ways(recipe, settings, rounds, sample)
    rates = throughputs(recipe, settings, min(rounds, 3), share * SECONDS)
    board, memory = time_to_target(recipe, settings, seeds) if device.type == "cpu" else ([], None)
    rate, whole = matrix_rate(), replace(settings, score_on="test", train_limit=None)
    return Benchmark(
        kind="benchmark",
        recipe=recipe,
        ways=ways,
        floor=3 * EPOCH * multiply_accumulates(recipe.network()) / rate,
        matrix_rate=rate,
        shares=time_shares(recipe, settings, sample),
        costs=costs,
        throughputs=rates,
        board=board,
        peak_memory=memory,
        gpu_run=time_runs(recipe, whole, [0]) if device.type == "cuda" else None,
        gpu_many=time_runs(recipe, whole, range(MANY)) if device.type == "cuda" else None,
        environment=replace(environment(device), threads=settings.threads),
    )


def time_runs(recipe: Recipe, settings: Settings, seeds: Sequence[int]) -> float:
    """Return the seconds of a whole run of ``seeds`` at once, evaluation included, after one that does not count."""
    data = load_data(settings)
    runs = [train_together(recipe, data, settings, seeds) for _ in range(2)]
    return runs[-1][0].seconds


def save_benchmark(found: Benchmark, path: Path) -> None:
    """Write ``found`` as JSON; the file appears whole or not at all."""
    write_whole(path, (found.model_dump_json(indent=1) + "\n").encode())


def load_benchmark(path: Path) -> Benchmark:
    """Read what :func:`save_benchmark` wrote. Raises BenchmarkError, which names the file."""
    try:
        return Benchmark.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise BenchmarkError(f"{path} is not a benchmark: {error}") from error
