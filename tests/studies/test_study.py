"""Tests of the engine: what is trained, what is kept, what is refused. The executor here is this process itself."""

from concurrent.futures import Executor
from dataclasses import replace

import pytest
from samples import Here

from mnist_lab import experiment
from mnist_lab.evidence.records import RecordError, append, load, load_file
from mnist_lab.recipe import Recipe
from mnist_lab.speed.compiled import compiled, compiler_of
from mnist_lab.studies.study import Plan, StudyError, chunks, conduct
from mnist_lab.writers import deal


class Idle(Executor):
    """Fails if it is given work."""

    def submit(self, function, /, *arguments):
        raise AssertionError("nothing was to be trained")


class Diverging(Recipe):
    def loss(self, logits, labels):
        return super().loss(logits, labels) * float("nan")


@pytest.fixture(scope="module")
def plan(recipe, settings) -> Plan:
    return Plan("step", "3", "OneCycleLR", replace(recipe, epochs=1), settings, range(2), step=3)


@pytest.fixture(scope="module")
def records(plan, tmp_path_factory):
    """The finished study of ``plan``."""
    return conduct([plan], [tmp_path_factory.mktemp("study")], Here())


@pytest.fixture
def store(records, tmp_path):
    """A folder that holds the study of ``plan``."""
    for record in records:
        append(record, tmp_path / "store")
    return tmp_path / "store"


def test_every_seed_leaves_the_record_of_its_run(plan, records, settings):
    data = experiment.load_data(settings)
    for seed, record in enumerate(records):
        run = experiment.train(plan.recipe, data, replace(settings, seed=seed), prepare=compiled)
        assert record.compiler == compiler_of(run.model)
        assert [epoch.test for epoch in record.history] == [epoch.test for epoch in run.history]
        assert (record.kind, record.name, record.step, record.change) == ("step", "3", 3, "OneCycleLR")
        assert record.settings == replace(settings, seed=seed)


def test_finished_seeds_are_not_trained_again(plan, records, store, tmp_path):
    assert conduct([plan], [store], Idle()) == records
    empty = tmp_path / "local"
    assert conduct([plan], [store, empty], Idle()) == records  # wherever they are
    again = conduct([replace(plan, seeds=range(3))], [store, empty], Here())
    assert [record.seed for record in again] == [0, 1, 2]
    assert load(store) == records
    assert load(empty) == again[2:]  # what is new goes to the last store


def test_several_plans_share_an_executor(plan, records, tmp_path):
    other = replace(plan, kind="ablation", name="half rate", recipe=replace(plan.recipe, learning_rate=0.005))
    found = conduct([other, plan], [tmp_path], Here())
    assert [(record.name, record.seed) for record in found] == [("half rate", 0), ("half rate", 1), ("3", 0), ("3", 1)]
    assert [record.loss for record in found[2:]] == [record.loss for record in records]
    assert len(load(tmp_path)) == 4


def test_seeds_that_are_given_together_are_the_same(plan, records, tmp_path):
    found = conduct([plan], [tmp_path], Here(), together=2)
    assert [record.loss for record in found] == [record.loss for record in records]


def test_only_seeds_of_one_fold_of_writers_are_given_together(settings):
    assert chunks(settings, range(5), 2) == [[0, 1], [2, 3], [4]]
    by_writer = replace(settings, score_on="held-out")
    assert chunks(by_writer, [0, 1, 2, 6, 12, 18, 13], 3) == [[0, 6, 12], [18], [1, 13], [2]]


def test_each_seed_is_scored_on_its_own_fold_of_writers(recipe, settings, writers, mnist, tmp_path):
    settings = replace(settings, data="MNIST", score_on="held-out")
    plan = Plan("step", "3", "OneCycleLR", replace(recipe, epochs=1), settings, [4, 5], step=3)
    fold = deal(writers["train"])
    for record in conduct([plan], [tmp_path], Here(), together=2):
        assert record.scored_images == (fold == record.seed).sum()
        assert {fold[index] for index in record.misread} == {record.seed}
        assert all(mistake.label == int(mnist.train.labels[mistake.index]) for mistake in record.mistakes)
    (path,) = tmp_path.rglob("*.jsonl")
    assert len(load_file(path)) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": {"rotation": 11.0}}, r"3\.jsonl is of another study: its rotation is 10\.0, not 11\.0"),
        ({"recipe": {"epochs": 2}}, "its epochs is 1, not 2"),
        ({"settings": {"train_limit": 200}}, "its train_limit is 300, not 200"),
        ({"settings": {"score_on": "held-out"}}, "its score_on is 'test', not 'held-out'"),
    ],
)
def test_records_of_another_study_are_refused(plan, store, changes, message):
    changed = replace(plan, **{part: replace(getattr(plan, part), **values) for part, values in changes.items()})
    with pytest.raises(StudyError, match=message):
        conduct([changed], [store], Idle())


def test_records_of_code_that_trains_otherwise_are_refused(plan, records, tmp_path):
    append(records[0].model_copy(update={"opening_loss": 1.1 * records[0].opening_loss}), tmp_path)
    with pytest.raises(StudyError, match=r"steps/3\.jsonl was made by code that trains otherwise"):
        conduct([plan], [tmp_path], Here())
    assert len(load(tmp_path)) == 1


def test_a_line_that_was_cut_off_is_told_and_its_seed_trained_again(plan, records, store, capsys):
    path = store / plan.place
    path.write_bytes(path.read_bytes()[:-1000])
    found = conduct([plan], [store], Here())
    assert "3.jsonl ends in an incomplete line" in capsys.readouterr().err
    assert [record.loss for record in found] == [record.loss for record in records]
    assert load(store) == found


def test_a_damaged_line_is_refused(plan, store):
    path = store / plan.place
    path.write_bytes(path.read_bytes().replace(b'"kind"', b'"kin"', 1))
    with pytest.raises(RecordError, match=r"line 1 of .*3\.jsonl is not a record"):
        conduct([plan], [store], Idle())


def test_a_seed_that_diverges_is_told_and_the_others_are_kept(plan, records, tmp_path):
    diverging = replace(plan, name="3a", recipe=Diverging(**vars(plan.recipe)), seeds=[7])
    with pytest.raises(StudyError, match=r"1 of 3 seeds did not finish[\s\S]*3a, seed 7: epoch 1: the loss is nan"):
        conduct([diverging, plan], [tmp_path], Here())
    assert [record.loss for record in load(tmp_path)] == [record.loss for record in records]


def test_a_seed_that_fails_is_told(plan, tmp_path):
    class Full(Here):
        def submit(self, function, /, *arguments):
            return super().submit(open, tmp_path / "missing" / "file")

    with pytest.raises(StudyError, match=r"3, seed 1: FileNotFoundError: "):
        conduct([plan], [tmp_path], Full())


def test_a_store_that_cannot_be_written_is_told(plan, tmp_path):
    (tmp_path / "steps").write_text("not a folder")
    with pytest.raises(StudyError, match=r"cannot write .*steps/3\.jsonl: "):
        conduct([replace(plan, seeds=[0])], [tmp_path], Here())
