"""How fast a recipe trains here: against the usual ways to feed a network, and against arithmetic alone.

What is compared takes turns within one run, since machines are noisy: trust ratios before seconds.
"""

import json
import multiprocessing
import operator
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from torch.optim import SGD
from torch.profiler import ProfilerActivity, profile
from tqdm import tqdm

from mnist_lab.atomic import write_whole
from mnist_lab.augment import Policy
from mnist_lab.experiment import assemble, load_data, train_together
from mnist_lab.models import build
from mnist_lab.per_image import PerImageBatches, albumentations_transform, torchvision_transform
from mnist_lab.recipe import Recipe, Settings
from mnist_lab.results import TARGET
from mnist_lab.runtime import environment, peak_memory, pick_device
from mnist_lab.summary import facts
from mnist_lab.training import Batches, Diverged, Epoch, Update, train_one_epoch

EPOCH = 60_000  # images: every speed is scaled to it
SAMPLE, ROUNDS = 6_000, 5  # images per measurement, and measurements
MANY = 64  # seeds at once on a GPU
WORKERS = (0, 2)  # processes of a DataLoader
SPAWN = multiprocessing.get_context("spawn")  # a fork would inherit the locks of PyTorch's threads

# A published recipe as it is usually run: its network, batch size, and a distortion for a quarter of the images.
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


@dataclass(frozen=True)
class Way:
    """One way to train, and how fast it was."""

    name: str
    model: str
    batch_size: int
    threads: int
    seconds_per_epoch: float  # of 60,000 images, median over the rounds
    ratio: float  # to the first way, median over the rounds


@dataclass(frozen=True)
class Benchmark:
    """Everything that is measured, as plain data; None is "not measured"."""

    recipe: dict
    ways: list[dict]  # see Way
    floor: float  # seconds per epoch of the multiply-accumulates alone, on one thread, forward and twice backward
    matrix_rate: float  # multiply-accumulates per second of a matrix product, on one thread
    shares: dict[str, float]  # of the time of one thread, by part of training
    two_processes: float  # times the images per second of one process
    epochs_to_target: int | None  # from which on every epoch is at or above 99.4 % on held-out images
    seconds_to_target: float | None  # wall clock, evaluation included
    peak_memory: float  # GiB of a process that trains one seed
    gpu_run: float | None  # seconds of a whole run on the GPU, after a warm-up
    gpu_many: float | None  # seconds of 64 runs at once
    environment: dict


def measure(recipe: Recipe, settings: Settings) -> Benchmark:
    """Measure everything; some eight minutes on two cores. Needs a recipe that distorts images."""
    device = pick_device(settings.device)
    held_out = replace(settings, score_on="held-out", train_limit=None)
    history, seconds, memory = train_in_process(recipe, held_out)
    epochs = epochs_to_target([epoch.test.accuracy for epoch in history])
    rate = matrix_rate()
    return Benchmark(
        recipe=asdict(recipe),
        ways=[asdict(way) for way in compare_ways(recipe, settings)],
        floor=3 * EPOCH * facts(build(recipe.model)).multiply_accumulates / rate,
        matrix_rate=rate,
        shares=time_shares(recipe, settings),
        two_processes=throughput(recipe, settings, 2),
        epochs_to_target=epochs,
        seconds_to_target=None if epochs is None else seconds * epochs / len(history),
        peak_memory=memory,
        gpu_run=time_runs(recipe, held_out, [0]) if device.type == "cuda" else None,
        gpu_many=time_runs(recipe, held_out, range(MANY)) if device.type == "cuda" else None,
        environment=environment(device) | {"threads": settings.threads},
    )


def compare_ways(recipe: Recipe, settings: Settings, rounds: int = ROUNDS, sample: int = SAMPLE) -> list[Way]:
    """Time one pass over ``sample`` images in every way in turn, ``rounds`` times after a first that is left out."""
    settings = replace(settings, train_limit=sample)
    data = load_data(settings)
    ours = assemble(recipe, data, settings, [settings.seed])
    name, model, size, threads = "whole batches in memory", recipe.model, recipe.batch_size, settings.threads
    ways: list[tuple[str, str, int, int, Update, Batches]] = [(name, model, size, threads, ours.update, ours.train)]
    if threads > 1:
        ways.append((name, model, size, 1, ours.update, ours.train))
    images, policy, device = data.train.to(torch.device("cpu")), recipe.policy(), data.train.images.device
    for name, model, size, transform in [
        ("albumentations, image by image", recipe.model, recipe.batch_size, albumentations_transform(policy)),
        ("torchvision, image by image", recipe.model, recipe.batch_size, torchvision_transform(policy)),
        ("albumentations, as published", BASELINE, BASELINE_BATCH,
         albumentations_transform(BASELINE_POLICY, BASELINE_SHARE)),
    ]:  # fmt: skip
        for workers in WORKERS:
            batches = PerImageBatches(images, size, transform, workers, device)
            ways.append((f"{name}, {workers} workers", model, size, threads, usual_update(model, device), batches))
    seconds: list[list[float]] = [[] for _ in ways]
    for _ in tqdm(range(rounds + 1), desc="ways to train", unit="round", leave=False):
        for (_, _, size, threads, update, batches), times in zip(ways, seconds, strict=True):
            torch.set_num_threads(threads)
            start = time.perf_counter()
            train_one_epoch(update, batches)  # ends by reading its metrics: the device is done
            times.append((time.perf_counter() - start) * EPOCH / (len(batches) * size))
    return [
        Way(*way[:4], statistics.median(times[1:]), statistics.median(map(operator.truediv, times[1:], seconds[0][1:])))
        for way, times in zip(ways, seconds, strict=True)
    ]


def usual_update(model: str, device: torch.device) -> Update:
    """Return how a network is usually trained: as it comes, by SGD with momentum."""
    network = build(model).to(device)
    return Update(network, SGD(network.parameters(), lr=0.01, momentum=0.95))


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
    parts = assemble(recipe, load_data(settings), settings, [settings.seed])
    train_one_epoch(parts.update, parts.train)
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as seen:
        train_one_epoch(parts.update, parts.train)
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


def train_in_process(recipe: Recipe, settings: Settings) -> tuple[list[Epoch], float, float]:
    """Train in a process of its own; return history, seconds and GiB of memory at the peak, or raise what it raises."""
    ours, theirs = SPAWN.Pipe(duplex=False)
    process = SPAWN.Process(target=train_alone, args=(recipe, settings, theirs), daemon=True)
    process.start()
    theirs.close()  # or the pipe would not end with the process
    with tqdm(total=recipe.epochs, desc="one run", unit="epoch", leave=False) as bar:
        try:
            while isinstance(message := ours.recv(), Epoch):
                bar.update()
        except EOFError:
            raise RuntimeError("the training process was killed, perhaps for want of memory") from None
    process.join()
    if isinstance(message, Exception):
        raise message
    return message


def train_alone(recipe: Recipe, settings: Settings, pipe: Connection) -> None:
    """Train one seed; send every epoch, then what :func:`train_in_process` returns or raises."""
    try:
        (run,) = train_together(recipe, load_data(settings), settings, [settings.seed], on_epoch=pipe.send)
        pipe.send(run if isinstance(run, Diverged) else (run.history, run.seconds, peak_memory()))
    except Exception as error:
        pipe.send(error)


def throughput(recipe: Recipe, settings: Settings, processes: int, rounds: int = 3) -> float:
    """Return how many times the images per second of one process so many processes train, one thread each."""
    return statistics.median(
        images_per_second(recipe, settings, processes) / images_per_second(recipe, settings, 1)
        for _ in tqdm(range(rounds), desc="processes", unit="round", leave=False)
    )


def images_per_second(recipe: Recipe, settings: Settings, processes: int) -> float:
    """Return how many images per second so many processes train together."""
    settings = replace(settings, device="cpu", threads=1, train_limit=SAMPLE)
    with ProcessPoolExecutor(processes, SPAWN) as pool:
        return sum(pool.map(train_for_a_while, [recipe] * processes, [settings] * processes))


def train_for_a_while(recipe: Recipe, settings: Settings, seconds: float = 15) -> float:
    """Train for about ``seconds``, after a pass that is left out; return images per second."""
    parts = assemble(recipe, load_data(settings), settings, [settings.seed])
    train_one_epoch(parts.update, parts.train)
    images, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        train_one_epoch(parts.update, parts.train)
        images += len(parts.train) * recipe.batch_size
    return images / (time.perf_counter() - start)


def time_runs(recipe: Recipe, settings: Settings, seeds: range | list[int]) -> float:
    """Return the seconds of a whole run of ``seeds`` at once, evaluation included, after one that is left out."""
    data = load_data(settings)
    runs = [train_together(recipe, data, settings, seeds, on_epoch=lambda epoch: None) for _ in range(2)]
    return runs[-1][0].seconds


def save_benchmark(found: Benchmark, path: Path) -> None:
    """Write ``found`` as JSON; the file appears whole or not at all."""
    write_whole(path, (json.dumps(asdict(found), indent=1) + "\n").encode())


def load_benchmark(path: Path) -> Benchmark:
    """Read what :func:`save_benchmark` wrote. Raises ValueError, which names the file."""
    try:
        return Benchmark(**json.loads(path.read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is not a benchmark: {error}") from error
