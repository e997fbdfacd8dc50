import math

import optuna
import pytest
from samples import made

from mnist_lab.evidence.records import RecordError
from mnist_lab.studies.search import figures, space, trials
from mnist_lab.studies.search.trials import Trial


@pytest.fixture(scope="module")
def many() -> list[Trial]:
    """Trials whose loss only depends on the rate."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = [made(0, 0.02, 0.03)]
    for number in range(1, 80):
        trial = study.ask()
        space.choices(trial)
        loss = 0.02 * (1 + abs(math.log(trial.params["peak"] / 0.01)))
        losses, state = ((loss, 1.5 * loss), "complete") if number % 3 == 0 else ((loss,), "pruned")
        found.append(made(number, *losses, state=state, choices=trial.params))
    return found


def test_trials_come_back_from_their_file(tmp_path, many):
    assert trials.read(tmp_path) == []
    path = trials.write(many, tmp_path)
    assert trials.read(tmp_path) == many
    assert len(path.read_text(encoding="utf-8").splitlines()) == len(many) + 2
    path.write_text('[{"number": 1}]', encoding="utf-8")
    with pytest.raises(RecordError, match=r"trials\.json is damaged: 0"):
        trials.read(tmp_path)


def test_the_best_come_first_and_the_cheaper_of_equals():
    found = [
        made(1, 0.02, 0.02),
        made(2, 0.02, 0.02, products=100),
        made(3, 0.01, state="pruned"),
        made(4, 0.01, 0.02),
    ]
    assert [one.number for one in trials.ranked(found)] == [4, 2, 1]


def test_the_table_names_the_best_and_the_baseline():
    found = [made(number, 0.03 - number / 1000, 0.03) for number in range(12)] + [made(12, state="fail")]
    table = trials.trials_table(found, rows=5)
    assert [row[0] for row in table.rows] == ["11", "10", "9", "8", "7", "0"]
    told = dict(zip(table.headers, table.rows[-1], strict=True))
    shown = [told[name] for name in ("multiply-accumulates", "peak", "shift", "clean epochs")]
    assert shown == ["481 k", "0.01", "2", "0"]
    assert table.note.startswith("13 trials: 12 came to all 2 folds, 0 were given up before, 1 diverged.")


def test_trials_are_held_against_the_baseline_on_the_same_folds():
    found = [
        made(0, 0.02, 0.04),
        made(1, 0.01, state="pruned"),
        made(2, 0.03, 0.03),
        made(3, state="fail"),
    ]
    assert trials.beside_baseline(found) == pytest.approx({0: 1.0, 1: 0.5, 2: 1.0})
    assert trials.beside_baseline(found[1:]) == {}
    assert trials.finding(found) == "The best of 4 trials has 1.00 times the baseline's loss where it was chosen"
    assert trials.finding(found[1:]) == "3 trials, and none beside the baseline yet"


def test_the_important_choice_is_found(many, caplog):
    optuna.logging.set_verbosity(optuna.logging.INFO)
    optuna.logging.enable_propagation()
    shares = trials.importances(many)
    optuna.logging.disable_propagation()
    assert not caplog.records  # a page with a line on stderr is not published
    assert next(iter(shares)) == "peak" and sum(shares.values()) == pytest.approx(1)
    assert shares["peak"] > 0.5
    assert shares.keys() == space.EVERY.keys()  # though not every trial asks for all
    assert trials.importances(many[:10]) == {}


def test_the_history_shows_every_trial(many):
    (axis,) = figures.history([*many, made(80, state="pruned")], "a title").axes
    assert axis.get_xlabel() == "trial (1 of 81 have no dot: they did not finish their first fold)"
    complete, pruned, best = axis.lines[:3]
    assert len(complete.get_xdata()) + len(pruned.get_xdata()) == len(many)
    drawn = dict(zip(complete.get_xdata(), complete.get_ydata(), strict=True))
    assert drawn[3] == pytest.approx(sum(many[3].losses) / 0.05)
    assert list(best.get_ydata()) == sorted(best.get_ydata(), reverse=True)


def test_slices_show_numbers_and_names(many):
    figure = figures.slices(many, ["peak", "stem", "teacher", "first width"], "a title")
    peak, stem, _, width, *_ = figure.axes
    assert peak.get_xscale() == "log" and stem.get_xticklabels()[0].get_text() == "3x3"
    asked = sum("first width" in one.choices for one in many)
    dots = [line for line in width.lines if line.get_marker() == "o"]
    assert 0 < len(dots) == asked < len(many) and width.get_xlabel() == "channels of the first layer"
    hollow = [line for line in peak.lines if line.get_marker() == "o" and line.get_markerfacecolor() == "none"]
    assert len(hollow) == 1 + sum(one.state == "pruned" for one in many)
    assert [line.get_xdata()[0] for line in hollow if line.get_color() == "black"] == [many[0].choices["peak"]]
    assert [axis.axison for axis in figure.axes] == [True] * 4 + [False] * 2
    figure.canvas.draw()


@pytest.mark.parametrize("name", figures.WORDS)
def test_the_name_of_every_choice_fits_under_its_panel(many, name):
    figure = figures.slices(many[:20], [name] * figures.ACROSS, "a title")
    figure.canvas.draw()
    boxes = [axis.xaxis.label.get_window_extent() for axis in figure.axes]
    ends = [end for box in boxes for end in (box.x0, box.x1)]
    assert ends == sorted(ends) and ends[0] >= 0 and ends[-1] <= figure.bbox.x1


def test_bars_show_importances():
    others = {f"choice {number}": 0.001 for number in range(20)}
    (axis,) = figures.importances({"peak": 0.7, "teacher": 0.2} | others, "a title").axes
    assert len(axis.patches) == figures.MOST and [bar.get_width() for bar in axis.patches[:2]] == [70, 20]
    assert axis.get_yticklabels()[0].get_text() == "peak of the rate"
    assert set(figures.WORDS) <= set(space.EVERY)
