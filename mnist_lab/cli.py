"""The command line: its commands and options, and how it ends."""

import argparse
import os
import signal
import sys
from pathlib import Path

from mnist_lab import commands, runner, study
from mnist_lab.cloud.commands import add_parser
from mnist_lab.cloud.errors import CloudError
from mnist_lab.data import DataCorrupt, DataNotFound
from mnist_lab.published import reproduction
from mnist_lab.recipe import ParameterError
from mnist_lab.records import RecordError
from mnist_lab.search import screening

EXPECTED = (
    runner.RunError,
    study.StudyError,
    DataCorrupt,
    DataNotFound,
    ParameterError,
    RecordError,
    CloudError,
)  # told in a sentence
STOPPED = "tracked files change all together or not at all, and what was executed is in runs/"


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong usage, 128 + signal stopped."""
    options = parser().parse_args(arguments)
    try:
        with runner.terminable():
            code = options.command(options)
            sys.stdout.flush()  # a pipe whose reader has gone shows here, not at the interpreter's end
            return code
    except BrokenPipeError:  # of "| head": not worth a word, as for any command
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what is left to be flushed
        return 128 + signal.SIGPIPE
    except EXPECTED as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nstopped by Ctrl-C; {STOPPED}", file=sys.stderr)
        return 130
    except runner.Interrupted as stopped:
        (number,) = stopped.args
        print(f"\nstopped by {number.name}; {STOPPED}", file=sys.stderr)
        return 128 + number


def parser() -> argparse.ArgumentParser:
    """Describe the commands and their options."""
    top = argparse.ArgumentParser(prog="mnist-lab", description="Train, measure and publish the steps of the series.")
    verbs = top.add_subparsers(required=True, metavar="command")

    run = verbs.add_parser(
        "run",
        help="run the step notebooks and publish their results",
        description="Run the step notebooks in order. A run of all steps with their own parameters on MNIST is "
        "published: notebooks, records, figures and README are replaced together. Any other run is a look and "
        "stays in runs/.",
    )
    run.add_argument("--quick", action="store_true", help="a quick look: 2 epochs of 3,000 images")
    run.add_argument("--step", type=int, action="append", metavar="N", help="only step N (may be repeated)")
    run.set_defaults(command=commands.run_steps)

    many = verbs.add_parser(
        "study",
        help="train a row of the results from many seeds",
        description="Train a row of the results again from seeds 0 to N - 1, in parallel. Finished seeds are kept: "
        "the same command goes on after an interruption. A study of a published row, with no parameter changed, is "
        "published when it is complete. Any other stays in runs/.",
    )
    many.add_argument("row", help="3, or 3a for the rung on the way to it")
    many.add_argument("--seeds", type=positive, default=10, metavar="N", help="how many (10)")
    many.add_argument("--out", type=Path, metavar="FOLDER", help="where to keep the records (runs/study/ROW)")
    many.set_defaults(command=commands.run_study)

    again = verbs.add_parser(
        "reproduce",
        help="train the five published series as they were published",
        description="Train the steps of the published series again by their own recipes, from several seeds each. "
        "Every seed is tracked as soon as it is done: the same command goes on after an interruption. After each step "
        "the tables and figures of README are written anew.",
    )
    again.add_argument("names", nargs="*", metavar="STEP", help="A (a series), A1 (a step), repairs (all steps)")
    again.add_argument(
        "--seeds", type=positive, metavar="N",
        help=f"how many ({reproduction.SEEDS}, and {reproduction.LAST_STEP_SEEDS} of each third step)",
    )  # fmt: skip
    again.add_argument("--json", action="store_true", help="train nothing; print the tracked results for scripts")
    again.set_defaults(command=commands.reproduce)

    tries = verbs.add_parser(
        "search",
        help="train what else step 3 could have been, on held-out images",
        description="Train step 3 with one thing changed, from several seeds each, on 50,000 training images, and "
        "score it on the 10,000 held out. The frontier, step 3 with fewer parameters or epochs, is trained and scored "
        "as the step itself. Every seed is tracked as soon as it is done: the same command goes on after an "
        "interruption. After each candidate the tables and figures of README are written anew.",
    )
    tries.add_argument("names", nargs="*", metavar="NAME", help="a family or a candidate (all but the frontier)")
    tries.add_argument(
        "--seeds",
        type=positive,
        metavar="N",
        help=f"how many ({screening.SEEDS}; {screening.MORE_SEEDS} of step-3 itself and of the frontier)",
    )
    tries.add_argument("--json", action="store_true", help="train nothing; print the tracked results for scripts")
    tries.set_defaults(command=commands.try_candidates)

    bench = verbs.add_parser(
        "bench",
        help="measure how fast step 3 trains here",
        description="Measure how fast step 3 trains, against the usual ways to feed a network and against arithmetic "
        "alone: some ten minutes, on a machine that does nothing else. The tracked benchmark, its figure and README "
        "are written anew.",
    )
    bench.add_argument("--json", action="store_true", help="print JSON for scripts")
    bench.set_defaults(command=commands.run_benchmark)

    for trains in (run, many):
        trains.add_argument(
            "-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
            help='set a parameter of the notebooks, as in "-p EPOCHS 3"',
        )  # fmt: skip
    for trains in (many, again, tries):
        trains.add_argument(
            "--parallel", type=positive, metavar="N",
            help="so many at a time: processes on a CPU (its cores), "
            f"or networks in one stack on a GPU ({study.TOGETHER})",
        )  # fmt: skip
    for trains in (run, many, again, tries, bench):
        trains.add_argument(
            "--device", choices=("auto", "cpu", "cuda"), help="where to train; cuda fails without a GPU"
        )
        trains.add_argument("--data", type=Path, metavar="FOLDER", help="folder that holds MNIST/raw/; only read")

    for name, command, about in [
        ("results", commands.print_results, "print the tracked results"),
        (
            "models",
            commands.print_models,
            "list the networks with their parameters, multiply-accumulates, receptive field and origin",
        ),
    ]:
        sub = verbs.add_parser(name, help=about, description=about)
        sub.add_argument("--json", action="store_true", help="print JSON for scripts")
        sub.set_defaults(command=command)
    tables = verbs.add_parser("readme", help="write README.md's tables and figures anew from the records")
    tables.set_defaults(command=commands.write_readme)
    sheets = verbs.add_parser("workbook", help="write RF_calculations.xlsx anew from the networks and the steps")
    sheets.set_defaults(command=commands.write_workbook)
    add_parser(verbs)
    return top


def positive(text: str) -> int:
    """Read a whole number above 0."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)
