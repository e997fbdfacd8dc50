from dataclasses import replace

import pytest

from mnist_lab.data import WRONG_TEST_LABELS
from mnist_lab.evidence import tables
from mnist_lab.evidence.records import Mistake
from mnist_lab.evidence.results import summarise
from mnist_lab.evidence.tables import Table


def test_text_is_aligned_and_markdown_is_a_table():
    table = Table(("a", "bbb"), [("1", "2"), ("long", "3")], "a note")
    assert table.text() == "a     bbb\n----  ---\n1     2\nlong  3\n\na note"
    assert table.markdown() == "| a | bbb |\n| --- | --- |\n| 1 | 2 |\n| long | 3 |\n\na note"
    assert Table(("a",), [], "").text() == "a\n-\n\n"


def test_a_narrow_terminal_gets_wrapped_headers_and_fewer_columns():
    row = ("x" * 40, "y" * 30, "z" * 20)
    table = Table(("a", "one two", "b"), [row], "note " * 30, spare=("b", "a"))
    narrow, wide = table.text().splitlines(), table.text(wide=True).splitlines()
    assert max(map(len, narrow)) <= 80 and narrow[2] == f"{row[0]}  {row[1]}"
    assert "Left out to fit 80 columns: b." in " ".join(narrow)
    assert wide[2] == "  ".join(row) and "Left out" not in " ".join(wide)
    assert Table(("one two",), [("x",)], "").text() == "one\ntwo\n---\nx\n\n"


def test_the_overview_fits_a_terminal_and_keeps_gpu_runs_apart(seeds):
    on_cpu = [*seeds([0.9930, 0.9932], "2"), *seeds([0.9950, 0.9960], change="a change of thirty letters or so")]
    assert len(tables.overview(on_cpu)) == 3
    *found, on_gpu = tables.overview([*on_cpu, *seeds([0.9, 0.9], device_type="cuda", device="Tesla T4")])
    assert found == tables.overview(on_cpu)
    assert [row[0] for row in on_gpu.rows] == ["3 on cuda"] and "Device: Tesla T4." in on_gpu.note
    for table in [*found, on_gpu]:
        assert max(map(len, table.text().splitlines())) <= 80
        assert all(cell in table.text(wide=True) for row in table.rows for cell in row)


def test_the_results_tell_mean_spread_and_where_they_come_from(seeds, make_record):
    result, *_ = tables.overview(seeds([0.9950, 0.9960]))
    row = dict(zip(result.headers, result.rows[0], strict=True))
    assert row["accuracy, %"] == "99.550 ± 0.071"
    assert row["95 % interval of the mean"] == "98.915 – 100.185"  # two seeds prove little
    assert (row["min"], row["max"], row["seeds"], row["parameters"]) == ("99.50", "99.60", "2", "7,946")
    assert row["seconds"] == "160"
    (summary,) = summarise(seeds([0.9950, 0.9960]))
    assert "7,946 / 7,000" in tables.results_table([replace(summary, deployed=7000)]).rows[0]
    assert "scored on test images of MNIST;" in result.note and "a processor, 1 thread." in result.note
    sample, *_ = tables.overview([make_record(data="digits sample, not MNIST")])
    assert "digits sample, not MNIST" in sample.note


def test_the_consistency_of_seeds(seeds):
    _, table, _ = tables.overview(seeds([0.9950] * 58 + [0.9939], late=[0.9940] * 4))
    row = dict(zip(table.headers, table.rows[0], strict=True))
    assert row["seeds >= 99.40 %"] == "58 of 59"
    share = row["share of new seeds on target, at least"]
    assert share == "92.2 %"  # as R prints binom.test(58, 59, alternative = "greater"): 0.9220
    assert row["last 5 epochs >= 99.40 %"] == "294 of 295"
    assert row["seeds with all 5"] == "58 of 59"
    assert row["misread"] == "50.2"


def test_one_seed_shows_dashes(make_record):
    result, consistency, gained = tables.overview([make_record("2"), make_record()])
    assert result.rows[1][5:7] == ("99.52", "–")
    assert consistency.rows[1][-1] == "–"
    assert gained.rows == [("3", "a change", "2", "+0.000", "–", "–", "–", "–", "not known: too few seeds")]


@pytest.mark.parametrize(
    ("after", "verdict"),
    [
        ([0.9950, 0.9951, 0.9952], "better"),
        ([0.9910, 0.9911, 0.9912], "worse"),
        ([0.9930, 0.9933, 0.9932], "no difference"),
    ],
)
def test_a_gain_smaller_than_its_uncertainty_is_no_difference(seeds, after, verdict):
    *_, table = tables.overview([*seeds([0.9930, 0.9931, 0.9932], "2"), *seeds(after)])
    assert table.rows[0][-1] == verdict


def test_a_table_says_why_it_has_no_interval_by_writer(seeds, writers, tmp_path, monkeypatch):
    records = [*seeds([0.9930, 0.9931], "2"), *seeds([0.9950, 0.9951])]
    for known in (True, False):
        _, consistency, gained = tables.overview(records)
        assert [row[-1] == "–" for row in consistency.rows] == [not known] * 2
        assert [row[5] == "–" for row in gained.rows] == [not known]
        for table in (consistency, gained):
            assert ("QMNIST's label files" in table.note) != known
        monkeypatch.setenv("MNIST_LAB_DATA", str(tmp_path))


def test_a_tiny_p_is_not_shown_as_zero():
    assert tables.p_value(3e-17) == "< 0.0001"
    assert (tables.p_value(0.00037), tables.p_value(0.512), tables.p_value(1.0)) == ("0.00037", "0.51", "1")


def test_single_runs_are_compared_with_the_one_above(make_record):
    before, after = make_record("2", accuracies=(0.9970,)), make_record(accuracies=(0.9985,))
    table = tables.comparison_table([before, after])
    assert table.rows[0][3:] == ("99.70 % (99.57 – 99.79)", "30 of 10,000", "", "", "", "")
    assert table.rows[1][5:] == ("+0.15", "15", "0", "< 0.0001")
    alone = tables.comparison_table([before])
    assert len(alone.headers) == len(alone.rows[0]) == 5  # nothing to compare with, so no empty columns


def test_images_won_do_not_hide_images_lost(make_record):
    before, after = (
        make_record(accuracies=(1 - len(indices) / 10_000,), mistakes=[Mistake(index, 1, 7, 0.6) for index in indices])
        for indices in (range(30), range(20, 35))
    )
    row = tables.comparison_table([before, after]).rows[1]
    assert row[5:] == ("+0.15", "20", "5", "0.0041")  # p: twice the chance of at most 5 heads in 25 throws


def test_a_gpu_run_lies_within_the_spread_of_seeds_or_not(make_record, seeds):
    def said(accuracy):
        on_gpu = make_record(accuracies=(0.99, accuracy), device_type="cuda", device="Tesla T4")
        return tables.beside(on_gpu, study)

    study = seeds([0.9952, 0.9948, 0.9944], late=[0.99])
    assert said(0.9950).startswith("Tesla T4, seed 0: 99.50 %; 3 CPU seeds: 99.48 ± 0.04 %")
    assert "from 99.28 to 99.68 %" in said(0.9950)
    assert [f"lies {'within' if inside else 'outside'} the spread" in said(accuracy) for accuracy, inside in [
        (0.9950, True), (0.9929, True), (0.9927, False), (0.9969, False),
    ]] == [True] * 4  # fmt: skip
    others = [make_record("3a"), make_record(recipe={"rotation": 1.0}), make_record(train_images=3000)]
    study = [*study[:1], *others, *seeds([0.995, 0.996], device_type="cuda")]
    assert "fewer than two CPU runs of step 3" in said(0.9950)


def test_wrong_labels_are_told_beside_the_result(make_record):
    mistakes = [Mistake(index, 1, 7, 0.6) for index in [*WRONG_TEST_LABELS[:4], *range(46)]]
    said = tables.wrong_labels(make_record(accuracies=(0.995,), mistakes=mistakes))
    assert "50 of 10,000 (0.50 %), the result. 4 of them are among the 15" in said
    assert said.endswith("46 of 9,985 (0.46 %).")
    assert "of MNIST's test images only" in tables.wrong_labels(make_record(data="digits sample, not MNIST"))
