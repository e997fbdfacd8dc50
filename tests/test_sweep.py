import pytest

from mnist_lab import sweep
from mnist_lab.published import reproduction
from mnist_lab.published.tables import FIGURES
from mnist_lab.records import load_record
from mnist_lab.runner import RunError
from mnist_lab.search import screening


def test_entries_are_chosen_once_and_in_the_order_asked_for():
    one, two, three = (reproduction.choose([name])[0] for name in ("A1", "A2", "B1"))
    groups = {"one": [one], "A": [one, two], "B": [three]}
    assert sweep.choose(groups, ["B", "one", "A"]) == [three, one, two]
    with pytest.raises(RunError, match="nothing called C, D to train: use one, A, B"):
        sweep.choose(groups, ["C", "A", "D"])


def test_a_published_step_is_tracked_and_shown(no_training):
    (step,), repaired = reproduction.choose(["A1"]), reproduction.choose(["repairs"])[2]
    records = sweep.train(step, 2, "cpu", None)
    assert [(record.row, record.seed, record.change, record.settings["device"]) for record in records] == [
        ("A1", 0, "A1 as published", "cpu"),
        ("A1", 1, "A1 as published", "cpu"),
    ]
    tracked = sorted(path.name for path in (no_training / "series" / "A1").iterdir())
    assert tracked == ["A1-seed-0.json", "A1-seed-1.json"]
    assert "| A1 | 99.29 |" in (no_training / "README.md").read_text()
    assert all((no_training / "images" / name).exists() for name in FIGURES)
    sweep.train(repaired, 1, "cpu", None)
    assert (no_training / "series" / "A3-no-dropout" / "A3-no-dropout-seed-0.json").exists()
    assert "| A1 | 99.29 |" in (no_training / "README.md").read_text()


def test_a_candidate_is_tracked_and_shown(no_training):
    (sgd,), (small,) = screening.choose(["sgd"]), screening.choose(["frontier-2k"])
    records = sweep.train(sgd, 2, "cpu", None)
    assert [(record.row, record.seed, record.settings["score_on"]) for record in records] == [
        ("sgd", 0, "held-out"),
        ("sgd", 1, "held-out"),
    ]
    sweep.train(small, 1, "cpu", None)
    assert load_record(no_training / "search" / "sgd" / "sgd-seed-1.json").settings["seed"] == 1
    frontier = load_record(no_training / "frontier" / "frontier-2k" / "frontier-2k-seed-0.json")
    assert frontier.settings["score_on"] == "test"
    text = (no_training / "README.md").read_text()
    assert "| optimizer | SGD: Nesterov momentum 0.9, peak 0.2, filters decay by 0.0001 |" in text
    assert "| 2k parameters |" in text and "| all its parameters and epochs |" in text
    assert (no_training / "images" / "00_frontier.png").exists()


def test_what_cannot_be_shown_is_told(no_training):
    (no_training / "README.md").write_text("no blocks")
    (step,) = reproduction.choose(["A1"])
    with pytest.raises(RunError, match=r"cannot publish: README\.md has the generated blocks"):
        sweep.train(step, 1, "cpu", None)
    assert (no_training / "series" / "A1" / "A1-seed-0.json").exists()
