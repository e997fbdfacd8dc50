from dataclasses import replace

import pytest

from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.gpu_results import load_fetched, refusals
from mnist_lab.records import RecordError, save


def test_a_full_run_on_a_gpu_is_a_result(on_gpu):
    assert refusals([on_gpu]) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda record: replace(record, environment={**record.environment, "device_type": "cpu"}), "on a GPU"),
        (lambda record: replace(record, train_images=3000), "full run on MNIST"),
        (lambda record: replace(record, data="digits sample, not MNIST"), "full run on MNIST"),
        (lambda record: replace(record, settings={**record.settings, "score_on": "held-out"}), "full run on MNIST"),
        (lambda record: replace(record, recipe={**record.recipe, "epochs": 3}), "not the notebook's"),
    ],
)
def test_what_is_no_result_on_a_gpu_is_told(on_gpu, change, reason):
    assert any(reason in found for found in refusals([change(on_gpu)]))


def test_the_result_is_the_last_of_what_was_fetched(on_gpu, tmp_path):
    with pytest.raises(CloudError, match="no record of step 3"):
        load_fetched(tmp_path)
    save(replace(on_gpu, row="3a"), tmp_path)
    (tmp_path / "status.json").write_text("{}")
    with pytest.raises(CloudError, match="no record of step 3"):
        load_fetched(tmp_path)
    save(on_gpu, tmp_path)
    assert [record.row for record in load_fetched(tmp_path)] == ["3a", "3"]
    (tmp_path / "step-3-seed-1.json").write_text("{")
    with pytest.raises(RecordError, match=r"step-3-seed-1\.json"):
        load_fetched(tmp_path)
