import multiprocessing
import os
import signal
from dataclasses import replace

import pytest
import torch

from mnist_lab import experiment, study
from mnist_lab.records import RecordError, load_records
from mnist_lab.study import Plan, StudyError, conduct


@pytest.fixture(scope="module")
def plan(recipe, settings) -> Plan:
    return Plan("3", "OneCycleLR", replace(recipe, epochs=1), settings, range(2))


@pytest.fixture(scope="module")
def folder(plan, tmp_path_factory):
    """The finished study of ``plan``, two processes at a time."""
    folder = tmp_path_factory.mktemp("study")
    conduct(plan, folder, parallel=2)
    return folder


@pytest.fixture
def no_training(monkeypatch):
    """Any training from here on fails."""
    monkeypatch.setattr(study, "train_in_processes", lambda plan, seeds, *rest: dict.fromkeys(seeds, "not expected"))


def numbers(record) -> tuple:
    """What a record says but for times and place."""
    epochs = [(epoch["train"], epoch["test"]) for epoch in record.history]
    return record.seed, record.opening_loss, epochs, record.mistakes


def test_every_seed_leaves_the_record_that_it_leaves_alone(plan, folder, settings):
    found = load_records(folder)
    assert [record.seed for record in found] == [0, 1]
    data = experiment.load_data(settings)
    for record in found:
        (run,) = experiment.train_together(plan.recipe, data, settings, [record.seed], on_epoch=lambda epoch: None)
        assert record.history[-1]["test"]["loss"] == run.history[-1].test.loss
        assert record.settings == vars(settings) | {"seed": record.seed}
        assert record.environment["threads"] == 1


def test_numbers_do_not_depend_on_how_many_processes_there_are(plan, folder, tmp_path):
    alone = conduct(replace(plan, seeds=[1]), tmp_path, parallel=1)
    assert numbers(alone[0]) == numbers(load_records(folder)[1])


def test_finished_seeds_are_not_trained_again(plan, folder, no_training):
    again = conduct(plan, folder)
    assert [record.seed for record in again] == [0, 1]
    with pytest.raises(StudyError, match=r"1 of 3 seeds did not finish[\s\S]*seed 2: not expected"):
        conduct(replace(plan, seeds=range(3)), folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": {"rotation": 11.0}}, r"step-3-seed-0.json is of another study: its rotation is 10.0, not 11.0"),
        ({"recipe": {"epochs": 2}}, "its epochs is 1, not 2"),
        ({"settings": {"train_limit": 200}}, "its train_limit is 300, not 200"),
        ({"row": "3a"}, "its row is '3', not '3a'"),
    ],
)
def test_the_folder_of_another_study_is_refused(plan, folder, no_training, changes, message):
    for part in ("recipe", "settings"):
        changes = changes | ({part: replace(getattr(plan, part), **changes[part])} if part in changes else {})
    with pytest.raises(StudyError, match=message):
        conduct(replace(plan, **changes), folder)


def test_records_of_code_that_trains_otherwise_are_refused(plan, folder, no_training, monkeypatch):
    monkeypatch.setattr(study, "measure_opening", lambda *ignored: 2.0)
    with pytest.raises(StudyError, match="made by code that trains otherwise"):
        conduct(plan, folder)


def test_a_damaged_record_is_named(plan, folder, tmp_path, no_training):
    (tmp_path / "step-3-seed-0.json").write_text((folder / "step-3-seed-0.json").read_text()[:1000])
    with pytest.raises(RecordError, match=r"cannot read the record .*step-3-seed-0\.json"):
        conduct(plan, tmp_path)


def test_a_seed_that_diverges_is_told_and_the_others_are_kept(plan, settings, tmp_path, monkeypatch):
    """In stacks, on the CPU: what a GPU does, but for the place."""
    monkeypatch.setattr(study, "pick_device", lambda name: torch.device("cuda"))

    def one_diverges(recipe, data, settings, seeds, *, on_epoch):
        outcomes = experiment.train_together(recipe, data, settings, seeds, on_epoch=on_epoch)
        if 1 in seeds:
            outcomes[seeds.index(1)] = experiment.Diverged("epoch 1: the loss is nan")
        return outcomes

    monkeypatch.setattr(study, "train_together", one_diverges)
    with pytest.raises(StudyError, match=r"1 of 3 seeds did not finish; the others are in .*\n  seed 1: epoch 1: the"):
        conduct(replace(plan, seeds=range(3)), tmp_path, parallel=2)
    assert [record.seed for record in load_records(tmp_path)] == [0, 2]


def test_stacks_give_what_processes_give(plan, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "pick_device", lambda name: torch.device("cuda"))
    for ours, theirs in zip(conduct(plan, tmp_path), load_records(folder), strict=True):
        assert ours.seed == theirs.seed
        assert ours.loss == pytest.approx(theirs.loss, rel=1e-3)


def killed(plan, seed, folder, pipe):
    os.kill(os.getpid(), signal.SIGKILL)


def failing(plan, seed, folder, pipe):
    pipe.send("OSError: No space left on device")


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (killed, "seed 0: its process was killed, most likely for want of memory: try fewer with --parallel"),
        (failing, "seed 0: OSError: No space left on device"),
    ],
)
def test_a_process_that_fails_is_told(plan, tmp_path, monkeypatch, work, message):
    monkeypatch.setattr(study, "train_alone", work)
    with pytest.raises(StudyError, match=message):
        conduct(replace(plan, seeds=[0]), tmp_path)
    assert not multiprocessing.active_children()


def test_ctrl_c_ends_the_processes_and_keeps_what_had_finished(plan, tmp_path, monkeypatch):
    def interrupt(progress, epoch):
        raise KeyboardInterrupt

    monkeypatch.setattr(study.Progress, "epoch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        conduct(plan, tmp_path, parallel=1)
    assert not multiprocessing.active_children()


def test_a_stack_that_does_not_fit_into_the_gpu_is_told(plan, tmp_path, monkeypatch):
    def full(*ignored, **named):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(study, "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(study, "train_together", full)
    with pytest.raises(StudyError, match=r"2 networks in one stack do not fit .* smaller --parallel"):
        conduct(plan, tmp_path)


def test_more_processes_than_fit_into_memory_are_refused(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "available_memory", lambda: 4.0)
    with pytest.raises(StudyError, match=r"4 processes need 6\.0 GiB of memory, and 4\.0 GiB are free: .*--parallel 2"):
        conduct(replace(plan, seeds=range(8)), tmp_path, parallel=4)
    monkeypatch.setattr(study, "available_memory", lambda: 1.0)
    with pytest.raises(StudyError, match=r"1 processes need 1\.5 GiB of memory, and 1\.0 GiB are free: free some"):
        conduct(plan, tmp_path, parallel=1)
