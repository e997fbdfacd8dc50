"""Tests of the search. The executor is this process itself; a few of the embedded digits stand in for MNIST."""

import math
from concurrent.futures import Executor, Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace

import pytest
from optuna.storages import InMemoryStorage
from optuna.trial import TrialState
from samples import STEP, Here

from mnist_lab.evidence.records import load
from mnist_lab.studies.search import optimise, space, trials
from mnist_lab.studies.study import StudyError
from mnist_lab.training import Diverged


class Scripted(Executor):
    """Trains nothing: a trial's folds have the losses that a script says, or the exceptions."""

    def __init__(self, make_record, losses):
        self.make_record, self.losses, self.work = make_record, losses, []

    def submit(self, function, plan, fold, ceilings):
        number = space.number_of(plan.name)
        self.work.append((number, fold))
        outcome = self.losses(number, fold)
        future = Future()
        if isinstance(outcome, float):
            losses = [2 * outcome] * (plan.recipe.epochs - 1) + [outcome]
            accuracies = (0.99,) * plan.recipe.epochs
            what = {"kind": "trial", "step": None, "recipe": asdict(plan.recipe), "settings": plan.settings_of(fold)}
            future.set_result(self.make_record(plan.name, fold, accuracies, tuple(losses), **what))
        elif isinstance(outcome, BaseException):
            future.set_exception(outcome)
        else:
            future.set_result(outcome)
        return future


@pytest.fixture
def storage() -> InMemoryStorage:
    return InMemoryStorage()


@pytest.fixture
def search(storage, tmp_path, settings):
    """Searches with an executor in a study of its own, as many times as it is called."""

    def search(executor, trials=6, epochs=3, folds=2, at_once=2):
        study = optimise.open_study(storage)
        extent = {"trials": trials, "epochs": epochs, "folds": folds, "at_once": lambda: at_once}
        optimise.search(study, STEP, settings, executor, tmp_path / "records", **extent)
        return study

    return search


def test_a_search_trains_what_it_proposes(search, tmp_path, monkeypatch):
    monkeypatch.setattr(space, "BASELINE", space.BASELINE | {"batch size": 50, "parameters": 6500})
    study = search(Here(), trials=2, epochs=1, folds=2, at_once=1)
    found = {one.number: one for one in trials.of(study)}
    assert list(found) == [0, 1]
    first = found[0]
    assert (first.state, first.epochs, len(first.losses), first.parameters) == ("complete", 1, 2, 6362)
    kept = [one for one in load(tmp_path / "records") if one.name == "trial-0"]
    assert [one.loss for one in kept] == first.losses and [one.accuracy for one in kept] == first.accuracies
    assert [one.seed for one in kept] == [0, 1] and kept[0].recipe["layers"] == first.network
    assert first.loss == study.trials[0].value == sum(first.losses) / 2


def test_what_is_behind_after_a_fold_is_given_up(search, make_record):
    losses = [0.020, 0.030, 0.019, 0.040, 0.018, 0.025]
    executor = Scripted(make_record, lambda number, fold: losses[number] + fold / 1000)
    study = search(executor, at_once=1)
    states = [one.state for one in study.trials if one.state.is_finished()]
    assert [state == TrialState.COMPLETE for state in states] == [True, False, True, False, True, False]
    assert [one for one in executor.work if one[1]] == [(0, 1), (2, 1), (4, 1)]
    assert [one.number for one in trials.ranked(trials.of(study))] == [4, 2, 0]
    assert study.best_value == pytest.approx(0.0185)


def test_the_baseline_comes_to_all_folds(search, make_record):
    """Even if others were better before its first fold is done."""

    class Slow(Scripted):
        def submit(self, function, plan, fold, ceilings):
            future = super().submit(function, plan, fold, ceilings)
            if self.work[-1] == (0, 0):
                self.done, self.first = future.result(), Future()
                return self.first
            if self.work[-1] == (4, 0):
                self.first.set_result(self.done)
            return future

    executor = Slow(make_record, lambda number, fold: 0.9 if number == 0 else 0.02)
    study = search(executor, at_once=2)
    assert study.trials[0].state == TrialState.COMPLETE
    assert executor.work.index((0, 1)) > executor.work.index((3, 0))


def test_the_starting_points_come_first(search, make_record):
    study = search(Scripted(make_record, lambda number, fold: 0.02), trials=len(space.STARTS))
    ours = [one.params for one in study.trials]
    for point, params in zip(space.starting_points(), ours, strict=True):
        assert params.items() <= point.items()


def test_a_trial_that_diverges_ends_alone(search, make_record):
    def losses(number, fold):
        return optimise.GivenUp(str(Diverged("epoch 1: the loss is nan")), None) if number == 2 else 0.02

    study = search(Scripted(make_record, losses))
    assert [one.number for one in study.trials if one.state == TrialState.FAIL] == [2]
    assert optimise.tried(study) == 6
    assert {one.number: one.state for one in trials.of(study)}[2] == "fail"


def test_a_hopeless_first_fold_counts_as_behind_all_others(search, make_record):
    def losses(number, fold):
        return optimise.GivenUp("hopeless", 0.01) if number == 3 else 0.02

    study = search(Scripted(make_record, losses))
    assert study.trials[3].state == TrialState.PRUNED
    assert study.trials[3].intermediate_values == {0: 0.01}


def test_it_goes_on_where_it_was_stopped(search, make_record, storage):
    def stop(number, fold):
        if (number, fold) == (3, 0):
            raise KeyboardInterrupt
        return 0.02 + number / 1000

    with pytest.raises(KeyboardInterrupt):
        search(Scripted(make_record, stop), at_once=2)
    left = [one.number for one in optimise.open_study(storage).trials if one.state == TrialState.RUNNING]
    assert left and left[-1] == 3
    executor = Scripted(make_record, lambda number, fold: 0.02 + number / 1000)
    study = search(executor, trials=8)
    assert [number for number, _ in executor.work[: len(left)]] == left
    assert [one.number for one in trials.of(study)] == list(range(8))
    assert min(number for number, _ in executor.work) == left[0]
    idle = Scripted(make_record, lambda number, fold: 0.02)
    search(idle, trials=8)
    assert not idle.work


def test_a_new_study_goes_on_from_the_trials_of_an_older_one(make_record, settings, tmp_path):
    def losses(number, fold):
        if number == 5 and fold == 1:
            return optimise.GivenUp("diverged", None)
        return optimise.GivenUp("hopeless", 0.1) if number == 4 else 0.02 + (number % 5) / 1000 + fold / 10_000

    extent, store = {"epochs": 3, "folds": 3, "at_once": lambda: 1}, tmp_path / "records"
    older, storage = optimise.open_study(InMemoryStorage()), InMemoryStorage()
    optimise.search(older, STEP, settings, Scripted(make_record, losses), store, trials=20, **extent)
    told = trials.of(older)
    newer = optimise.take_over(storage, told)
    assert trials.of(newer) == told and optimise.has_begun(newer)
    notes = [
        {one.number: {key: value for key, value in one.system_attrs.items() if "rung" in key} for one in study.trials}
        for study in (older, newer)
    ]
    assert notes[0] == notes[1] and sum(len(one) for one in notes[0].values()) > 20  # of whom the pruner compares
    assert all(one.value == newer.trials[one.number].value for one in older.trials if one.number != 4)

    best = Scripted(make_record, lambda number, fold: 0.019)
    worst = Scripted(make_record, lambda number, fold: 0.03)
    for total, executor, folds in ((21, best, 3), (22, worst, 1)):
        optimise.search(newer, STEP, settings, executor, tmp_path / "new records", trials=total, **extent)
        assert len(executor.work) == folds and executor.work[0][0] > told[-1].number


def test_trials_that_were_half_taken_over_are_taken_over_anew(search, make_record, storage, monkeypatch):
    tried = trials.of(search(Scripted(make_record, lambda number, fold: 0.02 + number / 1000)))
    as_told = optimise.as_told

    def stop(one, folds):
        if one.number == 3:
            raise KeyboardInterrupt
        return as_told(one, folds)

    anew = InMemoryStorage()
    monkeypatch.setattr(optimise, "as_told", stop)
    with pytest.raises(KeyboardInterrupt):
        optimise.take_over(anew, tried)
    monkeypatch.undo()
    half = optimise.open_study(anew)
    assert not half.trials and not optimise.has_begun(half)
    assert trials.of(optimise.take_over(anew, tried)) == tried
    assert trials.of(optimise.open_study(anew)) == tried


def test_more_are_trained_at_a_time_as_workers_join(make_record, storage, settings, tmp_path):
    study, under_way = optimise.open_study(storage), []

    class Counting(Scripted):
        def submit(self, *arguments):
            under_way.append(len(study.get_trials(states=[TrialState.RUNNING])))
            return super().submit(*arguments)

    executor = Counting(make_record, lambda number, fold: 0.02)
    extent = {"trials": 4, "epochs": 3, "folds": 1, "at_once": lambda: 3 if executor.work else 1}
    optimise.search(study, STEP, settings, executor, tmp_path / "records", **extent)
    assert under_way == [1, 2, 3, 1]


def test_a_fold_that_is_kept_is_not_trained_again(search, make_record, tmp_path):
    def stop(number, fold):
        if (number, fold) == (1, 1):
            raise KeyboardInterrupt
        return 0.02 - number / 1000

    with pytest.raises(KeyboardInterrupt):
        search(Scripted(make_record, stop), at_once=1)
    executor = Scripted(make_record, lambda number, fold: 0.02)
    study = search(executor, trials=2)
    assert executor.work == [(1, 1)]
    assert trials.of(study)[1].losses == [0.019, 0.02]
    assert study.trials[1].value == pytest.approx(0.0195)
    assert [one.seed for one in load(tmp_path / "records") if one.name == "trial-1"] == [0, 1]


def test_another_machine_s_trials_are_left_to_it(search, make_record, storage):
    study = optimise.open_study(storage)
    optimise.take_up(study, epochs=3, folds=2)
    study.ask().set_user_attr("where", "another machine")
    search(Scripted(make_record, lambda number, fold: 0.02), trials=3)
    assert study.trials[0].state == TrialState.RUNNING


def test_a_failure_that_is_not_the_recipe_s_stops_the_search(search, make_record):
    def broken(number, fold):
        return BrokenProcessPool() if number == 2 else 0.02

    with pytest.raises(StudyError, match=r"trial-2: a process was killed.* goes on from here"):
        search(Scripted(make_record, broken))


def test_other_epochs_or_folds_are_another_search(search, make_record):
    executor = Scripted(make_record, lambda number, fold: 0.02)
    search(executor, trials=2)
    with pytest.raises(StudyError, match="this search has 3 epochs, not 4"):
        search(executor, trials=2, epochs=4)


def test_records_of_another_search_are_not_mixed_in(search, make_record, tmp_path, settings):
    executor = Scripted(make_record, lambda number, fold: 0.02)
    search(executor, trials=2)
    another, extent = (
        optimise.open_study(InMemoryStorage()),
        {"trials": 2, "epochs": 2, "folds": 2, "at_once": lambda: 1},
    )
    with pytest.raises(StudyError, match=r"trial-0\.jsonl is of another study: its epochs is 3, not 2"):
        optimise.search(another, STEP, settings, executor, tmp_path / "records", **extent)


def test_a_search_is_kept_in_a_database(make_record, settings, tmp_path):
    url, extent = f"sqlite:///{tmp_path / 'search.db'}", {"epochs": 1, "folds": 1, "at_once": lambda: 1}
    for total in (1, 2):
        executor = Scripted(make_record, lambda number, fold: 0.02)
        study = optimise.open_study(url)
        optimise.search(study, STEP, settings, executor, tmp_path / "records", trials=total, **extent)
        assert executor.work == [(total - 1, 0)]


def test_a_database_that_cannot_be_opened_is_told(tmp_path):
    for url in (f"sqlite:///{tmp_path / 'no folder' / 'x.db'}", "mysterious://host/db", "nothing"):
        with pytest.raises(StudyError, match="cannot open"):
            optimise.open_study(url)


def test_too_large_a_network_is_not_trained(search, make_record, monkeypatch):
    monkeypatch.setattr(optimise, "MOST_PRODUCTS", 600_000)
    executor = Scripted(make_record, lambda number, fold: 0.02)
    study = search(executor, trials=4)
    assert optimise.tried(study) == 4
    trained = {number for number, _ in executor.work}
    assert trained == {0, 1, 2, 9}  # of the starting points
    assert study.trials[3].state == TrialState.PRUNED


def test_a_network_over_budget_is_not_trained(search, make_record, monkeypatch):
    monkeypatch.setattr(optimise, "PARAMETER_BUDGET", 7500)
    executor = Scripted(make_record, lambda number, fold: 0.02)
    study = search(executor, trials=4)
    trained = {number for number, _ in executor.work}
    sizes = {one.number: one.user_attrs["parameters"] for one in study.trials if "parameters" in one.user_attrs}
    assert trained == {number for number, size in sizes.items() if size < 7500} != set(sizes)


def test_hopeless_is_what_is_far_above_the_others_late_in_a_run(search, make_record, storage):
    executor = Scripted(make_record, lambda number, fold: 0.02 + number / 1000)
    few = search(executor, trials=7, epochs=6, at_once=1)
    assert optimise.ceilings(few) == []
    study = search(executor, trials=9, epochs=6, at_once=1)
    assert optimise.ceilings(study) == pytest.approx([math.inf, *[1.5 * 0.048] * 4, 1.5 * 0.024])


def test_a_fold_is_given_up_as_soon_as_it_is_hopeless(settings):
    recipe = replace(space.choose(space.starting_points()[0], STEP, 3), batch_size=50)
    plan = optimise.Plan("trial", "trial-0", "", recipe, settings, [0])
    whole = optimise.train_fold(plan, 0, [])
    assert len(whole.history) == 3
    given_up = optimise.train_fold(plan, 0, [9.0, 0.001, 0.001])
    assert given_up.loss == pytest.approx(whole.history[1].test.loss)
    assert "after epoch 2" in given_up.why


def test_a_fold_that_diverges_has_no_loss(settings, monkeypatch):
    recipe = space.choose(space.starting_points()[0], STEP, 3)
    monkeypatch.setattr(optimise, "train_alone", lambda *run: Diverged("epoch 1: the loss is nan"))
    given_up = optimise.train_fold(optimise.Plan("trial", "trial-0", "", recipe, settings, [0]), 0, [])
    assert given_up == optimise.GivenUp("epoch 1: the loss is nan", None)


def test_a_confirmation_of_other_epochs_has_records_of_its_own(search, make_record, settings):
    study = search(Scripted(make_record, lambda number, fold: 0.02), trials=3)
    same, other = (optimise.plans(study, [0, 2], STEP, settings, epochs, range(6)) for epochs in (3, 15))
    assert [plan.name for plan in same] == ["trial-0", "trial-2"]
    assert [plan.name for plan in other] == ["trial-0-15-epochs", "trial-2-15-epochs"]
    assert {plan.recipe.epochs for plan in other} == {15} and list(other[0].seeds) == list(range(6))
    assert [space.number_of(plan.name) for plan in other] == [0, 2]


def test_machines_that_share_a_database_do_not_propose_the_same(storage, settings, monkeypatch):
    first = optimise.open_study(storage)
    optimise.take_up(first, epochs=3, folds=1)
    for _ in space.starting_points():
        first.tell(first.ask(), state=TrialState.FAIL)
    opened = [optimise.open_study(storage)]
    monkeypatch.setattr(optimise, "HERE", "another machine")
    opened += [optimise.open_study(storage)]
    first, second = (space.recipe(study.ask(), STEP, 3) for study in opened)
    assert first.learning_rate != second.learning_rate
