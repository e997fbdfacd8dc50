"""Claimed and reproduced: tables of the published series, made from our records of their recipes."""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from mnist_lab.evidence.records import Record
from mnist_lab.evidence.results import by_row
from mnist_lab.evidence.tables import UNKNOWN, Table, mean_and_sd, percent, signed, signed_interval
from mnist_lab.evidence.uncertainty import Interval, prediction_interval, welch
from mnist_lab.studies.others.catalogue import CLAIMS, RECIPES, VARIANTS
from mnist_lab.studies.others.claims import Claim


@dataclass(frozen=True)
class Spread:
    """A quantity over seeds; an accuracy is in [0, 1]."""

    mean: float
    sd: float | None  # None with one seed
    minimum: float
    maximum: float

    @property
    def percent(self) -> str:
        """Return the mean and the standard deviation of an accuracy, in per cent."""
        return mean_and_sd(self.mean, self.sd, digits=2)


@dataclass(frozen=True)
class Reproduction:
    """All seeds of one published step, or of one of our own, beside what is claimed of it."""

    step: str
    claim: Claim  # empty for our own steps
    best: Spread  # over seeds, of the best test epoch: picked on the test set, since claims are
    one_more: Interval | None  # where the best epoch of one more seed is expected, with 95 % confidence
    claim_expected: bool | None  # whether the claim lies there; None if either is missing
    last: Spread  # over seeds, of the last epoch
    training: Spread  # over seeds, of the best training accuracy
    loss: Spread  # over seeds, of the last epoch, on the test images
    epochs: int
    seeds: int
    parameters: int
    receptive_field: int
    seconds_per_epoch: float  # median over seeds
    devices: tuple[str, ...]


def reproductions(records: Sequence[Record]) -> list[Reproduction]:
    """Return the published steps that have records, in the order of the series, and then our own steps."""
    return [reproduction(step, seeds) for step, seeds in seeds_by_step(records).items()]


def seeds_by_step(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Return the CPU runs of every published step, in the order of the series, and of each of our own steps."""
    own = dict.fromkeys(record.name for record in records if record.kind == "step")
    steps = {name: seeds_of(records, name, "published") for name in RECIPES}
    steps |= {f"our step {name}": seeds_of(records, name, "step") for name in own}
    return {step: seeds for step, seeds in steps.items() if seeds}


def seeds_of(records: Sequence[Record], name: str, kind: str = "published") -> list[Record]:
    """Return the runs on a CPU of one recipe. Raises RecordError if its name stands for several recipes."""
    found = [record for record in records if (record.kind, record.name, record.device_type) == (kind, name, "cpu")]
    return next(iter(by_row(found)), [])


def reproduction(step: str, records: Sequence[Record]) -> Reproduction:
    """Reduce the seeds of one step."""
    claim, first = CLAIMS.get(step, Claim()), records[0]
    best = [best_epoch(record) for record in records]
    one_more = prediction_interval(best)
    known = claim.best is not None and one_more is not None
    return Reproduction(
        step=step,
        claim=claim,
        best=spread(best),
        one_more=one_more,
        claim_expected=one_more[0] <= round(claim.best / 100, 6) <= one_more[1] if known else None,
        last=spread([record.accuracy for record in records]),
        training=spread([max(epoch.train.accuracy for epoch in record.history) for record in records]),
        loss=spread([record.loss for record in records]),
        epochs=first.recipe["epochs"],
        seeds=len(records),
        parameters=first.model.trainable,
        receptive_field=first.model.receptive_field,
        seconds_per_epoch=statistics.median(record.seconds_per_epoch for record in records),
        devices=tuple(sorted({record.environment.device for record in records})),
    )


def best_epoch(record: Record) -> float:
    """Return the best test accuracy of any epoch: biased upwards, and here only to compare with claims."""
    return max(epoch.test.accuracy for epoch in record.history)


def spread(values: Sequence[float]) -> Spread:
    """Reduce the values of the seeds."""
    sd = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), sd, min(values), max(values))


def reproductions_table(records: Sequence[Record]) -> Table:
    """Return what is claimed of every step beside what came out; accuracies in per cent."""
    columns = {
        "step": lambda one: one.step,
        "claimed best": lambda one: UNKNOWN if one.claim.best is None else f"{one.claim.best:.2f}",
        "our best, picked on the test set": lambda one: one.best.percent,
        "95 % range for one more seed": lambda one: (
            UNKNOWN if one.one_more is None else percent((one.one_more[0], min(one.one_more[1], 1)))
        ),
        "claim within?": lambda one: {None: UNKNOWN, True: "yes", False: "no"}[one.claim_expected],
        "our last epoch": lambda one: one.last.percent,
        "epochs": lambda one: one.epochs,
        "seeds": lambda one: one.seeds,
        "parameters": lambda one: f"{one.parameters:,}",
    }
    found = reproductions(records)
    spare = ("epochs", "parameters", "our best, picked on the test set")
    return Table.of(found, columns, summary(found, records), spare)


def summary(found: Sequence[Reproduction], records: Sequence[Record]) -> str:
    """Return in words what the table of all steps says as a whole."""
    judged = [one.claim_expected for one in found if one.claim_expected is not None]
    published = [one for name in RECIPES for one in seeds_of(records, name)]
    gains = [100 * (best_epoch(record) - record.accuracy) for record in published]
    notes = "; ".join(f"{one.step} {one.claim.note}" for one in found if one.claim.note)
    said = f"Per cent of MNIST's test images. {f'Of the claims: {notes}. ' if notes else ''}"
    if judged:
        said += (
            f"{sum(judged)} of {len(judged)} claims lie where one more of our seeds is expected. From so few seeds "
            "that range is wide: a claim in it is not refuted, but not confirmed either. "
        )
    if gains:
        said += (
            "Reporting the best epoch on the test set in place of the last one adds "
            f"{statistics.fmean(gains):.2f} points on average over the {len(gains)} runs of published steps, at most "
            f"{max(gains):.2f}. Their training took {', '.join(hours_by_series(published))}. "
        )
    devices = "; ".join(sorted({device for one in found for device in one.devices}))
    return f"{said}Device: {devices}."


def hours_by_series(records: Sequence[Record]) -> list[str]:
    """Return how long the seeds of each series trained and were scored, one after another."""
    hours: dict[str, float] = defaultdict(float)
    for record in records:
        hours[record.name[0]] += record.seconds / 3600
    return [f"{spent:.1f} h (series {letter})" for letter, spent in sorted(hours.items())]


def training_table(records: Sequence[Record]) -> Table:
    """Return how the claimed runs trained beside how our seeds of the same recipes did."""
    columns = {
        "step": lambda one: one.step,
        "claimed training accuracy": lambda one: f"{one.claim.training:.2f}",
        "ours": lambda one: one.training.percent,
        "lowest": lambda one: f"{100 * one.training.minimum:.2f}",
        "highest": lambda one: f"{100 * one.training.maximum:.2f}",
        "errors, claimed / ours": lambda one: f"{(1 - one.claim.training / 100) / (1 - one.training.mean):.2f}",
        "claimed test loss": lambda one: f"{one.claim.loss:.4f}",
        "our test loss": lambda one: f"{one.loss.mean:.4f}",
        "lowest loss": lambda one: f"{one.loss.minimum:.4f}",
        "highest loss": lambda one: f"{one.loss.maximum:.4f}",
    }
    found = [one for one in reproductions(records) if one.claim.training is not None]
    note = "Training accuracy: best epoch, in per cent of the training images, as distorted and with dropout. "
    return Table.of(found, columns, f"{note}Test loss: last epoch.", spare=("lowest", "highest"))


def variants_table(records: Sequence[Record]) -> Table:
    """Compare the seeds of every variant with those of the step as published; accuracies in per cent."""
    headers = ("step", "change", "seeds", "as published", "changed", "difference, points", "95 % interval")
    headers += ("difference in loss", "first epoch", "training")
    rows = []
    for variant in VARIANTS:
        before, after = both = [seeds_of(records, name) for name in (variant.published, variant.name)]
        if not all(both):
            continue
        old, new = reproduction(variant.published, before), reproduction(variant.name, after)
        difference = welch(*([100 * record.accuracy for record in seeds] for seeds in both))
        first = [statistics.fmean(record.history[0].test.accuracy for record in seeds) for seeds in both]
        row = (variant.published, variant.variant, f"{old.seeds}, {new.seeds}", old.last.percent, new.last.percent)
        gained = signed(100 * (new.last.mean - old.last.mean), digits=2)
        row += (gained, signed_interval(difference and difference.interval, digits=2))
        row += (signed(new.loss.mean - old.loss.mean, digits=4),)
        row += tuple(
            f"{100 * was:.2f} → {100 * now:.2f}" for was, now in (first, (old.training.mean, new.training.mean))
        )
        rows.append(row)
    note = (
        "Last epoch, in per cent of the test images; the interval is Welch's. First epoch: the same. Training: best "
        "epoch, in per cent of the training images. Both of these are means, as published → changed."
    )
    return Table(headers, rows, note, ("training", "first epoch", "difference in loss"))


def sources_table() -> Table:
    """Return where the claims were read, as links to the files at their commits."""
    rows = []
    for name, recipe in RECIPES.items():
        repository = f"https://github.com/{recipe.series.REPOSITORY}"
        logs = [log for log in (CLAIMS[name].log, CLAIMS[name].other) if log is not None]
        links = [f"[{log.file}]({repository}/blob/{log.commit}/{quote(log.file)})" for log in logs]
        rows.append((name, f"[{recipe.series.REPOSITORY}]({repository})", ", ".join(links) or "no result found"))
    return Table(("step", "repository", "read in"), rows, "The first file holds the claim, the second another log.")
