import math

import pytest

from mnist_lab.search import tables as search_tables
from mnist_lab.uncertainty import dunnett


def test_candidates_are_held_against_the_step(searched):
    found = {trial.name: trial for trial in search_tables.trials(searched)}
    assert list(found) == ["step-3", "cutout", "no-augmentation", "adamw", "sgd", "relu"]  # families; lowest loss first
    assert found["step-3"].gain is None and found["relu"].gain is None
    logs = [math.log(record.loss) for record in searched if record.row == "step-3"]
    assert found["sgd"].gain.mean == pytest.approx(math.log(0.0151) - sum(logs) / 3, abs=1e-3)
    assert {name: search_tables.verdict(trial) for name, trial in found.items()} == {
        "step-3": "the step",
        "cutout": "no difference",
        "no-augmentation": "worse",
        "adamw": "better",
        "sgd": "worse",
        "relu": "not known: too few seeds",
    }


def test_all_candidates_of_several_seeds_are_compared_at_once(searched):
    many = {row: [record for record in searched if record.row == row] for row in {r.row for r in searched}}
    gains = search_tables.against_the_step(many)
    expected = dunnett(search_tables.log_losses(many["step-3"]), [search_tables.log_losses(many[row]) for row in gains])
    assert list(gains.values()) == expected
    assert set(gains) == {"cutout", "no-augmentation", "adamw", "sgd"}  # relu has one seed
    assert search_tables.against_the_step({name: group for name, group in many.items() if name != "step-3"}) == {}
    assert search_tables.against_the_step({"step-3": many["step-3"]}) == {}


def test_the_note_says_where_the_loss_is_no_fair_judge(searched):
    note = search_tables.search_table(searched).note
    assert "Smoothed labels and mixup forbid to be sure" in note and "Dunnett" in note


def test_the_table_of_the_search(searched):
    rows = [line for line in search_tables.search_block(searched).splitlines() if line.startswith("| ")]
    assert rows[2].startswith("| step 3 | as it is | 7,306 | 3 | 99.57 ± 0.06 | 0.0129 | – | – | the step |")
    assert rows[4].startswith("| images | not distorted | 7,306 | 3 | 99.30 ± 0.00 | 0.0205 | 1.59 | 1.52 – 1.67 |")
    assert "00_search.png" in search_tables.search_block(searched)
    assert search_tables.search_block([]) == "Not trained yet: `mnist-lab search`."


def test_the_frontier_names_the_cheapest_on_target(on_frontier):
    block = search_tables.frontier_block(on_frontier)
    smallest = "After 15 epochs the smallest network with a mean of at least 99.40 % has 3,908 parameters"
    fewest = "With 7,306 parameters the fewest epochs for it are 8"
    assert f"{smallest}, though its interval reaches below. {fewest}." in block
    first, *_, last = [line for line in block.splitlines() if line.startswith("| ")][2:]
    assert first.startswith("| 5 epochs | 7,306 | 5 | 2 | 99.395 ± 0.007 |") and last.startswith(
        "| all its parameters and epochs | 7,306 | 15 | 3 | 99.500 ± 0.010 |"
    )
    assert all(trial.gain is None for trial in search_tables.trials(on_frontier))
    assert search_tables.frontier_block([]).startswith("Not trained yet")
    assert "After 15 epochs no network has a mean of at least 99.40 %." in search_tables.frontier_block(on_frontier[:2])


def test_without_a_frontier_the_step_is_not_shown(seeds):
    assert search_tables.with_the_step([], seeds([0.995])) == []
