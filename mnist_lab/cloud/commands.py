"""``mnist-lab sagemaker``: run step 3 on a SageMaker GPU, and stop paying for it."""

from argparse import Namespace

from mnist_lab.options import UsageError, add_json, add_parameter, add_publish

# Verb -> the function of verbs.py that carries it out, and what it does.
VERBS = {
    "doctor": ("doctor", "check everything that a run needs, and change nothing"),
    "policy": ("print_policy", "print an IAM policy with the least permissions that work"),
    "render": ("print_script", "print the script that the instance runs at its start"),
    "up": ("up", "put bucket, bundle, script and instance into place (a new instance starts at once)"),
    "run": ("run", "do all of it: up, start, wait, fetch, summary; the exit code is the run's"),
    "status": ("status", "print the states of instance and run, and the cost so far"),
    "logs": ("logs", "print the run's log"),
    "fetch": ("fetch", "fetch what the run has produced so far"),
    "open": ("open_notebook", "start the instance for work by hand, and print the address of its Jupyter"),
    "stop": ("stop", "stop the instance"),
    "down": ("down", "delete instance, volume, configuration, logs, and everything in S3 below the prefix"),
}


def add_commands(verbs) -> None:
    """Add ``sagemaker`` and its verbs to the command line's subparsers."""
    from mnist_lab.cloud.settings import BILL, add_options

    about = f"Run step 3 on a SageMaker GPU, and stop paying for it: {BILL}."
    top = verbs.add_parser("sagemaker", help="run step 3 on a SageMaker GPU", description=about)
    added = top.add_subparsers(required=True, metavar="verb")
    parsers = {name: added.add_parser(name, help=about, description=about) for name, (_, about) in VERBS.items()}
    for name, verb in parsers.items():
        verb.set_defaults(command=carry_out, function=VERBS[name][0], publish=False)
        add_json(verb)
        verb.add_argument("--dry-run", action="store_true", help="only print what would be changed")
        add_options(verb)
    for name in ("run", "up", "render"):
        parsers[name].add_argument("--quick", action="store_true", help="try it: 2 epochs of 3,000 images")
        add_parameter(parsers[name])
    for name in ("run", "up"):
        parsers[name].add_argument("--again", action="store_true", help="a new run, also of the same code")
    for name in ("run", "fetch"):
        add_publish(parsers[name])
    parsers["run"].add_argument("--detach", action="store_true", help="start and return; the instance stops itself")
    parsers["policy"].add_argument("kind", choices=("trust", "execution", "operator"))
    parsers["logs"].add_argument("--hook", action="store_true", help="the start script's output in CloudWatch instead")
    parsers["logs"].add_argument("--follow", action="store_true", help="go on until the run is over")
    parsers["down"].add_argument("--yes", action="store_true", help="do not ask")
    parsers["down"].add_argument("--keep-s3", action="store_true", help="leave bundles and results in the bucket")


def carry_out(options: Namespace) -> int:
    """Carry out a verb and return its exit code."""
    from mnist_lab.cloud import verbs
    from mnist_lab.cloud.session import Session

    if options.publish and any(getattr(options, name, False) for name in ("dry_run", "detach", "quick")):
        raise UsageError("--publish needs a full run and its files: leave out --dry-run, --detach and --quick")
    try:
        return getattr(verbs, options.function)(Session(options))
    except ModuleNotFoundError as error:  # boto3 and its like, imported where they are used
        raise UsageError(f"there is no {error.name} here: pip install -r mnist_lab/cloud/requirements.txt") from error
