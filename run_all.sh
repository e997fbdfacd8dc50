#!/usr/bin/env bash
# Set up what is missing, then run the step notebooks, or the tests. See --help.
set -euo pipefail
caller=$PWD # relative paths among the options are the caller's
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
    cat <<'HELP'
usage: ./run_all.sh [options]     run the three step notebooks and print the results table
       ./run_all.sh test          lint, and run the tests
       ./run_all.sh setup         only make the environment; then: .venv/bin/jupyter lab notebooks

Each makes .venv and installs requirements.txt first if that has not been done (about 7 GB).

options of a run:
  --quick             a quick look: 2 epochs of 3,000 images
  --step N            only step N; may be repeated
  -p NAME VALUE       set a parameter of the notebooks, as in: -p EPOCHS 3; may be repeated
  --device DEVICE     auto (default), cpu, or cuda, which fails without a GPU
  --data FOLDER       where MNIST/raw/ is; only read. Default: $MNIST_LAB_DATA, else MNIST is
                      downloaded into data/. Without MNIST and a network, an embedded sample of
                      digits takes its place, and says so.

A run of all steps with their own parameters on MNIST replaces the tracked notebooks, records,
figures and README tables. Any other run is a look, and stays in runs/.

environment: PYTHON          the interpreter .venv is made with (3.11 or later)
             MNIST_LAB_DATA  see --data
HELP
}

# Print the first interpreter that the pinned packages support.
find_python() {
    local candidate candidates=(python3 python3.13 python3.12 python3.11)
    if [[ ${PYTHON:-} ]]; then candidates=("$PYTHON"); fi
    for candidate in "${candidates[@]}"; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "error: needs Python 3.11 or later; name one: PYTHON=/path/to/python ./run_all.sh" >&2
    return 1
}

# Make .venv hold requirements.txt and this checkout. A stamp, written last, says that it does.
set_up() {
    local stamp=.venv/installed wanted
    exec 9>.venv.lock
    flock 9 # two first runs at once: the second waits, and then finds everything there
    wanted=$({ pwd && cat requirements.txt pyproject.toml; } | sha256sum)
    if [[ -x .venv/bin/python && -f $stamp && $(<"$stamp") == "$wanted" ]]; then
        flock -u 9
        return
    fi
    local python quiet=(--quiet)
    python=$(find_python)
    if [[ -t 1 ]]; then quiet=(); fi
    echo "setting up .venv with $("$python" --version): some minutes, about 7 GB"
    rm -f "$stamp"
    if ! "$python" -m venv --clear .venv; then
        echo "error: $python cannot make a virtual environment (on Debian: apt install python3-venv)" >&2
        return 1
    fi
    .venv/bin/python -m pip install --disable-pip-version-check "${quiet[@]}" -r requirements.txt
    .venv/bin/python -m pip install --disable-pip-version-check "${quiet[@]}" --no-deps --editable .
    echo "$wanted" >"$stamp"
    flock -u 9
}

for argument in "$@"; do
    if [[ $argument == -h || $argument == --help ]]; then
        usage
        exit
    fi
done

case ${1:-} in
setup)
    set_up
    ;;
test)
    set_up
    .venv/bin/ruff check .
    .venv/bin/ruff format --check .
    exec .venv/bin/python -m pytest -n logical --dist worksteal "${@:2}" # a process per core
    ;;
"" | -*)
    set_up
    lab=$PWD/.venv/bin/mnist-lab
    cd "$caller"
    exec "$lab" run "$@"
    ;;
*)
    echo "error: unknown command $1; see ./run_all.sh --help" >&2
    exit 2
    ;;
esac
