"""``mnist-lab sagemaker``: step 3 on a SageMaker GPU, and no forgotten bill."""

from argparse import ArgumentParser

from mnist_lab.cloud import cleanup, policy, preview, verbs
from mnist_lab.cloud.session import BILL, Session
from mnist_lab.cloud.settings import add_options

VERBS = [
    ("doctor", preview.run_doctor, "look at everything that a run needs, and change nothing"),
    ("policy", preview.print_policy, "print an IAM policy with the least permissions that work"),
    ("render", preview.print_script, "print the script that the instance runs at its start"),
    ("up", verbs.bring_up, "bring bucket, bundle, script and instance into place (a new instance starts at once)"),
    ("run", verbs.run, "the whole way: up, start, wait, fetch, summary; the exit code is the run's"),
    ("status", verbs.show_status, "print the states of instance and run, and the cost so far"),
    ("logs", verbs.show_logs, "print the run's log"),
    ("fetch", verbs.fetch_run, "fetch what the run has left so far"),
    ("open", verbs.open_notebook, "start the instance for work by hand, and print the address of its Jupyter"),
    ("stop", verbs.stop, "stop the instance"),
    ("down", cleanup.down, "delete instance, volume, configuration, logs, and everything in S3 below the prefix"),
]


def add_parser(commands) -> None:
    """Add ``sagemaker`` and its verbs to the command line's ``commands``."""
    top = commands.add_parser(
        "sagemaker",
        help="run step 3 on a SageMaker GPU, and stop it",
        description=f"{__doc__} {BILL[0].upper() + BILL[1:]}.",
    )
    added = top.add_subparsers(required=True, metavar="verb")
    for name, command, about in VERBS:
        verb = added.add_parser(name, help=about, description=about)
        verb.add_argument("--json", action="store_true", help="print JSON for scripts; progress goes to stderr")
        verb.add_argument("--dry-run", action="store_true", help="only print what would be changed")
        if name in ("run", "up", "render"):
            add_run_options(verb, name)
        if name == "policy":
            verb.add_argument("kind", choices=policy.KINDS)
        if name == "logs":
            verb.add_argument("--hook", action="store_true", help="the start script's output in CloudWatch instead")
            verb.add_argument("--follow", action="store_true", help="go on until the run is over")
        if name == "down":
            verb.add_argument("--yes", action="store_true", help="do not ask")
            verb.add_argument("--keep-s3", action="store_true", help="leave bundles and results in the bucket")
        add_options(verb)
        verb.set_defaults(command=lambda options, command=command: command(Session(options)))


def add_run_options(verb: ArgumentParser, name: str) -> None:
    """Add what decides on the run itself."""
    verb.add_argument("--quick", action="store_true", help="a quick look: 2 epochs of 3,000 images")
    verb.add_argument(
        "-p", "--parameter", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"),
        help='set a parameter of the notebook, as in "-p EPOCHS 3"',
    )  # fmt: skip
    if name != "render":
        verb.add_argument("--again", action="store_true", help="a new run, though the last one is of the same code")
    if name == "run":
        verb.add_argument("--detach", action="store_true", help="start and return; it stops itself all the same")
