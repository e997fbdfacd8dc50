from dataclasses import replace

import pytest

from mnist_lab.published import tables as published_tables
from mnist_lab.published.recipes import RECIPES, REPAIRED
from mnist_lab.published.tables import reproductions

NO_DROPOUT = next(recipe for recipe in REPAIRED if recipe.row == "E3 no dropout")


def test_a_step_is_reduced_to_what_is_claimed_and_what_came_out(three, published):
    theirs, ours = reproductions(three, [published])
    assert (theirs.step, theirs.claimed, theirs.seeds) == ("E3", pytest.approx(0.9953), 3)
    assert theirs.last.mean == pytest.approx((0.9940 + 0.9950 + 0.9954) / 3)
    assert (theirs.last.minimum, theirs.last.maximum) == (pytest.approx(0.9940), pytest.approx(0.9954))
    assert theirs.best.mean == pytest.approx((0.9952 + 0.9950 + 0.9954) / 3)
    assert theirs.claim_expected is True
    assert (ours.step, ours.claimed, ours.claim_expected) == ("our step 3", None, None)
    assert ours.last.mean == published.accuracy and ours.last.sd is None


def test_a_claim_far_from_our_seeds_is_not_expected(seed_of):
    seeds = [seed_of(RECIPES["E3"], seed, 99.1 + seed / 100) for seed in range(3)]
    (found,) = reproductions(seeds, [])
    assert found.claim_expected is False
    assert published_tables.reproductions_table([found], seeds).rows[0][4] == "no"


def test_a_repair_is_no_step_of_the_series(three, seed_of):
    repaired = seed_of(NO_DROPOUT, 0, 99.6)
    assert [found.step for found in reproductions([*three, repaired], [])] == ["E3"]


def test_our_own_steps_have_a_table_before_any_published_step_is_trained(published, seed_of):
    for others in ([], [seed_of(NO_DROPOUT, 0, 99.6)]):
        table = published_tables.reproductions_table(reproductions(others, [published]), others)
        assert [row[0] for row in table.rows] == ["our step 3"] and "on average over" not in table.note


def test_without_records_the_block_says_so(published, seed_of):
    assert "No step has been trained yet" in published_tables.published_block([], [published])
    repaired = seed_of(NO_DROPOUT, 0, 99.6)
    assert "No step has been trained yet" in published_tables.published_block([repaired], [published])


def test_the_block_has_a_row_for_each_step_with_records_and_shows_the_figures(three, published):
    block = published_tables.published_block(three, [published])
    rows = [line for line in block.splitlines() if line.startswith("| ")]
    assert [row.split(" | ")[0] for row in rows] == ["| step", "| ---", "| E3", "| our step 3"]
    assert "| E3 | 99.53 | 99.52 ± 0.02 |" in block and "| 99.48 ± 0.07 | 99.40 | 99.54 |" in block
    assert "1 of 1 claims lie" in block and "adds 0.04 points on average over the 3 runs" in block
    assert "at most 0.12" in block and "E3 on SageMaker 99.49" in block
    assert all(f"(images/{name})" in block for name in published_tables.FIGURES)


def test_the_hours_of_a_series_are_those_of_all_its_seeds(three, seed_of):
    seeds = [replace(record, seconds=1800.0) for record in [*three, seed_of(RECIPES["E1"], 0, 99.0)]]
    seeds.append(replace(seed_of(RECIPES["D1"], 0, 99.0), seconds=720.0))
    repaired = replace(seed_of(NO_DROPOUT, 0, 99.6), seconds=3600.0)
    note = published_tables.reproductions_table(reproductions(seeds, []), [*seeds, repaired]).note
    assert "Their training took 0.2 h (series D), 2.0 h (series E)." in note


def test_each_device_is_named_once(three):
    three[1] = replace(three[1], environment={**three[1].environment, "device": "another processor"})
    note = published_tables.reproductions_table(reproductions(three, three), three).note
    assert note.endswith(f"Device: {three[0].environment['device']}; another processor.")


def test_the_table_of_a_terminal_is_aligned(three):
    lines = published_tables.reproductions_table(reproductions(three, []), three).text().splitlines()
    assert lines[0].index("claimed best") == lines[2].index("99.53")


def test_the_claimed_run_is_seen_beside_how_our_seeds_trained(three, seed_of):
    for seed, (trained, loss) in enumerate([(0.9936, 0.0200), (0.9940, 0.0190), (0.9944, 0.0240)]):
        history = [epoch | {"train": {"loss": 0.03, "accuracy": 0.99}} for epoch in three[seed].history]
        history[0]["train"] = {"loss": 0.02, "accuracy": trained}  # the best need not be the last
        history[-1]["test"] = {"loss": loss, "accuracy": 0.994}
        three[seed] = replace(three[seed], history=history)
    others = [seed_of(RECIPES["B3"], 0, 99.4), seed_of(RECIPES["D1"], 0, 99.2)]
    table = published_tables.training_table(reproductions([*others, *three], []))
    assert [row[0] for row in table.rows] == ["B3", "E3"]  # D1 states no training accuracy
    assert table.rows[0][6] == "–"  # nor B3 a loss
    assert table.rows[1][:6] == ("E3", "99.52", "99.40 ± 0.04", "99.36", "99.44", "0.80")
    assert table.rows[1][6:] == ("0.0186", "0.0210", "0.0190", "0.0240")
    assert "| E3 | 99.52 | 99.40 ± 0.04 |" in published_tables.training_block(three)
    assert "No step that says how it trained" in published_tables.training_block(others[1:])
