from mnist_lab import publish
from mnist_lab.search import screening
from mnist_lab.search.candidates import FAMILIES


def names(*asked: str) -> list[str]:
    return [entry.recipe.name for entry in screening.choose(asked)]


def test_candidates_are_chosen_by_name_and_family():
    assert names("labels", "average") == ["smoothing", "no-average", "fresh-statistics"]
    assert names("sgd", "optimizer") == ["sgd", "adamw", "muon", "cycled-momentum"]
    assert names()[0] == "step-3" and not set(names()) & set(names("frontier"))
    assert set(names()) == {name for family in FAMILIES[:-1] for name in names(family)}


def test_what_others_are_held_against_gets_more_seeds():
    seeds = {entry.recipe.name: entry.seeds for entry in screening.choose(["step-3", "sgd", "frontier"])}
    assert seeds.pop("sgd") == 3 and set(seeds.values()) == {5}


def test_only_the_frontier_sees_the_test_images():
    places = {(entry.score_on, entry.folder.parent) for entry in screening.choose([])}
    assert places == {("held-out", publish.SEARCH)}
    frontier = screening.choose(["frontier"])
    assert {(entry.score_on, entry.folder.parent) for entry in frontier} == {("test", publish.FRONTIER)}
    assert [entry.folder.name for entry in frontier] == names("frontier")
