"""The search: Optuna proposes recipes, an executor trains them fold after fold, and those that are behind are given up.

Why successive halving (Li et al., "A system for massively parallel hyperparameter tuning", MLSys 2020): all trials meet
the same folds of held-out writers in the same order, so after k of them their mean losses can be compared, and those in
the better half go on. Optuna's pruner for paired folds, a Wilcoxon test, can find nothing in less than four of them.
"""

import math
import platform
import statistics
import warnings
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path

import optuna
from optuna.pruners import SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError
from tqdm import tqdm

from mnist_lab.evidence.records import Record, record
from mnist_lab.experiment import load_data
from mnist_lab.fields.trace import facts
from mnist_lab.recipe import Recipe, Settings
from mnist_lab.runtime import ROOT
from mnist_lab.studies.search import space
from mnist_lab.studies.study import Plan, StudyError, keep, outcomes, train_alone
from mnist_lab.training import Diverged, Epoch

NAME = "search"  # of the study in its database
RANDOM_TRIALS = 24  # before the sampler trusts what it has seen; the starting points are among them
MOST_PRODUCTS = 1_600_000  # multiply-accumulates for an image, three times step 3's: the search has to end
HOPELESS = 1.5  # times the median loss after as many epochs
HERE = f"{platform.node()}:{ROOT}"  # who trains a trial
ENDED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class Hopeless(Exception):
    """A run is so far behind the others that its first fold is not worth finishing."""


@dataclass(frozen=True)
class GivenUp:
    """A fold that was not trained to its end."""

    why: str
    loss: float | None  # of the last epoch; None if it was not a number


@dataclass
class Attempt:
    """A trial under way."""

    trial: optuna.Trial
    plan: Plan
    losses: list[float] = field(default_factory=list)  # of the folds so far
    accuracies: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, one: Record) -> None:
        """Take in what came of the next fold, and note it in the database."""
        self.losses.append(one.loss)
        self.accuracies.append(one.accuracy)
        self.seconds.append(round(one.seconds, 1))
        if one.seed == 0:
            self.trial.set_user_attr("curve", [epoch.test.loss for epoch in one.history])
        for name in ("losses", "accuracies", "seconds"):
            self.trial.set_user_attr(name, getattr(self, name))
        self.trial.set_user_attr("commit", one.environment.commit)
        self.trial.report(statistics.fmean(self.losses), len(self.losses))


def open_study(storage: str) -> optuna.Study:
    """Return the study in a database, a new one if there is none yet. Raises StudyError if it cannot be opened."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        study = optuna.create_study(storage=storage, study_name=NAME, load_if_exists=True)
    except (SQLAlchemyError, ImportError, ValueError, RuntimeError) as error:
        raise StudyError(f"cannot open {storage}: {str(error).splitlines()[0]}") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of group
        options = {"multivariate": True, "group": True, "constant_liar": True, "seed": len(study.trials)}
        study.sampler = TPESampler(n_startup_trials=RANDOM_TRIALS, **options)
    study.pruner = SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    return study


def take_up(study: optuna.Study, **common: int) -> None:
    """Let the starting points wait in a new study, and in an old one what a stopped search of this checkout left.

    ``common`` are the epochs and folds of all its trials. Raises StudyError if it has others.
    """
    for name, value in common.items():
        if study.user_attrs.get(name, value) != value:
            raise StudyError(
                f"this search has {study.user_attrs[name]} {name}, not {value}: go on with that, or begin another in "
                "another --storage"
            )
        study.set_user_attr(name, value)
    for point in () if study.trials else space.starting_points():
        study.enqueue_trial(point)
    for one in study.get_trials(states=[TrialState.RUNNING]):
        if one.user_attrs.get("where", HERE) == HERE:
            study.tell(one.number, state=TrialState.FAIL)
            study.enqueue_trial(one.params)


def tried(study: optuna.Study) -> int:
    """Return how many trials have ended after training, whatever came of them."""
    return sum("tried" in one.user_attrs for one in study.get_trials(deepcopy=False, states=ENDED))


def search(
    study: optuna.Study,
    step: Recipe,
    settings: Settings,
    executor: Executor,
    store: Path,
    *,
    trials: int,
    epochs: int,
    folds: int,
    at_once: int,
) -> None:
    """Try recipes in place of ``step`` until so many ``trials`` have ended, ``at_once`` at a time.

    Fold k is seed k. The record of every fold is added to ``store``. Raises StudyError if the study has other epochs
    or folds, or if a fold fails for another reason than its recipe; the same call then goes on.
    """
    running: dict[Future, Attempt] = {}
    take_up(study, epochs=epochs, folds=folds)

    def submit(attempt: Attempt) -> None:
        fold = len(attempt.losses)
        try:
            future = executor.submit(train_fold, attempt.plan, fold, [] if fold else ceilings(study))
        except BrokenProcessPool:
            raise StudyError("a process was killed, most likely for want of memory: try a smaller --parallel") from None
        running[future] = attempt

    with tqdm(total=trials, initial=tried(study), unit="trial", disable=None) as bar:  # on terminals
        while True:
            while len(running) < at_once and tried(study) + len(running) < trials:
                attempt = start(study, step, settings, store)
                if attempt:
                    submit(attempt)
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                attempt = running.pop(future)
                (outcome,) = outcomes(future, 1)
                if isinstance(outcome, str):
                    raise StudyError(f"{attempt.plan.name}: {outcome}. The same command goes on from here")
                if isinstance(outcome, Record):
                    attempt.add(keep(outcome, store))
                    said = f"accuracy {outcome.accuracy:7.2%}   loss {outcome.loss:.4f}   {outcome.seconds:5.0f} s"
                else:
                    said = outcome.why
                state = judge(study, attempt, outcome)
                ended = "" if state == TrialState.RUNNING else f"   {state.name.lower()}"
                with bar.external_write_mode():
                    print(f"{attempt.plan.name:9} fold {len(attempt.losses)}   {said}{ended}", flush=True)
                if ended:
                    attempt.trial.set_user_attr("tried", True)
                    values = statistics.fmean(attempt.losses) if state == TrialState.COMPLETE else None
                    study.tell(attempt.trial, values, state)
                    bar.update()
                else:
                    submit(attempt)


def start(study: optuna.Study, step: Recipe, settings: Settings, store: Path) -> Attempt | None:
    """Return the next trial of ``study``; None if its network is too large, which ends it untrained.

    Raises StudyError if ``store`` holds a trial of this name already.
    """
    trial = study.ask()
    trial.set_user_attr("where", HERE)
    recipe = space.recipe(trial, step, study.user_attrs["epochs"])
    network = facts(recipe.network())
    products = network.multiply_accumulates
    for name, value in {"network": recipe.layers, "parameters": network.trainable, "products": products}.items():
        trial.set_user_attr(name, value)
    if products > MOST_PRODUCTS:
        study.tell(trial, state=TrialState.PRUNED)
        return None
    plan = Plan(recipe.kind, recipe.name, recipe.change, recipe, settings, range(study.user_attrs["folds"]))
    if (store / plan.place).exists():
        raise StudyError(f"{store / plan.place} is of another search: move its folder away to start anew")
    return Attempt(trial, plan)


def plans(
    study: optuna.Study, numbers: Sequence[int], step: Recipe, settings: Settings, epochs: int, seeds: Sequence[int]
) -> list[Plan]:
    """Return what trains the trials with these ``numbers`` from ``seeds``.

    If ``epochs`` are not those of the study, no fold of the search is one of them, and their names say so.
    """
    recipes = [space.choose(study.trials[number].params, step, epochs, number) for number in numbers]
    end = "" if epochs == study.user_attrs["epochs"] else f"-{epochs}-epochs"
    recipes = [replace(one, name=one.name + end) for one in recipes]
    return [Plan(one.kind, one.name, one.change, one, settings, seeds) for one in recipes]


def judge(study: optuna.Study, attempt: Attempt, outcome: Record | GivenUp) -> TrialState:
    """Return whether a trial goes on (RUNNING) after a fold, and if it does not, how it ends."""
    if isinstance(outcome, GivenUp):
        if outcome.loss is None:
            return TrialState.FAIL
        attempt.trial.report(outcome.loss, len(attempt.losses))
        return TrialState.PRUNED
    if len(attempt.losses) == study.user_attrs["folds"]:
        return TrialState.COMPLETE
    behind = attempt.trial.should_prune() and attempt.trial.number > 0  # the first is what others are held against
    return TrialState.PRUNED if behind else TrialState.RUNNING


def ceilings(study: optuna.Study) -> list[float]:
    """Return the loss above which a first fold is hopeless, epoch by epoch; nothing as long as few trials are known.

    In the first third of a run a network may be behind because its learning rate still climbs.
    """
    known = [one.user_attrs["curve"] for one in study.get_trials(deepcopy=False) if "curve" in one.user_attrs]
    if len(known) < RANDOM_TRIALS // 3:
        return []
    limits = [HOPELESS * statistics.median(losses) for losses in zip(*known, strict=True)]
    return [math.inf if 3 * number < len(limits) else limit for number, limit in enumerate(limits, 1)]


def train_fold(plan: Plan, fold: int, ceilings: Sequence[float]) -> list[Record | GivenUp]:
    """Train a fold where this runs; return its record, as the only item, or why it was given up."""
    settings, latest = plan.settings_of(fold), math.nan

    def watch(epoch: Epoch) -> None:
        nonlocal latest
        latest = epoch.test.loss
        if ceilings and latest > ceilings[epoch.number - 1]:
            raise Hopeless(f"hopeless: loss {latest:.4f} after epoch {epoch.number}")

    data = load_data(settings)
    try:
        run = train_alone(plan, fold, data, watch)
    except Hopeless as error:
        return [GivenUp(str(error), latest)]
    if isinstance(run, Diverged):
        return [GivenUp(str(run), None)]
    return [record(plan.kind, plan.name, plan.change, run, data, plan.recipe, settings)]
