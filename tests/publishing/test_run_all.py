"""run_all.sh and .ci/run, with a stand-in for Python that writes down what it was asked to do."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import threading

import pytest

from mnist_lab.runtime import ROOT

# The lock is left to Python itself.
STAND_IN = """#!/usr/bin/env -S bash -p
case "$*" in
*fcntl*) exec "$REAL_PYTHON" "$@" ;;
-c*) [[ $(basename "$0") != "${FAKE_UNFIT:-}" ]] ;;
--version) echo "Python 3.99 called $(basename "$0")" ;;
"-m venv"*)
    echo "venv" >>"$FAKE_LOG"
    mkdir -p .venv/bin
    for name in python ruff; do cp "$0" .venv/bin/$name; done ;;
"-m pip"*)
    echo "pip" >>"$FAKE_LOG"
    if [[ "$*" == *--editable* && -z ${PIP_CONFIG_FILE:-} ]]; then cp "$0" .venv/bin/mnist-lab; fi
    echo "told: ${!PIP_@} ${!PYTHON@}" && [[ $PIP_USER == 0 ]]
    exit "${FAKE_PIP:-0}" ;;
*) echo "$(basename "$0") $*" >>"$FAKE_LOG" ;;
esac
"""
OF_A_VERSION = """#!/usr/bin/env -S bash -p
case "$*" in
*version_info*) exec "$REAL_PYTHON" -c "import sys; sys.version_info = (VERSION); $2" ;;
"-m venv"*) echo "$(basename "$0")" >>"$FAKE_LOG" && exit 1 ;;
esac
"""
SET_UP = ["venv", "pip", "pip"]
FOR_TESTS = ["tests/requirements.txt", "mnist_lab/cloud/requirements.txt"]  # are installed for the tests alone


@pytest.fixture(autouse=True)
def no_python_of_ones_own(monkeypatch):
    """Whoever runs the tests may have chosen an interpreter, which would be taken in place of the stand-in."""
    monkeypatch.delenv("PYTHON", raising=False)


@pytest.fixture
def checkout(tmp_path):
    """A checkout with the scripts alone; returns a function that runs one and says (exit code, calls, text)."""
    for name in ("run_all.sh", "requirements.txt", "pyproject.toml", ".ci/run", *FOR_TESTS):
        target = tmp_path / "lab" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    log = tmp_path / "log"
    for name in ("python3", "python3.14", "python3.13"):
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text(STAND_IN)
        (tmp_path / "bin" / name).chmod(0o755)

    def run(*arguments, script="run_all.sh", cwd=tmp_path, **variables):
        log.write_text("")
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        environment = {**os.environ, "PATH": path, "REAL_PYTHON": sys.executable, "FAKE_LOG": str(log), **variables}
        done = subprocess.run(
            [tmp_path / "lab" / script, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
        )
        return done.returncode, log.read_text().splitlines(), done.stdout + done.stderr

    run.folder = tmp_path / "lab"
    return run


@pytest.fixture
def few(tmp_path):
    """All programs that the script needs besides Python: macOS has neither flock, sha256sum and realpath, nor GNU's
    date, sed and readlink. BASH_OLD names a bash 3.2, if there is one."""
    (tmp_path / "few").mkdir()
    for name in ("env", "cat", "dirname", "basename", "rm", "mkdir", "cp"):
        (tmp_path / "few" / name).symlink_to(shutil.which(name))
    (tmp_path / "few" / "bash").symlink_to(os.environ.get("BASH_OLD") or shutil.which("bash"))
    return tmp_path / "few"


def test_the_first_run_sets_up_and_the_second_does_not(checkout):
    assert checkout("--quick")[:2] == (0, [*SET_UP, "mnist-lab run --quick"])
    assert checkout("--publish", "-p", "EPOCHS", "3")[:2] == (0, ["mnist-lab run --publish -p EPOCHS 3"])
    assert checkout()[:2] == (0, ["mnist-lab run"])


def test_tests_lint_first(checkout):
    work = ["ruff check .", "ruff format --check .", "python -m pytest -n logical --dist worksteal -k a word"]
    assert checkout("setup")[:2] == (0, SET_UP)
    assert checkout("test", "-k", "a word", cwd="/")[:2] == (0, ["pip", *work])
    assert checkout("test", "-k", "a word")[:2] == (0, work)
    assert checkout("setup")[:2] == (0, [])


@pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml"])
def test_other_requirements_are_installed(checkout, name):
    assert checkout("setup")[:2] == (0, SET_UP)
    with open(checkout.folder / name, "a") as file:
        file.write("# more\n")
    assert checkout("setup")[1] == SET_UP


@pytest.mark.parametrize("name", FOR_TESTS)
def test_other_requirements_of_the_tests_are_added(checkout, name):
    checkout("test")
    with open(checkout.folder / name, "a") as file:
        file.write("# more\n")
    assert checkout("setup")[1] == []
    assert checkout("test")[1][:2] == ["pip", "ruff check ."]


def test_a_broken_installation_is_made_again(checkout):
    code, calls, text = checkout("setup", FAKE_PIP="1")
    assert code != 0 and calls == ["venv", "pip"] and "error: pip could not install" in text
    assert checkout("setup")[:2] == (0, SET_UP)
    assert checkout("setup", FAKE_UNFIT="python")[:2] == (0, SET_UP)  # as when its Python was replaced


def test_packages_that_went_elsewhere_are_told(checkout):
    code, _, text = checkout("setup", PIP_CONFIG_FILE="mine")  # the stand-in's sets a target
    assert code != 0 and "pip config list" in text
    assert checkout("setup")[:2] == (0, SET_UP)


def test_a_moved_checkout_is_set_up_again(checkout, tmp_path):
    checkout("setup")
    moved = "/".join(["a long name " * 15] * 10)
    shutil.copytree(checkout.folder, tmp_path / moved)
    assert checkout("--quick", script=f"../{moved}/run_all.sh")[1] == [*SET_UP, "mnist-lab run --quick"]


def test_a_link_from_elsewhere_removes_nothing(checkout, tmp_path):
    (tmp_path / "mine" / ".venv").mkdir(parents=True)
    (tmp_path / "mine" / "run").symlink_to(checkout.folder / "run_all.sh")
    code, calls, text = checkout(script="../mine/run")
    assert code != 0 and calls == [] and "in its checkout" in text
    assert [path.name for path in (tmp_path / "mine").iterdir()] in ([".venv", "run"], ["run", ".venv"])


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        ({"python3": "3.15.0", "python3.15": "3.15.0", "python3.14": "3.14.1", "python3.13": "3.13.9"}, "python3.14"),
        ({"python3": "3.10.14", "python3.11": "3.11.0"}, "python3.11"),
        ({"python3": "3.12.3", "python3.14": "3.14.1"}, "python3"),
        ({"python3": "2.7.18", "python3.14": "", "python3.13": "3.13.9"}, "python3.13"),
        ({"python3": "3.15.0", "python3.15": "3.15.0"}, None),
        ({"python3": "3.10.14"}, None),
        ({}, None),
    ],
)
def test_the_first_python_that_packages_exist_for_is_taken(checkout, few, tmp_path, there, taken):
    """Each stand-in takes itself for another version; one without a version is broken, as a shim of pyenv is."""
    for path in (tmp_path / "bin").iterdir():
        path.unlink()
    for name, version in there.items():
        (tmp_path / "bin" / name).write_text(OF_A_VERSION.replace("VERSION", version.replace(".", ",")))
        (tmp_path / "bin" / name).chmod(0o755)
    code, calls, text = checkout("setup", PATH=f"{tmp_path / 'bin'}:{few}")
    assert code != 0 and calls == ([taken] if taken else [])  # no stand-in makes an environment
    assert taken or "needs Python 3.11 to 3.14" in text


def test_a_machine_that_cannot_do_it_is_told(checkout):
    for variables, said in (({"PYTHON": "/nowhere/python"}, "needs Python 3.11 to 3.14"), ({"OSTYPE": "msys"}, "WSL")):
        code, calls, text = checkout("setup", **variables)
        assert code != 0 and calls == [] and said in text


def test_personal_settings_do_not_change_what_is_installed(checkout):
    mine = ("PIP_USER", "PIP_TARGET", "PIP_NO_DEPS", "PIP_CONSTRAINT", "PYTHONPATH", "PYTHONINSPECT", "PYTHONOPTIMIZE")
    _, _, text = checkout("setup", **dict.fromkeys(mine, "1"), PIP_INDEX_URL="https://example.org/")
    told = next(line for line in text.splitlines() if line.startswith("told: ")).split()
    assert "PIP_INDEX_URL" in told and {*mine} & {*told} == {"PIP_USER"}  # which is then 0


OWN_SHELLS = {
    "functions": "cd() { builtin cd /nowhere; }; cat() { echo mine; }; dirname() { echo /; }; rm() { false; }\n"
    "export -f cd cat dirname rm",
    "startup file": """echo "shopt -s expand_aliases; alias local=echo rm='rm -i'; echo hello" >rc
    export BASH_ENV=$PWD/rc""",
    "options": "set -o noclobber -o noglob; export SHELLOPTS",
    "paths": "export CDPATH=/ GLOBIGNORE='*' IFS=/",
    "mask": "umask 077",
    "no home": "unset HOME USER LOGNAME",
    "no temporary folder": "export TMPDIR=/nowhere",
    "a read-only one": "mkdir -m 555 mine; export TMPDIR=$PWD/mine",
    "time and language": "export SOURCE_DATE_EPOCH=0 TZ=Asia/Tokyo LC_ALL=tr_TR.ISO-8859-9",
}


@pytest.mark.parametrize("own", OWN_SHELLS.values(), ids=OWN_SHELLS)
def test_a_persons_shell_changes_nothing(checkout, own):
    (checkout.folder / "start").write_text(f'#!/usr/bin/env bash\n{own}\nexec "{checkout.folder}/run_all.sh" "$@"\n')
    (checkout.folder / "start").chmod(0o755)
    assert checkout("setup", script="start")[:2] == (0, SET_UP)
    for _ in range(2):  # of which the second replaces a stamp
        with open(checkout.folder / FOR_TESTS[0], "a") as file:
            file.write("# more\n")
        assert checkout("test", script="start")[1][:2] == ["pip", "ruff check ."]
    assert checkout("--quick", script="start")[:2] == (0, ["mnist-lab run --quick"])


def test_what_macos_lacks_is_not_needed(checkout, few, tmp_path):
    path = f"{tmp_path / 'bin'}:{few}"
    assert checkout("--quick", PATH=path)[:2] == (0, [*SET_UP, "mnist-lab run --quick"])
    assert checkout(PATH=path)[:2] == (0, ["mnist-lab run"])
    assert checkout("test", PATH=path)[1][0] == "pip"


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_the_script_finds_its_folder_and_bash_whatever_started_it(checkout, tmp_path, shell):
    other = tmp_path / "other" / "lab"
    other.mkdir(parents=True)
    command = [shell, "lab/run_all.sh", "setup"]
    environment = {**os.environ, "CDPATH": str(other.parent), "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    environment |= {"REAL_PYTHON": sys.executable, "FAKE_LOG": str(tmp_path / "log")}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert (checkout.folder / ".venv" / "run.stamp").is_file()


def test_a_second_first_run_waits_for_the_first(checkout):
    with open(checkout.folder / ".venv.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = []
        second = threading.Thread(target=lambda: found.append(checkout("setup")))
        second.start()
        second.join(timeout=0.5)
        assert not found
    second.join()
    assert found[0][:2] == (0, SET_UP)


def test_an_environment_that_cannot_be_removed_is_a_sentence(checkout, tmp_path):
    checkout("setup", FAKE_PIP="1")
    (tmp_path / "bin" / "rm").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "rm").chmod(0o755)
    code, calls, text = checkout("setup")
    assert code != 0 and calls == [] and "cannot remove the old .venv" in text


def test_a_lock_that_cannot_be_written_is_a_sentence(checkout):
    (checkout.folder / ".venv.lock").mkdir()
    code, calls, text = checkout("setup", POSIXLY_CORRECT="1")  # as which bash ends where it otherwise goes on
    assert code != 0 and calls == [] and "cannot write" in text


@pytest.mark.parametrize("arguments", [["--help"], ["--quick", "-h"]])
def test_help_needs_no_environment(checkout, arguments):
    code, calls, text = checkout(*arguments, cwd="/")
    assert (code, calls) == (0, [])
    assert all(option in text for option in ("--quick", "--step", "-p NAME VALUE", "--device", "--data", "--publish"))
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
    for program in ("soffice", "chromium"):  # else .ci/run would install them on this machine
        shutil.copy(script, checkout.folder / program)
    said = checkout(script=".ci/run", PATH=f"{checkout.folder}:{os.environ['PATH']}")[2]
    assert said.split() == ["test", str(checkout.folder.parent / "shared" / "mnist")]


NEWER = re.compile(
    r"(declare|local|typeset) -\w*[Aglnu]|\b(mapfile|readarray|coproc)\b|&>>|\|&|;;?&|\bwait -n|\[ -v |%\(|\[-\d"
    r"|\$\{\w+(@[A-Za-z]|,|\^)|\{\w+\}[<>]|\b(EPOCHSECONDS|BASHPID|SRANDOM|globstar|lastpipe|inherit_errexit)\b"
)


def test_no_newer_bash_is_needed_than_macos_has():
    """Nor an empty array, which ``set -u`` breaks before 4.4."""
    examples = (
        "declare -A a|local -n a|mapfile a|echo &>>a|a |& b|;;&|wait -n|[[ -v a ]]|printf '%(%s)T'|${a[-1]}|${a@Q}|"
        "${a,,}|${a^}|exec {fd}>a|$EPOCHSECONDS"
    )
    assert [one for one in re.split(r"(?<! )\|", examples) if not NEWER.search(one)] == []
    script = (ROOT / "run_all.sh").read_text(encoding="utf-8")
    assert NEWER.search(script) is None and "=()" not in script


@pytest.mark.parametrize("name", ["run_all.sh", ".ci/run"])
def test_scripts_are_sound(name, shellcheck):
    assert os.access(ROOT / name, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / name], check=True)
    shellcheck(ROOT / name)
