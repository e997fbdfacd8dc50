"""What the records add up to: every row over its seeds, and against the row before it."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

from mnist_lab.data import MNIST_NAME, WRONG_TEST_LABELS
from mnist_lab.records import Record
from mnist_lab.uncertainty import Difference, Interval, mcnemar, mean_interval, share_at_least, two_way_interval, welch

TARGET = 0.994  # test accuracy
LAST_EPOCHS = 5  # in which an accuracy must stay to be consistent


@dataclass(frozen=True)
class Result:
    """All seeds of one row of the results; accuracies are those of the last epoch, in [0, 1].

    What needs a spread is None with one seed.
    """

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
    sd: float | None
    interval: Interval | None  # of the mean over seeds, on these images (Student's t)
    two_way_interval: Interval | None  # of the accuracy, other seeds and other images (bootstrap)
    minimum: float
    maximum: float
    seeds_on_target: int  # whose last epoch is at or above the target
    on_target_at_least: float  # chance of a new seed to be so, at 95 % confidence (Clopper and Pearson)
    late_epochs: int  # the last five of every seed
    late_epochs_on_target: int  # of these, at or above the target
    seeds_consistent: int  # whose last five epochs all are
    misread: float  # images, mean over seeds
    misread_wrong_labels: float | None  # of these, with a label known to be wrong; None on other images
    seconds: float  # a whole run, evaluation included; median over seeds
    seconds_per_epoch: float  # training alone; median over seeds
    device: str


def summarise(records: Sequence[Record]) -> list[Result]:
    """Group records by row, in the order they come, and reduce each group to one result.

    Raises ValueError if a row mixes recipes, data sets or image counts, or holds a seed twice.
    """
    return [_result(group) for group in by_row(records)]


def by_row(records: Sequence[Record]) -> list[list[Record]]:
    """Group records by row, in the order they come. Raises ValueError for a row that is not of one recipe."""
    groups = [list(group) for _, group in groupby(records, key=lambda record: record.row)]
    for first, *others in groups:
        for other in others:
            if (other.recipe, other.images) != (first.recipe, first.images):
                raise ValueError(
                    f"row {first.row} mixes different recipes or data: {first.file_name} and {other.file_name}; "
                    "train both again, or remove the outdated one"
                )
        if len({record.seed for record in (first, *others)}) != 1 + len(others):
            raise ValueError(f"row {first.row} holds a seed twice")
    return groups


def _result(group: list[Record]) -> Result:
    first = group[0]
    accuracies = [record.accuracy for record in group]
    on_target = sum(accuracy >= TARGET for accuracy in accuracies)
    late = [[epoch["test"]["accuracy"] >= TARGET for epoch in record.history[-LAST_EPOCHS:]] for record in group]
    wrong_labels = [misread_wrong_labels(record) for record in group]
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
        sd=statistics.stdev(accuracies) if len(group) > 1 else None,
        interval=mean_interval(accuracies),
        two_way_interval=two_way_interval([misread(record) for record in group], first.scored_images),
        minimum=min(accuracies),
        maximum=max(accuracies),
        seeds_on_target=on_target,
        on_target_at_least=share_at_least(on_target, len(group)),
        late_epochs=sum(map(len, late)),
        late_epochs_on_target=sum(map(sum, late)),
        seeds_consistent=sum(map(all, late)),
        misread=statistics.fmean(len(record.mistakes) for record in group),
        misread_wrong_labels=None if None in wrong_labels else statistics.fmean(wrong_labels),
        seconds=statistics.median(record.seconds for record in group),
        seconds_per_epoch=statistics.median(record.seconds_per_epoch for record in group),
        device=", ".join(sorted({f"{r.environment['device']}, {r.environment['threads']} threads" for r in group})),
    )


def misread(record: Record) -> set[int]:
    """Return the indices of the images that a run misread."""
    return {mistake["index"] for mistake in record.mistakes}


def misread_wrong_labels(record: Record) -> int | None:
    """Return how many of a run's mistakes have a label known to be wrong; None if it is not known of its images."""
    if record.data != MNIST_NAME or record.settings["score_on"] != "test":
        return None
    return len(misread(record).intersection(WRONG_TEST_LABELS))


@dataclass(frozen=True)
class Gain:
    """The accuracy of a row less that of a row before it."""

    row: str
    change: str
    against: str  # the row before
    points: float  # percentage points, of the means
    difference: Difference | None  # over the seeds of both, in percentage points; None if a row has no spread


def gains(records: Sequence[Record]) -> list[Gain]:
    """Compare every row with the one before it, and after a rung also the step with the step before it.

    Raises ValueError like :func:`summarise`.
    """
    groups, found, result_before = by_row(records), [], None
    for before, after in zip([None, *groups], groups, strict=False):
        is_result = not after[0].is_rung
        against = [before] if before else []
        if is_result and result_before and result_before is not before:
            against.append(result_before)
        found += [_gain(other, after) for other in against]
        result_before = after if is_result else result_before
    return found


def _gain(before: list[Record], after: list[Record]) -> Gain:
    ours, theirs = ([100 * record.accuracy for record in group] for group in (after, before))
    points = statistics.fmean(ours) - statistics.fmean(theirs)
    return Gain(after[0].row, after[0].change, before[0].row, points, welch(theirs, ours))


@dataclass(frozen=True)
class Comparison:
    """Two runs scored on the same images."""

    points: float  # gained in accuracy, percentage points
    gained: int  # images that only the later run reads right
    lost: int  # images that only the earlier run reads right
    p_value: float  # McNemar's exact test


def compare(before: Record, after: Record) -> Comparison:
    """Compare two runs image by image."""
    gained, lost = len(misread(before) - misread(after)), len(misread(after) - misread(before))
    return Comparison(100 * (after.accuracy - before.accuracy), gained, lost, mcnemar(gained, lost))


def study_of(runs: Sequence[Record], tracked: Sequence[Record]) -> list[Record]:
    """Return each run together with the tracked seeds of its row, recipe and images, in the order of seeds.

    A run takes the place of its own seed; one that nothing is tracked of stays alone.
    """
    found = []
    for run in runs:
        others = [one for one in same_kind(run, tracked) if one.seed != run.seed]
        found += sorted([run, *others], key=lambda one: one.seed)
    return found


def same_kind(run: Record, tracked: Sequence[Record]) -> list[Record]:
    """Return the tracked runs that ``run`` can be compared with: of its row, its recipe and its images."""
    return [one for one in tracked if (one.row, one.recipe, one.images) == (run.row, run.recipe, run.images)]
