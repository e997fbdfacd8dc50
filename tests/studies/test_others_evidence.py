"""Tables and figures of the published series, from records made for the test."""

from dataclasses import asdict

import pytest

from mnist_lab.evidence.records import RecordError
from mnist_lab.studies.others import figures, tables
from mnist_lab.studies.others.catalogue import CLAIMS

E3 = [(0.9952, 0.9940), (0.9948, 0.9950), (0.9940, 0.9954)]


@pytest.fixture
def seeds(make_record):
    """Makes a record for each of the ``runs``, which are test accuracies epoch by epoch, in [0, 1]."""

    def make(name: str, *runs: tuple[float, ...], **changes) -> list:
        return [make_record(name, seed, run, kind="published", **changes) for seed, run in enumerate(runs)]

    return make


@pytest.fixture
def own(make_record):
    return make_record("3", 0, (0.995, 0.9952))


def test_a_step_is_reduced_to_what_is_claimed_and_what_came_out(seeds, own):
    theirs, ours = tables.reproductions([own, *seeds("E3", *E3)])
    assert (theirs.step, theirs.claim.best, theirs.seeds) == ("E3", 99.53, 3)
    assert theirs.last.mean == pytest.approx((0.9940 + 0.9950 + 0.9954) / 3)
    assert (theirs.last.minimum, theirs.last.maximum) == (0.9940, 0.9954)
    assert theirs.best.mean == pytest.approx((0.9952 + 0.9950 + 0.9954) / 3)
    assert theirs.claim_expected is True
    assert (ours.step, ours.claim.best, ours.claim_expected) == ("our step 3", None, None)
    assert ours.last.mean == own.accuracy and ours.last.sd is None
    assert asdict(theirs)["claim"]["log"]["file"] == "03_train_mnist.ipynb"


def test_seeds_of_another_version_of_the_recipe_are_not_taken_in(seeds):
    ours = seeds("E3", *E3)
    other = ours[0].recipe | {"learning_rate": 7.0}
    with pytest.raises(RecordError, match=r"the runs of E3 differ .* of the files published/E3\.jsonl, move away"):
        tables.reproductions([*ours, ours[0].model_copy(update={"recipe": other})])


def test_a_claim_far_from_our_seeds_is_not_expected(seeds):
    runs = seeds("E3", (0.9910,), (0.9911,), (0.9912,))
    assert [one.claim_expected for one in tables.reproductions(runs)] == [False]
    assert tables.reproductions_table(runs).rows[0][4] == "no"


def test_variants_intermediate_rows_and_gpu_runs_are_no_steps(seeds, own, make_record):
    others = seeds("E3 no dropout", (0.996,)) + seeds("A1", (0.99,), device_type="cuda")
    others += [make_record("3a", kind="intermediate"), make_record("2", device_type="cuda")]
    assert [one.step for one in tables.reproductions([own, *others])] == ["our step 3"]
    note = tables.reproductions_table([own, *others]).note
    assert "on average over" not in note and "claims lie" not in note


def test_the_table_says_what_all_seeds_add_up_to(seeds, own):
    records = [*seeds("E3", *E3, seconds=1800.0), *seeds("D1", (0.99,), seconds=720.0, device="another one")]
    records += seeds("E3 no dropout", (0.996,), seconds=3600.0)
    table = tables.reproductions_table([*records, own])
    assert [row[0] for row in table.rows] == ["D1", "E3", "our step 3"]
    assert table.rows[1][1:3] == ("99.53", "99.52 ± 0.02") and table.rows[1][5:8] == ("99.48 ± 0.07", "2", "3")
    assert "1 of 1 claims lie" in table.note and "adds 0.03 points on average over the 4 runs" in table.note
    assert "at most 0.12" in table.note and "E3 on SageMaker 99.49" in table.note
    assert "took 0.2 h (series D), 1.5 h (series E)." in table.note  # of the steps as published
    assert table.note.endswith("Device: a processor; another one.")


def test_the_claimed_run_is_seen_beside_how_our_seeds_trained(seeds, make_record):
    trained = [(0.9936, 0.99, 0.0200), (0.99, 0.9940, 0.0190), (0.9944, 0.99, 0.0240)]  # the best need not be the last
    records = [
        make_record("E3", seed, (0.994, 0.994), (0.1, loss), (first, last), kind="published")
        for seed, (first, last, loss) in enumerate(trained)
    ]
    table = tables.training_table([*records, *seeds("D1", (0.99,))])
    (row,) = table.rows  # nothing is known of how D1 trained
    assert row == ("E3", "99.52", "99.40 ± 0.04", "99.36", "99.44", "0.80", "0.0186", "0.0210", "0.0190", "0.0240")


def test_a_variant_is_compared_with_the_step_that_it_changes(seeds):
    after = [(0.996,), (0.9961,), (0.9962,)]
    records = seeds("E3", *E3) + seeds("E3 no dropout", *after, training=(0.997,), losses=(0.01,))
    (row,) = tables.variants_table(records).rows
    assert row[:6] == ("E3", "no dropout", "3, 3", "99.48 ± 0.07", "99.61 ± 0.01", "+0.13")
    assert row[6] == "-0.04 – +0.30"  # Welch: nearly all of the spread is in one of them
    assert row[7:] == ("-0.0100", "99.47 → 99.61", "99.52 → 99.70")


def test_one_seed_of_a_variant_has_no_interval(seeds):
    (row,) = tables.variants_table(seeds("E3", *E3) + seeds("E3 no dropout", (0.996,))).rows
    assert row[2:7] == ("3, 1", "99.48 ± 0.07", "99.60", "+0.12", "–")


def test_a_variant_without_the_step_as_published_is_not_compared(seeds):
    assert not tables.variants_table(seeds("E3 no dropout", *E3) + seeds("A3", *E3)).rows


def test_every_table_fits_a_terminal(seeds):
    records = seeds("E3", *E3) + seeds("E3 no dropout", *E3)
    for table in (tables.reproductions_table, tables.training_table, tables.variants_table):
        assert max(map(len, table(records).text().splitlines())) <= 80


def test_sources_are_links_to_files_at_their_commits():
    sources = {row[0]: row[2] for row in tables.sources_table().rows}
    assert sources["D1"] == "no result found"
    assert "Assignment7/blob/674c3bcb9be3880235f372405846b6aaf508d57b/step_3.ipynb" in sources["B3"]
    assert "/7th%20assignment.png)" in sources["D3"]


@pytest.fixture
def two_steps(seeds):
    """Two seeds of A3 and of D1, which claims nothing."""
    runs = [tuple(0.99 + 0.0002 * epoch + seed / 1000 for epoch in range(15)) for seed in range(2)]
    return seeds("A3", *runs) + seeds("D1", *runs)


def test_each_step_has_its_seeds_and_its_claim(two_steps, own, tmp_path):
    figure = figures.claims_and_seeds([*two_steps, own], "title (MNIST)")
    figure.savefig(tmp_path / "figure.png")
    (axis,) = figure.axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["A3", "D1", "our\nstep 3"]
    (claim,) = [line for line in axis.lines if line.get_marker() == "x" and len(line.get_xdata())]
    assert list(claim.get_ydata()) == pytest.approx([1 - 0.9946])
    assert list(axis.lines[0].get_ydata()) == pytest.approx([0.0072, 0.0062])  # of A3, the last epochs


def test_a_panel_for_each_step_has_its_logs(two_steps, tmp_path):
    figure = figures.curves_of_the_series(two_steps, "title (MNIST)")
    figure.savefig(tmp_path / "figure.png")
    shown = [axis for axis in figure.axes if axis.get_title()]
    assert [axis.get_title() for axis in shown] == ["A3: 2 seeds", "D1: 2 seeds, no log"]
    logs = [tuple(100 * (1 - share) for share in line.get_ydata()) for line in shown[0].lines[:2]]
    assert logs == [pytest.approx(log.accuracies) for log in (CLAIMS["A3"].log, CLAIMS["A3"].other)]
