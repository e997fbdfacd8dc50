"""What the records add up to: every recipe over its seeds, and against the one before it."""

import functools
import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from mnist_lab.data import MNIST_NAME, WRONG_TEST_LABELS, DataNotFound
from mnist_lab.evidence.records import Record, RecordError
from mnist_lab.evidence.uncertainty import (
    Difference,
    Interval,
    Misread,
    gain_by_writer,
    interval_by_writer,
    mean_interval,
    paired,
    share_at_least,
    welch,
)
from mnist_lab.experiment import TARGET

LAST_EPOCHS = 5  # in which an accuracy must stay to be consistent


@dataclass(frozen=True)
class Result:
    """All seeds of one recipe on one kind of device; accuracies are those of the last epoch, in [0, 1].

    What needs a spread is None with one seed.
    """

    row: str  # of the table: the name of the recipe, and of the device unless it is a CPU
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
    by_writer: Interval | None  # of the accuracy, other seeds and other writers (bootstrap); None: they are not known
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
    """Reduce each row of :func:`by_row` to one result. Raises RecordError like it."""
    return [_result(group) for group in by_row(records)]


def by_row(records: Sequence[Record]) -> list[list[Record]]:
    """Group records by the row of a table that they make: by recipe and kind of device.

    Records of a row have to stand together, as :func:`records.load` returns them. Runs on CPUs share a row whatever the
    CPU is; runs on GPUs have one of their own. Raises RecordError if the runs of a row differ in their recipes or
    images, or a seed comes twice.
    """
    groups = [list(group) for _, group in groupby(records, key=lambda record: (record.name, record.device_type))]
    for group in groups:
        first = group[0]
        if any((other.recipe, other.images) != (first.recipe, first.images) for other in group):
            raise RecordError(
                f"the runs of {row_name(first)} differ in their recipes or images: of the files {first.place}, move "
                "away the one that is not tracked, which is of another version"
            )
        if len({record.seed for record in group}) != len(group):
            raise RecordError(f"the runs of {row_name(first)} hold a seed twice")
    return groups


def row_name(record: Record) -> str:
    """Return what a table calls the row of ``record``: "3", or "3 on cuda"."""
    return record.name if record.device_type == "cpu" else f"{record.name} on {record.device_type}"


def _result(group: list[Record]) -> Result:
    first = group[0]
    accuracies = [record.accuracy for record in group]
    on_target = sum(accuracy >= TARGET for accuracy in accuracies)
    late = [[epoch.test.accuracy >= TARGET for epoch in record.history[-LAST_EPOCHS:]] for record in group]
    wrong_labels = [misread_wrong_labels(record) for record in group]
    counted = count_by_writer(group)
    return Result(
        row=row_name(first),
        change=first.change,
        data=first.data,
        scored_on=first.settings.score_on,
        model=first.model.name,
        trainable=first.model.trainable,
        deployed=first.model.deployed,
        multiply_accumulates=first.model.multiply_accumulates,
        receptive_field=first.model.receptive_field,
        epochs=first.recipe["epochs"],
        seeds=len(group),
        loss=statistics.fmean(record.loss for record in group),
        mean=statistics.fmean(accuracies),
        sd=statistics.stdev(accuracies) if len(group) > 1 else None,
        interval=mean_interval(accuracies),
        by_writer=interval_by_writer(counted) if counted else None,
        minimum=min(accuracies),
        maximum=max(accuracies),
        seeds_on_target=on_target,
        on_target_at_least=share_at_least(on_target, len(group)),
        late_epochs=sum(map(len, late)),
        late_epochs_on_target=sum(map(sum, late)),
        seeds_consistent=sum(map(all, late)),
        misread=statistics.fmean(len(record.mistakes) for record in group),
        misread_wrong_labels=None if None in wrong_labels else statistics.fmean(map(len, wrong_labels)),
        seconds=statistics.median(record.seconds for record in group),
        seconds_per_epoch=statistics.median(record.seconds_per_epoch for record in group),
        device="; ".join(sorted({machine(record) for record in group})),
    )


def machine(record: Record) -> str:
    """Return what a run was made on, as in "Tesla T4" or "Intel Xeon, 1 thread"."""
    found = record.environment
    if found.device_type != "cpu":
        return found.device
    return f"{found.device}, {found.threads} thread{'s' if found.threads > 1 else ''}"


def misread_wrong_labels(record: Record) -> set[int] | None:
    """Return which misread images have a label known to be wrong; None for images of which that is not known."""
    if record.data != MNIST_NAME or record.settings.score_on != "test":
        return None
    return record.misread.intersection(WRONG_TEST_LABELS)


def count_by_writer(runs: Sequence[Record]) -> list[Misread] | None:
    """Return, for each set of images (the test set, or each fold that has runs), what each run misread by writer.

    None if it is not known who wrote them: they are not MNIST's, or QMNIST's label files are not at hand.
    """
    part = {"test": "test", "held-out": "train"}[runs[0].settings.score_on]
    known = _writers_and_folds(part, os.environ.get("MNIST_LAB_DATA")) if runs[0].data == MNIST_NAME else None
    if known is None:
        return None
    writers, fold_of = known
    people, folds, found = writers.max() + 1, fold_of.max() + 1, []
    for fold in range(folds):
        own = [[mistake.index for mistake in run.mistakes] for run in runs if run.seed % folds == fold]
        wrong = np.array([np.bincount(writers[misread], minlength=people) for misread in own], dtype=float)
        images = np.bincount(writers[fold_of == fold], minlength=people)
        if own:
            found.append(Misread(wrong[:, images > 0], images[images > 0]))
    return found


@functools.cache
def _writers_and_folds(part: str, folder: str | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the writer, counted from 0, and the fold (N,) of each image, 0 in the test set; None without the files."""
    from mnist_lab.writers import deal, load_writers

    try:
        known = load_writers(part, folder, may_download=False)
    except DataNotFound:
        return None
    writers = np.unique(known.writers, return_inverse=True)[1]
    return writers, deal(known) if part == "train" else np.zeros_like(writers)


@dataclass(frozen=True)
class Gain:
    """The accuracy of a recipe less that of one before it."""

    row: str
    change: str
    against: str  # the recipe before
    points: float  # percentage points, of the means
    difference: Difference | None  # over the seeds of both, in percentage points; None if one has no spread
    by_writer: Interval | None  # of the points, with other seeds and other writers; None if these are not known


def gains(records: Sequence[Record]) -> list[Gain]:
    """Compare each recipe's CPU runs with those of the recipe before it, and each step's result with the last step's.

    Raises RecordError like :func:`by_row`.
    """
    found, before, step_before = [], [], []
    for group in by_row([record for record in records if record.device_type == "cpu"]):
        is_step = group[0].kind == "step"
        others = (before, step_before if is_step and step_before is not before else [])
        found += [compare(other, group) for other in others if other]
        before, step_before = group, group if is_step else step_before
    return found


def _accuracies(runs: Sequence[Record], by_fold: bool) -> list[float]:
    """Return the accuracy of each run, or the mean of each fold's runs, in per cent."""
    if not by_fold:
        return [100 * run.accuracy for run in runs]
    from mnist_lab.writers import fold_means

    return list(fold_means({run.seed: 100 * run.accuracy for run in runs}).values())


def begin_alike(one: Record, other: Record) -> bool:
    """Whether two runs are the same training in their first batches; they may part later, or only be scored apart."""
    return math.isclose(one.opening_loss, other.opening_loss, rel_tol=1e-4)


def compare(before: Sequence[Record], after: Sequence[Record]) -> Gain:
    """Compare the runs of two recipes over their seeds, and image by image.

    On held-out writers a seed decides the fold, so the folds are compared in pairs, each by the seeds that both have:
    one value a fold, since its seeds are scored on the same writers. Runs that begin as one training share their luck,
    and are compared seed by seed, too. Elsewhere all seeds of one are compared with all of the other. Raises
    RecordError if there are no pairs.
    """
    by_fold = before[0].settings.score_on == after[0].settings.score_on == "held-out"
    earlier, later = ({one.seed: one for one in runs} for runs in (before, after))
    seeds = sorted(earlier.keys() & later.keys())
    if by_fold and not seeds:
        raise RecordError(f"{row_name(before[0])} and {row_name(after[0])} have no seed in common: train some")
    in_pairs = by_fold or (len(seeds) > 1 and all(begin_alike(earlier[seed], later[seed]) for seed in seeds))
    if in_pairs:
        before, after = ([runs[seed] for seed in seeds] for runs in (earlier, later))
    theirs, ours = (_accuracies(runs, by_fold) for runs in (before, after))
    counted = [count_by_writer(runs) for runs in (before, after)] if before[0].images == after[0].images else [None]
    by_writer = None if None in counted else gain_by_writer(*counted)
    return Gain(
        row=after[0].name,
        change=after[0].change,
        against=before[0].name,
        points=statistics.fmean(ours) - statistics.fmean(theirs),
        difference=(paired if in_pairs else welch)(theirs, ours),
        by_writer=by_writer and (100 * by_writer[0], 100 * by_writer[1]),
    )
