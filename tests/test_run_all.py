"""run_all.sh and .ci/run, with a stand-in for Python that writes down what it was asked to do."""

import os
import shutil
import subprocess

import pytest

from mnist_lab.runtime import ROOT

STAND_IN = """#!/usr/bin/env bash
case "$*" in
-c*) exit "${FAKE_TOO_OLD:-0}" ;;
--version) echo "Python 3.99" ;;
"-m venv"*)
    echo venv >>"$FAKE_LOG"
    mkdir -p .venv/bin
    for name in python mnist-lab ruff; do cp "$0" .venv/bin/$name; done ;;
"-m pip"*)
    echo pip >>"$FAKE_LOG"
    exit "${FAKE_PIP:-0}" ;;
*) echo "$(basename "$0") $*" >>"$FAKE_LOG" ;;
esac
"""


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout with the scripts alone; returns a function that runs one and says (exit code, calls, text)."""
    for name in ("run_all.sh", "requirements.txt", "pyproject.toml", ".ci/run"):
        target = tmp_path / "lab" / name
        target.parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, target)
    stand_in, log = tmp_path / "fake python", tmp_path / "log"
    stand_in.write_text(STAND_IN)
    stand_in.chmod(0o755)

    def run(*arguments, script="run_all.sh", cwd=tmp_path, **variables):
        log.write_text("")
        environment = {**os.environ, "PYTHON": str(stand_in), "FAKE_LOG": str(log), **variables}
        done = subprocess.run(
            [tmp_path / "lab" / script, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
        )
        return done.returncode, log.read_text().splitlines(), done.stdout + done.stderr

    run.folder = tmp_path / "lab"
    return run


SET_UP = ["venv", "pip", "pip"]


def test_the_first_run_sets_up_and_the_second_does_not(checkout):
    assert checkout("--quick")[:2] == (0, [*SET_UP, "mnist-lab run --quick"])
    assert checkout("-p", "EPOCHS", "3")[:2] == (0, ["mnist-lab run -p EPOCHS 3"])


def test_tests_lint_first(checkout):
    code, calls, _ = checkout("test", cwd="/")
    assert code == 0
    assert calls == [*SET_UP, "ruff check .", "ruff format --check .", "python -m pytest -n logical --dist worksteal"]


def test_setup_sets_up_and_stops(checkout):
    assert checkout("setup")[:2] == (0, SET_UP)


@pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml"])
def test_other_requirements_are_installed(checkout, name):
    checkout("setup")
    with open(checkout.folder / name, "a") as file:
        file.write("# more\n")
    assert checkout("setup")[1] == SET_UP


def test_a_broken_installation_is_made_again(checkout):
    code, calls, _ = checkout("setup", FAKE_PIP="1")
    assert code != 0 and calls == ["venv", "pip"]
    assert checkout("setup")[:2] == (0, SET_UP)


def test_a_moved_checkout_is_set_up_again(checkout, tmp_path):
    checkout("setup")
    shutil.copytree(checkout.folder, tmp_path / "moved")
    assert checkout("setup", script="../moved/run_all.sh")[1] == SET_UP


def test_an_old_python_is_an_instruction(checkout):
    code, calls, text = checkout("setup", FAKE_TOO_OLD="1")
    assert code != 0 and calls == []
    assert "needs Python 3.11 or later" in text


@pytest.mark.parametrize("arguments", [["--help"], ["--quick", "-h"]])
def test_help_needs_no_environment(checkout, arguments):
    code, calls, text = checkout(*arguments, cwd="/")
    assert (code, calls) == (0, [])
    assert all(option in text for option in ("--quick", "--step", "-p NAME VALUE", "--device", "--data"))
    assert not (checkout.folder / ".venv").exists()


def test_a_misspelt_command_installs_nothing(checkout):
    code, calls, text = checkout("tset")
    assert (code, calls) == (2, [])
    assert "unknown command tset" in text


def test_a_run_starts_where_its_caller_is(checkout, tmp_path):
    checkout("setup")
    lab = checkout.folder / ".venv" / "bin" / "mnist-lab"
    lab.write_text("#!/usr/bin/env bash\npwd\n")
    assert checkout("--data", "here", cwd=tmp_path)[2].strip() == str(tmp_path)


def test_ci_runs_the_test_command_with_mnist_where_it_is(checkout):
    (checkout.folder.parent / "shared" / "mnist").mkdir(parents=True)
    script = checkout.folder / "run_all.sh"
    script.write_text('#!/usr/bin/env bash\necho "$1 $MNIST_LAB_DATA"\n')
    office = shutil.copy(script, checkout.folder / "soffice")  # else .ci/run would install it on this machine
    said = checkout(script=".ci/run", PATH=f"{office.parent}:{os.environ['PATH']}")[2]
    assert said.split() == ["test", str(checkout.folder.parent / "shared" / "mnist")]


def test_scripts_are_sound():
    for name in ("run_all.sh", ".ci/run"):
        assert os.access(ROOT / name, os.X_OK)
        subprocess.run(["bash", "-n", ROOT / name], check=True)
        if shutil.which("shellcheck"):
            subprocess.run(["shellcheck", ROOT / name], check=True)
