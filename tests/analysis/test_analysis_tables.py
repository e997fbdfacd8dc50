import numpy as np
import pytest

from mnist_lab.analysis import calibration, ensembles, errors, tables
from mnist_lab.analysis.corruptions import CORRUPTIONS
from mnist_lab.analysis.robustness import CLEAN, Robustness
from mnist_lab.analysis.smaller import Smaller, mean_of


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


def test_limits_are_what_luck_does_not_explain():
    shares = np.zeros(1000)
    shares[:3], shares[3:13] = 1.0, 0.4  # three errors that every seed makes, four of luck
    budget = errors.Budget("3", 10, 1000, shares)
    together = [ensembles.Together(size, 1, 0.0, wrong, 0.0) for size, wrong in ((1, 7.0), (2, 5.4), (3, 4.9))]
    said = tables.limits_sentence(budget, together, accuracy=0.995)
    assert "misreads 7.0 images: 3.0 have a wrong label" in said and "4.0 are bad luck" in said
    assert "room for 5 errors" in said and "cost 2.0 in place of 4.0" in said
    assert "3 seeds together read so well, with 4.9 errors" in said
    beyond = tables.limits_sentence(budget, together, accuracy=0.998)
    assert "luck alone cannot spare enough; no ensemble here" in beyond


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
