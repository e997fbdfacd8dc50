import matplotlib.image
import numpy as np
import pytest

from mnist_lab.evidence import figures, folds
from mnist_lab.evidence.records import Mistake, RecordError
from mnist_lab.evidence.results import count_by_writer
from mnist_lab.evidence.uncertainty import error_by_writer
from mnist_lab.writers import FOLDS, deal


@pytest.fixture
def runs(make_record):
    """Makes runs on held-out writers that read all but so many of their fold's images, by seed."""

    def make(misread, fold_of=None):
        made = []
        for seed, wrong in enumerate(misread):
            own = np.arange(10_000) if fold_of is None else np.flatnonzero(fold_of == seed % FOLDS)
            mistakes = [Mistake(int(index), 1, 7, 0.6) for index in own[:wrong]]
            accuracies, images = (0.9, 1 - wrong / len(own)), {"scored_images": len(own)}
            made.append(make_record("step-3", seed, accuracies, score_on="held-out", mistakes=mistakes, **images))
        return made

    return make


@pytest.fixture
def without_writers(tmp_path, monkeypatch):
    monkeypatch.setenv("MNIST_LAB_DATA", str(tmp_path))


def test_spreads_are_taken_apart(runs, without_writers):
    """Folds misread 42 and 52 images by turns, and the two seeds of each lie 2 to either side of that."""
    misread = [base + away for away in (-2, 2) for base in (42, 52) * 3]
    found = folds.measure_spread(runs(misread))
    within = 2 * 2**2 / 1  # in images^2, and an image is 0.01 points
    between = (2 * 6 * 5**2 / 5 - within) / 2
    assert found.seed == pytest.approx(0.01 * within**0.5)
    assert found.fold == pytest.approx(0.01 * between**0.5)
    assert found.writers is None


def test_one_seed_a_fold_does_not_tell_folds_from_seeds(runs, without_writers):
    found = folds.measure_spread(runs([40, 50, 40, 50, 40, 50]))
    assert found.seed is None
    assert found.fold == pytest.approx(0.01 * np.std([40, 50] * 3, ddof=1))


def test_writers_move_a_result_as_far_as_their_mistakes_differ(runs, writers):
    fold_of = deal(writers["train"])
    found = folds.measure_spread(runs([60] * 6, fold_of))
    expected = []
    for seed in range(6):  # drawn again, writer by writer
        own = writers["train"].writers[fold_of == seed]
        people, images = np.unique(own, return_counts=True)
        wrong = np.array([(own[:60] == person).sum() for person in people])
        drawn = np.random.default_rng(0).integers(0, len(people), (4000, len(people)))
        expected.append(100 * (wrong[drawn].sum(1) / images[drawn].sum(1)).std())
    assert found.writers == pytest.approx(np.sqrt(np.mean(np.square(expected))), rel=0.05)


def test_other_runs_are_refused(runs, make_record):
    with pytest.raises(RecordError, match="not scored on all folds: train 6 seeds"):
        folds.measure_spread(runs([40] * 5))
    with pytest.raises(RecordError, match="not scored on held-out writers: train it with SCORE_ON held-out"):
        folds.spread_figure([make_record(seed=seed) for seed in range(6)], "a title")


@pytest.mark.parametrize("seeds", [6, 18])
@pytest.mark.parametrize("known", [True, False])
def test_every_run_is_a_dot_over_its_fold(runs, writers, seeds, known, tmp_path, monkeypatch):
    if not known:
        monkeypatch.setenv("MNIST_LAB_DATA", str(tmp_path))
    made = runs([40 + 7 * seed % 11 for seed in range(seeds)], deal(writers["train"]))
    figure = folds.spread_figure(made, "a title")
    figures.show(figure, tmp_path / "folds.png")
    assert matplotlib.image.imread(tmp_path / "folds.png").shape[:2] == (760, 1800)
    left, right = figure.axes
    shown = [line for line in left.lines if line.get_marker() == "o" and len(line.get_xdata())]
    for fold, line in enumerate(shown):
        assert set(np.round(line.get_xdata())) == {fold}
        assert sorted(line.get_ydata()) == sorted(100 * run.accuracy for run in made if run.seed % FOLDS == fold)
    assert len(shown) == FOLDS
    assert any("interval" in text.get_text() for text in left.get_legend().get_texts()) == known
    bars = [bars.lines[2][0].get_segments()[0] for bars in left.containers if bars.lines[2]]
    halves = [100 * 1.959964 * error_by_writer(one) for one in count_by_writer(made)] if known else []
    assert [(high - low) / 2 for (_, low), (_, high) in bars] == pytest.approx(halves, rel=1e-4)
    spread = folds.measure_spread(made)
    expected = [value for value in (spread.seed, spread.writers, spread.fold) if value is not None]
    assert [bar.get_width() for bar in right.patches] == expected
    assert len(expected) == 1 + known + (seeds > 6)
    assert [text.get_text() for text in right.texts] == [f"{value:.3f}" for value in expected]
