import pytest

from mnist_lab.published import reproduction
from mnist_lab.published.recipes import AS_PUBLISHED, RECIPES, REPAIRED
from mnist_lab.published.tables import FIGURES
from mnist_lab.runner import RunError


def test_recipes_are_chosen_by_series_step_and_group():
    assert reproduction.choose([]) == list(AS_PUBLISHED)
    assert [recipe.row for recipe in reproduction.choose(["E3", "A", "A1"])] == ["E3", "A1", "A2", "A3"]
    assert [recipe.row for recipe in reproduction.choose(["B"])] == ["B1", "B2", "B3", "B3Later"]
    assert reproduction.choose(["repairs"]) == list(REPAIRED)
    with pytest.raises(RunError, match="nothing called F1 to reproduce: use A1, A2, A3, B1"):
        reproduction.choose(["A1", "F1"])


def test_what_a_series_advertises_gets_more_seeds():
    many = {recipe.row for recipe in [*AS_PUBLISHED, *REPAIRED] if reproduction.default_seeds(recipe) == 5}
    assert many == {"A3", "B3", "C3", "D3", "E3", "A3 plain logits", "A3 no dropout", "E3 no dropout"}
    assert {reproduction.default_seeds(recipe) for recipe in AS_PUBLISHED} == {3, 5}


def test_a_step_is_tracked_and_shown(no_training):
    records = reproduction.reproduce(RECIPES["A1"], 2, "cpu", None)
    assert [(record.row, record.seed, record.change) for record in records] == [
        ("A1", 0, "A1 as published"),
        ("A1", 1, "A1 as published"),
    ]
    tracked = sorted(path.name for path in (no_training / "series" / "A1").iterdir())
    assert tracked == ["A1-seed-0.json", "A1-seed-1.json"]
    text = (no_training / "README.md").read_text()
    assert "| A1 | 99.29 |" in text
    assert all((no_training / "images" / name).exists() for name in FIGURES)
    reproduction.reproduce(REPAIRED[2], 1, "cpu", None)
    assert (no_training / "series" / "A3-no-dropout" / "A3-no-dropout-seed-0.json").exists()
    assert "| A1 | 99.29 |" in (no_training / "README.md").read_text()


def test_what_cannot_be_shown_is_told(no_training):
    (no_training / "README.md").write_text("no blocks")
    with pytest.raises(RunError, match=r"cannot publish: README\.md has the generated blocks"):
        reproduction.reproduce(RECIPES["A1"], 1, "cpu", None)
    assert (no_training / "series" / "A1" / "A1-seed-0.json").exists()
