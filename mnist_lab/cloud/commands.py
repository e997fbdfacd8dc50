"""``mnist-lab cloud``: train on a GPU of AWS, and stop paying for it. ``mnist-lab sagemaker`` is its notebook door."""

from argparse import ArgumentParser, Namespace

from mnist_lab.options import UsageError, add_parameter, add_publish, positive

# Verb -> what it does; its function in verbs.py has the same name.
VERBS = {
    "doctor": "check everything that a run needs, and change nothing",
    "policy": "print an IAM policy with the least permissions that work",
    "run": "upload, start, wait, fetch, summary; the exit code is the run's",
    "status": "print the states of machine and run, and the cost so far",
    "logs": "print the run's log",
    "fetch": "fetch what the run has produced so far",
    "open": "start the notebook instance for work by hand, and print the address of its Jupyter",
    "stop": "stop the machine of the run",
    "down": "stop and delete all machines, logs, and everything in S3 below the prefix",
}
SETTINGS = {
    "door": "notebook (an instance with Jupyter), job (a SageMaker training job) or ec2 (default: notebook)",
    "region": "AWS region (default: the profile's)",
    "profile": "profile of your AWS configuration",
    "role": "name or ARN of the role that the machine takes on; needed to run",
    "bucket": "S3 bucket (default: the SageMaker SDK's, as configured)",
    "prefix": "prefix of all keys (default: the name)",
    "name": "name of all that is made (default: mnist-lab)",
    "instance_type": "instance type (default: ml.g4dn.xlarge, or g4dn.xlarge with --door ec2)",
    "image": "image of the job (an ECR address) or of EC2 (an AMI) (default: AWS's newest of PyTorch)",
    "max_minutes": "the run's time limit, minutes (default: 60)",
    "grace_minutes": "minutes after the limit in which results are saved (default: 10)",
    "poll_seconds": "seconds between two requests for the run's state (default: 15)",
    "device": "cuda, or cpu to try everything on a cheap machine (default: cuda)",
    "spot": "with --door job: cheaper, and AWS may interrupt it",
    "local": "with --door job: the container here, in Docker",
}
FLAGS = ("spot", "local")  # take no value
BILL = "a machine that runs is billed by the second, and a notebook instance's volume until mnist-lab cloud down"


def add_commands(verbs) -> None:
    """Add ``cloud`` and ``sagemaker`` with their verbs to the command line's subparsers."""
    about = "train on a GPU of AWS"
    for command, doors in ("cloud", "three doors"), ("sagemaker", "short for cloud --door notebook"):
        top = verbs.add_parser(command, help=f"{about} ({doors})", description=f"{about} ({doors}); {BILL}.")
        added = top.add_subparsers(required=True, metavar="verb")
        for name, text in VERBS.items():
            verb = added.add_parser(name, help=text, description=text)
            add_verb(verb, name)
            verb.set_defaults(setting_door="notebook" if command == "sagemaker" else None)


def add_verb(verb: ArgumentParser, name: str) -> None:
    """Add the options of a verb."""
    verb.set_defaults(command=carry_out, verb=name, publish=False, run="")
    group = verb.add_argument_group("settings", "also read from the environment, as MNIST_LAB_CLOUD_<NAME>")
    for setting, about in SETTINGS.items():
        kind = {"action": "store_true", "default": None} if setting in FLAGS else {"metavar": "X"}
        group.add_argument("--" + setting.replace("_", "-"), dest=f"setting_{setting}", help=about, **kind)
    if name in ("status", "logs", "fetch", "stop"):
        verb.add_argument("--run", metavar="ID", default="", help="a run (default: the last one)")
    if name in ("run", "fetch"):
        add_publish(verb)
    if name == "run":
        verb.add_argument("--quick", action="store_true", help="try it: 2 epochs of 3,000 images")
        add_parameter(verb)
        verb.add_argument("--seeds", type=positive, metavar="N", help="a study: step 3 from N seeds, side by side")
        verb.add_argument("--detach", action="store_true", help="start and return; the machine stops itself")
    if name == "policy":
        verb.add_argument("kind", choices=("trust", "execution", "operator"))
    if name == "logs":
        verb.add_argument("--follow", action="store_true", help="go on until the run is over")
    if name == "down":
        verb.add_argument("--yes", action="store_true", help="do it; else only say what would be deleted")


def carry_out(options: Namespace) -> int:
    """Carry out a verb and return its exit code."""
    from mnist_lab.cloud import verbs

    if options.publish and any(getattr(options, name, False) for name in ("detach", "quick", "seeds")):
        raise UsageError("--publish needs a full run and its files: leave out --detach, --quick and --seeds")
    try:
        return verbs.VERBS[options.verb](verbs.Session(options))
    except ModuleNotFoundError as error:  # boto3 and its like, imported where they are used
        raise UsageError(f"there is no {error.name} here: pip install -r mnist_lab/cloud/requirements.txt") from error
