import numpy as np
import pytest
from scipy import stats

from mnist_lab.data import WRONG_TEST_LABELS
from mnist_lab.evidence import results
from mnist_lab.evidence.records import Mistake, RecordError
from mnist_lab.evidence.uncertainty import gain_by_writer, interval_by_writer
from mnist_lab.writers import FOLDS, deal


@pytest.fixture
def mistaking(make_record):
    """Makes a record that misreads the images of these indices."""

    def make(indices, **changes):
        mistakes = [Mistake(index, 1, 7, 0.6) for index in indices]
        return make_record(accuracies=(0.99, 1 - len(mistakes) / 10_000), mistakes=mistakes, **changes)

    return make


def test_a_result_reduces_all_seeds(seeds):
    accuracies = [0.9950, 0.9940, 0.9939, 0.9961]
    (result,) = results.summarise(seeds(accuracies))
    expected = stats.ttest_1samp(accuracies, 0).confidence_interval(0.95)
    assert result.seeds == 4
    assert result.mean == pytest.approx(0.99475)
    assert result.sd == pytest.approx(stats.tstd(accuracies))
    assert result.interval == pytest.approx((expected.low, expected.high))
    assert (result.minimum, result.maximum) == (0.9939, 0.9961)
    assert result.seeds_on_target == 3  # 99.40 % itself is on target
    assert result.on_target_at_least == pytest.approx(stats.beta.ppf(0.05, 3, 2))
    assert result.misread == pytest.approx(52.5)


def test_consistent_are_seeds_whose_last_five_epochs_all_are_on_target(seeds, make_record):
    always = seeds([0.9941, 0.9950, 0.9939], late=[0.9] + [0.9940] * 4)
    dipped = make_record(seed=9, accuracies=(0.9, *[0.993] * 4, 0.9960))
    (result,) = results.summarise([*always, dipped])
    assert (result.late_epochs_on_target, result.late_epochs) == (5 + 5 + 4 + 1, 20)
    assert result.seeds_consistent == 2
    assert result.seeds_on_target == 3


def test_runs_shorter_than_five_epochs_count_what_they_have(make_record):
    (result,) = results.summarise([make_record(accuracies=(0.994, 0.995))])
    assert (result.late_epochs, result.late_epochs_on_target, result.seeds_consistent) == (2, 2, 1)


def test_one_seed_has_no_spread(make_record):
    (result,) = results.summarise([make_record()])
    assert result.sd is None and result.interval is None and result.by_writer is None
    assert result.minimum == result.mean == result.maximum == 0.9952
    assert result.on_target_at_least == pytest.approx(0.05)


def test_mistakes_of_the_labels_are_counted_beside_the_result(mistaking):
    three, five = mistaking([*WRONG_TEST_LABELS[:3], 0, 1]), mistaking([*WRONG_TEST_LABELS[:5], 2], seed=1)
    assert results.misread_wrong_labels(three) == set(WRONG_TEST_LABELS[:3])
    (result,) = results.summarise([three, five])
    assert (result.misread, result.misread_wrong_labels) == (5.5, 4)
    assert result.mean == pytest.approx(1 - 5.5 / 10_000)  # nothing is dropped
    for other in (mistaking([0], score_on="held-out"), mistaking([0], data="digits sample, not MNIST")):
        assert results.summarise([other])[0].misread_wrong_labels is None


def test_runs_on_a_gpu_have_a_row_of_their_own(seeds):
    records = [*seeds([0.9950, 0.9960]), *seeds([0.9, 0.9], device_type="cuda", device="Tesla T4")]
    on_cpu, on_gpu = results.summarise(records)
    assert (on_cpu.row, on_cpu.mean, on_cpu.device) == ("3", pytest.approx(0.9955), "a processor, 1 thread")
    assert (on_gpu.row, on_gpu.mean, on_gpu.device) == ("3 on cuda", pytest.approx(0.9), "Tesla T4")


def test_a_row_is_of_one_recipe_and_holds_a_seed_once(make_record):
    other = make_record(seed=1, recipe={"rotation": 1.0})
    for reduce in (results.summarise, results.gains):
        with pytest.raises(RecordError, match="differ in their recipes"):
            reduce([make_record(), other])
        with pytest.raises(RecordError, match="a seed twice"):
            reduce([make_record(), make_record()])


def test_each_recipe_is_compared_with_the_one_before_and_each_step_with_the_step_before(make_record):
    kinds = {"1": "step", "2a": "intermediate", "2b": "intermediate", "2": "step", "3": "step"}
    records = [make_record(name, kind=kind) for name, kind in kinds.items()]
    on_gpu = make_record("2", device_type="cuda")
    found = results.gains([*records[:4], on_gpu, records[4]])
    assert [(gain.row, gain.against) for gain in found] == [
        ("2a", "1"), ("2b", "2a"), ("2", "2b"), ("2", "1"), ("3", "2"),
    ]  # fmt: skip
    assert all(gain.points == 0 and gain.difference is None for gain in found)


def test_a_gain_is_in_points_and_over_seeds(seeds):
    (gain,) = results.gains([*seeds([0.9930, 0.9932, 0.9934], "2"), *seeds([0.9950, 0.9951, 0.9955, 0.9956])])
    expected = stats.ttest_ind([99.50, 99.51, 99.55, 99.56], [99.30, 99.32, 99.34], equal_var=False)
    assert gain.points == gain.difference.mean == pytest.approx(0.21)
    assert gain.difference.p_value == pytest.approx(expected.pvalue)
    assert gain.difference.interval == pytest.approx(tuple(expected.confidence_interval()))
    assert gain.difference.is_clear


def test_what_is_misread_is_counted_by_writer(mistaking, writers):
    known, runs = writers["test"], [mistaking([0, 1, 2, 9_999]), mistaking([5, 0], seed=1)]
    (found,) = results.count_by_writer(runs)
    people = sorted(set(known.writers.tolist()))
    assert found.images.tolist() == [int((known.writers == person).sum()) for person in people]
    for run, row in zip(runs, found.wrong.tolist(), strict=True):
        assert row == [sum(known.writers[index] == person for index in run.misread) for person in people]


def test_on_held_out_writers_a_fold_has_its_own(mistaking, writers):
    known, fold_of = writers["train"], deal(writers["train"])
    indices = {seed: np.flatnonzero(fold_of == seed % FOLDS)[: 5 + seed] for seed in (1, 5, 7)}
    runs = [mistaking(found.tolist(), seed=seed, score_on="held-out") for seed, found in indices.items()]
    first, last = results.count_by_writer(runs)  # folds 1 and 5
    assert first.images.sum() == (fold_of == 1).sum() and last.images.sum() == (fold_of == 5).sum()
    assert first.wrong.sum(axis=1).tolist() == [6, 12] and last.wrong.sum(axis=1).tolist() == [10]
    people = np.unique(known.writers[fold_of == 5])
    assert last.wrong[0].tolist() == [(known.writers[indices[5]] == person).sum() for person in people]


def test_an_interval_by_writer_is_that_of_what_was_counted(seeds, writers):
    records = seeds([0.9950, 0.9940, 0.9961])
    (result,) = results.summarise(records)
    assert result.by_writer == interval_by_writer(results.count_by_writer(records))
    assert result.by_writer[0] < result.mean < result.by_writer[1]


def test_writers_of_other_images_are_not_known(seeds, writers, tmp_path, monkeypatch):
    assert results.summarise(seeds([0.99, 0.98], data="digits sample, not MNIST"))[0].by_writer is None
    monkeypatch.setenv("MNIST_LAB_DATA", str(tmp_path))  # without the label files
    assert results.count_by_writer(seeds([0.99, 0.98])) is None
    (gain,) = results.gains([*seeds([0.99, 0.98], "2"), *seeds([0.99, 0.98])])
    assert gain.by_writer is None and gain.difference is not None


def test_on_held_out_writers_the_same_seeds_are_compared(make_record):
    def scored(name, accuracies):
        return [
            make_record(name, seed, (0.9, accuracy), score_on="held-out", scored_images=10_000 + seed)
            for seed, accuracy in accuracies.items()
        ]

    before = scored("2", {0: 0.9930, 1: 0.9950, 2: 0.9910, 8: 0.99})
    after = scored("3", {2: 0.9913, 0: 0.9934, 1: 0.9955, 7: 0.99})
    gain = results.compare(before, after)
    expected = stats.ttest_rel([99.34, 99.55, 99.13], [99.30, 99.50, 99.10])
    assert (gain.points, gain.difference.mean) == pytest.approx((0.04, 0.04))
    assert gain.difference.p_value == pytest.approx(expected.pvalue)
    assert gain.difference.interval == pytest.approx(tuple(expected.confidence_interval()))
    again = results.compare(before + scored("2", {6: 0.9932}), after + scored("3", {6: 0.9938}))
    assert again.difference.mean == pytest.approx((0.05 + 0.05 + 0.03) / 3)  # fold 0 has 0.04 and 0.06
    with pytest.raises(RecordError, match="no seed in common"):
        results.compare(before[3:], after)


def test_runs_that_begin_as_one_training_are_compared_seed_by_seed(make_record):
    def scored(name, accuracies, **changes):
        return [make_record(name, seed, (0.9, one), **changes) for seed, one in enumerate(accuracies)]

    before = scored("3b", [0.9950, 0.9960, 0.9940], opening_loss=1.2)
    after = scored("3", [0.9952, 0.9961, 0.9944, 0.9990], opening_loss=1.2)
    gain = results.compare(before, after)
    expected = stats.ttest_rel([99.52, 99.61, 99.44], [99.50, 99.60, 99.40])
    assert gain.points == pytest.approx((0.02 + 0.01 + 0.04) / 3)
    assert gain.difference.p_value == pytest.approx(expected.pvalue)
    assert gain.difference.interval == pytest.approx(tuple(expected.confidence_interval()))
    apart = results.compare(before, scored("3", [0.9952, 0.9961, 0.9944], opening_loss=1.3))
    assert apart.difference.p_value == pytest.approx(
        stats.ttest_ind([99.52, 99.61, 99.44], [99.50, 99.60, 99.40], equal_var=False).pvalue
    )


def test_a_gain_by_writer_is_in_points(seeds, writers):
    before, after = seeds([0.9900, 0.9910], "2"), seeds([0.9950, 0.9960])
    gain = results.compare(before, after)
    expected = gain_by_writer(results.count_by_writer(before), results.count_by_writer(after))
    assert gain.by_writer == pytest.approx(tuple(100 * end for end in expected))
    assert gain.by_writer[0] < gain.points < gain.by_writer[1]
    fewer = [record.model_copy(update={"train_images": 50_000}) for record in after]
    assert results.compare(before, fewer).by_writer is None  # trained on other images
