"""A benchmark as a table and in words."""

from mnist_lab.experiment import TARGET
from mnist_lab.speed.benchmark import EPOCH, MANY, Benchmark

HEADERS = ("images are fed as", "network", "batch", "threads", "s/epoch", "ratio")


def ways_rows(found: Benchmark) -> list[tuple[str, ...]]:
    """Return the ways to train, in the columns of HEADERS."""
    return [
        (way.name, way.model, str(way.batch_size), str(way.threads), f"{way.seconds_per_epoch:.1f}", f"{way.ratio:.2f}")
        for way in found.ways
    ]


def as_text(found: Benchmark) -> str:
    """Return the ways to train, a line each, and everything else in words."""
    lines = [HEADERS, *ways_rows(found)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    return "\n".join([*aligned, "", *in_sentences(found)])


def in_sentences(found: Benchmark) -> list[str]:
    """Return in words what the table does not show."""
    alone = min(way.seconds_per_epoch for way in found.ways if way.threads == 1)
    memory = "not measured" if found.peak_memory is None else f"{found.peak_memory:.2f} GiB"
    target, held_out, gpu = f"{100 * TARGET:g} %", "The accuracy on held-out images", "not measured"
    reached = f"{held_out} does not stay at {target}."
    if found.epochs_to_target is not None:
        reached = f"{held_out} stays at or above {target} from epoch {found.epochs_to_target} on, after "
        reached += f"{found.seconds_to_target:.0f} s."
    if found.gpu_run is not None and found.gpu_many is not None:
        gpu = f"{found.gpu_run:.2f} s for a run after a warm-up, {found.gpu_many:.1f} s for {MANY} seeds side by side"
    return [
        f"Seconds are for {EPOCH:,} images, with augmentation and optimizer, without evaluation: medians of rounds in "
        "which all ways take turns. A ratio compares a way with the first one in the same round.",
        f"The multiply-accumulates of an epoch alone would take one thread {found.floor:.1f} s; the whole epoch takes "
        f"{alone / found.floor:.1f} times as long.",
        f"Two processes of one thread each train {found.two_processes:.2f} times as many images per second as one.",
        reached,
        f"Memory of a process that trains one seed, at its peak: {memory}. GPU: {gpu}.",
        f"Device: {found.environment.device}; torch {found.environment.packages['torch']}.",
    ]
