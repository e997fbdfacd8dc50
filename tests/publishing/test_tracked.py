"""What is tracked fits together: notebooks, figures, records, README, and the code of today."""

import ast
import re
import shlex
import subprocess

import codespell_lib
import nbformat
import pytest
from IPython.display import Markdown

from mnist_lab import __version__, cli, experiment
from mnist_lab.evidence.records import FOLDERS, TRACKED, is_publishable, load
from mnist_lab.publishing import pages
from mnist_lab.publishing.headless import code_cells, faults, read
from mnist_lab.publishing.notebooks import digests, find_steps, fingerprint
from mnist_lab.recipe import Recipe, read_parameters
from mnist_lab.runtime import ROOT
from mnist_lab.use.reading import load_confidence
from mnist_lab.writers import FOLDS, deal

README = (ROOT / "README.md").read_text(encoding="utf-8")
STEPS = find_steps()
NOTEBOOKS = [*(step.path for step in STEPS), *pages.find_evidence()]
PAGES = [ROOT / "README.md", *(ROOT / "notebooks").glob("*.md"), *(ROOT / "mnist_lab").glob("**/*.md")]
RECORDS = load(TRACKED / FOLDERS["step"])
SHOWN = {record.name: record for record in reversed(RECORDS) if record.device_type == "cpu"}  # the first seed of each
# What each step announces that it changes; everything else is as in the step before.
DISTORTIONS = {"ROTATION", "SHIFT", "SCALE", "SHEAR"}
ANNOUNCED = {2: {"MODEL", "LEARNING_RATE", "AVERAGING"}, 3: DISTORTIONS | {"SCHEDULE", "LEARNING_RATE", "CLEAN_EPOCHS"}}


def prose(path) -> list[str]:
    return [cell.source for cell in read(path).cells if cell.cell_type == "markdown"]


TEXTS = {path: path.read_text(encoding="utf-8") for path in PAGES} | {
    path: "\n".join(prose(path)) for path in NOTEBOOKS
}


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture(params=STEPS, ids=lambda step: step.path.stem)
def step(request):
    return request.param


def bound(path) -> dict:
    """Return what the outputs of a notebook belong to."""
    return read(path).metadata.get("mnist_lab", {"cells": None, "files": {}})


def test_outputs_belong_to_the_code_above_them(path):
    notebook = read(path)
    assert faults(notebook) == []
    assert bound(path)["cells"] == fingerprint(notebook), "the code changed: ./run_all.sh --publish"


def test_figures_are_those_of_the_notebook(path):
    files = bound(path)["files"]
    assert digests([ROOT / "images" / name for name in files]) == files


def test_the_last_step_quotes_the_tracked_threshold():
    said = f"a probability below {100 * load_confidence().sure_from:.1f} % and are called unsure"
    assert said in STEPS[-1].path.read_text(encoding="utf-8"), "the threshold changed: ./run_all.sh --publish"


def test_every_figure_is_made_by_a_notebook():
    assert {file.name for file in (ROOT / "images").iterdir()} == {
        "draw.png",  # by tests/use/take_picture.py
        "workbook.png",  # by tests/fields/take_picture.py
        *(name for path in NOTEBOOKS for name in bound(path)["files"]),
    }


def test_evidence_and_readme_show_todays_records():
    assert [path.name for path in pages.find_evidence() if pages.is_stale(path)] == [], "mnist-lab pages"
    assert pages.fill(README, pages.make_blocks(RECORDS), "README.md") == README, "mnist-lab pages"


@pytest.mark.parametrize(
    "path", [path for path in pages.find_evidence() if path.stem != "use"], ids=lambda path: path.stem
)
def test_evidence_says_what_todays_code_makes_of_the_records(path, mnist, writers, tmp_path, monkeypatch):
    """No digest tells that the package changed since a page was made. (What "use" says, a network computes.)"""
    monkeypatch.setenv("MNIST_LAB_RUNS", str(tmp_path))
    names: dict[str, object] = {}
    for cell in code_cells(read(path)):
        *statements, last = ast.parse(cell.source.replace("%matplotlib inline", "")).body
        exec(compile(ast.Module(statements, []), path.name, "exec"), names)
        if not isinstance(last, ast.Expr):
            exec(compile(ast.Module([last], []), path.name, "exec"), names)
            continue
        made = eval(compile(ast.Expression(last.value), path.name, "eval"), names)
        if isinstance(made, Markdown):
            (shown,) = [output["data"]["text/markdown"] for output in cell.outputs]
            assert shown == made.data, "the code changed: execute the page anew (mnist-lab pages)"


def test_mistakes_are_of_the_images_that_the_label_files_know(writers):
    folds = deal(writers["train"])
    for record in load(TRACKED):
        part = {"test": "test", "held-out": "train"}.get(record.settings.score_on)
        for mistake in record.mistakes if part else ():
            assert writers[part].labels[mistake.index] == mistake.label
            assert part == "test" or folds[mistake.index] == record.seed % FOLDS


def test_a_reader_meets_no_noise(path):
    notebook = read(path)
    nbformat.validate(notebook)
    text = nbformat.writes(notebook)
    assert set(notebook.metadata) == {"kernelspec", "language_info", "mnist_lab"}
    assert str(ROOT) not in text and "/home/" not in text and "/tmp/" not in text
    assert len(text) < 1_000_000
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
    assert all(output.get("name") != "stderr" for cell in code_cells(notebook) for output in cell.outputs)


def test_a_kernel_without_the_package_is_helped(path):
    cells = read(path).cells
    first = next(place for place, cell in enumerate(cells) if cell.cell_type == "code" and "mnist_lab" in cell.source)
    above = cells[first - 1]
    assert above.cell_type == "markdown" and "./run_all.sh setup" in above.source and "%pip install" in above.source


def test_file_names_are_good_everywhere():
    """Windows forbids some characters and names; there and on macOS, names that differ in case alone are one file."""
    try:
        listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    names = [name.lower() for name in listed.splitlines()]
    forbidden = re.compile(r'[<>:"|?*\\]|[. ](/|$)|(^|/)(con|prn|aux|nul|com\d|lpt\d)(\.|/|$)')
    assert [name for name in names if forbidden.search(name)] == []
    assert len(set(names)) == len(names)


def test_cells_are_small_and_define_nothing_but_a_network_to_change(path):
    for cell in code_cells(read(path)):
        if "parameters" not in cell.metadata.get("tags", []):
            tree = ast.parse(cell.source.replace("%matplotlib inline", ""))
            assert len(cell.source.splitlines()) <= 20
            defined = {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
            assert defined <= {"MyNet", "__init__"}


def test_records_are_full_runs_by_the_parameters_in_the_notebooks(step):
    own = [record for record in RECORDS if record.step == step.number]
    recipe, settings = read_parameters(step.defaults())
    assert recipe.epochs <= 15 and settings.score_on == "test"
    assert own and all(is_publishable(record) for record in own)
    final = SHOWN[str(step.number)]
    assert (Recipe(**final.recipe), final.seed) == (recipe, settings.seed)


@pytest.mark.parametrize("number", ANNOUNCED)
def test_a_step_changes_what_it_announces(number):
    before, after = (STEPS[index].defaults() for index in (number - 2, number - 1))
    assert {name for name in after if after[name] != before[name]} == ANNOUNCED[number]


def test_the_series_reaches_its_target():
    final = SHOWN["3"]
    assert final.accuracy >= 0.994 and final.recipe["epochs"] <= 15
    assert max(final.model.trainable, final.model.deployed) < 8000


@pytest.mark.parametrize("record", SHOWN.values(), ids=lambda record: record.name)
def test_todays_code_starts_training_as_the_record_says(record, mnist):
    """Ten batches in which weights, order, augmentation, loss, optimizer and schedule all show."""
    found = experiment.measure_opening(Recipe(**record.recipe), mnist, record.settings)
    assert found == pytest.approx(record.opening_loss, rel=1e-4), "the code changed: ./run_all.sh --publish"


def test_every_version_has_its_changes_and_is_the_one_to_cite():
    changes = (ROOT / "mnist_lab" / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (\S+)$", changes, re.MULTILINE)[0] == __version__
    assert f"\nversion: {__version__}\n" in (ROOT / "mnist_lab" / "CITATION.cff").read_text(encoding="utf-8")


def test_links_and_pictures_exist():
    for path, text in TEXTS.items():
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)[^)]*\)", text):
            assert (path.parent / target).exists(), (path, target)


def test_nothing_is_misspelt(tmp_path, capfd):
    code = [ROOT / "run_all.sh", *(ROOT / "mnist_lab").glob("**/*.py"), *(ROOT / "mnist_lab").glob("**/*.html")]
    texts = TEXTS | {path: path.read_text(encoding="utf-8") for path in code}
    for path, text in texts.items():
        copy = tmp_path / "-".join(path.relative_to(ROOT).parts)
        copy.write_text(text, encoding="utf-8")
    wrong = codespell_lib.main("--builtin", "clear,rare", str(tmp_path))
    assert wrong == 0, capfd.readouterr().out


def test_prose_quotes_no_measured_number():
    """In README they belong into generated blocks, or beside a link to their record (see test_notebooks.py)."""
    prose = "\n".join(line for line in pages.BLOCK.sub("", README).split("\n* ") if "](notebooks/records/" not in line)
    assert set(re.findall(r"\d+\.\d+(?= ?%)", prose)) <= {"99.4"}  # the target


def test_readme_is_short_and_its_lines_fit_the_page():
    assert len(README.encode()) <= 10_000
    blocks = re.findall(r"^```\w*\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert blocks and max(len(line) for block in blocks for line in block.splitlines()) <= 97  # fit into 830 px


def test_commands_in_the_readme_exist():
    usage = subprocess.run([ROOT / "run_all.sh", "--help"], capture_output=True, text=True, check=True).stdout
    for line in re.findall(r"^\./run_all\.sh *([^#\n]*)", README, re.MULTILINE):
        words = shlex.split(line)
        if words and words[0][0] != "-":
            assert f"./run_all.sh {words[0]}" in usage
        else:
            assert is_accepted(["run", *words])
    for line in re.findall(r"^(?:\.venv/bin/)?mnist-lab ([^#\n]*)", README, re.MULTILINE):
        assert is_accepted(shlex.split(line))


def is_accepted(arguments: list[str]) -> bool:
    try:
        return bool(cli.parser().parse_args(arguments))
    except SystemExit as end:  # --help ends with 0
        return end.code == 0


def test_pins_cover_the_package():
    """What a run needs is pinned for a run, what an extra needs for the tests; and nothing is pinned twice."""
    pins = {}
    for name in ("requirements.txt", "tests/requirements.txt", "mnist_lab/cloud/requirements.txt"):
        lines = [line for line in (ROOT / name).read_text("utf-8").splitlines() if line and line[0] != "#"]
        assert all(re.fullmatch(r"[\w-]+(\[\w+\])?==[\d.]+", line) for line in lines)
        pins[name] = [re.split(r"==|\[", line)[0] for line in lines]
    tomllib = pytest.importorskip("tomllib")  # of Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {"": project["dependencies"]} | project["optional-dependencies"]
    needed = {extra: {re.match(r"[\w-]+", line)[0] for line in lines} for extra, lines in declared.items()}
    everything = [name for names in pins.values() for name in names]
    assert "torch" in needed["train"] and needed[""] | needed.pop("train") <= set(pins["requirements.txt"])
    assert set.union(*needed.values()) <= set(everything)
    assert len(everything) == len(set(everything))
