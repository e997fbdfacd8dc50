"""Tables from records: what every step reached."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from mnist_lab.records import Record

TARGET = 0.994  # test accuracy


@dataclass(frozen=True)
class Result:
    """All seeds of one row of the results; accuracies are those of the last epoch, in [0, 1]."""

    row: str
    change: str
    data: str
    scored_on: str  # "test" or "held-out"
    model: str
    trainable: int
    deployed: int
    multiply_accumulates: int
    receptive_field: int
    epochs: int
    seeds: int
    loss: float  # cross-entropy of the last epoch, mean over seeds
    mean: float
    sd: float | None  # None with one seed, like the interval
    interval: tuple[float, float] | None  # 95 % t-interval of the mean over seeds
    minimum: float
    maximum: float
    share_on_target: float  # of seeds whose last epoch is at or above the target
    seconds_per_epoch: float  # median over seeds
    device: str


def summarise(records: Sequence[Record]) -> list[Result]:
    """Group records by row, in the order they come, and reduce each group to one result.

    Raises ValueError if a row mixes recipes, data sets or image counts, or holds a seed twice.
    """
    return [_result(list(group)) for _, group in groupby(records, key=lambda record: record.row)]


def _result(group: list[Record]) -> Result:
    first = group[0]
    for other in group:
        if (other.recipe, other.images) != (first.recipe, first.images):
            raise ValueError(f"row {first.row} mixes different recipes or data: {first.file_name}, {other.file_name}")
    if len({record.seed for record in group}) != len(group):
        raise ValueError(f"row {first.row} holds a seed twice")
    accuracies = [record.accuracy for record in group]
    sd = statistics.stdev(accuracies) if len(group) > 1 else None
    return Result(
        row=first.row,
        change=first.change,
        data=first.data,
        scored_on=first.settings["score_on"],
        model=first.model["name"],
        trainable=first.model["trainable"],
        deployed=first.model["deployed"],
        multiply_accumulates=first.model["multiply_accumulates"],
        receptive_field=first.model["receptive_field"],
        epochs=first.recipe["epochs"],
        seeds=len(group),
        loss=statistics.fmean(record.loss for record in group),
        mean=statistics.fmean(accuracies),
        sd=sd,
        interval=None if sd is None else mean_interval(accuracies),
        minimum=min(accuracies),
        maximum=max(accuracies),
        share_on_target=sum(accuracy >= TARGET for accuracy in accuracies) / len(group),
        seconds_per_epoch=statistics.median(record.seconds_per_epoch for record in group),
        device=", ".join(sorted({f"{r.environment['device']}, {r.environment['threads']} threads" for r in group})),
    )


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Return Student's t-interval of the mean of at least two values."""
    from scipy import stats

    half = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return mean - half, mean + half


@dataclass(frozen=True)
class Comparison:
    """Two runs scored on the same images."""

    points: float  # gained in accuracy, percentage points
    gained: int  # images that only the later run reads right
    lost: int  # images that only the earlier run reads right
    p_value: float  # exact McNemar test: how likely so uneven a split is if neither network is better


def compare(before: Record, after: Record) -> Comparison:
    """Compare two runs image by image (McNemar, Psychometrika 1947)."""
    from scipy import stats

    wrong_before, wrong_after = ({mistake["index"] for mistake in record.mistakes} for record in (before, after))
    gained, lost = len(wrong_before - wrong_after), len(wrong_after - wrong_before)
    p_value = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    return Comparison(100 * (after.accuracy - before.accuracy), gained, lost, float(p_value))


def accuracy_interval(correct: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return Wilson's interval of a share of ``count`` images: what the size of the test set leaves open."""
    from scipy import stats

    interval = stats.binomtest(correct, count).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def comparison_table(runs: Sequence[Record]) -> str:
    """Return a Markdown table of runs, each compared with the one above it."""
    lines = [
        "| row | change | loss | accuracy | wrong | gain, points | only now right | only before right | McNemar p |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for before, after in zip([None, *runs], runs, strict=False):
        low, high = accuracy_interval(after.scored_images - len(after.mistakes), after.scored_images)
        accuracy = f"{100 * after.accuracy:.2f} % ({100 * low:.2f} – {100 * high:.2f})"
        text = [
            after.row,
            after.change,
            f"{after.loss:.4f}",
            accuracy,
            f"{len(after.mistakes)} of {after.scored_images:,}",
        ]
        if before is None:
            text += ["", "", "", ""]
        else:
            found = compare(before, after)
            text += [f"{found.points:+.2f}", str(found.gained), str(found.lost), f"{found.p_value:.2g}"]
        lines.append("| " + " | ".join(text) + " |")
    scored = " and ".join(sorted({f"{run.settings['score_on']} images of {run.data}" for run in runs}))
    lines += [
        "",
        f"Last epoch, scored on {scored}; in brackets the 95 % Wilson interval, what so many images leave open.",
    ]
    return "\n".join(lines)


HEADERS = (
    "step",
    "change",
    "model",
    "parameters",
    "epochs",
    "seeds",
    "loss",
    "accuracy",
    "95 % interval",
    "min",
    "max",
)
HEADERS += (">= 99.40 %", "s/epoch")


def cells(result: Result) -> tuple[str, ...]:
    """Return a result as the texts of one table row; parameters as trainable / deployed."""
    spread = "" if result.sd is None else f" ± {100 * result.sd:.2f}"
    return (
        result.row,
        result.change,
        result.model,
        f"{result.trainable:,} / {result.deployed:,}",
        str(result.epochs),
        str(result.seeds),
        f"{result.loss:.4f}",
        f"{100 * result.mean:.2f}{spread} %",
        "–" if result.interval is None else f"{100 * result.interval[0]:.2f} – {100 * result.interval[1]:.2f}",
        f"{100 * result.minimum:.2f}",
        f"{100 * result.maximum:.2f}",
        f"{round(result.share_on_target * result.seeds)} of {result.seeds}",
        f"{result.seconds_per_epoch:.1f}",
    )


def text_table(results: Sequence[Result]) -> str:
    """Return aligned text for a terminal, with the data set and devices below it."""
    table = [HEADERS, *map(cells, results)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in table]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*lines, "", provenance(results)])


def markdown_table(results: Sequence[Result]) -> str:
    """Return a Markdown table, with the data set and devices below it."""
    rows = [HEADERS, ("---",) * len(HEADERS), *map(cells, results)]
    return "\n".join([*("| " + " | ".join(row) + " |" for row in rows), "", provenance(results)])


def provenance(results: Sequence[Result]) -> str:
    """Return one line on which data and machines the numbers come from."""
    scored = " and ".join(sorted({f"{result.scored_on} images of {result.data}" for result in results}))
    devices = "; ".join(sorted({result.device for result in results}))
    return (
        f"Last epoch, scored on {scored}. Parameters: trainable / deployed. Seconds as they were, whatever else the "
        f"machine did. Device: {devices}."
    )
