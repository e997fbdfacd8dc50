"""Notebooks as files, and what makes the three steps lessons."""

import os
import re
import shutil
import statistics
import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

import nbformat
import pytest
import torch
from torch import nn

from mnist_lab import models, use
from mnist_lab.evidence import records
from mnist_lab.evidence.results import LAST_EPOCHS, summarise
from mnist_lab.evidence.uncertainty import welch
from mnist_lab.fields.trace import trace
from mnist_lab.models import MODELS, CompactNet, SkeletonNet, count_parameters
from mnist_lab.publishing import headless, notebooks
from mnist_lab.publishing.headless import NotebookError
from mnist_lab.publishing.notebooks import Step
from mnist_lab.runtime import ROOT

LESSONS = [step.path for step in notebooks.find_steps()]
EVIDENCE = records.TRACKED.parent / "evidence"
WIDEST = 86  # characters of code that fit into a page of 830 pixels
# Of numbers that look like results: the target, the shares of the average, ln 10, a gain that somebody claims, the
# budget, the training images, and those of a quick look.
NO_RESULTS = {"99.4", "99.9", "0.1", "2.3", "0.2", "8,000", "60,000", "5,000"}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_a_notebook_runs_with_its_parameters_replaced_and_is_heard(write_step, folder, capfd, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")  # would swallow every figure
    monkeypatch.setenv("PYTHONOPTIMIZE", "1")  # would leave out what a notebook asserts
    monkeypatch.setenv("JUPYTER_PATH", str(folder))  # holds a kernelspec that must not be used
    (folder / "kernels" / "python3").mkdir(parents=True)
    other = '{"argv": ["false"], "display_name": "", "language": "python"}'
    (folder / "kernels" / "python3" / "kernel.json").write_text(other)
    step = write_step(
        7,
        "import os, sys; print('epochs:', EPOCHS, __debug__)",
        f"assert sys.executable == {sys.executable!r}",
        f"assert os.getcwd() == {str(folder.parent / 'lab' / 'notebooks')!r}",
        f"assert os.environ['MNIST_LAB_RUNS'] == {str(folder)!r}",
        "assert 'inline' in os.environ.get('MPLBACKEND', 'inline') and os.environ['TQDM_DISABLE'] == '1'",
    )
    before = step.path.read_bytes()
    executed = headless.execute(step.path, folder / step.path.name, {"EPOCHS": 3})
    assert "epochs: 3 True" in capfd.readouterr().out
    assert notebooks.faults(executed) == [] and executed == notebooks.read(folder / step.path.name)
    assert step.path.read_bytes() == before
    assert "MNIST_LAB_RUNS" not in os.environ and os.environ["MPLBACKEND"] == "Agg"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import sys; sys.exit(0)", "was not executed in order"),  # papermill calls this a success
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "Kernel died"),
    ],
)
def test_a_cell_that_ends_the_kernel_fails_the_notebook(write_step, folder, source, message):
    step = write_step(7, source, "print('after')")
    with pytest.raises(NotebookError, match=rf"07_trial.ipynb.*(?s:.*){message}") as caught:
        headless.execute(step.path, folder / step.path.name)
    assert str(folder) in str(caught.value)  # where to look


def test_parameters_are_read_and_a_notebook_without_proper_ones_is_named(write_step):
    step = write_step(7)
    assert step.number == 7 and step.defaults()["EPOCHS"] == 2 and step.defaults()["MODEL"] == "CompactNet"
    notebook = notebooks.read(step.path)
    tagged = notebook.cells[1]
    for source in ("EPOCHS = 5 * 3", "import os", "A = B = 1", "A, B = 1, 2"):
        tagged.source = source
        nbformat.write(notebook, step.path)
        with pytest.raises(NotebookError, match=r"07_trial\.ipynb: .*NAME = literal"):
            step.defaults()
    tagged.metadata.tags = []
    nbformat.write(notebook, step.path)
    with pytest.raises(NotebookError, match="needs one cell tagged parameters"):
        step.defaults()
    step.path.write_text("{")
    with pytest.raises(NotebookError, match=r"07_trial\.ipynb: "):
        step.defaults()


def test_an_empty_cell_is_no_fault(write_step, folder):
    step = write_step(7, "1", "", " \n")  # as Jupyter leaves one below the last
    executed = headless.execute(step.path, folder / step.path.name)
    assert notebooks.faults(executed) == []
    assert notebooks.fingerprint(executed) == notebooks.fingerprint(notebooks.read(write_step(8, "1").path))


def test_faults_are_found(write_step, has_run, folder):
    ran = has_run(write_step(7, "1"), folder)
    assert notebooks.faults(ran) == []
    first, second = notebooks.code_cells(ran)
    first.outputs = [nbformat.v4.new_output("error", ename="E", evalue="v", traceback=[])]
    assert notebooks.faults(ran) == ["code cell 1 raised E: v"]
    second.execution_count = None
    assert "code cell 2 of 2 was not executed in order" in notebooks.faults(ran)


def test_noise_is_removed_and_prose_edited_meanwhile_is_kept(write_step, has_run, folder):
    step = write_step(7, "1")
    ran = has_run(step, folder)
    ran.metadata["papermill"] = {"duration": 1.0}
    ran.metadata["kernelspec"] = {"name": "somebodys-kernel", "display_name": "x"}
    ran.cells[2].metadata["execution"] = {"iopub.status.busy": "2026"}
    edited = notebooks.read(step.path)
    edited.cells[0].source += "\n\nAn afterthought."
    nbformat.write(edited, step.path)
    clean = notebooks.finalise(ran, step.path, files={"a.png": "digest"})
    assert clean.cells[0].source.endswith("An afterthought.") and clean.cells[2].outputs == ran.cells[2].outputs
    assert [dict(cell.metadata) for cell in clean.cells] == [{}, {"tags": ["parameters"]}, {}]
    assert set(clean.metadata) == {"kernelspec", "language_info", "mnist_lab"}
    assert clean.metadata.kernelspec.name == "python3"
    assert clean.metadata.mnist_lab == {"cells": notebooks.fingerprint(ran), "files": {"a.png": "digest"}}


def output(**content):
    kind = "stream" if "name" in content else "display_data"
    return lambda ran: ran.cells[2].outputs.append(nbformat.v4.new_output(kind, **content))


def injected(ran):
    cell = nbformat.v4.new_code_cell("EPOCHS = 1", execution_count=1)
    cell.metadata["tags"] = ["injected-parameters"]
    ran.cells.insert(2, cell)


def unexecuted(ran):
    ran.cells[2].execution_count = None


def other_source(ran):
    ran.cells[2].source += "\n# edited"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (output(name="stderr", text="UserWarning: beware"), "wrote to stderr: UserWarning"),
        (output(data={"application/vnd.jupyter.widget-view+json": {"model_id": "a"}}), "shows a widget"),
        (output(data={"text/markdown": f"in {ROOT}"}), "shows a path of this machine"),
        (injected, "injected parameters"),
        (unexecuted, "not executed in order"),
        (other_source, "its code differs from that in the repository"),
    ],
)
def test_what_a_reader_should_not_meet_is_refused(write_step, has_run, folder, damage, message):
    step = write_step(7, "1")
    ran = has_run(step, folder)
    notebooks.finalise(ran, step.path)
    damage(ran)
    with pytest.raises(NotebookError, match=rf"{step.path.name} cannot be published.*{message}"):
        notebooks.finalise(ran, step.path)


def test_a_folders_digest_is_of_names_and_contents(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "one.json").write_text("1")
    before = notebooks.folder_digest(tmp_path, "*/*.json")
    (tmp_path / "a" / "other.txt").write_text("2")
    assert notebooks.folder_digest(tmp_path, "*/*.json") == before
    (tmp_path / "a" / "one.json").write_text("2")
    changed = notebooks.folder_digest(tmp_path, "*/*.json")
    shutil.move(tmp_path / "a" / "one.json", tmp_path / "a" / "two.json")
    assert len({before, changed, notebooks.folder_digest(tmp_path, "*/*.json")}) == 3


def test_the_steps_of_a_checkout_are_found_by_their_number(write_step, root):
    second, first = write_step(2), write_step(1)
    (root / "notebooks" / "other.ipynb").write_text("{}")
    assert notebooks.find_steps(root) == [first, second] == [Step(first.path), Step(second.path)]


@pytest.fixture(params=LESSONS, ids=lambda path: path.stem)
def lesson(request) -> nbformat.NotebookNode:
    return notebooks.read(request.param)


def prose(lesson) -> list[str]:
    return [cell.source for cell in lesson.cells if cell.cell_type == "markdown"]


def cell_with(lesson, text: str) -> str:
    (found,) = [cell.source for cell in notebooks.code_cells(lesson) if text in cell.source]
    return found


@pytest.mark.parametrize("path", sorted(EVIDENCE.glob("*.ipynb")), ids=lambda path: path.stem)
def test_code_of_evidence_fits_a_page(path):
    lines = [line for cell in notebooks.code_cells(notebooks.read(path)) for line in cell.source.splitlines()]
    assert max(map(len, lines)) <= WIDEST


def test_a_lesson_is_told_in_small_parts(lesson):
    code = notebooks.code_cells(lesson)
    assert len(code) <= 20
    assert max(len(line) for cell in code for line in cell.source.splitlines()) <= WIDEST
    runs = [(kind, len(list(group))) for kind, group in groupby(cell.cell_type for cell in lesson.cells)]
    assert max(length for kind, length in runs if kind == "code") <= 3


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_says_what_it_is_and_where_the_others_are(path):
    first, *_, last = prose(notebooks.read(path))
    place = LESSONS.index(path)
    others = {"README.md", *(other.name for other in LESSONS[max(0, place - 1) : place + 2])} - {path.name}
    for text in (first, last):
        assert others <= {*re.findall(r"\]\(([^)]+)\)", text)}
    assert all(f"**{said}" in first for said in ("You learn", "You know", "It takes"))


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_the_minutes_of_training_are_about_those_of_the_records(path):
    files = (records.TRACKED / records.FOLDERS["step"]).glob(f"{int(path.name[:2])}*.jsonl")
    firsts = [records.load_file(file)[0] for file in files if "cuda" not in file.name]
    seconds = sum({one.seconds for one in firsts})  # one training may give two records
    (said,) = re.findall(r"one core trains for (\d+) minutes?\b", prose(notebooks.read(path))[0])
    assert 0.5 <= 60 * int(said) / seconds <= 2


def test_a_reader_predicts_before_the_training_and_is_asked_three_exercises(lesson):
    sources = [cell.source for cell in lesson.cells]
    (asked,) = [place for place, source in enumerate(sources) if source.startswith("### Before you run: predict")]
    assert 1 <= sources[asked].count("?") <= 4
    (trained, *_) = [place for place, source in enumerate(sources) if "experiment.train(" in source]
    assert asked < trained < sources.index(next(source for source in sources if source.startswith("## Results")))
    first = next(place for place, one in enumerate(sources) if one.startswith("## Exercises")) + 1
    exercises = sources[first : first + 3]
    assert [source[:6] for source in exercises] == ["### 1.", "### 2.", "### 3."]
    for source in exercises:
        folded = r"### .+?\n\n.+?\n\n<details>\n<summary>Answer</summary>\n\n(.+)\n\n</details>"
        assert "(records/" in re.fullmatch(folded, source, re.DOTALL)[1]


def facts(files: Iterable[Path]) -> set[str]:
    """Return the numbers that prose may quote of the records in ``files``, as it would write them."""
    found = set()
    for file in files:
        runs = records.load_file(file)
        (result,) = summarise(runs)
        late = [[epoch.test.accuracy for epoch in run.history[-LAST_EPOCHS:]] for run in runs]
        spans = [max(accuracies) - min(accuracies) for accuracies in late]
        trained = statistics.fmean(run.history[-1].train.accuracy for run in runs)
        shares = [result.mean, result.sd or 0, result.minimum, result.maximum, trained, statistics.fmean(spans)]
        shares += [share for run in late[:1] for share in (min(run), max(run))] if len(runs) == 1 else []
        found |= {f"{100 * share:.2f}" for share in shares}
        found |= {f"{result.misread:.1f}", f"{result.loss:.4f}", str(result.seeds_on_target)}
        counts = (result.late_epochs_on_target, result.trainable, runs[0].train_images, runs[0].scored_images)
        found |= {f"{count:,}" for count in counts}
    return found


def unfounded(text: str) -> set[str]:
    """Return the numbers in a piece of prose that are not those of the records that it links."""
    linked = {ROOT / "notebooks" / name for name in re.findall(r"\]\((?:notebooks/)?(records/[^)]+\.jsonl)\)", text)}
    text = re.sub(r"`[^`]*`|\]\([^)]*\)", "", text)
    said = re.findall(r"\d[\d,]*\.\d+|\d{1,3},\d{3}|\d+(?= of \d+ (?:seeds|late epochs))", text)
    return {*said} - NO_RESULTS - facts(linked)


def test_every_number_in_the_prose_is_one_of_the_records_that_it_links(lesson):
    assert {source: unfounded(source) for source in prose(lesson) if unfounded(source)} == {}


def test_every_number_that_the_readme_learned_is_one_of_the_records_that_it_links():
    learned = (ROOT / "README.md").read_text("utf-8").split("## What we learned\n\n")[1].split("\n\n")[0]
    lines = learned.split("\n* ")
    assert len(lines) == 6 and all("](notebooks/" in line for line in lines)
    assert {line: unfounded(line) for line in lines if unfounded(line)} == {}


def test_the_clean_end_lowers_the_loss_of_every_seed_and_with_the_cycle_that_of_the_recipe():
    """So says lesson 3, and README of both together."""
    rows = {name: records.load_file(records.TRACKED / "steps" / f"{name}.jsonl") for name in ("3a", "3b", "3")}
    distorted, cycled, clean = ({run.seed: run.loss for run in runs} for runs in rows.values())
    assert distorted.keys() == cycled.keys() and all(clean[seed] < cycled[seed] for seed in cycled)
    together = welch(list(distorted.values()), list(clean.values()))
    assert together.is_clear and together.mean < 0


def test_the_networks_in_the_lessons_are_those_of_the_package_and_of_the_records():
    smaller = records.load_file(records.TRACKED / "frontier" / "4k.jsonl")[0].model.trainable
    for path, like in zip(LESSONS, (SkeletonNet, CompactNet, None), strict=True):
        names = {**vars(models), "nn": nn}
        exec(cell_with(notebooks.read(path), "class MyNet"), names)
        torch.manual_seed(0)
        own, images = names["MyNet"](), torch.rand(3, 1, 28, 28)
        if like is None:
            assert count_parameters(own) == smaller
            continue
        torch.manual_seed(0)
        ours = like()
        assert all(map(torch.equal, own.state_dict().values(), ours.state_dict().values()))
        assert torch.equal(own.eval()(images), ours.eval()(images))


def test_the_network_without_its_second_pooling_is_as_the_answer_says():
    source = cell_with(notebooks.read(LESSONS[0]), "class MyNet")
    second = source.index("nn.MaxPool2d(2),", source.index("nn.MaxPool2d(2),") + 1)
    changed = source[second:].replace("nn.MaxPool2d(2),", "", 1).replace("AvgPool2d(3)", "AvgPool2d(9)")
    names = {"nn": nn}
    exec(source[:second] + changed, names)
    rows = {row.layer.split()[1] + str(row.channels_out): row for row in trace(names["MyNet"]())}
    last, pooled = rows["Conv2d24"], rows["AvgPool2d24"]
    assert (last.field_out, last.jump_in, last.field_in, last.size_out, pooled.field_out) == (12, 2, 8, 9, 28)
    assert count_parameters(names["MyNet"]()) == count_parameters(SkeletonNet())


@pytest.fixture
def run_lesson(tmp_path, monkeypatch):
    """Runs the cells of a lesson in this process, with parameters and sources replaced, and returns its names."""
    monkeypatch.setenv("MNIST_LAB_RUNS", str(tmp_path))
    monkeypatch.setattr("mnist_lab.fields.figures.FIELD_IMAGES", 20)

    def run(path: Path, edits: dict[str, str], **parameters) -> dict:
        names: dict = {}
        for cell in notebooks.code_cells(notebooks.read(path)):
            source = cell.source.replace("%matplotlib inline", "")
            for old, new in edits.items():
                source = source.replace(old, new)
            exec(source, names)
            names |= parameters if "parameters" in cell.metadata.get("tags", []) else {}
        return names

    yield run
    MODELS.pop("MyNet", None)


@pytest.mark.parametrize("path", LESSONS[::2], ids=lambda path: path.stem)
def test_a_network_that_a_reader_changed_trains(path, run_lesson, tmp_path, capsys):
    """GELU is a layer that a file of weights cannot hold; step 3 says so, and goes on."""
    edits = {
        "# MODEL = MyNet": "MODEL = MyNet",
        "nn.ReLU()": "nn.GELU()",
        "spatial_head(32, size=5),": "nn.GELU(), spatial_head(32, size=5),",
    }
    names = run_lesson(path, edits, EPOCHS=1, BATCH_SIZE=25, TRAIN_LIMIT=200, DATA="digits")
    made = records.load(tmp_path)
    assert {(one.recipe["model"], one.model.name) for one in made} == {("MyNet", "MyNet")}
    if "network" in names:
        assert "cannot hold GELU" in capsys.readouterr().out and not (tmp_path / "03_weights.safetensors").exists()
        assert names["network"].header == use.load().header
