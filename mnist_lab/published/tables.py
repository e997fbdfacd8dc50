"""Claimed against reproduced: tables of the published series, made from our records of their recipes."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from mnist_lab.published.claims import CLAIMS, Claim
from mnist_lab.published.recipes import RECIPES
from mnist_lab.records import Record
from mnist_lab.tables import UNKNOWN, Table, mean_and_sd
from mnist_lab.uncertainty import prediction_interval

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
    claimed_training: float | None  # best training accuracy of the claimed run, in [0, 1]; None if not stated
    training: Spread  # over seeds, of the best training accuracy
    claimed_loss: float | None  # test loss of the claimed run's last epoch; None if not stated
    loss: Spread  # over seeds, of the last epoch's
    epochs: int
    seeds: int
    trainable: int
    receptive_field: int
    seconds_per_epoch: float  # median over seeds
    devices: tuple[str, ...]

    @property
    def training_errors(self) -> float | None:
        """Return how many errors the claimed run made in training for one of ours; None if that is not stated."""
        claimed = self.claimed_training
        return None if claimed is None else (1 - claimed) / (1 - self.training.mean)


def best_epoch(record: Record, split: str = "test") -> float:
    """Return the best accuracy of any epoch, on "test" or "train": on the first biased upwards, and here only to
    compare with claims."""
    return max(epoch[split]["accuracy"] for epoch in record.history)


def spread(values: Sequence[float]) -> Spread:
    """Reduce the values of the seeds."""
    sd = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), sd, min(values), max(values))


def fraction(percent: float | None) -> float | None:
    """Return a claimed accuracy in [0, 1], if there is one."""
    return None if percent is None else round(percent / 100, 6)


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
    claim = CLAIMS.get(step, Claim(None))
    claimed = fraction(claim.best)
    best = [best_epoch(record) for record in records]
    expected = prediction_interval(best)
    first = records[0]
    return Reproduction(
        step=step,
        claimed=claimed,
        note=claim.note,
        best=spread(best),
        one_more=expected,
        claim_expected=None if claimed is None or expected is None else expected[0] <= claimed <= expected[1],
        last=spread([record.accuracy for record in records]),
        claimed_training=fraction(claim.training),
        training=spread([best_epoch(record, "train") for record in records]),
        claimed_loss=claim.loss,
        loss=spread([record.loss for record in records]),
        epochs=first.recipe["epochs"],
        seeds=len(records),
        trainable=first.model["trainable"],
        receptive_field=first.model["receptive_field"],
        seconds_per_epoch=statistics.median(record.seconds_per_epoch for record in records),
        devices=tuple(sorted({record.environment["device"] for record in records})),
    )


def reproductions_table(found: Sequence[Reproduction], published: Sequence[Record]) -> Table:
    """Return what is claimed of every step beside what came out; accuracies in per cent."""
    headers = ("step", "claimed best", "our best, picked on the test set", "one more seed, 95 %", "claim in it")
    headers += ("our last epoch", "min", "max", "epochs", "seeds", "parameters", "field", "s/epoch")
    rows = [
        (
            one.step,
            UNKNOWN if one.claimed is None else f"{100 * one.claimed:.2f}",
            mean_and_sd(one.best.mean, one.best.sd, digits=2),
            UNKNOWN if one.one_more is None else f"{100 * one.one_more[0]:.2f} – {100 * min(one.one_more[1], 1):.2f}",
            {None: UNKNOWN, True: "yes", False: "no"}[one.claim_expected],
            mean_and_sd(one.last.mean, one.last.sd, digits=2),
            f"{100 * one.last.minimum:.2f}",
            f"{100 * one.last.maximum:.2f}",
            str(one.epochs),
            str(one.seeds),
            f"{one.trainable:,}",
            str(one.receptive_field),
            f"{one.seconds_per_epoch:.1f}",
        )
        for one in found
    ]
    return Table(headers, rows, summary_line(found, published))


def training_table(found: Sequence[Reproduction]) -> Table:
    """Return how the claimed runs trained, where that is stated, beside how our seeds of the same recipe did."""
    headers = ("step", "claimed training accuracy", "ours", "our min", "our max", "errors, claimed / ours")
    headers += ("claimed test loss", "our test loss", "our min", "our max")
    rows = [
        (
            one.step,
            f"{100 * one.claimed_training:.2f}",
            mean_and_sd(one.training.mean, one.training.sd, digits=2),
            f"{100 * one.training.minimum:.2f}",
            f"{100 * one.training.maximum:.2f}",
            f"{one.training_errors:.2f}",
            UNKNOWN if one.claimed_loss is None else f"{one.claimed_loss:.4f}",
            *(f"{loss:.4f}" for loss in (one.loss.mean, one.loss.minimum, one.loss.maximum)),
        )
        for one in found
        if one.claimed_training is not None
    ]
    note = "Training accuracy: best epoch, in per cent of the training images, as distorted and with dropout. "
    return Table(headers, rows, f"{note}Test loss: last epoch.")


def published_block(published: Sequence[Record], own: Sequence[Record]) -> str:
    """Return README's table of the published series with its two figures; a sentence if there is no record yet."""
    found = reproductions(published, own)
    if not any(one.step in RECIPES for one in found):
        return "No step has been trained yet: `mnist-lab reproduce`."
    return "\n\n".join([reproductions_table(found, published).markdown(), *map(picture, FIGURES)])


def picture(name: str) -> str:
    """Return the line that shows one of the figures."""
    about = "epoch by epoch" if "curves" in name else "claims and our seeds"
    return f"![The published series: {about}](images/{name})"


def summary_line(found: Sequence[Reproduction], published: Sequence[Record]) -> str:
    """Return in words what the table says as a whole."""
    judged = [one.claim_expected for one in found if one.claim_expected is not None]
    as_published = [record for record in published if not record.recipe["repair"]]
    gains = [100 * (best_epoch(record) - record.accuracy) for record in as_published]
    devices = "; ".join(sorted({device for one in found for device in one.devices}))
    notes = "; ".join(f"{one.step} {one.note}" for one in found if one.note)
    said = f"Per cent of MNIST's test images. {f'Of the claims: {notes}. ' if notes else ''}"
    if judged:
        said += (
            f"{sum(judged)} of {len(judged)} claims lie where one more of our seeds is expected; from so few seeds "
            "that is wide, so a claim in it is not refuted, but not confirmed either. "
        )
    if gains:
        said += (
            "To report the best epoch on the test set in place of the last one adds "
            f"{statistics.fmean(gains):.2f} points on average over the {len(gains)} runs of published steps, at most "
            f"{max(gains):.2f}. Their training took {', '.join(hours_by_series(as_published))}. "
        )
    return f"{said}Seconds as they were, whatever else the machine did. Device: {devices}."


def hours_by_series(records: Sequence[Record]) -> list[str]:
    """Return how long the seeds of each series trained and were scored, one after another."""
    hours: dict[str, float] = defaultdict(float)
    for record in records:
        hours[record.recipe["published"][0]] += record.seconds / 3600
    return [f"{spent:.1f} h (series {letter})" for letter, spent in sorted(hours.items())]


def training_block(published: Sequence[Record]) -> str:
    """Return README's table of how the claimed runs trained; a sentence if no such step has a record yet."""
    table = training_table(reproductions(published, []))
    return table.markdown() if table.rows else "No step that says how it trained has been trained yet."
