"""The tracked notebooks: their structure, and that their outputs belong to their code."""

import re

import nbformat
import pytest

from mnist_lab import executed, publish, runner, tables
from mnist_lab.published.recipes import RECIPES
from mnist_lab.recipe import ParameterError, read_parameters
from mnist_lab.records import load_records
from mnist_lab.runtime import ROOT

SECTIONS = ["Target", "Parameters", "Data", "Model", "Training", "Results", "Analysis"]
STEPS = runner.find_steps()
# What each step announces that it changes; everything else is the step's before it.
ANNOUNCED = {2: {"MODEL", "LEARNING_RATE", "AVERAGING"}, 3: {"ROTATION", "SHIFT", "SCALE", "SHEAR", "SCHEDULE"}}


@pytest.fixture(params=STEPS, ids=lambda step: step.path.stem)
def step(request):
    return request.param


@pytest.fixture
def notebook(step):
    return nbformat.read(step.path, as_version=4)


def prose(notebook) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def test_sections_come_in_order(step, notebook):
    assert re.findall(r"^# (.+)$", prose(notebook), re.MULTILINE)[0].startswith(f"Step {step.number} ")
    assert re.findall(r"^## (.+)$", prose(notebook), re.MULTILINE) == SECTIONS


def test_cells_are_small_and_define_nothing(notebook):
    nbformat.validate(notebook)
    for cell in runner.code_cells(notebook):
        if "parameters" not in cell.metadata.get("tags", []):
            assert len(cell.source.splitlines()) <= 15
        assert not re.search(r"^\s*(def|class|!|%(?!matplotlib inline))", cell.source, re.MULTILINE)
        assert "exit(" not in cell.source


def test_parameters_are_literals_that_the_package_accepts(step):
    recipe, settings = read_parameters(step.defaults())
    assert recipe.epochs <= 15
    assert (settings.device, settings.data, settings.score_on) == ("auto", "MNIST", "test")
    assert settings.train_limit is None


def test_a_published_recipe_takes_the_place_of_the_notebooks_own(step):
    recipe, settings = read_parameters({**step.defaults(), "PUBLISHED": "E3"})
    assert recipe == RECIPES["E3"]
    assert settings == read_parameters(step.defaults())[1]
    assert step.defaults()["PUBLISHED"] == ""


def test_a_misspelt_parameter_is_refused_by_the_notebook_itself(step):
    with pytest.raises(ParameterError, match="EPOCHS"):
        read_parameters({**step.defaults(), "EPOHCS": 3})
    setup = runner.code_cells(nbformat.read(step.path, as_version=4))[1].source
    assert "read_parameters({name: value for name, value in globals().items() if name.isupper()})" in setup


@pytest.mark.parametrize("number", ANNOUNCED)
def test_a_step_changes_what_it_announces(number):
    before, after = (STEPS[index].defaults() for index in (number - 2, number - 1))
    changed = {name for name in after if after[name] != before[name]}
    assert changed == ANNOUNCED[number]
    text = prose(nbformat.read(STEPS[number - 1].path, as_version=4))
    assert "changed against step" in text.lower()


def test_outputs_belong_to_the_code_above_them(notebook):
    assert runner.faults(notebook) == []
    assert notebook.metadata.mnist_lab.cells == executed.fingerprint(notebook), "the code changed: ./run_all.sh"


def test_records_and_figures_are_those_of_the_notebook(step, notebook):
    files = dict(notebook.metadata.mnist_lab["files"])
    tracked = {path.name: executed.digest(path) for path in files_of(step)}
    assert tracked == files
    assert f"step-{step.number}-seed-0.json" in files


def files_of(step):
    """Return the tracked records and figures that a step's notebook makes."""
    seed = step.defaults()["SEED"]
    rows = publish.RECORDS.glob(f"step-{step.number}*-seed-{seed}.json")
    return [*rows, *publish.IMAGES.glob(f"{step.path.name[:2]}_*.png")]


def test_the_study_that_a_notebook_shows_is_the_tracked_one(step, notebook):
    study = [record for record in load_records(publish.RECORDS) if record.step == step.number]
    shown = "\n".join(
        output.data.get("text/markdown", "")
        for cell in runner.code_cells(notebook)
        for output in cell.outputs
        if output.output_type == "execute_result"
    )
    for run in (record for record in study if record.seed == step.defaults()["SEED"]):
        assert tables.place_in_study(run, study) in shown, "the study has grown: ./run_all.sh"


def test_a_reader_meets_no_noise(notebook):
    assert set(notebook.metadata) == {"kernelspec", "language_info", "mnist_lab"}
    text = nbformat.writes(notebook)
    assert str(ROOT) not in text and "/home/" not in text and "/tmp/" not in text
    assert len(text) < 1_000_000
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}
        assert all(output.get("name") != "stderr" for output in cell.get("outputs", []))


def test_figures_are_shown_and_titled_with_their_data(notebook):
    pictures = [
        out for cell in runner.code_cells(notebook) for out in cell.outputs if "image/png" in out.get("data", {})
    ]
    sources = [
        cell.source for cell in runner.code_cells(notebook) if re.search(r"figure = (plots\.|all_seeds)", cell.source)
    ]
    assert len(pictures) == len(sources) >= 3
    assert all("({subject})" in source for source in sources)
