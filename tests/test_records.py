import json
import statistics
from dataclasses import asdict, replace

import pytest
import torch

from mnist_lab import experiment, records
from mnist_lab.records import RecordError


@pytest.fixture(scope="module")
def made():
    """A record of a real run, of a network too poorly trained to read everything."""
    from mnist_lab.recipe import Recipe, Settings

    recipe = Recipe("SkeletonNet", 2, 50, 0.01, "constant", 0.2, 0.0, 0.0, 0, 0.0, 0.0, 0, "tensor")
    settings = Settings(0, "cpu", 1, "digits", "test", 500)
    data = experiment.load_data(settings)
    run = experiment.train(recipe, data, settings)
    return records.record("2a", "a change", run, data, recipe, settings), run, data


def test_a_record_describes_its_run(made):
    record, run, _ = made
    assert (record.data, record.train_images, record.scored_images) == ("digits sample, not MNIST", 500, 360)
    assert (record.step, record.is_rung, record.seed) == (2, True, 0)
    assert record.accuracy == run.history[-1].test.accuracy
    assert len(record.mistakes) == round((1 - record.accuracy) * 360) > 0
    assert record.model["name"] == "SkeletonNet" and record.model["trainable"] == 4978
    assert record.environment["threads"] == 1
    assert record.seconds_per_epoch == statistics.median(epoch.seconds for epoch in run.history)
    assert not records.is_publishable(record)


def test_mistakes_are_those_of_the_probabilities(made):
    record, run, data = made
    for mistake in record.mistakes:
        assert mistake["label"] == int(data.test.labels[mistake["index"]]) != mistake["predicted"]
        assert mistake["predicted"] == int(run.probabilities[mistake["index"]].argmax())
    confidences = [mistake["confidence"] for mistake in record.mistakes]
    assert confidences == sorted(confidences, reverse=True)
    assert records.find_mistakes(torch.eye(10), torch.arange(10)) == []


def test_a_saved_record_loads_as_it_was(made, tmp_path):
    path = records.save(made[0], tmp_path / "new")
    assert path.name == "step-2a-seed-0.json"
    assert records.load_record(path) == made[0]
    assert list(path.parent.iterdir()) == [path]


def without_times(record: records.Record) -> records.Record:
    history = [{**epoch, "seconds": 0.0} for epoch in record.history]
    return replace(record, history=history, seconds=0.0, seconds_per_epoch=0.0)


def test_the_same_run_again_differs_in_times_alone(made):
    record, _, data = made
    from mnist_lab.recipe import Recipe, Settings

    recipe, settings = Recipe(**record.recipe), Settings(**record.settings)
    again = records.record("2a", "a change", experiment.train(recipe, data, settings), data, recipe, settings)
    assert without_times(again) == without_times(record)
    assert again != record


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "cannot read the record"),
        (lambda text: "", "cannot read the record"),
        (lambda text: "[1, 2]", "is not a record"),
        (lambda text: json.dumps({"row": "1"}), "these fields differ"),
        (lambda text: text.replace('"row": "2a"', '"row": 2'), "row is 2, not str"),
        (lambda text: text.replace('"epochs": 2', '"epochs": 3'), "2 of 3 epochs"),
        (lambda text: text.replace('"accuracy"', '"precision"'), "history lacks"),
        (lambda text: json.dumps({**json.loads(text), "mistakes": []}), "0 mistakes listed"),
        (lambda text: json.dumps({**json.loads(text), "history": []}), "history lacks"),
    ],
)
def test_what_is_not_a_record_is_refused_by_name(made, tmp_path, damage, message):
    path = records.save(made[0], tmp_path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(RecordError, match=message) as caught:
        records.load_record(path)
    assert path.name in str(caught.value)


def test_a_copy_of_a_record_does_not_count_twice(made, tmp_path):
    path = records.save(made[0], tmp_path)
    (tmp_path / "step-2a-seed-0 (1).json").write_bytes(path.read_bytes())
    with pytest.raises(RecordError, match=r"seed-0 \(1\).json holds another record: rename it to step-2a-seed-0.json"):
        records.load_records(tmp_path)


def test_records_come_in_the_order_of_the_table(made, tmp_path):
    for row, seed in [("10", 0), ("2", 1), ("2", 0), ("2a", 0), ("1", 0)]:
        records.save(replace(made[0], row=row, settings={**made[0].settings, "seed": seed}), tmp_path)
    loaded = records.load_records(tmp_path)
    assert [(record.row, record.seed) for record in loaded] == [("1", 0), ("2a", 0), ("2", 0), ("2", 1), ("10", 0)]


def test_the_result_before_is_of_the_same_images_and_seed(made, tmp_path):
    record = made[0]
    old, new = tmp_path / "old", tmp_path / "new"
    records.save(replace(record, row="1", change="tracked"), old)
    records.save(replace(record, row="1a"), new)
    assert records.result_before(2, record, [new, old]).change == "tracked"
    records.save(replace(record, row="1", change="of this batch"), new)
    assert records.result_before(2, record, [new, old]).change == "of this batch"
    assert records.result_before(2, replace(record, train_images=60_000), [new, old]) is None
    assert records.result_before(1, record, [new, old]) is None


def test_only_full_runs_on_mnist_scored_on_the_test_set_are_publishable(made):
    full = replace(made[0], data="MNIST", train_images=60_000, scored_images=10_000)
    assert records.is_publishable(full)
    for change in ({"data": "digits sample, not MNIST"}, {"train_images": 50_000}, {"scored_images": 360}):
        assert not records.is_publishable(replace(full, **change))


def test_a_record_holds_plain_data(made):
    assert json.loads(json.dumps(asdict(made[0]))) == asdict(made[0])
