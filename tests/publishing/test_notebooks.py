import os
import shutil
import sys

import nbformat
import pytest

from mnist_lab.publishing import headless, notebooks
from mnist_lab.publishing.headless import NotebookError
from mnist_lab.publishing.notebooks import Step
from mnist_lab.runtime import ROOT


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
