import numpy as np
import pytest

from mnist_lab.analysis import calibration, tables
from mnist_lab.analysis.corruptions import CORRUPTIONS
from mnist_lab.analysis.robustness import CLEAN, Robustness
from mnist_lab.analysis.smaller import Smaller, mean_of, narrow_networks


def test_robustness_ends_with_the_mean_over_corruptions_alone():
    found = [Robustness(name="3", trained="", corruption=CLEAN, images=100, correct=[[100]])]
    found += [Robustness(name="3", trained="", corruption=kind, images=100, correct=[[90] * 5]) for kind in CORRUPTIONS]
    found[-1] = Robustness(name="3", trained="", corruption="elastic", images=100, correct=[[72] * 5])
    table = tables.robustness_table(found)
    assert table.rows[0] == ("none", "0.5") and table.rows[-1] == ("mean", "11.0") and "3: 1" in table.note


def test_a_temperature_has_a_row(answers):
    found, labels = answers
    rows = tables.calibration_table({"step 3": found, "cooled": calibration.cooled(found, 2.0)}, labels).rows
    assert [row[0] for row in rows] == ["step 3", "cooled"]
    assert float(rows[1][4]) == pytest.approx(
        np.mean([calibration.loss(calibration.cooled(one, 2.0), labels) for one in found]), abs=1e-4
    )


def test_ways_are_rows_over_seeds():
    found = [
        Smaller(trained="", way=way, family="bits", tuned=False, seed=seed, images=1000, correct=990 + seed, loss=0.1,
                bytes=size, multiply_accumulates=9)
        for way, size in (("32 bits", 4000), ("8 bits", 1000)) for seed in range(3)
    ]  # fmt: skip
    table = tables.smaller_table(found)
    assert [row[:2] for row in table.rows] == [("32 bits", "3"), ("8 bits", "3")] and "99.100" in table.rows[0][2]
    assert (mean_of(found, "8 bits").kilobytes, mean_of(found, "8 bits").errors) == (1.0, 9.0)
    assert mean_of(found, "4 bits") is None


def test_narrow_networks_trained_as_long_as_any(make_record):
    long = [make_record(name="4k", seed=seed, parameters=3908, recipe={"epochs": 5}) for seed in range(2)]
    short = make_record(name="3-epochs", recipe={"epochs": 1}, accuracies=(0.99,))
    gpu = make_record(name="4k", parameters=3908, recipe={"epochs": 5}, device_type="cuda")
    (found,) = narrow_networks([*long, short, gpu])
    assert (found.bytes, found.multiply_accumulates, found.accuracies) == (4 * 3908, 450_312, [0.9952, 0.9952])
    assert narrow_networks([]) == []
