"""Options that several commands share, and the lock that keeps two of them from training at once.

Only the standard library is imported with this module, so that ``mnist-lab --help`` answers at once.
"""

import argparse
import ast
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from mnist_lab import LabError

QUICK = {"EPOCHS": 2, "TRAIN_LIMIT": 3000}


class UsageError(LabError):
    """A command was asked for something that it cannot do."""


class Interrupted(BaseException):
    """A signal, the only argument, ends the command. Like KeyboardInterrupt, only the command line catches it."""


def positive(text: str) -> int:
    """Read a whole number above 0, as a type for argparse."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def add_json(command: argparse.ArgumentParser) -> None:
    """Add --json."""
    command.add_argument("--json", action="store_true", help="print JSON for scripts")


def add_machine(command: argparse.ArgumentParser) -> None:
    """Add --device and --data."""
    command.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where to train; cuda fails without a GPU")
    command.add_argument("--data", type=Path, metavar="FOLDER", help="folder that holds MNIST/raw/; only read")


def add_parameter(command: argparse.ArgumentParser) -> None:
    """Add -p NAME VALUE."""
    command.add_argument(
        "-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help='set a parameter of the notebooks, as in "-p EPOCHS 3"; may be repeated',
    )  # fmt: skip


def add_publish(command: argparse.ArgumentParser) -> None:
    """Add --publish."""
    command.add_argument(
        "--publish", action="store_true", help="replace what is tracked by the results; else they stay in runs/"
    )


def overrides(options: argparse.Namespace) -> dict[str, object]:
    """Collect what --quick, --device and -p change of a notebook's parameters; the last one wins."""
    changed: dict[str, object] = dict(QUICK) if getattr(options, "quick", False) else {}
    if options.device:
        changed["DEVICE"] = options.device
    return changed | {name: read_value(text) for name, text in getattr(options, "parameter", [])}


def read_value(text: str) -> object:
    """Read a parameter's value as Python's literal, else as a word: papermill's -p has no quotes either."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError):  # the last of a dict whose key is a list
        return text


def find_data(folder: Path | None, parameters: dict[str, object]) -> dict[str, object]:
    """Make sure that there are data to train on, and return which parameters that changes.

    Without MNIST and without a way to get it, the embedded digits take its place, and that is said loudly. A folder
    that was asked for by name is never replaced by something else. To score on held-out writers, it has to be known who
    they are. Raises DataNotFound or DataCorrupt.
    """
    from mnist_lab.data import DIGITS_NAME, DataNotFound, data_folder, load_mnist
    from mnist_lab.runtime import pick_device
    from mnist_lab.writers import load_writers

    given = folder or os.environ.get("MNIST_LAB_DATA")
    if given:  # kernels and workers run in other folders, where a relative path would mean another place
        os.environ["MNIST_LAB_DATA"] = str(data_folder(given))
    if parameters.get("DATA", "MNIST") != "MNIST":
        return {}
    try:
        load_mnist()
    except DataNotFound as error:
        if given or "DATA" in parameters:
            raise
        if pick_device(parameters.get("DEVICE", "auto")).type == "cuda":  # its time is too dear for a sample
            raise
        line = "!" * 78
        print(
            f"{line}\n{error}.\n\nRunning on scikit-learn's 1,797 embedded digits instead: {DIGITS_NAME.upper()}.\n"
            f"This shows that everything works; its numbers say nothing about MNIST.\n{line}",
            flush=True,
        )
        return {"DATA": "digits"}
    if parameters.get("SCORE_ON") == "held-out":
        load_writers("train")
    return {}


@contextlib.contextmanager
def only_run(runs: Path) -> Iterator[None]:
    """Keep a second run in the same checkout from starting; the lock goes with the process, however it ends."""
    from filelock import FileLock, Timeout

    try:
        runs.mkdir(parents=True, exist_ok=True)
        with FileLock(runs / ".lock", timeout=0):
            yield
    except Timeout:
        raise UsageError("another run is under way in this checkout: wait for it, or stop it") from None
