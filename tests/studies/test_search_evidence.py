import math
from dataclasses import asdict, replace
from itertools import pairwise

import pytest

from mnist_lab.evidence.records import Record, RecordError
from mnist_lab.evidence.uncertainty import dunnett
from mnist_lab.recipe import Recipe
from mnist_lab.studies.search import figures, tables, variants

STEP = Recipe("CompactNet", 1, 100, 0.02, "one-cycle", 0.15, 0.999, 13.0, 1, 0.15, 6.0, 1, "tensor")
ROWS = {"1": STEP, "2a": STEP, "3": STEP}


@pytest.fixture
def tried(make_record):
    """Makes records of a variant that no training made: one for each accuracy and loss."""
    by_name = {one.name: one for one in variants.every(ROWS)}

    def make(name: str, *scores: tuple[float, float], epochs: int = 1, **changes) -> list[Record]:
        variant = by_name[name]
        same = {"kind": variant.kind, "change": variant.change, "score_on": variant.score_on, "step": None} | changes
        return [
            make_record(
                name, seed, epochs * (accuracy,), epochs * (loss,), recipe=asdict(variant) | {"epochs": epochs}, **same
            )
            for seed, (accuracy, loss) in enumerate(scores)
        ]

    return make


@pytest.fixture
def searched(tried) -> list[Record]:
    """Records of some ablations; all but one come to every fold, of which some are easier than others."""

    def folds(name: str, accuracy: float, loss: float, spread: float) -> list[Record]:
        luck = (-1, 1, -1, 1, -1, 1)
        easier = (1, 0.9, 1.2, 1, 1.1, 0.8)
        losses = [loss * factor * (1 + spread * one) for factor, one in zip(easier, luck, strict=True)]
        return tried(name, *[(accuracy + spread * one / 100, found) for one, found in zip(luck, losses, strict=True)])

    return [
        *folds("sgd", 0.995, 0.0151, 0.01),
        *folds("cutout", 0.995, 0.0129, -0.01),
        *folds("no-augmentation", 0.993, 0.0205, 0.02),
        *folds("adamw", 0.996, 0.0110, 0.005),
        *tried("relu", (0.995, 0.0130), (0.995, 0.0130)),
        *folds("step-3", 0.996, 0.0128, 0.01),
    ]


@pytest.fixture
def costs(tried, make_record) -> list[Record]:
    """Records of some of the frontier, and of the steps."""
    return [
        *tried("2k", (0.9910, 0.03), (0.9920, 0.03), epochs=15, parameters=2106),
        *tried("4k", (0.9938, 0.02), (0.9943, 0.02), epochs=15, parameters=3818),
        *tried("5-epochs", (0.9939, 0.02), (0.9940, 0.02), epochs=5),
        *tried("8-epochs", (0.9943, 0.02), (0.9943, 0.02), (0.9942, 0.02), epochs=8),
        make_record("2", 0, 15 * (0.99,)),
        *[make_record("3", seed, 15 * (accuracy,)) for seed, accuracy in enumerate((0.9950, 0.9949, 0.9951))],
    ]


def test_ablations_are_held_against_the_baseline(searched):
    found = {outcome.name: outcome for outcome in tables.ablations(searched)}
    assert list(found) == ["step-3", "cutout", "no-augmentation", "adamw", "sgd", "relu"]  # families; lowest loss first
    assert found["sgd"].loss_change.mean == pytest.approx(math.log(0.0151 / 0.0128))
    low, high = found["sgd"].loss_change.interval
    assert high - low < 0.1  # that folds differ by a third is no spread
    assert {name: outcome.verdict for name, outcome in found.items()} == {
        "step-3": "baseline",
        "cutout": "no difference",
        "no-augmentation": "worse",
        "adamw": "better",
        "sgd": "worse",
        "relu": "not known: too few seeds",
    }


def test_runs_on_a_gpu_are_not_compared(searched, tried, costs):
    on_gpu = {"device_type": "cuda", "device": "Tesla T4"}
    elsewhere = tried("sgd", (0.998, 0.01), (0.998, 0.01), **on_gpu) + tried(
        "8-epochs", (0.998, 0.01), epochs=8, **on_gpu
    )
    assert tables.ablations([*elsewhere, *searched]) == tables.ablations(searched)
    assert tables.frontier([*elsewhere, *costs]) == tables.frontier(costs)


def test_all_that_come_to_every_fold_are_compared_at_once():
    base = {fold: -4.3 - fold / 10 for fold in range(6)}
    losses = {
        "step-3": base | {6: base[0] - 0.4, 0: base[0] + 0.4},  # of two seeds of a fold the mean counts
        "sgd": {fold: loss + 0.1 + 0.01 * (-1) ** fold for fold, loss in base.items()},
        "relu": {fold: base[fold] for fold in range(5)},
        "adamw": {fold: loss - 0.2 for fold, loss in base.items()},
    }
    samples = [list(base.values()), *([losses[name][fold] for fold in range(6)] for name in ("sgd", "adamw"))]
    found = tables.against_baseline(losses)
    assert found == dict(zip(("sgd", "adamw"), dunnett(samples[0], samples[1:], in_blocks=True), strict=True))
    assert tables.against_baseline({name: losses[name] for name in ("sgd", "adamw")}) == {}
    assert tables.against_baseline({"step-3": losses["step-3"]}) == {}


def test_the_table_of_ablations(searched):
    lines = tables.ablation_table(tables.ablations(searched)).markdown().splitlines()
    assert lines[2].startswith("| step 3 | unchanged | 7,946 | 6 | 99.60 ± 0.01 | – | 0.0128 | – | – | baseline |")
    assert lines[4].startswith(
        "| images | no distortions | 7,946 | 6 | 99.30 ± 0.02 | -0.30 (-0.32 – -0.28) | 0.0205 | 1.60 | 1.57 – 1.63 |"
    )


def test_row_2a_is_taken_apart_beside_itself(searched, tried):
    folds = (1, 0.9, 1.2, 1, 1.1, 0.8)
    whole = tried("step-2a", *[(0.992, 0.030 * fold) for fold in folds])
    bent = tried("2a-relu", *[(0.991, 0.036 * fold * luck) for fold, luck in zip(folds, (1, 1.01) * 3, strict=True)])
    assert tables.ablations([*searched, *whole, *bent]) == tables.ablations(searched)
    first, second = tables.apart([*searched, *bent, *whole])
    assert (first.name, first.verdict, second.name, second.verdict) == ("step-2a", "baseline", "2a-relu", "worse")
    assert math.exp(second.loss_change.mean) == pytest.approx(1.2 * 1.01**0.5, rel=1e-3)
    table = tables.ablation_table([first, second], "row 2a")
    assert "times row 2a's" in table.headers and "step 3" not in table.note and "smoothing" not in table.note
    (axis,) = figures.ablations([first, second], "a title", "row 2a").axes
    assert "a multiple of row 2a's" in axis.get_xlabel()


def test_tracks_are_held_against_step_3(tried, make_record):
    scores = ((0.9957, 0.012), (0.9958, 0.0121), (0.9959, 0.0122))
    alone = [make_record("3", seed, (accuracy,), (loss,)) for seed, (accuracy, loss) in enumerate(scores)]
    twice = tried("2-views", (0.9962, 0.0110), (0.9961, 0.0111), (0.9963, 0.0109))
    first, second = tables.tracks([*twice, *alone, *tried("4k", (0.995, 0.02))])
    assert (first.name, first.loss_change, second.name, second.records[0].kind) == ("3", None, "2-views", "track")
    assert math.exp(second.loss_change.mean) == pytest.approx(0.11 / 0.121, rel=1e-3) and second.loss_change.is_clear
    rows = tables.tracks_table([first, second]).rows
    assert [row[0] for row in rows] == ["nothing changed", "2 views of every image in a batch"]
    assert rows[1][4].startswith("+0.040 (") and rows[1][6] == "0.91" and rows[0][4] == rows[0][6] == "–"
    assert [row[-2:] for row in rows] == [("1", "0"), ("2", "0")]  # the work of an update, and teachers
    taught = [tried(name, *scores) for name in ("assisted-2-views", "matched-2-views")]
    rows = tables.tracks_table(tables.tracks([*alone, *taught[0], *taught[1]])).rows
    assert [row[-2:] for row in rows[1:]] == [("2", "5"), ("4", "3")]  # those of the former are asked once


def test_what_is_not_measured_yet_is_named(searched):
    found, every = tables.ablations(searched), variants.ablations(STEP)
    said = tables.not_measured(found, every)
    assert said.startswith("Not measured yet: half-augmentation, ") and "sgd" not in said and said.endswith("dropout.")
    assert tables.not_measured(found, [one for one in every if one.name in ("sgd", "relu")]) == ""


def test_the_frontier_names_the_cheapest_on_target(costs):
    found = tables.frontier(costs)
    table = tables.frontier_table(found)
    smallest = "After 15 epochs the smallest network with a mean of at least 99.40 % has 3,818 parameters"
    fewest = "With 7,946 parameters the fewest epochs for it are 8"
    assert f"{smallest}, though its interval reaches below. {fewest}." in table.note
    assert tables.finding(found) == "Means reach 99.4 % from 3,818 parameters on, and from 8 epochs"
    longest = [one for one in found if one.result.epochs == 15]
    assert tables.finding(longest) == "Means reach 99.4 % from 3,818 parameters on"
    below = [replace(one, result=replace(one.result, mean=0.993)) if one.name == "3" else one for one in longest]
    assert "from 3,818 parameters" in tables.finding(below)
    assert tables.finding(found[:1]) == "No network here has a mean of 99.4 %"
    assert table.rows[0][:5] == ("5 epochs", "7,946", "5", "2", "99.395 ± 0.007")
    assert table.rows[-1][:5] == ("nothing changed", "7,946", "15", "3", "99.500 ± 0.010") and len(table.rows) == 5
    assert "After 15 epochs there is no network with a mean of at least 99.40 %." in tables.cheapest(found[2:3])


def test_step_3_is_read_from_its_records(make_record):
    slower = replace(STEP, learning_rate=0.01)
    own = [make_record(name, 0, (0.99,), recipe=asdict(one)) for name, one in (("2", slower), ("3", STEP))]
    assert variants.rows_of_steps(own) == {"2": slower, "3": STEP}
    gpu = make_record("3", 0, (0.99,), recipe=asdict(slower), device_type="cuda")
    assert variants.rows_of_steps([gpu, *own])["3"] == STEP
    for too_little in (own[:1], [gpu]):
        with pytest.raises(RecordError, match="no record of step 3 on a CPU"):
            variants.rows_of_steps(too_little)


def test_the_figure_shows_every_ablation_with_its_interval(searched):
    found = tables.ablations(searched)
    (axis,) = figures.ablations(found, "a title").axes
    labels = [label.get_text() for label in axis.get_yticklabels()]
    shown = [outcome for outcome in found if outcome.loss_change]
    assert labels == [outcome.result.change for outcome in shown]
    families = {text.get_text(): text.xy[1] for text in axis.texts}
    assert families == {"images": 0.5, "optimizer": 2.5}  # each once, beside the middle of its rows
    assert list(axis.lines[0].get_xdata()) == [math.exp(end) for end in shown[0].loss_change.interval]
    assert list(axis.lines[1].get_xdata()) == [math.exp(shown[0].loss_change.mean)]


def test_the_scale_of_losses_can_be_read_when_one_is_ten_times_the_others(searched):
    cutout = next(outcome for outcome in tables.ablations(searched) if outcome.name == "cutout")
    far = replace(cutout, loss_change=replace(cutout.loss_change, mean=2.3, interval=(2.2, 2.4)))
    far = replace(far, result=replace(far.result, change="w" * 50))
    near = replace(cutout, loss_change=replace(cutout.loss_change, mean=-0.1, interval=(-0.3, 0.1)))
    figure = figures.ablations([near, far], "a title")
    figure.canvas.draw()
    (axis,) = figure.axes
    left, right = axis.get_xlim()
    boxes = [label.get_window_extent() for label in axis.get_xticklabels() if left <= label.get_position()[0] <= right]
    assert len(boxes) >= 5
    assert all(one.x1 < next_one.x0 for one, next_one in pairwise(boxes)), "labels run into each other"
    assert right == figures.EDGE
    (arrow,) = [text for text in axis.texts if "→" in text.get_text()]
    assert arrow.get_text() == "10.0 →" and arrow.get_position() == (figures.EDGE, 1)


def test_the_frontier_has_a_panel_for_each_cost(costs):
    figure = figures.frontier(tables.frontier(costs), "a title")
    sizes, epochs = ([line for line in axis.lines if len(line.get_xdata()) > 2][-1] for axis in figure.axes)
    assert list(sizes.get_xdata()) == [2106, 3818, 7946]
    assert list(epochs.get_xdata()) == [5, 8, 15]
    assert epochs.get_ydata()[-1] == pytest.approx(0.005)
