import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from mnist_lab import runner
from mnist_lab.runner import RunError, Step

PARAMETERS = next(step for step in runner.find_steps()).path


def notebook_of(*sources: str):
    """Return a step notebook with step 1's parameters cell and then ``sources``."""
    cell = new_code_cell(runner.parameters_cell(nbformat.read(PARAMETERS, as_version=4)).source)
    cell.metadata["tags"] = ["parameters"]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return new_notebook(cells=[cell, *map(new_code_cell, sources)], metadata=kernel)


@pytest.fixture
def step(tmp_path):
    """Return a function that writes a step of one's own, which must never change."""
    (tmp_path / "notebooks").mkdir()
    written = {}

    def write(*sources: str) -> Step:
        path = tmp_path / "notebooks" / "07_trial.ipynb"
        nbformat.write(notebook_of(*sources), path)
        written[path] = path.read_bytes()
        return Step(path)

    yield write
    assert all(path.read_bytes() == content for path, content in written.items())


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    return folder


def test_steps_are_found_by_their_number():
    assert [step.number for step in runner.find_steps()] == list(range(1, len(runner.find_steps()) + 1))


def test_a_step_runs_with_its_parameters_replaced_and_is_heard(step, runs, capfd):
    output = runner.execute(step("print('epochs:', EPOCHS)"), {"EPOCHS": 3}, runs)
    assert "epochs: 3" in capfd.readouterr().out
    assert output == runs / "07_trial.ipynb" and runner.faults(nbformat.read(output, as_version=4)) == []


def test_a_step_runs_where_it_would_by_hand_and_knows_its_folder(step, runs, monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "Agg")  # would swallow every figure
    source = (
        "import os; from mnist_lab.runtime import run_folder\n"
        f"assert os.getcwd() == {str(runs.parent / 'notebooks')!r}\n"
        f"assert str(run_folder()) == {str(runs)!r}\n"
        "assert 'MPLBACKEND' not in os.environ or 'inline' in os.environ['MPLBACKEND']\n"
        "assert os.environ['TQDM_DISABLE'] == '1'"
    )
    runner.execute(step(source), {}, runs)
    assert "MNIST_LAB_RUNS" not in os.environ and os.environ["MPLBACKEND"] == "Agg"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0", "ZeroDivisionError"),
        ("import sys; sys.exit(0)", "was not executed in order"),  # papermill calls this a success
        ("import sys; sys.exit(3)", "SystemExit"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "Kernel died"),
    ],
)
def test_a_cell_that_fails_fails_the_step(step, runs, source, message):
    with pytest.raises(RunError, match=rf"07_trial.ipynb.*(?s:.*){message}") as caught:
        runner.execute(step(source, "print('after')"), {}, runs)
    assert str(runs) in str(caught.value)  # where to look


def test_a_step_without_proper_parameters_is_named(tmp_path):
    path = tmp_path / "07_trial.ipynb"
    for notebook in (new_notebook(), notebook_of()):
        for cell in notebook.cells:
            cell.source = "EPOCHS = 5 * 3"
        nbformat.write(notebook, path)
        with pytest.raises(RunError, match=r"07_trial\.ipynb: .*parameters"):
            Step(path).defaults()
    path.write_text("{")
    with pytest.raises(RunError, match=r"07_trial\.ipynb: "):
        Step(path).defaults()


def test_a_folder_that_cannot_be_written_is_an_error(step, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(RunError, match="cannot"):
        runner.new_folder(blocked)
    with pytest.raises(RunError, match="cannot"), runner.only_run(blocked):
        pass
    with pytest.raises(RunError):
        runner.execute(step("1"), {}, blocked)


def test_parameters_cells_hold_literals_only():
    source = "A = 1\nB = -2.5  # text\nC = None\nD = 'x'"
    assert runner.read_literals(source) == {"A": 1, "B": -2.5, "C": None, "D": "x"}
    for source in ("A = 1 + x", "import os", "print(1)", "A = 2 * 3", "A = B = 1", "A, B = 1, 2", "A: int = 3"):
        with pytest.raises(ValueError, match="NAME = literal"):
            runner.read_literals(source)


def test_faults_are_found():
    executed = notebook_of("1", "2")
    assert "code cell 1 of 3 was not executed in order" in runner.faults(executed)
    for count, cell in enumerate(executed.cells, 1):
        cell.execution_count = count
    assert runner.faults(executed) == []
    executed.cells[1].outputs = [nbformat.v4.new_output("error", ename="E", evalue="v", traceback=[])]
    assert runner.faults(executed) == ["code cell 2 raised E: v"]
    executed.cells[2].execution_count = 7
    assert len(runner.faults(executed)) == 2


def test_a_second_run_waits_outside(runs):
    with runner.only_run(runs), pytest.raises(RunError, match="another run is under way"), runner.only_run(runs):
        pass
    with runner.only_run(runs):  # and the lock goes
        pass


def test_a_terminal_that_closes_stops_no_run_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with runner.terminable():
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_stopped_run_ends_soon_with_its_kernel_and_leaves_the_notebook(step, runs, number, code):
    pid_file = runs / "kernel"
    source = f"import os, pathlib, time; pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid())); time.sleep(600)"
    path = step(source).path
    program = f"""
import signal, sys
from pathlib import Path
from mnist_lab import cli, commands, runner
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell starts with Ctrl-C ignored
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as nohup has SIGHUP
runner.find_steps = lambda: [runner.Step(Path({str(path)!r}))]
runner.RUNS = Path({str(runs)!r})
runner.new_folder = lambda runs: runs
commands.find_data = lambda folder, overrides: {{}}
sys.exit(cli.main(["run"]))
"""
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 600
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == code, stderr
    assert "tracked files change all together or not at all" in stderr
    assert "Traceback" not in stderr
    kernel = Path(f"/proc/{pid_file.read_text()}")
    deadline = time.monotonic() + 600
    while kernel.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not kernel.exists()
