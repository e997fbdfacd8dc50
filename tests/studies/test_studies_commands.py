"""Tests of the commands, in a checkout made for them. Nothing is trained but a few of the embedded digits."""

import argparse
import json
import shutil
from dataclasses import asdict

import pytest
import torch

from mnist_lab import capacity, data
from mnist_lab.data import DataNotFound
from mnist_lab.evidence.records import TRACKED, append, load
from mnist_lab.options import UsageError, only_run, read_value
from mnist_lab.recipe import ParameterError
from mnist_lab.runtime import DeviceUnavailable
from mnist_lab.studies import commands, study
from mnist_lab.studies.others.catalogue import RECIPES
from mnist_lab.studies.search import optimise, trials, variants

ON_DIGITS = ("-p", "DATA", "digits", "-p", "EPOCHS", "1", "-p", "TRAIN_LIMIT", "300")


@pytest.fixture
def root(make_record, recipe, tmp_path, monkeypatch):
    """A checkout with a tracked record of steps 2a and 3; MNIST_LAB_DATA is as it was afterwards."""
    monkeypatch.setenv("MNIST_LAB_DATA", str(tmp_path / "no MNIST"))
    for name in ("2a", "3"):
        append(make_record(name, accuracies=(0.99, 0.995), recipe=asdict(recipe)), tmp_path / "notebooks" / "records")
    return tmp_path


@pytest.fixture
def run(root):
    """Runs a command in that checkout."""
    top = argparse.ArgumentParser()
    commands.add_commands(top.add_subparsers())

    def run(*arguments: str) -> int:
        options = top.parse_args(arguments)
        return options.command(options, root)

    return run


def test_without_any_record_of_a_step_it_is_said_where_they_are(run, root):
    shutil.rmtree(root / "notebooks")
    with pytest.raises(UsageError, match="none of a step: they come with a clone"):
        run("study", "3")


def test_a_changed_study_is_kept_apart_and_goes_on(run, root, capsys):
    tracked = load(root / "notebooks")
    assert run("study", "3", *ON_DIGITS, "--seeds", "1", "--parallel", "1") == 0
    assert run("study", "3", *ON_DIGITS, "--seeds", "2", "--parallel", "1") == 0
    output = capsys.readouterr().out
    assert output.count("seed   0") == output.count("seed   1") == 1
    assert max(map(len, output.splitlines())) <= 80
    first, second = load(root / "runs" / "studies" / "EPOCHS-1-DATA-digits-TRAIN_LIMIT-300")
    assert (first.seed, second.seed, second.name, second.step) == (0, 1, "3", 3)
    assert second.change == "EPOCHS 1, DATA digits, TRAIN_LIMIT 300"
    assert load(root / "notebooks") == tracked


def test_equal_studies_are_one_however_they_are_asked_for(run, root, monkeypatch):
    studies = []
    monkeypatch.setattr(commands, "train", lambda options, plans, folders, runs: studies.append((plans, folders)) or [])
    data = ("-p", "DATA", "digits")
    run("study", "3", *data, "-p", "EPOCHS", "8", "-p", "ROTATION", "0")
    run("study", "3", "-p", "ROTATION", "0.0", *data, "-p", "EPOCHS", "8", "-p", "SHIFT", "2")  # step 3's own shift
    assert studies[0] == studies[1]
    assert studies[0][1] == [root / "runs" / "studies" / "EPOCHS-8-ROTATION-0.0-DATA-digits"]


def test_processes_of_several_threads_are_fewer(run, monkeypatch):
    asked = []
    monkeypatch.setattr(capacity, "usable_processes", lambda threads=1: asked.append(threads) or 1)
    monkeypatch.setattr(study, "conduct", lambda *_: [])
    run("study", "3", *ON_DIGITS)
    run("study", "3", *ON_DIGITS, "-p", "THREADS", "2")
    assert asked == [1, 2]


def test_a_value_that_is_no_literal_is_a_word():
    for text in ("{[]: 1}", "one two", "(1"):
        assert read_value(text) == text


def test_writers_that_are_not_known_are_told_once_and_at_once(run, mnist, tmp_path, monkeypatch):
    monkeypatch.undo()  # to have MNIST
    known = data.data_folder()
    monkeypatch.setenv("MNIST_LAB_DATA", str(known))  # the command changes it, and it is as it was afterwards
    for first, *_ in data.find_files(known, "MNIST", data.MNIST_SHA256).values():
        (tmp_path / first.name).symlink_to(first)
    monkeypatch.setattr(commands, "train", lambda *_: pytest.fail("it trains"))
    with pytest.raises(DataNotFound, match="no QMNIST in"):
        run("ablate", "sgd", "--data", str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("study", "3b"), r"there is no '3b' to train \(did you mean 3\?\)"),
        (("study", "vgg"), r"there is no 'vgg' to train: use 2a, 3"),
        (("reproduce", "B3later"), r"there is no 'B3later' to train \(did you mean B3Later\?\)"),
        (("ablate", "half-rat"), r"\(did you mean half-rate\?\)"),
        (("study", "3", "-p", "EPOCHS", "3", "--publish"), "a study with another EPOCHS is not published"),
        (("study", "3", "-p", "SEED", "3"), "use --seeds N"),
        (("search", "--folds", "7"), "there are 6 folds"),
        (("search", "--epochs", "16"), "the series allows 15 epochs"),
    ],
)
def test_what_cannot_be_done_is_told(run, arguments, message):
    with pytest.raises(UsageError, match=message):
        run(*arguments)


def test_parameters_are_checked_before_data_are_fetched(run):
    with pytest.raises(ParameterError, match=r"unknown parameter EPOCH .*did you mean EPOCHS"):
        run("study", "3", "-p", "EPOCH", "3")
    with pytest.raises(DataNotFound):
        run("study", "3", "-p", "EPOCHS", "3")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_told_at_once(run):
    for command in (("study", "3"), ("reproduce",), ("ablate", "sgd")):
        with pytest.raises(DeviceUnavailable):
            run(*command, "--device", "cuda")


def test_two_studies_at_once_are_refused(run, root):
    with only_run(root / "runs"), pytest.raises(UsageError, match="another run is under way"):
        run("study", "3", *ON_DIGITS)


def test_without_publish_nothing_that_is_tracked_changes(run, root, make_record, mnist, monkeypatch, capsys):
    """All seeds are kept already, so that none is trained."""
    monkeypatch.undo()  # to have MNIST
    tracked, local = root / "notebooks" / "records", root / "runs" / "records"
    history = (0.99,) * 15
    for seed in range(2):
        append(make_record("A1", seed, history, kind="published", recipe=asdict(RECIPES["A1"])), local)
    run("reproduce", "A1", "--seeds", "2")
    assert "A1" in capsys.readouterr().out
    assert not (tracked / "published").exists()
    run("reproduce", "A1", "--seeds", "2", "--publish")
    assert load(tracked / "published") == load(local)


def test_what_a_gpu_trained_is_shown_though_the_tables_are_of_cpus(run, make_record, mnist, monkeypatch, capsys):
    monkeypatch.undo()  # to have MNIST
    made = make_record("A1", 0, (0.9876,) * 15, kind="published", recipe=asdict(RECIPES["A1"]), device_type="cuda")
    monkeypatch.setattr(commands, "train", lambda *_: [made])
    run("reproduce", "A1")
    assert "A1 on cuda" in (said := capsys.readouterr().out) and "98.76" in said


def test_json_trains_nothing_and_tells_what_is_kept_too(run, root, make_record, recipe, capsys):
    (sgd,) = (one for one in variants.ablations(recipe) if one.name == "sgd")
    append(
        make_record("sgd", 0, (0.9, 0.991), kind="ablation", score_on="held-out", recipe=asdict(sgd)),
        root / "runs" / "records",
    )
    run("ablate", "--json")
    found = {one["row"]: one for one in json.loads(capsys.readouterr().out)}
    assert found["sgd"]["family"] == "optimizer"
    assert found["sgd"]["mean"] == 0.991
    assert found["3"]["verdict"] == "baseline"
    run("reproduce", "--json")
    assert [one["step"] for one in json.loads(capsys.readouterr().out)] == ["our step 2a", "our step 3"]


def test_recipes_are_chosen_once_and_in_the_order_asked_for():
    first, second, other = (RECIPES[name] for name in ("A1", "A2", "B1"))
    groups = {"A": [first, second], "A1": [first], "B1": [other]}
    assert commands.pick(["B1", "A1", "A"], groups, "") == [other, first, second]


@pytest.mark.parametrize(("epochs", "known"), [("10", 2), ("15", 0)])
def test_a_fresh_clone_goes_on_with_the_tracked_search(run, root, monkeypatch, mnist, writers, epochs, known):
    monkeypatch.undo()  # of MNIST_LAB_DATA
    tried = trials.read(TRACKED)[:2]
    assert {(one.epochs, len(one.losses)) for one in tried} == {(10, 2)}
    trials.write(tried, root / "notebooks" / "records")
    found = []
    monkeypatch.setattr(optimise, "search", lambda study, *_, **__: found.append(trials.of(study)))
    assert run("search", "--epochs", epochs, "--folds", "2") == 0
    assert found == [tried[:known]]


@pytest.fixture
def confirm(run, root, monkeypatch, mnist, writers):
    """Runs search --best, and returns the names and seeds that it would train."""
    monkeypatch.undo()  # of MNIST_LAB_DATA
    asked = []
    (root / "runs").mkdir()
    monkeypatch.setattr(commands, "train", lambda options, plans, folders, runs: asked.append((plans, folders)))

    def confirm(*arguments: str) -> list[tuple[str, list[int]]]:
        assert run("search", "--best", *arguments) == 0
        plans, folders = asked.pop()
        assert folders == [root / "notebooks" / "records", root / "runs" / "records"]
        return [(plan.name, list(plan.seeds)) for plan in plans]

    return confirm


def test_the_best_of_the_tracked_trials_are_confirmed(confirm, root, capsys):
    tried = trials.read(TRACKED)
    trials.write(tried, root / "notebooks" / "records")
    optimise.take_up(optimise.open_study(f"sqlite:///{root / 'runs' / 'search.db'}"), epochs=3, folds=1)  # untrained
    best = [one.number for one in trials.ranked(tried)[:2]]
    seeds = list(range(6))
    assert confirm("2") == [(f"trial-{number}-15-epochs", seeds) for number in [trials.BASELINE, *best]]
    assert f"{len(tried)} trials" in capsys.readouterr().out


def test_a_search_of_one_s_own_is_confirmed_in_place_of_the_tracked_one(confirm, root):
    tried = trials.read(TRACKED)
    trials.write(tried, root / "notebooks" / "records")
    own = [one for one in tried if one.number < 3]
    optimise.take_over(f"sqlite:///{root / 'runs' / 'search.db'}", own)
    names = {name for name, _ in confirm("5", "--seeds", "6")}
    assert names == {f"trial-{one.number}-15-epochs" for one in own if one.state == "complete"}


def test_trials_of_one_s_own_are_published_among_the_records(confirm, root):
    own = [one for one in trials.read(TRACKED) if one.number < 3]
    optimise.take_over(f"sqlite:///{root / 'runs' / 'search.db'}", own)
    tracked, local = root / "notebooks" / "records", root / "runs" / "records"
    confirm("2")
    assert trials.read(tracked) == []
    confirm("2", "--publish")
    assert trials.read(tracked) == own and trials.read(local) == []


def test_a_confirmation_has_a_seed_on_every_fold(confirm):
    with pytest.raises(UsageError, match="use --seeds 6 or more"):
        confirm("2", "--seeds", "5")


def test_the_usual_search_goes_on_beyond_the_tracked_one(run, root, monkeypatch, mnist, writers, capsys):
    monkeypatch.undo()  # of MNIST_LAB_DATA
    tried = trials.read(TRACKED)
    trials.write(tried, root / "notebooks" / "records")
    asked = []
    monkeypatch.setattr(optimise, "search", lambda study, *_, trials, **__: asked.append(trials))
    assert run("search", "--epochs", "10", "--folds", "2") == 0 and asked[0] > len(tried)
    assert "raise --trials" not in capsys.readouterr().out
    assert run("search", "--epochs", "10", "--folds", "2", "--trials", "2") == 0
    assert f"{len(tried)} trials have ended already" in capsys.readouterr().out


def test_memory_that_a_search_s_own_processes_take_stops_none_of_them(run, monkeypatch, mnist, writers):
    monkeypatch.undo()  # of MNIST_LAB_DATA
    free, asked = iter((3, 1)), []
    monkeypatch.setattr(capacity, "usable_processes", lambda: next(free))
    monkeypatch.setattr(optimise, "search", lambda *_, at_once, **__: asked.append((at_once(), at_once())))
    assert run("search", "--epochs", "10", "--folds", "2") == 0
    assert asked == [(3, 3)]


def test_without_any_trial_there_is_nothing_to_confirm(confirm):
    with pytest.raises(UsageError, match="nothing was tried yet in sqlite"):
        confirm("2")
