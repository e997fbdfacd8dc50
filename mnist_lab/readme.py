"""The parts of README.md that are made from records."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from mnist_lab.benchmark import EPOCH, MANY, Benchmark
from mnist_lab.gpu_comparison import beside
from mnist_lab.published.repairs import repairs_block
from mnist_lab.published.tables import published_block, training_block
from mnist_lab.records import Record
from mnist_lab.results import same_kind, summarise
from mnist_lab.search.tables import frontier_block, search_block, with_the_step
from mnist_lab.tables import Table, mean_and_sd, overview
from mnist_lab.uncertainty import wilson_interval

BLOCK = re.compile(r"(<!-- (?P<name>[\w-]+):begin [^>]*-->\n)(?:.*?\n)??(<!-- (?P=name):end -->)", re.DOTALL)


@dataclass(frozen=True)
class Tracked:
    """What the repository keeps of past runs."""

    records: Sequence[Record]  # of the steps
    benchmarks: Sequence[Benchmark] = ()
    gpu_runs: Sequence[Record] = ()
    published: Sequence[Record] = ()  # of the published series
    searched: Sequence[Record] = ()  # of step 3's recipe with one thing changed, on held-out images
    frontier: Sequence[Record] = ()  # of step 3's recipe with fewer parameters or epochs


def render(text: str, tracked: Tracked) -> str:
    """Return README ``text`` with every generated block written anew; the rest stays as it is.

    Raises ValueError if a block that they fill is missing or an unknown one is there.
    """
    blocks = make_blocks(tracked)
    found = [match["name"] for match in BLOCK.finditer(text)]
    if sorted(found) != sorted(blocks):
        raise ValueError(f"README.md has the generated blocks {found}, but the records fill {sorted(blocks)}")
    return BLOCK.sub(lambda match: f"{match[1]}{blocks[match['name']]}\n{match[3]}", text)


def make_blocks(tracked: Tracked) -> dict[str, str]:
    """Return the text of each block by its name; "step-N" is that of a step."""
    records = tracked.records
    tables = overview(records)
    blocks = {name: table.markdown() for name, table in zip(("results", "consistency", "gains"), tables, strict=True)}
    blocks["benchmark"] = benchmark_block(tracked.benchmarks)
    blocks["published"] = published_block(tracked.published, records)
    blocks["published-training"] = training_block(tracked.published)
    blocks["repairs"] = repairs_block(tracked.published)
    blocks["search"] = search_block(tracked.searched)
    blocks["frontier"] = frontier_block(with_the_step(tracked.frontier, records))
    for step, group in groupby(records, key=lambda record: record.step):
        own = list(group)
        blocks[f"step-{step}"] = "\n\n".join([step_line(own), *gpu_lines(own, tracked.gpu_runs)])
    return blocks


def gpu_lines(records: Sequence[Record], gpu_runs: Sequence[Record]) -> list[str]:
    """Return a sentence on each GPU run of a step's result; none on one of another recipe than today's."""
    shown = [run for run in gpu_runs if not run.is_rung and same_kind(run, records)]
    return [f"**On a GPU:** {beside(run, records)}." for run in shown]


def step_line(records: Sequence[Record]) -> str:
    """Return one sentence on the seed that a step's notebook shows, with the rung before it, and one on all seeds."""
    first_seed = [record for record in records if record.seed == records[0].seed]
    final = next(record for record in first_seed if not record.is_rung)
    count, wrong = final.scored_images, len(final.mistakes)
    low, high = wilson_interval(count - wrong, count)
    rungs = "".join(f" (the rung in between, {r.change}: {100 * r.accuracy:.2f} %)" for r in first_seed if r.is_rung)
    epochs = final.recipe["epochs"]
    (result,) = summarise([record for record in records if not record.is_rung])
    others = f" Over {result.seeds} seeds: {mean_and_sd(result.mean, result.sd)} %." if result.seeds > 1 else ""
    return (
        f"**Result:** {100 * final.accuracy:.2f} % after {epochs} epochs with seed {final.seed}{rungs}; "
        f"{wrong} of {count:,} test images misread, 95 % Wilson interval {100 * low:.2f} – {100 * high:.2f} %; "
        f"{final.model['trainable']:,} parameters.{others}"
    )


def benchmark_block(benchmarks: Sequence[Benchmark]) -> str:
    """Return a table of the ways to train with a note on everything else, for each device."""
    return "\n\n".join(ways_table(found).markdown() for found in benchmarks)


def ways_table(found: Benchmark) -> Table:
    """Return the ways to train."""
    headers = ("images are fed as", "network", "batch", "threads", "s/epoch", "ratio")
    rows = [
        (
            way["name"],
            way["model"],
            str(way["batch_size"]),
            str(way["threads"]),
            f"{way['seconds_per_epoch']:.1f}",
            f"{way['ratio']:.2f}",
        )
        for way in found.ways
    ]
    return Table(headers, rows, benchmark_line(found))


def benchmark_line(found: Benchmark) -> str:
    """Return in words what is not in the table."""
    one = min((way for way in found.ways if way["threads"] == 1), default=None, key=lambda way: way["ratio"])
    floor = f"The multiply-accumulates of an epoch alone would take one thread {found.floor:.1f} s"
    if one is not None:
        floor += f"; it takes {one['seconds_per_epoch'] / found.floor:.1f} times as long"
    reached = "The held-out accuracy does not stay at 99.4 %"
    if found.epochs_to_target is not None:
        reached = (
            f"The held-out accuracy stays at or above 99.4 % from epoch {found.epochs_to_target} on, "
            f"after {found.seconds_to_target:.0f} s"
        )
    gpu = "GPU: not measured"
    if found.gpu_run is not None and found.gpu_many is not None:
        gpu = f"A whole run takes {found.gpu_run:.2f} s after a warm-up, {MANY} seeds at once {found.gpu_many:.1f} s"
    device, torch = found.environment["device"], found.environment["packages"]["torch"]
    return (
        f"Seconds are for {EPOCH:,} images, augmentation and optimizer included, evaluation not; medians of rounds in "
        f"which all ways take turns, and ratios to the first way within a round. {floor}. Two processes of one thread "
        f"train {found.two_processes:.2f} times as many images per second as one. {reached}. One process takes "
        f"{found.peak_memory:.2f} GiB at its peak. {gpu}. Device: {device}; torch {torch}."
    )
