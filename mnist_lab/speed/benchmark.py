"""How fast a recipe trains here: against the usual ways to feed a network, and against arithmetic alone.

What is compared takes turns within one run, since the speed of a machine varies: trust ratios before seconds.
"""

import contextlib
import multiprocessing
import operator
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.dataclasses import dataclass
from torch import nn
from torch.optim import SGD
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from mnist_lab import LabError
from mnist_lab.augment import Policy
from mnist_lab.data import Dataset
from mnist_lab.experiment import TARGET, assemble, load_data, train
from mnist_lab.recipe import STRICT, Recipe, Settings
from mnist_lab.runtime import Environment, environment, pick_device, stated, write_whole
from mnist_lab.speed.per_image import PerImageBatches, albumentations_transform, torchvision_transform
from mnist_lab.speed.side_by_side import train_together
from mnist_lab.training import Epoch, train_one_epoch

EPOCH = 60_000  # images: every speed is scaled to it
SAMPLE, ROUNDS = 6_000, 5  # images per measurement, and measurements
MANY = 64  # seeds at once on a GPU
WORKERS = (0, 2)  # processes of a DataLoader
SPAWN = multiprocessing.get_context("spawn")  # a fork would inherit the locks of PyTorch's threads

# A recipe as others usually run it: batch size, and a distortion for a quarter of the images; see baseline_network.
BASELINE, BASELINE_BATCH = "E3", 512
BASELINE_POLICY, BASELINE_SHARE = Policy(rotation=7.0, shift=2, scale=0.05), 0.25

# Which part of training an operator of PyTorch belongs to, by how its name begins.
PARTS = {
    "convolution, forward": ("aten::mkldnn_convolution", "aten::cudnn_convolution", "aten::_conv_depthwise2d"),
    "convolution, backward": ("aten::convolution_backward",),
    "norm": ("aten::native_batch_norm", "aten::cudnn_batch_norm"),
    "pooling": ("aten::max_pool2d", "aten::avg_pool2d"),
    "activation": ("aten::silu", "aten::clamp_min", "aten::threshold_backward"),
    "images: pick, distort, normalise": ("aten::index", "aten::grid_sampler", "aten::affine_grid", "aten::bmm"),
    "optimizer and average": ("aten::_fused_adam", "Optimizer.", "aten::_foreach"),
}


class BenchmarkError(LabError):
    """A benchmark could not be measured or read."""


@dataclass(frozen=True, config=STRICT)
class Way:
    """One way to train, and how fast it was."""

    name: str
    model: str
    batch_size: int
    threads: int
    seconds_per_epoch: float  # of 60,000 images, median over the rounds
    ratio: float  # to the first way, median over the rounds


class Benchmark(BaseModel):
    """Everything that is measured; None is "not measured"."""

    model_config = ConfigDict(**STRICT, frozen=True)

    kind: Literal["benchmark"]
    recipe: Recipe
    ways: list[Way]
    floor: float  # seconds per epoch of the multiply-accumulates alone, on one thread, forward and twice backward
    matrix_rate: float  # multiply-accumulates per second of a matrix product, on one thread
    shares: dict[str, float]  # of the time of one thread, by part of training
    two_processes: float  # times the images per second of one process
    epochs_to_target: int | None  # from which epoch on the accuracy on held-out images stays at 99.4 % or above
    seconds_to_target: float | None  # wall clock, evaluation included
    peak_memory: float | None  # GiB of a process that trains one seed
    gpu_run: float | None  # seconds of a whole run on the GPU, after a warm-up
    gpu_many: float | None  # seconds of 64 runs at once
    environment: Environment


def measure(recipe: Recipe, settings: Settings) -> Benchmark:
    """Measure everything; some eight minutes on two cores. Needs a recipe that distorts images.

    Raises Diverged, and BenchmarkError if a process was killed.
    """
    device = pick_device(settings.device)
    held_out = replace(settings, score_on="held-out", train_limit=None)
    with processes(1) as pool:
        history, seconds, memory = pool.submit(train_alone, recipe, held_out).result()
    epochs = epochs_to_target([epoch.test.accuracy for epoch in history])
    rate = matrix_rate()
    return Benchmark(
        kind="benchmark",
        recipe=recipe,
        ways=compare_ways(recipe, settings),
        floor=3 * EPOCH * multiply_accumulates(recipe.network()) / rate,
        matrix_rate=rate,
        shares=time_shares(recipe, settings),
        two_processes=throughput(recipe, settings, 2),
        epochs_to_target=epochs,
        seconds_to_target=None if epochs is None else seconds * epochs / len(history),
        peak_memory=memory,
        gpu_run=time_runs(recipe, held_out, [0]) if device.type == "cuda" else None,
        gpu_many=time_runs(recipe, held_out, range(MANY)) if device.type == "cuda" else None,
        environment=replace(environment(device), threads=settings.threads),
    )


def compare_ways(
    recipe: Recipe, settings: Settings, rounds: int = ROUNDS, sample: int = SAMPLE, workers: Sequence[int] = WORKERS
) -> list[Way]:
    """Time one pass over ``sample`` images in every way in turn, ``rounds`` times after a first that does not count."""
    settings = replace(settings, train_limit=sample)
    data = load_data(settings)
    ours, size, threads = train_once(recipe, data, settings), recipe.batch_size, settings.threads
    counts = sorted({threads, 1}, reverse=True)
    ways = [("whole batches in memory", recipe.model, size, count, ours) for count in counts]
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


def train_once(recipe: Recipe, data: Dataset, settings: Settings) -> Callable[[], object]:
    """Return what trains ``recipe`` for one more epoch each time, at its first learning rate."""
    parts = assemble(recipe, data, settings)
    return partial(train_one_epoch, parts.model, parts.batches, parts.optimizer, None, parts.average, recipe.loss)


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


def multiply_accumulates(network: nn.Module) -> int:
    """Return how many multiply-accumulates ``network`` needs for one image."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.zeros(1, 1, 28, 28))
    return counter.get_total_flops() // 2


def matrix_rate(size: int = 1024, repeats: int = 20) -> float:
    """Return multiply-accumulates per second of a square matrix product in single precision, on one thread."""
    torch.set_num_threads(1)
    left, right = torch.randn(size, size), torch.randn(size, size)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        left @ right
        times.append(time.perf_counter() - start)
    return size**3 / min(times)


def time_shares(recipe: Recipe, settings: Settings, sample: int = SAMPLE) -> dict[str, float]:
    """Return what share of the time of one CPU thread each part of training takes, as PyTorch's profiler sees it."""
    settings = replace(settings, device="cpu", threads=1, train_limit=sample)
    once = train_once(recipe, load_data(settings), settings)
    once()
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as seen:
        once()
    operators = {entry.key: entry.self_cpu_time_total for entry in seen.key_averages()}
    total = sum(operators.values())
    shares = {
        part: sum(spent for name, spent in operators.items() if name.startswith(beginnings)) / total
        for part, beginnings in PARTS.items()
    }
    return {**shares, "everything else": 1 - sum(shares.values())}


def epochs_to_target(accuracies: list[float]) -> int | None:
    """Return from which epoch on, counted from 1, all accuracies are at or above the target; None if none is."""
    below = [number for number, accuracy in enumerate(accuracies, 1) if accuracy < TARGET]
    reached = below[-1] + 1 if below else 1
    return reached if reached <= len(accuracies) else None


@contextlib.contextmanager
def processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Start so many processes; they end with the block. Raises BenchmarkError if one was killed."""
    with ProcessPoolExecutor(count, SPAWN) as pool:
        try:
            yield pool
        except BrokenProcessPool as error:
            raise BenchmarkError("a process that trained was killed, perhaps because memory ran out") from error
        except BaseException:  # a signal, say; leaving the block would wait until they have trained to the end
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def train_alone(recipe: Recipe, settings: Settings) -> tuple[list[Epoch], float, float | None]:
    """Train one seed; return its history, its seconds, and the GiB of memory of this process at the peak."""
    run = train(recipe, load_data(settings), settings, on_epoch=lambda epoch: None)
    return run.history, run.seconds, peak_memory()


def peak_memory() -> float | None:
    """Return how much memory this process held at its peak, in GiB; None where the system is not Linux.

    ``getrusage`` would not do: it counts the memory of the process that started this one (ru_maxrss outlives exec).
    """
    found = stated(Path("/proc/self/status"), "VmHWM")
    return None if found is None else int(found.split()[0]) / 2**20  # "123 kB"


def throughput(recipe: Recipe, settings: Settings, count: int, rounds: int = 3) -> float:
    """Return how many times the images per second of one process ``count`` processes train, one thread each."""
    return statistics.median(
        images_per_second(recipe, settings, count) / images_per_second(recipe, settings, 1)
        for _ in tqdm(range(rounds), desc="processes", unit="round", leave=False)
    )


def images_per_second(recipe: Recipe, settings: Settings, count: int) -> float:
    """Return how many images per second ``count`` processes train together."""
    settings = replace(settings, device="cpu", threads=1, train_limit=SAMPLE)
    with processes(count) as pool:
        return sum(pool.map(train_for_a_while, [recipe] * count, [settings] * count))


def train_for_a_while(recipe: Recipe, settings: Settings, seconds: float = 15) -> float:
    """Train for about ``seconds``, after an epoch that does not count; return images per second."""
    data = load_data(settings)
    once = train_once(recipe, data, settings)
    once()
    images, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        once()
        images += len(data.train) // recipe.batch_size * recipe.batch_size
    return images / (time.perf_counter() - start)


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
