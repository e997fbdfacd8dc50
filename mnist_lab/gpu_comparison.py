"""A run on a GPU beside the runs of the same row on the CPU."""

import statistics
from collections.abc import Sequence

from mnist_lab.records import Record
from mnist_lab.results import compare, same_kind
from mnist_lab.uncertainty import prediction_interval


def beside(gpu: Record, study: Sequence[Record]) -> str:
    """Return one sentence on a GPU run against CPU runs of the same kind: within the spread of their seeds, or not.

    Within is where one more seed is expected in 95 of 100 cases: Student's prediction interval. With one CPU run
    there is no spread; then the images that only one of the two reads right are counted.
    """
    same = same_kind(gpu, study)
    said = f"{gpu.environment['device']}, seed {gpu.seed}: {100 * gpu.accuracy:.2f} %"
    if not same:
        return f"{said}; the study has no CPU run of row {gpu.row} with this recipe and these images"
    if len(same) == 1:
        (cpu,) = same
        found = compare(cpu, gpu)
        return (
            f"{said}; the CPU run with seed {cpu.seed}: {100 * cpu.accuracy:.2f} %, {found.points:+.2f} points, "
            f"{found.gained} images only the GPU run reads right, {found.lost} only the CPU run "
            f"(McNemar p {found.p_value:.2g}); one CPU seed has no spread to compare with"
        )
    accuracies = [run.accuracy for run in same]
    mean, spread = statistics.fmean(accuracies), statistics.stdev(accuracies)
    low, high = prediction_interval(accuracies)
    place = "within" if low <= gpu.accuracy <= high else "outside"
    return (
        f"{said}; {len(same)} CPU seeds: {100 * mean:.2f} ± {100 * spread:.2f} % (standard deviation), so one more is "
        f"expected from {100 * low:.2f} to {100 * min(high, 1):.2f} % (95 % prediction interval): the GPU run lies "
        f"{place} the spread of the seeds"
    )
