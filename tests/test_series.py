import shutil
from dataclasses import asdict, replace

import pytest

from mnist_lab import publish, runner, series, study
from mnist_lab.published import AS_PUBLISHED, RECIPES, REPAIRED
from mnist_lab.records import load_records, save
from mnist_lab.reproduction import FIGURES
from mnist_lab.runner import RunError


def test_recipes_are_chosen_by_series_step_and_group():
    assert series.choose([]) == list(AS_PUBLISHED)
    assert [recipe.row for recipe in series.choose(["E3", "A", "A1"])] == ["E3", "A1", "A2", "A3"]
    assert [recipe.row for recipe in series.choose(["B"])] == ["B1", "B2", "B3", "B3Later"]
    assert series.choose(["repairs"]) == list(REPAIRED)
    with pytest.raises(RunError, match="nothing called F1 to reproduce: use A1, A2, A3, B1"):
        series.choose(["A1", "F1"])


def test_what_a_series_advertises_gets_more_seeds():
    many = {recipe.row for recipe in [*AS_PUBLISHED, *REPAIRED] if series.default_seeds(recipe) == 5}
    assert many == {"A3", "B3", "C3", "D3", "E3", "A3 plain logits", "A3 no dropout", "E3 no dropout"}
    assert {series.default_seeds(recipe) for recipe in AS_PUBLISHED} == {3, 5}


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A copy of what is tracked, without records of the series, and studies that train nothing."""
    shutil.copytree(publish.RECORDS, tmp_path / "records")
    shutil.copytree(publish.IMAGES, tmp_path / "images")
    shutil.copy(publish.README, tmp_path)
    (tmp_path / "runs").mkdir()
    for name, place in [("RECORDS", "records"), ("IMAGES", "images"), ("README", "README.md"), ("PUBLISHED", "series")]:
        monkeypatch.setattr(publish, name, tmp_path / place)
    monkeypatch.setattr(runner, "RUNS", tmp_path / "runs")
    like = load_records(publish.RECORDS)[0]

    def conduct(plan, folder, parallel):
        made = [
            replace(
                like, row=plan.row, change=plan.change, recipe=asdict(plan.recipe),
                settings=asdict(plan.settings_of(seed)),
            )
            for seed in plan.seeds
        ]  # fmt: skip
        for record in made:
            save(record, folder)
        return made

    monkeypatch.setattr(study, "conduct", conduct)
    return tmp_path


def test_a_step_is_tracked_and_shown(checkout):
    records = series.reproduce(RECIPES["A1"], 2, "cpu", None)
    assert [(record.row, record.seed, record.change) for record in records] == [
        ("A1", 0, "A1 as published"),
        ("A1", 1, "A1 as published"),
    ]
    tracked = sorted(path.name for path in (checkout / "series" / "A1").iterdir())
    assert tracked == ["A1-seed-0.json", "A1-seed-1.json"]
    text = (checkout / "README.md").read_text()
    assert "| A1 | 99.29 |" in text
    assert all((checkout / "images" / name).exists() for name in FIGURES)
    series.reproduce(REPAIRED[2], 1, "cpu", None)
    assert (checkout / "series" / "A3-no-dropout" / "A3-no-dropout-seed-0.json").exists()
    assert "| A1 | 99.29 |" in (checkout / "README.md").read_text()


def test_what_cannot_be_shown_is_told(checkout):
    (checkout / "README.md").write_text("no blocks")
    with pytest.raises(RunError, match=r"cannot publish: README\.md has the generated blocks"):
        series.reproduce(RECIPES["A1"], 1, "cpu", None)
    assert (checkout / "series" / "A1" / "A1-seed-0.json").exists()
