"""What the search tried, beside the previous step 3 (the baseline)."""

import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import create_trial
from pydantic import BaseModel, Field

from mnist_lab.evidence.records import read_list, write_list
from mnist_lab.evidence.tables import Table
from mnist_lab.recipe import STRICT
from mnist_lab.studies.search.space import EVERY, distributions

BASELINE = 0  # the trial that is the previous step 3: the first starting point
MANY = 50  # trials, before their choices can be told apart
TREES = 32  # of the forest that tells them apart
PLACE = Path("search", "trials.json")  # in a folder of records


class Trial(BaseModel):
    """A recipe that the search tried, on the folds that it came to."""

    model_config = STRICT

    number: int
    state: Literal["complete", "pruned", "fail"]  # fail: it diverged
    choices: dict[str, str | int | float]  # see space
    network: str  # see notation
    parameters: int
    products: int  # multiply-accumulates for an image
    epochs: Annotated[int, Field(ge=1)]
    losses: list[float]  # of each fold in turn, after the last epoch
    accuracies: list[float]
    seconds: list[float]
    commit: str | None = None

    @property
    def loss(self) -> float:
        """Return the mean over the folds that it came to; infinity if it came to none."""
        return statistics.fmean(self.losses) if self.losses else math.inf


def of(study: optuna.Study) -> list[Trial]:
    """Return the trials of an Optuna study that ended after training."""
    return [
        Trial(
            number=one.number,
            state=one.state.name.lower(),
            choices=one.params,
            epochs=study.user_attrs["epochs"],
            network=one.user_attrs["network"],
            parameters=one.user_attrs["parameters"],
            products=one.user_attrs["products"],
            **{name: one.user_attrs.get(name, []) for name in ("losses", "accuracies", "seconds")},
            commit=one.user_attrs.get("commit"),
        )
        for one in study.get_trials(deepcopy=False)
        if "tried" in one.user_attrs and one.state.is_finished()
    ]


def write(trials: Iterable[Trial], folder: Path) -> Path:
    """Write ``trials`` into the file of a folder of records, and return it. Raises OSError."""
    write_list(folder / PLACE, trials)
    return folder / PLACE


def read(folder: Path) -> list[Trial]:
    """Return the trials in a folder of records; none if it has no file of them. Raises RecordError if it is damaged."""
    return read_list(folder / PLACE, Trial)


def folds_of(trials: Iterable[Trial]) -> int:
    """Return how many folds the trials came to at most: on these the best of them are chosen."""
    return max((len(one.losses) for one in trials), default=0)


def ranked(trials: Iterable[Trial]) -> list[Trial]:
    """Return the trials that came to all folds, the lowest loss first; the cheaper of equals."""
    complete = [one for one in trials if one.state == "complete"]
    return sorted(complete, key=lambda one: (one.loss, one.products))


def trials_table(trials: Sequence[Trial], rows: int = 10) -> Table:
    """Return the best trials that came to all folds, beside the baseline."""
    columns = {
        "trial": lambda one: one.number,
        "network": lambda one: one.network,
        "parameters": lambda one: f"{one.parameters:,}",
        "multiply-accumulates": lambda one: thousands(one.products),
        "peak": lambda one: f"{one.choices['peak']:.3g}",
        "shift": lambda one: one.choices["shift"],
        "clean epochs": lambda one: one.choices["clean epochs"],
        "loss": lambda one: f"{one.loss:.4f}",
        "accuracy, %": lambda one: f"{100 * statistics.fmean(one.accuracies):.2f}",
    }
    counts = {state: sum(one.state == state for one in trials) for state in ("complete", "pruned", "fail")}
    note = (
        f"{len(trials)} trials: {counts['complete']} came to all {folds_of(trials)} folds, {counts['pruned']} were "
        f"given up before, {counts['fail']} diverged. Loss and accuracy are means over these folds of held-out "
        "writers, one seed each. The best of so many were lucky, too: only new folds and seeds tell by how much."
    )
    found = ranked(trials)
    shown = found[:rows] + [one for one in found[rows:] if one.number == BASELINE]
    spare = ("multiply-accumulates", "parameters", "network", "clean epochs", "shift", "peak")
    return Table.of(shown, columns, note, spare)


def beside_baseline(trials: Iterable[Trial]) -> dict[int, float]:
    """Return the loss of each trial as a multiple of the baseline's on the same folds, by its number.

    Trials that came to no fold are left out. Empty as long as the baseline came to none.
    """
    by_number = {one.number: one for one in trials if one.losses}
    if BASELINE not in by_number:
        return {}
    theirs = by_number[BASELINE].losses
    return {
        number: statistics.fmean(one.losses) / statistics.fmean(theirs[: len(one.losses)])
        for number, one in by_number.items()
    }


def finding(trials: Sequence[Trial]) -> str:
    """Say in a few words how far the best trial that came to all folds is from the baseline on the same folds."""
    multiples = beside_baseline(trials)
    found = [one for one in ranked(trials) if one.number in multiples]
    if not found:
        return f"{len(trials)} trials, and none beside the baseline yet"
    best = multiples[found[0].number]
    return f"The best of {len(trials)} trials has {best:.2f} times the baseline's loss where it was chosen"


def importances(trials: Sequence[Trial]) -> dict[str, float]:
    """Return each choice's share of the differences between trials that choices explain one by one; they add up to 1.

    By functional ANOVA of a random forest (Hutter, Hoos and Leyton-Brown, ICML 2014) that tells the logarithm of
    :func:`beside_baseline` from the choices. What only several together explain is left out. Empty for fewer than MANY
    trials.
    """
    multiples = beside_baseline(trials)
    tried = [one for one in trials if one.number in multiples]
    if len(tried) < MANY:
        return {}
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # or each new study is a line on stderr
    study, ranges = optuna.create_study(), distributions(EVERY)
    for one in tried:
        value, choices = math.log(multiples[one.number]), EVERY | one.choices
        study.add_trial(create_trial(value=value, params=choices, distributions=ranges))
    evaluator = FanovaImportanceEvaluator(n_trees=TREES, seed=0)
    return {name: float(share) for name, share in get_param_importances(study, evaluator=evaluator).items()}


def thousands(count: int) -> str:
    """Return a large number in thousands."""
    return f"{count / 1000:,.0f} k"
