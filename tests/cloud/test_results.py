from dataclasses import asdict, replace

import pytest

from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.runs import defaults, is_result, load_fetched
from mnist_lab.evidence.records import RecordError, write
from mnist_lab.recipe import read_parameters


@pytest.fixture
def on_gpu(make_record, gpu_environment):
    """Makes records of step 3 as its notebook has it, on a GPU."""
    recipe, _ = read_parameters(defaults())
    accuracies = (0.99,) * (recipe.epochs - 1) + (0.9952,)
    given = {"accuracies": accuracies, "recipe": asdict(recipe), "environment": gpu_environment}
    return lambda seed=0, **changes: make_record(seed=seed, **given | changes)


def test_a_full_run_on_a_gpu_is_a_result(on_gpu):
    assert is_result([on_gpu()])


@pytest.mark.parametrize(
    "change",
    [
        lambda one: {"environment": replace(one.environment, device_type="cpu")},
        lambda one: {"train_images": 3000},
        lambda one: {"data": "digits sample, not MNIST"},
        lambda one: {"settings": replace(one.settings, score_on="held-out")},
        lambda one: {"recipe": one.recipe | {"batch_size": 7}},
    ],
)
def test_what_is_no_full_run_on_a_gpu_is_no_result(on_gpu, change):
    record = on_gpu()
    assert not is_result([record.model_copy(update=change(record))])


def test_the_result_is_the_last_of_what_was_fetched(on_gpu, tmp_path):
    with pytest.raises(CloudError, match="no record of step 3"):
        load_fetched(tmp_path)
    write([on_gpu(name="3a", kind="intermediate")], tmp_path / "output")
    with pytest.raises(CloudError, match="no record of step 3"):
        load_fetched(tmp_path)
    write([on_gpu()], tmp_path / "output")
    assert [record.name for record in load_fetched(tmp_path)] == ["3a", "3"]
    (tmp_path / "output" / "steps" / "3-cuda.jsonl").write_text("{\n")
    with pytest.raises(RecordError, match=r"3-cuda\.jsonl"):
        load_fetched(tmp_path)
