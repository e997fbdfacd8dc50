from dataclasses import replace

import pytest

from mnist_lab.cloud import gpu_results
from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.gpu_results import beside, keep, load_fetched, refusals
from mnist_lab.records import RecordError, load_record, save


@pytest.fixture
def gpu(published):
    """The tracked record of step 3, as if a GPU had made it."""
    environment = {**published.environment, "device": "Tesla T4", "device_type": "cuda"}
    return replace(published, environment=environment, settings={**published.settings, "device": "cuda"})


def with_accuracy(record, seed: int, wrong: int):
    history = [*record.history[:-1], {**record.history[-1], "test": {"loss": 0.01, "accuracy": 1 - wrong / 10_000}}]
    mistakes = [{"index": i, "label": 1, "predicted": 2, "confidence": 0.5} for i in range(wrong)]
    return replace(record, settings={**record.settings, "seed": seed}, history=history, mistakes=mistakes)


def test_a_full_run_on_a_gpu_is_kept_where_the_study_does_not_look(gpu, tmp_path, published):
    assert refusals([gpu]) == []
    (path,) = keep([gpu], tmp_path / "gpu")
    assert load_record(path) == gpu and path.name == "step-3-seed-0.json"
    assert gpu_results.GPU_RECORDS.parent.name == "records" and gpu_results.GPU_RECORDS.name == "gpu"


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
def test_what_is_no_result_on_a_gpu_is_not_kept(gpu, change, reason):
    assert any(reason in found for found in refusals([change(gpu)]))


def test_the_result_is_the_last_of_what_was_fetched(gpu, tmp_path):
    with pytest.raises(CloudError, match="no record of step 3"):
        load_fetched(tmp_path)
    save(replace(gpu, row="3a"), tmp_path)
    (tmp_path / "status.json").write_text("{}")
    with pytest.raises(CloudError, match="no record of step 3"):
        load_fetched(tmp_path)
    save(gpu, tmp_path)
    assert [record.row for record in load_fetched(tmp_path)] == ["3a", "3"]
    (tmp_path / "step-3-seed-1.json").write_text("{")
    with pytest.raises(RecordError, match=r"step-3-seed-1\.json"):
        load_fetched(tmp_path)


def test_within_the_spread_of_seeds_or_not(gpu, published):
    study = [with_accuracy(published, seed, wrong) for seed, wrong in enumerate((48, 52, 56))]
    assert "3 CPU seeds: 99.48% ± 0.04" in beside(with_accuracy(gpu, 0, 50), study)
    assert "lies within the spread" in beside(with_accuracy(gpu, 0, 50), study)
    assert "lies outside the spread" in beside(with_accuracy(gpu, 0, 90), study)
    assert "lies outside the spread" in beside(with_accuracy(gpu, 0, 10), study)


def test_one_seed_has_no_spread(gpu, published):
    said = beside(with_accuracy(gpu, 0, 50), [with_accuracy(published, 0, 52)])
    assert "+0.02 points, 2 images only the GPU run reads right and 0 only the CPU run" in said


def test_other_recipes_and_rows_are_not_compared(gpu, published):
    others = [replace(published, row="3a"), replace(published, recipe={**published.recipe, "epochs": 3})]
    assert "no CPU run of row 3" in beside(gpu, others)
