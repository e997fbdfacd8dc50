"""Processes that train: how much two of them do together, and how soon they reach the target."""

import contextlib
import multiprocessing
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path

import torch
from pydantic.dataclasses import dataclass
from tqdm import tqdm

from mnist_lab import LabError
from mnist_lab.capacity import SPAWN, follow_parent
from mnist_lab.experiment import TARGET, load_data, train
from mnist_lab.recipe import STRICT, Recipe, Settings
from mnist_lab.runtime import stated
from mnist_lab.speed.compiled import compiled
from mnist_lab.speed.ways import LAYERS, SAMPLE, train_once, usable_layers

TOGETHER = ((1, 1), (1, 2), (2, 1))  # processes, and threads of each
SECONDS = 5  # for which a process trains


class BenchmarkError(LabError):
    """A benchmark could not be measured or read."""


@dataclass(config=STRICT)
class Throughput:
    """How much so many processes of so many threads train together."""

    layers: str
    processes: int
    threads: int
    images_per_second: float  # median over the rounds
    ratio: float  # to one process of one thread with the same layers, median over the rounds


@dataclass(config=STRICT)
class Reached:
    """How soon a run is at the target on the test images, and stays there; for each seed, None if it does not."""

    where: str  # "one core"
    threads: int
    epochs: list[int | None]
    seconds: list[float | None]  # wall clock from the start of training, evaluation included


@contextlib.contextmanager
def processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Start so many processes; they end with the block. Raises BenchmarkError if one was killed."""
    with ProcessPoolExecutor(count, SPAWN, initializer=follow_parent) as pool:
        try:
            yield pool
        except BrokenProcessPool as error:
            raise BenchmarkError("a process that trained was killed, perhaps because memory ran out") from error
        except BaseException:  # a signal, say; leaving the block would wait until they have trained to the end
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def throughputs(recipe: Recipe, settings: Settings, rounds: int, seconds: float = SECONDS) -> list[Throughput]:
    """Time every combination of TOGETHER in turn, ``seconds`` in each of so many rounds."""
    settings, usable = replace(settings, device="cpu", train_limit=SAMPLE), usable_layers(recipe, torch.device("cpu"))
    found: dict[tuple[str, int, int], list[float]] = {(layers, *one): [] for layers in usable for one in TOGETHER}
    with processes(2) as pool:
        for _ in tqdm(range(rounds), desc="processes", unit="round", leave=False):
            for (layers, count, threads), rates in found.items():
                own = replace(settings, threads=threads)
                done = [pool.submit(train_for_a_while, recipe, own, layers, seconds) for _ in range(count)]
                rates.append(sum(one.result() for one in done))
    return [
        Throughput(
            *key, statistics.median(rates),
            statistics.median(rate / one for rate, one in zip(rates, found[key[0], 1, 1], strict=True)),
        )
        for key, rates in found.items()
    ]  # fmt: skip


def train_for_a_while(recipe: Recipe, settings: Settings, layers: str, seconds: float) -> float:
    """Train for about ``seconds``, after an epoch that does not count; return images per second."""
    data = load_data(settings)
    once = train_once(recipe, data, settings, LAYERS[layers])
    once()
    images, start = 0, time.perf_counter()
    while time.perf_counter() < start + seconds:
        once()
        images += len(data.train) // recipe.batch_size * recipe.batch_size
    return images / (time.perf_counter() - start)


def time_to_target(recipe: Recipe, settings: Settings, seeds: Sequence[int]) -> tuple[list[Reached], float | None]:
    """Train ``seeds`` on one core each, two at a time, and then with two threads, one at a time.

    Returns also the GiB of memory that a process held at its peak.
    """
    own = replace(settings, device="cpu", score_on="test", train_limit=None)
    board, memory = [], []
    for where, at_once, threads in (("one core", 2, 1), ("two cores", 1, 2)):
        with processes(at_once) as pool:
            runs = [pool.submit(train_alone, recipe, replace(own, seed=seed, threads=threads)) for seed in seeds]
            found = [run.result() for run in tqdm(runs, desc=where, unit="seed", leave=False)]
        epochs = [epochs_to_target(accuracies) for accuracies, _, _ in found]
        ends = [None if at is None else times[at - 1] for at, (_, times, _) in zip(epochs, found, strict=True)]
        board.append(Reached(where, threads, epochs, ends))
        memory += [peak for _, _, peak in found if peak is not None]
    return board, max(memory, default=None)


def train_alone(recipe: Recipe, settings: Settings) -> tuple[list[float], list[float], float | None]:
    """Train one seed with compiled layers; return the accuracy after each epoch, the seconds until then, and the GiB
    of memory of this process at the peak."""
    data, accuracies, times = load_data(settings), [], []

    def note(epoch) -> None:
        accuracies.append(epoch.test.accuracy)
        times.append(time.perf_counter())

    run = train(recipe, data, settings, note, prepare=compiled)
    start = time.perf_counter() - run.seconds
    return accuracies, [at - start for at in times], peak_memory()


def epochs_to_target(accuracies: list[float]) -> int | None:
    """Return from which epoch on, counted from 1, all accuracies are at or above the target; None if none is."""
    below = [number for number, accuracy in enumerate(accuracies, 1) if accuracy < TARGET]
    reached = below[-1] + 1 if below else 1
    return reached if reached <= len(accuracies) else None


def peak_memory() -> float | None:
    """Return how much memory this process held at its peak, in GiB; None where the system is not Linux.

    ``getrusage`` would not do: it counts the memory of the process that started this one (ru_maxrss outlives exec).
    """
    found = stated(Path("/proc/self/status"), "VmHWM")
    return None if found is None else int(found.split()[0]) / 2**20  # "123 kB"
