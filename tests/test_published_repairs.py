from dataclasses import replace

from mnist_lab.published import repairs
from mnist_lab.published.recipes import REPAIRED
from mnist_lab.records import Record

NO_DROPOUT = next(recipe for recipe in REPAIRED if recipe.row == "E3 no dropout")


def trained(record: Record, accuracy: float) -> Record:
    """Say that ``record`` read this share of the training images in its first epoch, and less in the others."""
    history = [epoch | {"train": {"loss": 0.03, "accuracy": 0.9}} for epoch in record.history]
    history[0]["train"]["accuracy"] = accuracy
    return replace(record, history=history)


def cells(records: list[Record]) -> tuple[str, ...]:
    (row,) = repairs.repairs_table(records).rows
    return row


def test_a_repair_is_compared_with_the_step_it_repairs(three, seed_of):
    before = [trained(record, 0.993 + seed / 1000) for seed, record in enumerate(three)]
    after = [trained(seed_of(NO_DROPOUT, seed, 99.60 + seed / 100), 0.996) for seed in range(3)]
    row = cells([*before, *after])
    assert row[:6] == ("E3", "no dropout", "3, 3", "99.48 ± 0.07", "99.61 ± 0.01", "+0.13")
    assert row[6] == "-0.04 – +0.30"  # Welch: 3 and 3 seeds, nearly all of the spread in one of them
    assert row[7:] == ("+0.0000", "99.47 → 99.61", "99.40 → 99.60")


def test_one_seed_has_no_interval(three, seed_of):
    assert cells([*three, seed_of(NO_DROPOUT, 0, 99.6)])[2:7] == ("3, 1", "99.48 ± 0.07", "99.60", "+0.12", "–")


def test_a_difference_is_never_minus_nothing(three, seed_of):
    nearly_equal = [seed_of(NO_DROPOUT, seed, accuracy) for seed, accuracy in enumerate((99.39, 99.50, 99.54))]
    assert cells([*three, *nearly_equal])[5] == "+0.00"


def test_without_anything_to_compare_the_block_says_so(three, seed_of):
    for records in ([], three, [seed_of(NO_DROPOUT, 0, 99.6)]):
        assert "No repair has been trained yet" in repairs.repairs_block(records)
