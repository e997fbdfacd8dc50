import pytest

from mnist_lab.records import load_record
from mnist_lab.runner import RunError
from mnist_lab.search import screening
from mnist_lab.search.candidates import FAMILIES


def names(*asked: str) -> list[str]:
    return [candidate.name for candidate in screening.choose(asked)]


def test_candidates_are_chosen_by_name_and_family():
    assert names("labels", "average") == ["smoothing", "no-average", "fresh-statistics"]
    assert names("sgd", "optimizer") == ["sgd", "adamw", "muon", "cycled-momentum"]
    assert names()[0] == "step-3" and not set(names()) & set(names("frontier"))
    assert set(names()) == {name for family in FAMILIES[:-1] for name in names(family)}
    with pytest.raises(RunError, match="no candidate or family cutmix: use step 3, images"):
        screening.choose(["cutmix"])


def test_what_others_are_held_against_gets_more_seeds():
    chosen = screening.choose(["step-3", "sgd", "frontier"])
    seeds = {candidate.name: screening.default_seeds(candidate) for candidate in chosen}
    assert seeds.pop("sgd") == 3 and set(seeds.values()) == {5}


def test_a_candidate_is_tracked_and_shown(no_training):
    (sgd,), (small,) = screening.choose(["sgd"]), screening.choose(["frontier-2k"])
    records = screening.train(sgd, 2, "cpu", None)
    assert [(record.row, record.seed, record.settings["score_on"]) for record in records] == [
        ("sgd", 0, "held-out"), ("sgd", 1, "held-out"),
    ]  # fmt: skip
    screening.train(small, 1, "cpu", None)
    assert load_record(no_training / "search" / "sgd" / "sgd-seed-1.json").settings["seed"] == 1
    frontier = load_record(no_training / "frontier" / "frontier-2k" / "frontier-2k-seed-0.json")
    assert frontier.settings["score_on"] == "test"
    text = (no_training / "README.md").read_text()
    assert (
        "| optimizer | SGD: Nesterov momentum 0.9, peak 0.2, filters decay by 0.0001 |" in text
        and "| 2k parameters |" in text
    )
    assert (no_training / "images" / "00_frontier.png").exists()
