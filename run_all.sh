#!/usr/bin/env bash
# Set up what is missing, then run the step notebooks, or the tests. See --help. Works with bash 3.2, that of macOS.
# Without the functions, aliases and options of a person's shell; and whatever shell was told to run this.
case $- in *p*) ;; *) exec bash -p "$0" "$@" ;; esac
set -euo pipefail
# No settings of a person decide what is installed here, and where. (Where from is theirs to say.)
for name in "${!PYTHON@}" "${!PIP_@}"; do
    case $name in
    PYTHON | PIP_CONFIG_FILE | PIP_*INDEX* | PIP_FIND_LINKS | PIP_*HOST | PIP_*CERT | PIP_PROXY | PIP_KEYRING*) ;;
    PIP_*CACHE* | PIP_*TIMEOUT) ;;
    *) unset "$name" ;;
    esac
done
unset CDPATH
export PYTHONNOUSERSITE=1 PIP_USER=0
caller=$PWD # relative paths among the options are the caller's
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
    cat <<'HELP'
usage: ./run_all.sh [options]     run the three step notebooks and print the results table
       ./run_all.sh test          lint, and run the tests
       ./run_all.sh setup         only make the environment; then: .venv/bin/jupyter lab notebooks

Each makes .venv and installs what it needs first if that has not been done (about 6 GB; with what the tests need, 7).

options of a run:
  --quick             try it: 2 epochs of 3,000 images
  --step N            only step N; may be repeated
  -p NAME VALUE       set a parameter of the notebooks, as in: -p EPOCHS 3; may be repeated
  --device DEVICE     auto (default), cpu, or cuda, which fails without a GPU
  --data FOLDER       where MNIST/raw/ is; only read. Default: $MNIST_LAB_DATA, else MNIST is
                      downloaded into data/. Without MNIST and the internet, an embedded sample of
                      digits takes its place, and says so.
  --again             start over; else a run that was interrupted goes on where it stopped
  --publish           replace the tracked notebooks, records, figures and tables by the results

A run stays in runs/ and changes no tracked file, unless you publish it. Only a run of all steps
with their own parameters on MNIST can be published. If it is complete already, --publish trains
nothing again.

environment: PYTHON          the interpreter .venv is made with (3.11 to 3.14)
             MNIST_LAB_DATA  see --data
HELP
}

fail() {
    echo "error: $*" >&2
    exit 1
}

# Print the first interpreter that the pinned packages support.
find_python() {
    local candidate candidates=(python3 python3.14 python3.13 python3.12 python3.11)
    if [[ ${PYTHON:-} ]]; then candidates=("$PYTHON"); fi
    for candidate in "${candidates[@]}"; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail "needs Python 3.11 to 3.14; name one: PYTHON=/path/to/python ./run_all.sh"
}

# What .venv is made for: a stamp in it, written last, says the same.
needed() {
    case $1 in
    run) pwd && cat requirements.txt pyproject.toml ;;
    test) cat tests/requirements.txt mnist_lab/cloud/requirements.txt ;;
    esac
}
has() { [[ -r .venv/$1.stamp && $(<".venv/$1.stamp") == "$(needed "$1")" ]]; }
# It may also be of a Python that has gone, or that does not find its packages any more.
is_set_up() { has run && .venv/bin/python -c 'import filelock' 2>/dev/null; }

# Make .venv hold requirements.txt and this checkout; for "test", also what only the tests need.
set_up() {
    if is_set_up && { [[ $1 == run ]] || has test; }; then return; fi
    case $OSTYPE in
    msys* | cygwin*) fail "Windows needs WSL for this script: see README.md" ;;
    esac
    [[ -f requirements.txt ]] || fail "start run_all.sh in its checkout, not by a link from elsewhere"
    local python
    python=$(find_python)
    { true >>.venv.lock; } 2>/dev/null || fail "cannot write $PWD/.venv.lock: check the folder, and whose file it is"
    exec 9>>.venv.lock # the lock is of the open file, so it stays when Python ends, and goes with this script
    "$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)' 2>/dev/null || echo "(this disk has no locks)"
    if ! is_set_up; then # else another first run has done it while this one waited
        make_environment "$python"
    fi
    if [[ $1 == test ]] && ! has test; then
        echo "adding what only the tests need: some minutes, about 1 GB"
        pip_install -c requirements.txt -r tests/requirements.txt -r mnist_lab/cloud/requirements.txt
        needed test >.venv/test.stamp
    fi
    exec 9>&-
}

pip_install() {
    local options=(--disable-pip-version-check)
    if [[ ! -t 1 ]]; then options+=(--quiet); fi
    .venv/bin/python -m pip install "${options[@]}" "$@" || fail "pip could not install this; its reason is above"
}

make_environment() {
    echo "setting up .venv with $("$1" --version): some minutes, about 6 GB"
    rm -rf .venv 2>/dev/null || fail "cannot remove the old .venv: delete it yourself (it may belong to another user)"
    "$1" -m venv .venv || fail "$1 cannot make a virtual environment (on Debian: apt install python3-venv)"
    pip_install -r requirements.txt
    pip_install --no-deps --editable .
    [[ -x .venv/bin/mnist-lab ]] || fail "pip did not install into .venv: see what sets a target in: pip config list"
    needed run >.venv/run.stamp
}

for argument in "$@"; do
    if [[ $argument == -h || $argument == --help ]]; then
        usage
        exit
    fi
done

case ${1:-} in
setup)
    set_up run
    ;;
test)
    set_up test
    shift
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    exec .venv/bin/python -m pytest -n logical --dist worksteal "$@" # a process per core
    ;;
"" | -*)
    set_up run
    lab=$PWD/.venv/bin/mnist-lab
    cd "$caller"
    exec "$lab" run "$@"
    ;;
*)
    echo "error: unknown command $1; see ./run_all.sh --help" >&2
    exit 2
    ;;
esac
