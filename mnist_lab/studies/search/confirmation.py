"""The best of the search with more seeds, fold by fold beside the previous step 3 (the baseline) and today's."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

from mnist_lab.evidence.records import Record
from mnist_lab.evidence.tables import UNKNOWN, Table, percent, verdict
from mnist_lab.evidence.uncertainty import Difference, for_few, mean_interval
from mnist_lab.recipe import Recipe
from mnist_lab.studies.search.notation import COMPACT
from mnist_lab.studies.search.recipe import Variant
from mnist_lab.studies.search.space import FAMILY, is_of, number_of
from mnist_lab.studies.search.tables import times
from mnist_lab.studies.search.trials import BASELINE, Trial, folds_of, ranked, thousands
from mnist_lab.writers import FOLDS, fold_means


@dataclass(frozen=True)
class Comparison:
    """A trial with more seeds than the search gave it, fold by fold beside the baseline and beside today's step 3."""

    records: Sequence[Record]  # of the trial
    loss_change: Difference | None  # of log(loss), less the baseline's: below 0 is better; None for the baseline
    accuracy_change: Difference | None
    loss_change_on_new_folds: Difference | None  # as above, over the folds alone that the search chose no trial on
    loss_change_from_step: Difference | None  # of log(loss), less that of today's step 3; None for itself
    is_step: bool  # whether the trial is today's step 3

    @property
    def number(self) -> int:
        return number_of(self.records[0].name)


def compare(records: Iterable[Record], epochs: int, tried: Iterable[Trial], step: Recipe) -> list[Comparison]:
    """Compare the trials of so many ``epochs`` among ``records`` with the baseline, over the seeds that both have.

    The seeds of a fold have the same writers: they are one value, their mean. Trials that lack a fold are left out.
    The lowest loss comes first. What a search ``tried`` says which records are of it, since other searches count their
    trials from 0 as well, and which folds had a part in choosing: the first ones. It also tells which trial is today's
    ``step`` 3, if one is.
    """
    tried = list(tried)
    chosen = {one.number: one.choices for one in tried}
    found: dict[int, dict[int, Record]] = {}
    for one in records:
        if one.kind == "trial" and one.recipe["epochs"] == epochs:
            number = number_of(one.name)
            if number in chosen and is_of(one.recipe, chosen[number]):
                found.setdefault(number, {})[one.seed] = one
    whole = {number: seeds for number, seeds in found.items() if all_folds(seeds)}
    own, comparisons = trial_of(step, tried), []
    for number, seeds in whole.items():
        baseline = {} if number == BASELINE else whole.get(BASELINE, {})
        losses = differences(baseline, seeds, log_loss)
        new = [change for fold, change in losses.items() if fold >= folds_of(tried)]
        changes = (
            losses.values(),
            differences(baseline, seeds, lambda one: one.accuracy).values(),
            new,
            differences({} if number == own else whole.get(own, {}), seeds, log_loss).values(),
        )
        runs = [seeds[seed] for seed in sorted(seeds)]
        comparisons.append(Comparison(runs, *map(over_folds, changes), is_step=number == own))
    return sorted(comparisons, key=lambda one: one.loss_change.mean if one.loss_change else 0)


def trial_of(step: Recipe, tried: Iterable[Trial]) -> int | None:
    """Return the number of the trial that chose what ``step`` 3 does; None if none did."""
    if step.model != "CompactNet":  # which COMPACT is, and nothing else the series has
        return None
    recipe = asdict(Variant(**asdict(step), family=FAMILY, name="", change="", layers=COMPACT))
    return next((one.number for one in tried if is_of(recipe, one.choices)), None)


def differences(
    theirs: Mapping[int, Record], ours: Mapping[int, Record], of: Callable[[Record], float]
) -> dict[int, float]:
    """Return by how much more there is ``of`` our records than of theirs, of each fold, over the seeds that both have.

    Empty if they have no seed in common for some fold.
    """
    shared = sorted(theirs.keys() & ours.keys())
    return fold_means({seed: of(ours[seed]) - of(theirs[seed]) for seed in shared}) if all_folds(shared) else {}


def log_loss(record: Record) -> float:
    """Return the logarithm of a record's loss, whose differences are ratios."""
    return math.log(record.loss)


def all_folds(seeds: Iterable[int]) -> bool:
    """Whether there is a seed for each fold."""
    return {seed % FOLDS for seed in seeds} == set(range(FOLDS))


def best(trials: Sequence[Trial], confirmed: Iterable[Comparison], count: int, step: Recipe) -> list[int]:
    """Return the numbers of what the best are held against, the baseline and today's ``step`` 3 if it was tried, and
    of the ``count`` best others: the confirmed ones first, then by the search.
    """
    own = trial_of(step, trials)
    against = [BASELINE] if own in (None, BASELINE) else [BASELINE, own]
    numbers = [one.number for one in confirmed] + [one.number for one in ranked(trials)]
    others = [number for number in dict.fromkeys(numbers) if number not in against]
    return [*against, *others[:count]]


def over_folds(differences: Iterable[float]) -> Difference | None:
    """Return the mean of ``differences``, one for each fold, with Student's interval over the folds.

    None for a single fold, or none: they have no spread.
    """
    from scipy import stats

    means = list(differences)
    if len(means) < 2:
        return None
    mean, spread = statistics.fmean(means), statistics.stdev(means)
    p_value = float(stats.ttest_1samp(means, 0).pvalue) if spread else float(mean == 0)
    return Difference(mean, mean_interval(means), p_value, for_few(len(means) - 1, mean / spread) if spread else 0.0)


def comparison_table(found: Sequence[Comparison]) -> Table:
    """Return what :func:`compare` found."""

    def mean(one: Comparison, of: str) -> float:
        return statistics.fmean(getattr(record, of) for record in one.records)

    def multiple(found: Difference | None) -> str:
        return UNKNOWN if found is None else f"{times(found.mean)} ({times(*found.interval)})"

    def gain(found: Difference | None) -> str:
        return UNKNOWN if found is None else f"{100 * found.mean:+.3f} ({percent(found.interval, digits=3)})"

    columns = {
        "trial": lambda one: f"{one.number}, step 3" if one.is_step else one.number,
        "parameters": lambda one: f"{one.records[0].model.trainable:,}",
        "multiply-accumulates": lambda one: thousands(one.records[0].model.multiply_accumulates),
        "seeds": lambda one: len(one.records),
        "loss": lambda one: f"{mean(one, 'loss'):.4f}",
        "times the baseline's": lambda one: multiple(one.loss_change),
        "on new folds alone": lambda one: multiple(one.loss_change_on_new_folds),
        "times step 3's": lambda one: multiple(one.loss_change_from_step),
        "accuracy, %": lambda one: f"{100 * mean(one, 'accuracy'):.3f}",
        "gain": lambda one: gain(one.accuracy_change),
        "verdict by loss": lambda one: (
            "baseline" if one.number == BASELINE else verdict(one.loss_change, more="worse", less="better")
        ),
    }
    note = (
        "Last epoch on held-out writers, all six folds of them; in brackets 95 % intervals. Differences are taken seed "
        "by seed, with the same writers held out of both; a fold is one value, and the intervals are Student's over "
        "the folds, each by itself. New folds: those that the search chose no trial on; of several confirmed ones, the "
        "best is then chosen on all six. The verdict is against the baseline, by all six."
    )
    spare = ("multiply-accumulates", "parameters", "gain", "on new folds alone", "accuracy, %", "seeds")
    return Table.of(found, columns, note, spare)
