"""An executed notebook becomes the tracked one, or is refused."""

import shutil
from pathlib import Path

import nbformat
import pytest

from mnist_lab import executed, runner
from mnist_lab.runner import RunError, Step
from mnist_lab.runtime import ROOT

OUTPUT = 6  # a code cell of step 2


@pytest.fixture
def step(tmp_path) -> Step:
    """A copy of step 2's notebook, to be edited."""
    path = runner.find_steps()[1].path
    return Step(Path(shutil.copy(path, tmp_path)))


@pytest.fixture
def ran(step):
    """The same notebook as a run has left it."""
    return nbformat.read(step.path, as_version=4)


def finalised(ran, step):
    return executed.finalise(ran, step, [])


def test_prose_edited_during_the_run_is_kept(step, ran):
    edited = nbformat.read(step.path, as_version=4)
    edited.cells[0].source += "\n\nAn afterthought."
    nbformat.write(edited, step.path)
    notebook = finalised(ran, step)
    assert notebook.cells[0].source.endswith("An afterthought.")
    assert runner.faults(notebook) == []


def test_noise_is_removed(step, ran):
    before = finalised(ran, step)
    ran.metadata["papermill"] = {"duration": 1.0}
    ran.metadata.kernelspec["name"] = "somebodys-kernel"
    for cell in ran.cells:
        cell.metadata["papermill"] = {"duration": 1.0}
        cell.metadata["execution"] = {"iopub.status.busy": "2026"}
    assert finalised(ran, step) == before


def test_outputs_are_bound_to_the_code_and_the_files(step, ran, tmp_path):
    figure = tmp_path / "02_figure.png"
    figure.write_bytes(b"a picture")
    notebook = executed.finalise(ran, step, [figure])
    assert notebook.metadata.mnist_lab.cells == executed.fingerprint(ran)
    assert notebook.metadata.mnist_lab.files == {figure.name: executed.digest(figure)}


def stderr(notebook):
    notebook.cells[OUTPUT].outputs.append(nbformat.v4.new_output("stream", name="stderr", text="UserWarning: beware"))


def widget(notebook):
    data = {"application/vnd.jupyter.widget-view+json": {"model_id": "a"}}
    notebook.cells[OUTPUT].outputs.append(nbformat.v4.new_output("display_data", data=data))


def path_of_this_machine(notebook):
    notebook.cells[OUTPUT].outputs.append(nbformat.v4.new_output("stream", name="stdout", text=str(ROOT)))


def injected(notebook):
    cell = nbformat.v4.new_code_cell("EPOCHS = 1", execution_count=1)
    cell.metadata["tags"] = ["injected-parameters"]
    notebook.cells.insert(4, cell)


def unexecuted(notebook):
    runner.code_cells(notebook)[-1].execution_count = None


def raised(notebook):
    notebook.cells[OUTPUT].outputs = [nbformat.v4.new_output("error", ename="E", evalue="v", traceback=[])]


def other_source(notebook):
    runner.code_cells(notebook)[-1].source += "\n# edited"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (stderr, "wrote to stderr: UserWarning"),
        (widget, "shows a widget"),
        (path_of_this_machine, "shows a path"),
        (injected, "injected parameters"),
        (unexecuted, "not executed in order"),
        (raised, "raised E: v"),
        (other_source, "its code differs from that in the repository"),
    ],
)
def test_what_a_reader_should_not_meet_is_refused(step, ran, damage, message):
    damage(ran)
    with pytest.raises(RunError, match=rf"{step.path.name} cannot be published.*{message}"):
        finalised(ran, step)


@pytest.mark.parametrize(("home", "said"), [("/", "see https://example.org"), ("/home/é", "the file /home/é/data")])
def test_a_home_is_no_part_of_an_address_and_may_hold_any_letter(step, ran, monkeypatch, home, said):
    monkeypatch.setattr(Path, "home", lambda: Path(home))
    ran.cells[OUTPUT].outputs.append(nbformat.v4.new_output("stream", name="stdout", text=said))
    if home == "/":
        assert said in nbformat.writes(finalised(ran, step))
    else:
        with pytest.raises(RunError, match="shows a path"):
            finalised(ran, step)
