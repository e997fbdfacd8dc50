"""The command line: each room adds its commands, and is imported when one of them runs."""

import argparse
import contextlib
import dataclasses
import importlib
import io
import json
import os
import signal
import sys
from collections.abc import Iterator

from mnist_lab import LabError, __version__
from mnist_lab.options import Interrupted, add_json

ROOMS = ("publishing", "studies", "speed", "evidence", "analysis", "use", "cloud")  # that have commands of their own


def main(arguments: list[str] | None = None, commands: argparse.ArgumentParser | None = None) -> int:
    """Run one of the ``commands``, by default those of :func:`parser`.

    Returns the exit code: 0 done, 1 failed, 2 wrong usage, 128 + signal stopped.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that is not UTF-8 shows "?" for what it cannot show
    options = (commands or parser()).parse_args(arguments)
    try:
        with terminable():
            code = options.command(options)
            if code == 0 and getattr(options, "publish", False):
                importlib.import_module("mnist_lab.publishing.pages").refresh()
            print(end="", flush=True)  # a pipe whose reader has gone shows here, not at the interpreter's end
            return code
    except BrokenPipeError:  # of "| head": not worth a word, as for any command
        discard_output()
        return 141  # as if SIGPIPE had ended it, which Windows lacks
    except OSError as error:
        of_a_file = error.errno and not isinstance(error, ConnectionError)
        advice = ". Check the disk and its permissions" if of_a_file else ""
        print(f"\nerror: {error}{advice}", file=sys.stderr)
        if of_a_file and error.filename is None:  # stdout itself
            discard_output()
        return 1
    except LabError as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:  # of an extra that was not installed
        if (error.name or "mnist_lab").startswith("mnist_lab"):
            raise
        print(f'\nerror: {error.name} is not installed: in the checkout, pip install -e ".[train]"', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C; what had finished is in runs/", file=sys.stderr)
        return 130
    except Interrupted as stopped:
        (number,) = stopped.args
        print(f"\nstopped by {number.name}; what had finished is in runs/", file=sys.stderr)
        return 128 + number


def parser() -> argparse.ArgumentParser:
    """Describe the commands and their options."""
    top = argparse.ArgumentParser(prog="mnist-lab", description="Train, measure and publish the steps of the series.")
    top.add_argument("--version", action="version", version=f"mnist-lab {__version__}")
    verbs = top.add_subparsers(required=True, metavar="command")
    for room in ROOMS:
        importlib.import_module(f"mnist_lab.{room}.commands").add_commands(verbs)
    models = verbs.add_parser("models", help="list the networks, our own and those of the published series")
    add_json(models)
    models.set_defaults(command=print_models)
    workbook = verbs.add_parser("workbook", help="write RF_calculations.xlsx anew from the networks")
    workbook.set_defaults(command=make_workbook)
    return top


def print_models(options: argparse.Namespace) -> int:
    """List every network with its parameters, multiply-accumulates (MACs), receptive field and origin."""
    from mnist_lab.fields.trace import facts
    from mnist_lab.models import MODELS
    from mnist_lab.studies.others.catalogue import networks

    origins = dict.fromkeys(MODELS, "own") | {name: repository for name, (_, repository) in networks().items()}
    kinds = MODELS | {name: kind for name, (kind, _) in networks().items()}
    found = {name: facts(kind()) for name, kind in kinds.items()}
    if options.json:
        print(json.dumps([dataclasses.asdict(model) | {"origin": origins[name]} for name, model in found.items()]))
        return 0
    print(f"{'model':<12}{'parameters':>10}{'MACs':>10}{'field':>6}  origin")
    for name, model in found.items():
        counts = f"{model.trainable:>10,}{model.multiply_accumulates:>10,}{model.receptive_field:>6}"
        print(f"{name:<12}{counts}  {origins[name]}")
    return 0


def make_workbook(options: argparse.Namespace) -> int:
    """Write the workbook of every network's receptive fields."""
    from mnist_lab.evidence.records import TRACKED, load
    from mnist_lab.fields.workbook import WORKBOOK, write_workbook
    from mnist_lab.models import MODELS
    from mnist_lab.studies.others.catalogue import networks

    kinds = MODELS | {name: kind for name, (kind, _) in networks().items()}
    steps = {one.step: one.recipe["model"] for one in load(TRACKED / "steps") if one.kind == "step"}
    write_workbook(WORKBOOK, kinds, steps)
    print(f"written: {WORKBOOK}")
    return 0


def discard_output() -> None:
    """Let nothing more be written to stdout, which fails: the interpreter flushes what is left when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Turn SIGTERM, and the SIGHUP of a terminal that closes, into an exception, so that kernels are stopped and
    temporary files removed on the way out. (nohup ignores SIGHUP, and that stays so.)
    """

    def stop(number: int, frame: object) -> None:
        raise Interrupted(signal.Signals(number))

    present = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    handlers = {number: signal.getsignal(number) for number in present}
    for number, handler in handlers.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
