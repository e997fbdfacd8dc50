from mnist_lab import publish
from mnist_lab.published import reproduction
from mnist_lab.published.recipes import AS_PUBLISHED, REPAIRED


def rows(*asked: str) -> list[str]:
    return [entry.recipe.row for entry in reproduction.choose(asked)]


def test_recipes_are_chosen_by_series_step_and_group():
    assert rows() == [recipe.row for recipe in AS_PUBLISHED]
    assert rows("E3", "A", "A1") == ["E3", "A1", "A2", "A3"]
    assert rows("B") == ["B1", "B2", "B3", "B3Later"]
    assert rows("repairs") == [recipe.row for recipe in REPAIRED]


def test_what_a_series_advertises_gets_more_seeds():
    every = reproduction.choose(["A", "B", "C", "D", "E", "repairs"])
    many = {entry.recipe.row for entry in every if entry.seeds == 5}
    assert many == {"A3", "B3", "C3", "D3", "E3"}
    assert {entry.seeds for entry in every} == {3, 5}


def test_all_are_scored_on_the_test_images_and_kept_apart():
    every = [*reproduction.choose([]), *reproduction.choose(["repairs"])]
    assert {entry.score_on for entry in every} == {"test"}
    assert len({entry.folder for entry in every}) == len(every)
    assert reproduction.entry(REPAIRED[2]).folder == publish.PUBLISHED / "A3-no-dropout"
