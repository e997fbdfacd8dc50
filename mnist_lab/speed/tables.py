"""A benchmark as tables and in words."""

import math
import statistics
from collections.abc import Iterable

from mnist_lab.experiment import TARGET
from mnist_lab.speed.benchmark import MANY, Benchmark
from mnist_lab.speed.ways import BASELINE, EPOCH

HEADERS = ("images are fed as", "network", "batch", "threads", "s/epoch", "ratio")
TOGETHER_HEADERS = ("trained with", "processes", "threads each", "images/s", "ratio")
BOARD_HEADERS = ("on", "threads", "seeds", "epochs", f"seconds to {100 * TARGET:.2f} %")
NOT_MEASURED = "not measured"


def ways_rows(found: Benchmark) -> list[tuple[str, ...]]:
    """Return the ways to train, in the columns of HEADERS."""
    return [
        (way.name, way.model, str(way.batch_size), str(way.threads), f"{way.seconds_per_epoch:.1f}", f"{way.ratio:.2f}")
        for way in found.ways
    ]


def together_rows(found: Benchmark) -> list[tuple[str, ...]]:
    """Return what threads and processes train together, in the columns of TOGETHER_HEADERS."""
    return [
        (one.layers, str(one.processes), str(one.threads), f"{one.images_per_second:,.0f}", f"{one.ratio:.2f}")
        for one in found.throughputs
    ]


def board_rows(found: Benchmark) -> list[tuple[str, ...]]:
    """Return how soon the target is reached on the test images, mean of all seeds, in the columns of BOARD_HEADERS."""
    return [
        (one.where, str(one.threads), str(len(one.epochs)), mean_of(one.epochs), mean_of(one.seconds))
        for one in found.board
    ]


def mean_of(values: Iterable[float | None]) -> str:
    """Return the mean over seeds, or how many of them do not reach the target."""
    values = list(values)
    missed = values.count(None)
    return f"{missed} of {len(values)} do not reach it" if missed else f"{statistics.fmean(values):.1f}"


def as_text(found: Benchmark) -> str:
    """Return the tables, a line a row, and everything else in words."""
    first = aligned([HEADERS, *ways_rows(found)])
    others = [aligned([TOGETHER_HEADERS, *together_rows(found)]), aligned([BOARD_HEADERS, *board_rows(found)])]
    return "\n\n".join([first, *others, "\n".join(in_sentences(found))])


def aligned(rows: list[tuple[str, ...]]) -> str:
    """Return rows as lines of text with straight columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def in_sentences(found: Benchmark) -> list[str]:
    """Return in words what the tables do not show."""
    alone = min((way for way in found.ways if way.threads == 1), key=lambda way: way.seconds_per_epoch)
    memory = NOT_MEASURED if found.peak_memory is None else f"{found.peak_memory:.2f} GiB"
    gpu = NOT_MEASURED
    if found.gpu_run is not None and found.gpu_many is not None:
        gpu = f"{found.gpu_run:.2f} s for a run after a warm-up, {found.gpu_many:.1f} s for {MANY} seeds side by side"
    published = min((way.ratio for way in found.ways if way.model == BASELINE), default=math.nan)
    return [
        f"Seconds are for {EPOCH:,} images, with augmentation and optimizer, without evaluation: medians of rounds in "
        "which all ways take turns. A ratio compares a way with the first one in the same round: their median, too.",
        f"{BASELINE} as published, with the better number of workers, takes {published:.1f} times as long as the "
        "first way.",
        f"The multiply-accumulates of an epoch alone would take one thread {found.floor:.1f} s; the whole epoch takes "
        f"{alone.seconds_per_epoch / found.floor:.1f} times as long.",
        f"Memory of a process that trains one seed, at its peak: {memory}. GPU: {gpu}.",
        f"Device: {found.environment.device}; torch {found.environment.packages['torch']}.",
    ]
