from dataclasses import replace

import pytest

from mnist_lab import tables
from mnist_lab.data import WRONG_TEST_LABELS
from mnist_lab.tables import Table


def test_text_is_aligned_and_markdown_is_a_table():
    table = Table(("a", "bbb"), [("1", "2"), ("long", "3")], "a note")
    assert table.text() == "a     bbb\n----  ---\n1     2\nlong  3\n\na note"
    assert table.markdown() == "| a | bbb |\n| --- | --- |\n| 1 | 2 |\n| long | 3 |\n\na note"
    assert Table(("a",), [], "").text() == "a\n-\n\n"


def test_a_terminal_and_the_readme_show_the_same_numbers(seeds):
    records = [*seeds([0.9930, 0.9932], row="2"), *seeds([0.9950, 0.9960])]
    for table in tables.overview(records):
        text = table.text()
        assert all(cell in text and cell in table.markdown() for row in table.rows for cell in row)


def test_the_results_tell_mean_spread_and_where_they_come_from(seeds, published):
    result, *_ = tables.overview(seeds([0.9950, 0.9960]))
    row = dict(zip(result.headers, result.rows[0], strict=True))
    assert row["accuracy, %"] == "99.550 ± 0.071"
    assert row["95 % interval of the mean"] == "98.915 – 100.185"  # two seeds prove little
    assert (row["min"], row["max"], row["seeds"], row["parameters"]) == ("99.50", "99.60", "2", "7,306 / 7,306")
    assert row["seconds"] == f"{published.seconds:.0f}"
    assert "scored on test images of MNIST;" in result.note and "threads" in result.note
    sample, *_ = tables.overview([replace(published, data="digits sample, not MNIST")])
    assert "digits sample, not MNIST" in sample.note


def test_the_consistency_of_seeds(seeds):
    _, table, _ = tables.overview(seeds([0.9950] * 58 + [0.9939]))
    row = dict(zip(table.headers, table.rows[0], strict=True))
    assert row["seeds >= 99.40 %"] == "58 of 59"
    assert row["a new seed, at least"] == "92.2 %"  # as R prints binom.test(58, 59, alternative = "greater"): 0.9220
    assert row["last 5 epochs >= 99.40 %"] == "294 of 295"
    assert row["seeds with all 5"] == "58 of 59"
    assert row["misread"] == "50.2"


def test_one_seed_shows_dashes(published):
    records = [replace(published, row="2"), published]
    result, consistency, gained = tables.overview(records)
    assert result.rows[1][5:7] == (f"{100 * published.accuracy:.2f}", "–")
    assert consistency.rows[1][-1] == "–"
    assert gained.rows == [("3", "OneCycleLR", "2", "+0.000", "–", "–", "–", "not known: too few seeds")]


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        ([0.9950, 0.9951, 0.9952], "better"),
        ([0.9910, 0.9911, 0.9912], "worse"),
        ([0.9930, 0.9933, 0.9932], "no difference"),
    ],
)
def test_a_gain_smaller_than_its_uncertainty_is_no_difference(seeds, after, verdict):
    *_, table = tables.overview([*seeds([0.9930, 0.9931, 0.9932], row="2"), *seeds(after)])
    assert table.rows[0][-1] == verdict


def test_a_tiny_p_is_not_shown_as_zero():
    assert tables.p_value(3e-17) == "< 0.0001"
    assert (tables.p_value(0.00037), tables.p_value(0.512), tables.p_value(1.0)) == ("0.00037", "0.51", "1")


def test_the_comparison_table_compares_with_the_row_above(seeds):
    (before,), (after,) = seeds([0.9970]), seeds([0.9985], row="9")
    table = tables.comparison_table([before, after])
    first, second = table.rows
    assert first[4:] == ("30 of 10,000", "", "", "", "")
    assert first[3] == "99.70 % (99.57 – 99.79)"
    assert second[5:] == ("+0.15", "15", "0", "< 0.0001")
    assert "test images of MNIST" in table.note


def test_a_run_finds_its_place_among_the_seeds(seeds):
    study = [*seeds([0.9, 0.9], row="3a"), *seeds([0.9950, 0.9960, 0.9940, 0.9950])]
    said = tables.place_in_study(study[2], study)
    assert said.startswith("Row 3, seed 0: 99.50 %, rank 2 of 4 seeds, shared with 1 other.")
    assert "99.500 ± 0.082 %, the 95 % interval of the mean 99.370 – 99.630 %." in said
    assert ", rank 1 of 4 seeds. " in tables.place_in_study(study[3], study)


def test_a_run_alone_says_so(published):
    said = tables.place_in_study(published, [published])
    assert "No other seed of this recipe on these images is tracked" in said


def test_wrong_labels_are_told_beside_the_headline(published):
    indices = [*WRONG_TEST_LABELS[:4], *range(46)]
    mistakes = [{"index": i, "label": 1, "predicted": 7, "confidence": 0.6} for i in indices]
    run = replace(published, mistakes=mistakes)
    said = tables.wrong_labels(run)
    assert "50 of 10,000 (0.50 %), the headline. 4 of them are among the 15" in said
    assert said.endswith("46 of 9,985 (0.46 %).")
    assert "of MNIST's test images only" in tables.wrong_labels(replace(run, data="digits sample, not MNIST"))
