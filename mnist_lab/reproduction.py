"""Claimed against reproduced: tables of the published series, made from our records of their recipes."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from mnist_lab.claims import CLAIMS
from mnist_lab.published import RECIPES, REPAIRED
from mnist_lab.records import Record

FIGURES = ("00_published.png", "00_published_curves.png")


@dataclass(frozen=True)
class Spread:
    """A quantity over seeds; an accuracy is in [0, 1]."""

    mean: float
    sd: float | None  # None with one seed
    minimum: float
    maximum: float


@dataclass(frozen=True)
class Reproduction:
    """All seeds of one published step, or of one of our own, beside what is claimed of it."""

    step: str
    claimed: float | None  # best test epoch of one seed, in [0, 1]; None if nothing is claimed
    note: str  # what to know of the claim
    best: Spread  # over seeds, of the best test epoch: picked on the test set, since claims are
    one_more: tuple[float, float] | None  # where the best epoch of one more seed is expected, with 95 % confidence
    claim_expected: bool | None  # whether the claim lies there; None if either is missing
    last: Spread  # over seeds, of the last epoch
    epochs: int
    seeds: int
    trainable: int
    receptive_field: int
    seconds_per_epoch: float  # median over seeds
    device: str


def best_epoch(record: Record) -> float:
    """Return the best test accuracy of any epoch: biased upwards, and here only to compare with claims."""
    return max(epoch["test"]["accuracy"] for epoch in record.history)


def spread(values: Sequence[float]) -> Spread:
    """Reduce the values of the seeds."""
    sd = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), sd, min(values), max(values))


def interval_of_one_more(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Return Student's prediction interval of one more value, no accuracy above 1; None without two values."""
    from scipy import stats

    if len(values) < 2:
        return None
    reach = stats.t.ppf((1 + confidence) / 2, len(values) - 1) * math.sqrt(1 + 1 / len(values))
    mean, sd = statistics.fmean(values), statistics.stdev(values)
    return float(mean - reach * sd), min(1.0, float(mean + reach * sd))


def seeds_of(records: Sequence[Record], row: str) -> list[Record]:
    """Return the records of a row."""
    return [record for record in records if record.row == row]


def reproductions(published: Sequence[Record], own: Sequence[Record]) -> list[Reproduction]:
    """Return the published steps that have records, in the series' order, and then our own steps, without rungs."""
    rows = [(name, seeds_of(published, name)) for name in RECIPES]
    steps = dict.fromkeys(record.row for record in own if not record.is_rung)
    rows += [(f"our step {row}", seeds_of(own, row)) for row in steps]
    return [reproduction(step, records) for step, records in rows if records]


def reproduction(step: str, records: Sequence[Record]) -> Reproduction:
    """Reduce the seeds of one step."""
    claim = CLAIMS.get(step)
    claimed = None if claim is None or claim.best is None else claim.best / 100
    best = [best_epoch(record) for record in records]
    expected = interval_of_one_more(best)
    first = records[0]
    return Reproduction(
        step=step,
        claimed=claimed,
        note="" if claim is None else claim.note,
        best=spread(best),
        one_more=expected,
        claim_expected=None if claimed is None or expected is None else expected[0] <= claimed <= expected[1],
        last=spread([record.accuracy for record in records]),
        epochs=first.recipe["epochs"],
        seeds=len(records),
        trainable=first.model["trainable"],
        receptive_field=first.model["receptive_field"],
        seconds_per_epoch=statistics.median(record.seconds_per_epoch for record in records),
        device=", ".join(sorted({record.environment["device"] for record in records})),
    )


HEADERS = (
    "step", "claimed best", "our best, picked on the test set", "one more seed, 95 %", "claim in it",
    "our last epoch", "min", "max", "epochs", "seeds", "parameters", "field", "s/epoch",
)  # fmt: skip


def cells(found: Reproduction) -> tuple[str, ...]:
    """Return one row of the table as texts; accuracies in per cent."""
    expected = "–" if found.one_more is None else f"{100 * found.one_more[0]:.2f} – {100 * found.one_more[1]:.2f}"
    return (
        found.step,
        "–" if found.claimed is None else f"{100 * found.claimed:.2f}",
        percent(found.best),
        expected,
        {None: "–", True: "yes", False: "no"}[found.claim_expected],
        percent(found.last),
        f"{100 * found.last.minimum:.2f}",
        f"{100 * found.last.maximum:.2f}",
        str(found.epochs),
        str(found.seeds),
        f"{found.trainable:,}",
        str(found.receptive_field),
        f"{found.seconds_per_epoch:.1f}",
    )


def percent(values: Spread) -> str:
    """Return mean and standard deviation in per cent."""
    return f"{100 * values.mean:.2f}" + ("" if values.sd is None else f" ± {100 * values.sd:.2f}")


def text_table(found: Sequence[Reproduction]) -> str:
    """Return aligned text for a terminal."""
    table = [HEADERS, *map(cells, found)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in table
    )


def published_block(published: Sequence[Record], own: Sequence[Record]) -> str:
    """Return README's table of the published series with its two figures; a sentence if there is no record yet."""
    found = reproductions(published, own)
    if not any(one.step in RECIPES for one in found):
        return "No step has been trained yet: `mnist-lab reproduce`."
    rows = [HEADERS, ("---",) * len(HEADERS), *map(cells, found)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([*lines, "", summary_line(found, published), "", *map(picture, FIGURES)])


def picture(name: str) -> str:
    """Return the line that shows one of the figures."""
    about = "epoch by epoch" if "curves" in name else "claims and our seeds"
    return f"![The published series: {about}](images/{name})\n"


def summary_line(found: Sequence[Reproduction], published: Sequence[Record]) -> str:
    """Return in words what the table says as a whole."""
    judged = [one.claim_expected for one in found if one.claim_expected is not None]
    gains = [100 * (best_epoch(record) - record.accuracy) for record in published if not record.recipe["repair"]]
    devices = "; ".join(sorted({one.device for one in found}))
    notes = "; ".join(f"{one.step} {one.note}" for one in found if one.note)
    said = f"Per cent of MNIST's test images. {f'Of the claims: {notes}. ' if notes else ''}"
    if judged:
        said += f"{sum(judged)} of {len(judged)} claims lie where one more of our seeds is expected. "
    return (
        f"{said}To report the best epoch on the test set in place of the last one adds {statistics.fmean(gains):.2f} "
        f"points on average over the {len(gains)} runs of published steps, at most {max(gains):.2f}. Seconds as they "
        f"were, whatever else the machine did. Device: {devices}."
    )


def repairs_block(published: Sequence[Record]) -> str:
    """Return README's table of what a defect costs; a sentence if there is no record yet."""
    rows = [
        repair_cells(recipe.published, recipe.repair, before, after)
        for recipe in REPAIRED
        if (before := seeds_of(published, recipe.published)) and (after := seeds_of(published, recipe.row))
    ]
    if not rows:
        return "No repair has been trained yet: `mnist-lab reproduce repairs`."
    headers = (
        "step", "repair", "seeds", "as published", "repaired", "difference, points", "95 % Welch interval",
        "difference in loss",
    )  # fmt: skip
    table = [headers, ("---",) * len(headers), *rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in table)


def repair_cells(step: str, repair: str, before: Sequence[Record], after: Sequence[Record]) -> tuple[str, ...]:
    """Compare the last epochs of a step's seeds as published with those of its repair."""
    from scipy import stats

    old, new = ([record.accuracy for record in records] for records in (before, after))
    interval = "–"
    if len(old) > 1 and len(new) > 1:
        bounds = stats.ttest_ind(new, old, equal_var=False).confidence_interval(0.95)
        interval = f"{100 * bounds.low:+.2f} – {100 * bounds.high:+.2f}"
    losses = [statistics.fmean(record.loss for record in records) for records in (before, after)]
    return (
        step,
        repair,
        f"{len(old)}, {len(new)}",
        percent(spread(old)),
        percent(spread(new)),
        f"{100 * (statistics.fmean(new) - statistics.fmean(old)):+.2f}",
        interval,
        f"{losses[1] - losses[0]:+.4f}",
    )
