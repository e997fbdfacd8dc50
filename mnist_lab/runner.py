"""Run the step notebooks headless through papermill, and judge whether a run counts."""

import ast
import contextlib
import fcntl
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mnist_lab.runtime import ROOT

if TYPE_CHECKING:
    from nbformat import NotebookNode

NOTEBOOKS = ROOT / "notebooks"
RUNS = ROOT / "runs"  # git-ignored: nothing below it is precious
QUICK = {"EPOCHS": 2, "TRAIN_LIMIT": 3000}


class RunError(RuntimeError):
    """The run cannot go on; what is tracked was not touched."""


class Interrupted(BaseException):
    """A signal, the only argument, ends the command. Like KeyboardInterrupt, the command line alone should catch it."""


@dataclass(frozen=True)
class Step:
    """A step notebook as it stands in the repository."""

    path: Path

    @property
    def number(self) -> int:
        return int(self.path.stem[:2])

    def defaults(self) -> dict[str, object]:
        """Return the literals of the cell tagged "parameters"; RunError if papermill could not replace them."""
        try:
            return read_literals(parameters_cell(read_notebook(self.path)).source)
        except (OSError, ValueError, SyntaxError) as error:
            raise RunError(f"{self.path.name}: {error}") from error


def find_steps(folder: Path = NOTEBOOKS) -> list[Step]:
    """Return the notebooks called ``NN_subject.ipynb``, in order."""
    return [Step(path) for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))]


def read_notebook(path: Path) -> "NotebookNode":
    """Read a notebook. Only here, since nbformat may take seconds to import and every command would wait for it."""
    import nbformat

    return nbformat.read(path, as_version=4)


def parameters_cell(notebook: "NotebookNode") -> "NotebookNode":
    """Return the one code cell tagged "parameters"; ValueError if there is not just one."""
    tagged = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(tagged) != 1:
        raise ValueError(f"a step notebook needs one cell tagged parameters, this one has {len(tagged)}")
    return tagged[0]


def code_cells(notebook: "NotebookNode") -> "list[NotebookNode]":
    """Return a notebook's code cells in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def read_literals(source: str) -> dict[str, object]:
    """Read lines of ``NAME = literal``; anything else raises ValueError, as papermill could not override it."""
    values = {}
    for statement in ast.parse(source).body:
        try:
            (target,) = statement.targets
            values[target.id] = ast.literal_eval(statement.value)
        except (AttributeError, ValueError):
            raise ValueError(f"line {statement.lineno} of the parameters cell is not NAME = literal") from None
    return values


def read_value(text: str) -> object:
    """Read a parameter's value as Python's literal, else as a word: papermill's -p has no quotes either."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def run_steps(steps: list[Step], overrides: Mapping[str, object], folder: Path) -> None:
    """Execute ``steps`` in order into ``folder``, their printed lines on the terminal as they come.

    ``overrides`` replace parameters of every step. Raises RunError; what was executed so far stays in
    ``folder``.
    """
    for number, step in enumerate(steps, 1):
        print(f"\n[{number}/{len(steps)}] {step.path.name}", flush=True)
        start = time.monotonic()
        execute(step, overrides, folder)
        print(f"      done in {time.monotonic() - start:.0f} s", flush=True)


def execute(step: Step, overrides: Mapping[str, object], folder: Path) -> Path:
    """Execute one notebook into ``folder`` and return the executed file, once it passed :func:`faults`."""
    import papermill
    from papermill.exceptions import PapermillException
    from traitlets.config import Config

    output = folder / step.path.name
    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        with environment(MNIST_LAB_RUNS=str(folder), TQDM_DISABLE="1", MPLBACKEND=None):
            papermill.execute_notebook(
                step.path,
                output,
                parameters=dict(overrides),
                kernel_name="python3",
                cwd=step.path.parent,  # as when opened by hand
                progress_bar=False,
                stdout_file=sys.stdout,
                coalesce_streams=True,
                extra_arguments=["--log-level=CRITICAL"],  # or a stopped kernel logs a traceback of its own
                config=Config({"KernelManager": {"transport": "ipc"}}),  # no ports to collide over
            )
    except PapermillException as error:
        last_line = str(error).strip().splitlines()[-1]
        raise RunError(f"{step.path.name} failed: {last_line}\n      See {output}") from error
    except OSError as error:
        raise RunError(f"cannot write {output}: {error.strerror or error}") from error
    except RuntimeError as error:  # nbclient: the kernel died
        raise RunError(f"{step.path.name} failed: {' '.join(str(error).split())}\n      See {output}") from error
    problems = faults(read_notebook(output))
    if problems:
        raise RunError(f"{step.path.name} did not run to its end: {'; '.join(problems)}\n      See {output}")
    return output


def faults(notebook: "NotebookNode") -> list[str]:
    """Return why an executed notebook does not count: each code cell must have run, in order, without an error.

    papermill's exit code is not enough: it calls ``sys.exit(0)`` in a cell a success.
    """
    problems = []
    code = code_cells(notebook)
    for position, cell in enumerate(code, 1):
        if cell.execution_count != position:
            problems.append(f"code cell {position} of {len(code)} was not executed in order")
            break
    for position, cell in enumerate(code, 1):
        for output in cell.outputs:
            if output.output_type == "error":
                problems.append(f"code cell {position} raised {output.ename}: {output.evalue}")
    return problems


@contextlib.contextmanager
def environment(**changes: str | None) -> Iterator[None]:
    """Set environment variables for a while; None removes one. (MPLBACKEND=Agg would swallow every figure.)"""
    before = {name: os.environ.get(name) for name in changes}
    _apply(changes)
    try:
        yield
    finally:
        _apply(before)


def _apply(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def new_folder(runs: Path) -> Path:
    """Make and return a folder for one run of the steps, named by the time."""
    folder = runs / time.strftime("%Y-%m-%d_%H-%M-%S")
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise RunError(f"cannot make {folder}: {error.strerror}. Free the disk or check its permissions") from error
    return folder


@contextlib.contextmanager
def only_run(runs: Path) -> Iterator[None]:
    """Keep a second run in the same checkout from starting; the lock goes with the process, however it ends."""
    with contextlib.ExitStack() as stack:
        try:
            runs.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(open(runs / ".lock", "w"))
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError("another run is under way in this checkout: wait for it, or stop it") from None
        except OSError as error:
            raise RunError(f"cannot write to {runs}: {error.strerror}") from error
        yield


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Turn SIGTERM, and the SIGHUP of a terminal that closes, into an exception, so that kernels are stopped and
    temporary files removed on the way out. (nohup ignores SIGHUP, and that stays so.)
    """

    def stop(number: int, frame: object) -> None:
        raise Interrupted(signal.Signals(number))

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    for number, handler in handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
