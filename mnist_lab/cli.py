"""The command line: run the steps, print results, list the networks, rent a GPU."""

import argparse
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

from mnist_lab import publish, results, runner
from mnist_lab.cloud.commands import add_parser
from mnist_lab.cloud.errors import CloudError
from mnist_lab.data import DIGITS_NAME, DataCorrupt, DataNotFound, load_mnist
from mnist_lab.models import MODELS, build
from mnist_lab.recipe import ParameterError, read_parameters
from mnist_lab.records import RecordError, load_records
from mnist_lab.runtime import pick_device
from mnist_lab.summary import facts

EXPECTED = (CloudError, runner.RunError, DataCorrupt, DataNotFound, ParameterError, RecordError)  # told in a sentence
STOPPED = "tracked files change all together or not at all, and what was executed is in runs/"


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code: 0 done, 1 failed, 2 wrong usage, 128 + signal stopped."""
    options = parser().parse_args(arguments)
    try:
        with runner.terminable():
            return options.command(options)
    except EXPECTED as error:
        print(f"\nerror: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nstopped by Ctrl-C; {STOPPED}", file=sys.stderr)
        return 130
    except runner.Interrupted:
        print(f"\nstopped by SIGTERM; {STOPPED}", file=sys.stderr)
        return 143


def parser() -> argparse.ArgumentParser:
    """Describe the commands and their options."""
    top = argparse.ArgumentParser(prog="mnist-lab", description=__doc__)
    commands = top.add_subparsers(required=True, metavar="command")

    run = commands.add_parser(
        "run",
        help="run the step notebooks and publish their results",
        description="Run the step notebooks in order. A run of all steps with their own parameters on MNIST is "
        "published: notebooks, records, figures and README are replaced together. Any other run is a look and "
        "stays in runs/.",
    )
    run.add_argument("--quick", action="store_true", help="a quick look: 2 epochs of 3,000 images")
    run.add_argument("--step", type=int, action="append", metavar="N", help="only step N (may be repeated)")
    run.add_argument(
        "-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help='set a parameter of the notebooks, as in "-p EPOCHS 3"',
    )  # fmt: skip
    run.add_argument("--device", choices=("auto", "cpu", "cuda"), help="where to train; cuda fails without a GPU")
    run.add_argument("--data", type=Path, metavar="FOLDER", help="folder that holds MNIST/raw/; only read")
    run.set_defaults(command=run_steps)

    for name, command, about in [
        ("results", print_results, "print the tracked results"),
        ("models", print_models, "list the networks with their parameters, multiply-accumulates and receptive field"),
    ]:
        sub = commands.add_parser(name, help=about, description=about)
        sub.add_argument("--json", action="store_true", help="print JSON for scripts")
        sub.set_defaults(command=command)
    tables = commands.add_parser("readme", help="write the tables in README.md anew from the tracked records")
    tables.set_defaults(command=write_readme)
    add_parser(commands)
    return top


def run_steps(options: argparse.Namespace) -> int:
    """Run the chosen steps, print their results, and publish them if they may be."""
    overrides = read_overrides(options)
    all_steps = runner.find_steps()
    unknown = set(options.step or []) - {step.number for step in all_steps}
    if unknown:
        raise runner.RunError(f"there is no step {', '.join(map(str, sorted(unknown)))}")
    steps = [step for step in all_steps if not options.step or step.number in options.step]
    for step in steps:
        read_parameters({**step.defaults(), **overrides})
    if overrides.get("DEVICE") == "cuda":
        check_cuda()
    with runner.only_run(runner.RUNS):
        overrides |= find_data(options.data, overrides)
        folder = runner.new_folder(runner.RUNS)
        runner.run_steps(steps, overrides, folder)
        records = load_records(folder)
        print(f"\n{results.text_table(results.summarise(records))}\n")
        print(f"executed notebooks, records and figures: {os.path.relpath(folder)}/")
        reasons = publish.refusals(steps, overrides, records, all_steps)
        if reasons:
            print(f"not published, since {', and '.join(reasons)}")
        else:
            replaced = publish.publish(folder, steps)
            print(f"published {len(replaced)} files: read notebooks/, or README.md for the overview")
    return 0


def read_overrides(options: argparse.Namespace) -> dict[str, object]:
    """Collect what --quick, --device and -p change; the last one wins."""
    overrides: dict[str, object] = dict(runner.QUICK) if options.quick else {}
    if options.device:
        overrides["DEVICE"] = options.device
    return overrides | {name: runner.read_value(text) for name, text in options.parameter}


def check_cuda() -> None:
    """Raise RunError now rather than in a notebook if there is no CUDA GPU."""
    try:
        pick_device("cuda")
    except RuntimeError as error:
        raise runner.RunError(str(error)) from None


def find_data(folder: Path | None, overrides: dict[str, object]) -> dict[str, object]:
    """Make sure there are data to run on, and return which parameters that changes.

    Without MNIST and without a way to get it, the embedded digits take its place, and that is said loudly. A
    folder that was asked for by name is never replaced by something else.
    """
    given = folder or os.environ.get("MNIST_LAB_DATA")
    if given:  # the kernels run in another folder: a relative path would mean another place there
        os.environ["MNIST_LAB_DATA"] = str(Path(given).expanduser().resolve())
    if overrides.get("DATA", "MNIST") != "MNIST":
        return {}
    try:
        load_mnist()
    except DataNotFound as error:
        on_gpu = pick_device(overrides.get("DEVICE", "auto")).type == "cuda"  # its time is too dear for a sample
        if given or "DATA" in overrides or on_gpu:
            raise
        line = "!" * 78
        print(
            f"{line}\n{error}.\n\nRunning on scikit-learn's 1,797 embedded digits instead: {DIGITS_NAME.upper()}.\n"
            f"This shows that everything works; its numbers say nothing about MNIST.\n{line}",
            flush=True,
        )
        return {"DATA": "digits"}
    return {}


def print_results(options: argparse.Namespace) -> int:
    """Print the tracked results."""
    records = load_records(publish.RECORDS)
    if not records:
        raise runner.RunError(f"no records in {publish.RECORDS}: run the steps first")
    found = results.summarise(records)
    print(json.dumps([asdict(result) for result in found], indent=1) if options.json else results.text_table(found))
    return 0


def write_readme(options: argparse.Namespace) -> int:
    """Write README's generated blocks anew, as after a change of their layout."""
    publish.write_readme()
    return 0


def print_models(options: argparse.Namespace) -> int:
    """List the networks."""
    found = [facts(build(name)) for name in MODELS]
    if options.json:
        print(json.dumps([asdict(model) for model in found], indent=1))
        return 0
    print(f"{'model':<14}{'parameters':>11}{'deployed':>10}{'multiply-accumulates':>22}{'receptive field':>17}")
    for model in found:
        print(
            f"{model.name:<14}{model.trainable:>11,}{model.deployed:>10,}{model.multiply_accumulates:>22,}"
            f"{model.receptive_field:>17}"
        )
    return 0
