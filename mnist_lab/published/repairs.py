"""What one change makes to a published step: its table, made from our records with the change and without."""

from collections.abc import Sequence
from statistics import fmean

from mnist_lab.published.recipes import REPAIRED
from mnist_lab.published.tables import best_epoch, seeds_of, spread
from mnist_lab.records import Record
from mnist_lab.tables import Table, mean_and_sd, signed, signed_interval
from mnist_lab.uncertainty import welch


def repairs_block(published: Sequence[Record]) -> str:
    """Return README's table of repairs; a sentence if there is no record yet."""
    table = repairs_table(published)
    return table.markdown() if table.rows else "No repair has been trained yet: `mnist-lab reproduce repairs`."


def repairs_table(published: Sequence[Record]) -> Table:
    """Compare every changed step's seeds with those of the step as published; accuracies in per cent."""
    headers = ("step", "change", "seeds", "before", "after", "difference, points", "95 % interval")
    headers += ("difference in loss", "first epoch", "training")
    rows = [
        (recipe.published, recipe.repair, *comparison(before, after))
        for recipe in REPAIRED
        if (before := seeds_of(published, recipe.published)) and (after := seeds_of(published, recipe.row))
    ]
    note = (
        "Last epoch, in per cent of the test images; the interval is Welch's. First epoch: the same, means before → "
        "after. Training: best epoch, in per cent of the training images, means before → after."
    )
    return Table(headers, rows, note)


def comparison(before: Sequence[Record], after: Sequence[Record]) -> tuple[str, ...]:
    """Return the cells of one row."""
    accuracies = [[record.accuracy for record in records] for records in (before, after)]
    old, new = map(spread, accuracies)
    difference = welch(*accuracies)
    interval = None if difference is None else tuple(100 * end for end in difference.interval)
    losses = [fmean(record.loss for record in records) for records in (before, after)]
    first = [fmean(record.history[0]["test"]["accuracy"] for record in records) for records in (before, after)]
    training = [fmean(best_epoch(record, "train") for record in records) for records in (before, after)]
    return (
        f"{len(before)}, {len(after)}",
        mean_and_sd(old.mean, old.sd, digits=2),
        mean_and_sd(new.mean, new.sd, digits=2),
        signed(100 * (new.mean - old.mean), digits=2),
        signed_interval(interval, digits=2),
        signed(losses[1] - losses[0], digits=4),
        *(" → ".join(f"{100 * accuracy:.2f}" for accuracy in pair) for pair in (first, training)),
    )
