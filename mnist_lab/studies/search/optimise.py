"""The search: Optuna proposes recipes, an executor trains them fold after fold, and those that are behind are given up.

Why successive halving (Li et al., "A system for massively parallel hyperparameter tuning", MLSys 2020): all trials meet
the same folds of held-out writers in the same order, so their mean losses can be compared, and after one, two and four
folds those in the better half go on. Optuna's pruner for paired folds, a Wilcoxon test, can find nothing in less than
four of them.
"""

import itertools
import math
import platform
import statistics
import warnings
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from pathlib import Path

import optuna
from optuna.pruners import SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import SQLAlchemyError
from tqdm import tqdm

from mnist_lab.evidence.records import Record, record
from mnist_lab.experiment import load_data
from mnist_lab.fields.trace import facts
from mnist_lab.models import PARAMETER_BUDGET
from mnist_lab.recipe import Recipe, Settings
from mnist_lab.runtime import ROOT
from mnist_lab.studies.search import space
from mnist_lab.studies.search.trials import Trial, folds_of
from mnist_lab.studies.study import KILLED, Plan, StudyError, finished, keep, outcome, scored, train_alone
from mnist_lab.training import Diverged, Epoch

NAME = "search"  # of the study in its database
RANDOM_TRIALS = 24  # before the sampler trusts what it has seen; the starting points are among them
MOST_PRODUCTS = 1_600_000  # multiply-accumulates for an image, three times the baseline's: the search has to end
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
    reported: set[int] = field(default_factory=set)  # numbers of folds that Optuna knows the loss of

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
        self.report(statistics.fmean(self.losses))

    def report(self, loss: float) -> None:
        """Tell Optuna the mean loss of the folds so far, once."""
        if len(self.losses) not in self.reported:
            self.trial.report(loss, len(self.losses))
            self.reported.add(len(self.losses))


def open_study(storage: str | BaseStorage) -> optuna.Study:
    """Return the study in a database, a new one if there is none yet, or if it was stopped while it was taken over.

    Raises StudyError if it cannot be opened.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    options = {"storage": storage, "study_name": NAME}
    try:
        study = optuna.create_study(**options, load_if_exists=True)
        if study.trials and not has_begun(study):
            optuna.delete_study(**options)
            study = optuna.create_study(**options)
    except (SQLAlchemyError, ImportError, ValueError, RuntimeError) as error:
        raise StudyError(f"cannot open {storage}: {str(error).splitlines()[0]}") from None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # of group
        # A sampler of its own for each machine and each call: two that share a database would propose the same.
        seed = zlib.crc32(f"{HERE} {len(study.trials)}".encode())
        options = {"multivariate": True, "group": True, "constant_liar": True, "seed": seed}
        study.sampler = TPESampler(n_startup_trials=RANDOM_TRIALS, **options)
    study.pruner = SuccessiveHalvingPruner(min_resource=1, reduction_factor=2)
    return study


def has_begun(study: optuna.Study) -> bool:
    """Whether there was a search in a study; if not, it is new, or trials are being taken over."""
    return "epochs" in study.user_attrs


def take_over(storage: str | BaseStorage, tried: Sequence[Trial]) -> optuna.Study:
    """Return a study with the trials that an older one ``tried``, as its records tell, which goes on from them.

    ``storage`` holds no search that has begun. What the records do not tell is lost: the epochs of a fold, by which a
    first fold is found hopeless. Raises StudyError if the database cannot be opened.
    """
    study, folds, by_number = open_study(storage), folds_of(tried), {one.number: one for one in tried}
    for number in range(max(by_number) + 1):
        one = by_number.get(number)  # None: too large a network, or left unfinished
        study.add_trial(as_told(one, folds) if one else create_trial(state=TrialState.FAIL))
    study.set_user_attr("folds", folds)
    study.set_user_attr("epochs", tried[0].epochs)  # last: see has_begun
    return study


def as_told(one: Trial, folds: int) -> FrozenTrial:
    """Return a trial of the records as Optuna keeps it, with what its pruner notes after 1, 2, 4 ... folds."""
    means = {count: statistics.fmean(one.losses[:count]) for count in range(1, len(one.losses) + 1)}
    rungs = [rung for rung in range(folds) if 2**rung in means and 2**rung < folds]
    names = ("network", "parameters", "products", "losses", "accuracies", "seconds", "commit")
    return create_trial(
        state=TrialState[one.state.upper()],
        value=one.loss if one.losses and one.state != "fail" else None,
        params=dict(one.choices),
        distributions=space.distributions(one.choices),
        intermediate_values=means,
        system_attrs={f"completed_rung_{rung}": means[2**rung] for rung in rungs},
        user_attrs={name: getattr(one, name) for name in names} | {"tried": True},
    )


def take_up(study: optuna.Study, **common: int) -> list[FrozenTrial]:
    """Let the starting points wait in a new study; return what a stopped search of this checkout left in an old one.

    ``common`` are the epochs and folds of all its trials. Raises StudyError if it has others.
    """
    for name, value in common.items():
        if study.user_attrs.get(name, value) != value:
            raise StudyError(
                f"this search has {study.user_attrs[name]} {name}, not {value}: go on with that; or move the folder "
                "runs/records/search away, and begin another search in another --storage"
            )
        study.set_user_attr(name, value)
    for point in () if study.trials else space.starting_points():
        study.enqueue_trial(point)
    left = study.get_trials(states=[TrialState.RUNNING])
    return [one for one in left if one.user_attrs.get("where", HERE) == HERE]


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
    at_once: Callable[[], int],
) -> None:
    """Try recipes in place of ``step`` until so many ``trials`` have ended, ``at_once()`` of them at a time.

    Fold k is seed k. The record of every fold is added to ``store``. Raises StudyError if the study has other epochs
    or folds, or if a fold fails for another reason than its recipe; the same call then goes on.
    """
    running: dict[Future, Attempt] = {}
    left = take_up(study, epochs=epochs, folds=folds)

    def submit(attempt: Attempt) -> None:
        fold = len(attempt.losses)
        try:
            future = executor.submit(train_fold, attempt.plan, fold, [] if fold else ceilings(study))
        except BrokenProcessPool:
            raise StudyError(KILLED) from None
        running[future] = attempt

    with tqdm(total=trials, initial=tried(study), unit="trial", disable=None) as bar:  # on terminals
        while True:
            while len(running) < at_once() and tried(study) + len(running) < trials:
                attempt = start(study, left.pop(0) if left else None, step, settings, store)
                if attempt and settle(study, attempt) == TrialState.RUNNING:
                    submit(attempt)
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in [one for one in running if one in done]:  # in order
                attempt = running.pop(future)
                made = outcome(future)
                if isinstance(made, str):
                    raise StudyError(f"{attempt.plan.name}: {made}. The same command goes on from here")
                if isinstance(made, Record):
                    attempt.add(keep(made, store))
                    said, state = scored(made), settle(study, attempt)
                else:
                    said, state = made.why, settle(study, attempt, made)
                going_on = state == TrialState.RUNNING
                with bar.external_write_mode():
                    end = "" if going_on else f"   {state.name.lower()}"
                    print(f"{attempt.plan.name:9} fold {len(attempt.losses)}   {said}{end}", flush=True)
                if going_on:
                    submit(attempt)
            bar.update(tried(study) - bar.n)


def start(
    study: optuna.Study, left: FrozenTrial | None, step: Recipe, settings: Settings, store: Path
) -> Attempt | None:
    """Return the next trial of ``study``; None if its network is too large, which ends it untrained.

    It is one that was ``left`` unfinished, or a new one. Folds that ``store`` holds are not trained again. Raises
    StudyError if it holds those of another recipe under this name.
    """
    trial = optuna.Trial(study, left._trial_id) if left else study.ask()
    trial.set_user_attr("where", HERE)
    recipe = space.recipe(trial, step, study.user_attrs["epochs"])
    network = facts(recipe.network())
    products = network.multiply_accumulates
    for name, value in {"network": recipe.layers, "parameters": network.trainable, "products": products}.items():
        trial.set_user_attr(name, value)
    if products > MOST_PRODUCTS or network.trainable >= PARAMETER_BUDGET:
        study.tell(trial, state=TrialState.PRUNED)
        return None
    plan = Plan(recipe.kind, recipe.name, recipe.change, recipe, settings, range(study.user_attrs["folds"]))
    attempt = Attempt(trial, plan, reported=set(left.intermediate_values) if left else set())
    found = finished(plan, store / plan.place)
    for fold in itertools.takewhile(found.__contains__, plan.seeds):
        attempt.add(found[fold])
    return attempt


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


def settle(study: optuna.Study, attempt: Attempt, given_up: GivenUp | None = None) -> TrialState:
    """Return whether a trial goes on (RUNNING) as it stands; if it does not, how it ended, which Optuna is told.

    The first trial is never behind: the others are held against it.
    """
    if given_up and given_up.loss is not None:
        attempt.report(given_up.loss)
    if given_up:
        state = TrialState.FAIL if given_up.loss is None else TrialState.PRUNED
    elif len(attempt.losses) == study.user_attrs["folds"]:
        state = TrialState.COMPLETE
    elif attempt.trial.should_prune() and attempt.trial.number > 0:
        state = TrialState.PRUNED
    else:
        return TrialState.RUNNING
    attempt.trial.set_user_attr("tried", True)
    study.tell(attempt.trial, statistics.fmean(attempt.losses) if state == TrialState.COMPLETE else None, state)
    return state


def ceilings(study: optuna.Study) -> list[float]:
    """Return the loss above which a first fold is hopeless, epoch by epoch; nothing as long as few trials are known.

    In the first third of a run a network may be behind because its learning rate still climbs.
    """
    known = [one.user_attrs["curve"] for one in study.get_trials(deepcopy=False) if "curve" in one.user_attrs]
    if len(known) < RANDOM_TRIALS // 3:
        return []
    limits = [HOPELESS * statistics.median(losses) for losses in zip(*known, strict=True)]
    return [math.inf if 3 * number < len(limits) else limit for number, limit in enumerate(limits, 1)]


def train_fold(plan: Plan, fold: int, ceilings: Sequence[float]) -> Record | GivenUp:
    """Train a fold where this runs; return its record, or why it was given up."""
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
        return GivenUp(str(error), latest)
    if isinstance(run, Diverged):
        return GivenUp(str(run), None)
    return record(plan.kind, plan.name, plan.change, run, data, plan.recipe, settings)
