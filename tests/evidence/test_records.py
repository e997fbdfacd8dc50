import json
import statistics

import pytest
import torch

from mnist_lab import experiment
from mnist_lab.data import Split
from mnist_lab.evidence import records
from mnist_lab.evidence.records import RecordError
from mnist_lab.recipe import Recipe, Settings


@pytest.fixture(scope="module")
def made():
    """A record of a real run, of a network too poorly trained to read everything."""
    recipe = Recipe("SkeletonNet", 2, 50, 0.01, "constant", 0.2, 0.0, 0.0, 0, 0.0, 0.0, 0, "tensor")
    settings = Settings(0, "cpu", 1, "digits", "test", 500)
    data = experiment.load_data(settings)
    run = experiment.train(recipe, data, settings)
    return records.record("intermediate", "2a", "a change", run, data, recipe, settings, step=2), run, data


def test_a_record_describes_its_run(made):
    record, run, _ = made
    assert (record.data, record.train_images, record.scored_images) == ("digits sample, not MNIST", 500, 360)
    assert record.accuracy == run.history[-1].test.accuracy and record.loss == run.history[-1].test.loss
    assert len(record.misread) == len(record.mistakes) == round((1 - record.accuracy) * 360) > 0
    assert (record.model.name, record.model.trainable) == ("SkeletonNet", 4978)
    assert (record.seed, record.device_type, record.environment.threads) == (0, "cpu", 1)
    assert record.seconds_per_epoch == statistics.median(epoch.seconds for epoch in run.history)
    assert not records.is_publishable(record)


def test_mistakes_are_those_of_the_probabilities(made):
    record, run, data = made
    for mistake in record.mistakes:
        assert mistake.label == int(data.test.labels[mistake.index]) != mistake.predicted
        assert mistake.predicted == int(run.probabilities[mistake.index].argmax())
    confidences = [mistake.confidence for mistake in record.mistakes]
    assert confidences == sorted(confidences, reverse=True)
    assert records.find_mistakes(torch.eye(10), Split(torch.zeros(10, 1, 28, 28), torch.arange(10))) == []


def test_a_held_out_image_is_named_by_its_place_in_the_training_images(few):
    held = few.take(torch.tensor([7, 30, 101]))
    right, wrong = torch.eye(10)[held.labels], torch.eye(10)[(held.labels + 1) % 10]
    found = records.find_mistakes(torch.stack([right[0], wrong[1], wrong[2]]), held)
    assert [(mistake.index, mistake.label, mistake.predicted) for mistake in found] == [(30, 0, 1), (101, 1, 2)]
    again = held.take(torch.tensor([2]))
    assert records.find_mistakes(wrong[2:], again)[0].index == 101


def test_runs_on_different_folds_of_writers_are_of_the_same_images(make_record, tmp_path):
    folds = [make_record("3", seed, (0.5, 0.99), score_on="held-out", scored_images=10_000 + seed) for seed in range(3)]
    assert len(records.merge(folds[2:], tmp_path)) == len(records.merge(folds[:2], tmp_path)) == 1
    assert records.load(tmp_path) == folds
    assert folds[0].images != make_record("3", 0, (0.5, 0.99)).images


def test_the_same_run_again_differs_in_times_alone(made):
    record, _, data = made

    def without_times(one):
        plain = one.model_dump(exclude={"seconds", "seconds_per_epoch"})
        return plain | {"history": [epoch | {"seconds": 0} for epoch in plain["history"]]}

    recipe = Recipe(**record.recipe)
    run = experiment.train(recipe, data, record.settings)
    again = records.record("intermediate", "2a", "a change", run, data, recipe, record.settings, step=2)
    assert without_times(again) == without_times(record)
    assert again != record


def test_what_is_written_loads_as_it_was(made, make_record, tmp_path):
    others = [make_record(seed=seed) for seed in (2, 0)]
    assert records.write([made[0], *others], tmp_path) == [
        tmp_path / "steps" / "2a.jsonl", tmp_path / "steps" / "3.jsonl",
    ]  # fmt: skip
    assert records.load(tmp_path) == [made[0], *others[::-1]]
    records.append(one := make_record(seed=1), tmp_path)
    assert records.load(tmp_path) == [made[0], others[1], one, others[0]]


def test_runs_on_a_gpu_have_a_file_of_their_own(make_record, tmp_path):
    run = make_record("A3 no dropout", kind="published", step=None, device_type="cuda")
    records.append(run, tmp_path)
    assert records.load_file(tmp_path / "published" / "A3-no-dropout-cuda.jsonl") == [run]


def test_a_line_that_a_crash_left_incomplete_is_told_and_replaced(make_record, tmp_path, capsys):
    first, second = make_record(), make_record(seed=1)
    (path,) = records.write([first], tmp_path)
    path.write_bytes(path.read_bytes() + b'{"kind": "st')
    assert records.load(tmp_path) == [first]
    assert f"{path} ends in an incomplete line" in capsys.readouterr().err
    records.append(second, tmp_path)
    assert records.load(tmp_path) == [first, second]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("[1, 2]", "is not a record"),
        ("", "is not a record"),
        ({"name": 2}, "name: .*string"),
        ({"more": 1}, "more: .*not permitted"),
        ({"mistakes": []}, "lists 0 mistakes"),
        ({"history": []}, "0 of 5 epochs"),
        ({"recipe": {}}, "of None epochs"),
        ({"seconds": "fast"}, "seconds"),
        ({"name": "4"}, r"belongs into steps/4\.jsonl"),
        ({"seed": 0}, "seed 0 a second time"),
        ({"recipe": {"epochs": 5, "model": "SkeletonNet"}}, "another recipe"),
        ({"train_images": 500}, "other images"),
    ],
)
def test_what_is_not_a_record_of_the_recipe_is_refused_by_name(make_record, tmp_path, damage, message):
    (path,) = records.write([make_record()], tmp_path)
    second = json.loads(make_record(seed=1).model_dump_json())
    if isinstance(damage, dict):
        second["settings"]["seed"] = damage.pop("seed", 1)
        damage = json.dumps(second | damage)
    path.write_text(path.read_text(encoding="utf-8") + damage + "\n", encoding="utf-8")
    with pytest.raises(RecordError, match=f"(?s)line 2 of .*{message}") as caught:
        records.load(tmp_path)
    assert str(path) in str(caught.value)


def test_records_come_in_the_order_of_the_table(make_record):
    wanted = [("1", 0), ("2a", 0), ("2", 0), ("2", 1), ("3", 0)]
    made = [make_record(name, seed, kind="intermediate" if name == "2a" else "step") for name, seed in wanted]
    assert records.in_order(made[::-1]) == made


def test_the_result_before_is_of_the_same_images_seed_and_device(make_record, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    run = make_record("2")
    records.write([make_record("1", change="tracked"), make_record("1", seed=1)], old)
    records.write([make_record("1a", kind="intermediate")], new)
    assert records.result_before(run, [new, old]).change == "tracked"
    records.append(make_record("1", change="of this batch"), new)
    assert records.result_before(run, [new, old]).change == "of this batch"
    for other in (make_record("1"), make_record("2", train_images=500), make_record("2", device_type="cuda")):
        assert records.result_before(other, [new, old]) is None


def test_only_full_runs_on_mnist_scored_on_the_test_set_are_publishable(make_record):
    assert records.is_publishable(make_record())
    for change in ({"data": "digits sample, not MNIST"}, {"train_images": 50_000}):
        assert not records.is_publishable(make_record(**change))


def test_merged_records_join_the_other_seeds_and_other_devices_stay(make_record, tmp_path):
    cpu, first = make_record(), make_record(device_type="cuda", seconds=1.0)
    records.write([cpu, first], tmp_path)
    again, second = make_record(device_type="cuda", seconds=2.0), make_record(seed=1, device_type="cuda")
    assert records.merge([again], tmp_path) == [tmp_path / "steps" / "3-cuda.jsonl"]
    records.merge([second], tmp_path)
    assert records.load(tmp_path) == [cpu, again, second]
    changed = make_record(device_type="cuda", recipe={"batch_size": 7})
    records.merge([changed], tmp_path)  # a file holds one recipe
    assert records.load(tmp_path) == [cpu, changed]
