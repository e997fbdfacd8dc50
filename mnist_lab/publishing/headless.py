"""Execute one notebook through papermill. PyTorch is in its kernel only: this process imports none of it."""

import _thread
import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbformat import NotebookNode

from mnist_lab import LabError

# The variables of Python that a kernel keeps. Others would run code of their own, print more, or drop the checks.
KEPT = ("PYTHONPATH", "PYTHONHOME", "PYTHONHASHSEED", "PYTHONUTF8", "PYTHONIOENCODING")


class NotebookError(LabError):
    """A notebook did not run to its end, or holds what may not be tracked."""


class ThisInterpreter(AsyncKernelManager):
    """Starts kernels in the interpreter that runs this code, whatever kernelspecs are installed."""

    kernel_spec = KernelSpec(
        argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        display_name="Python 3",
        language="python",
    )


def execute(source: Path, output: Path, parameters: Mapping[str, object] | None = None) -> NotebookNode:
    """Execute ``source`` into ``output`` with some parameters replaced, and return the executed notebook.

    Its records and figures go to the folder of ``output``, and what it prints to stdout as it comes. Raises
    NotebookError if it did not run to its end; ``output`` then shows how far it came.
    """
    import papermill
    from papermill.exceptions import PapermillException
    from traitlets.config import Config

    for library in ("papermill", "matplotlib"):
        logging.getLogger(library).setLevel(logging.ERROR)
    temporary = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)  # Windows keeps files that are still open
    try:
        with temporary as scratch, environment(output.parent, scratch):
            ipc = os.name != "nt" and len(os.fsencode(scratch)) < 80  # a socket's path may have some 100 bytes
            connection = {
                "transport": "ipc" if ipc else "tcp",  # with ipc there are no ports to collide over
                "connection_file": os.path.join(scratch, "kernel.json"),
            }
            papermill.execute_notebook(
                source,
                output,
                parameters=dict(parameters or {}),
                kernel_name="python3",
                language="python",
                kernel_manager_class=ThisInterpreter,
                cwd=source.parent,  # as when opened by hand
                progress_bar=False,
                stdout_file=sys.stdout,
                coalesce_streams=True,
                shutdown_kernel="immediate",
                extra_arguments=["--log-level=CRITICAL"],  # or a stopped kernel logs a traceback of its own
                config=Config({"KernelManager": connection}),
            )
    except PapermillException as error:
        raise NotebookError(f"{source.name} failed: {str(error).strip().splitlines()[-1]}\nSee {output}") from error
    except (OSError, UnicodeError) as error:
        raise NotebookError(f"{source.name} could not be executed into {output}: {error}") from error
    except RuntimeError as error:  # nbclient: the kernel died
        reason = " ".join(str(error).split())
        raise NotebookError(f"{source.name} failed: {reason} (did memory run out?)\nSee {output}") from error
    executed = read(output)
    if problems := faults(executed):
        raise NotebookError(f"{source.name} did not run to its end: {'; '.join(problems)}\nSee {output}")
    return executed


def faults(notebook: NotebookNode) -> list[str]:
    """Return why an executed notebook does not count: each code cell must have run, in order, without an error.

    papermill does not tell all: to it, ``sys.exit(0)`` in a cell is a success.
    """
    code = code_cells(notebook)
    skipped = [position for position, cell in enumerate(code, 1) if cell.execution_count != position]
    problems = [f"code cell {position} of {len(code)} was not executed in order" for position in skipped[:1]]
    for position, cell in enumerate(code, 1):
        errors = (output for output in cell.outputs if output.output_type == "error")
        problems += [f"code cell {position} raised {error.ename}: {error.evalue}" for error in errors]
    return problems


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Return a notebook's code cells in order, without empty ones, which Jupyter adds and does not execute."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]


def read(path: Path) -> NotebookNode:
    """Read a notebook."""
    return nbformat.read(path, as_version=4)


@contextlib.contextmanager
def environment(folder: Path, scratch: str) -> Iterator[None]:
    """Tell the kernels that start meanwhile where to write, and to draw no progress bars.

    No configuration of a person reaches them: IPython finds an empty folder, and matplotlib the file that it brings.
    """
    import matplotlib.font_manager  # makes its cache now, where there is none; a notebook would say so

    before = dict(os.environ)
    matplotlibrc = os.path.join(matplotlib.get_data_path(), "matplotlibrc")
    os.environ.update(MNIST_LAB_RUNS=str(folder), TQDM_DISABLE="1", IPYTHONDIR=scratch, MATPLOTLIBRC=matplotlibrc)
    for name in before:
        if name == "MPLBACKEND" or (name.startswith("PYTHON") and name not in KEPT):
            del os.environ[name]
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def main() -> None:
    """Execute the notebook that the arguments name, as a child of a batch; it stops when its stdin is closed."""
    source, output, parameters = sys.argv[1:]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background job
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    try:
        execute(Path(source), Path(output), json.loads(parameters))
    except LabError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


def _stop_with_parent() -> None:
    os.read(0, 1)  # returns when the parent closes the pipe or is gone, however it ended
    _thread.interrupt_main()  # so that papermill shuts its kernel down


if __name__ == "__main__":
    main()
