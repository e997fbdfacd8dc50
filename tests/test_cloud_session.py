from argparse import Namespace

import pytest

from mnist_lab import cli
from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.session import Session, parameters


def options(*arguments: str) -> Namespace:
    return cli.parser().parse_args(["sagemaker", "run", *arguments])


def test_parameters_are_read_as_those_of_a_run_here():
    assert parameters(options("--quick", "-p", "EPOCHS", "3", "-p", "MODEL", "SkeletonNet")) == {
        "EPOCHS": 3, "TRAIN_LIMIT": 3000, "MODEL": "SkeletonNet",
    }  # fmt: skip


def test_settings_are_checked_before_anything_else():
    with pytest.raises(CloudError, match="--instance-type"):
        Session(options("--instance-type", "ml.g99.xlarge"))


def test_progress_leaves_stdout_to_json(capsys):
    for flag, wanted in ([], ("progress\nresult\n", "")), (["--json"], ('{\n "a": 1\n}\n', "progress\n")):
        session = Session(options(*flag))
        session.say("progress")
        session.answer({"a": 1}, "result")
        assert tuple(capsys.readouterr()) == wanted


def test_a_dry_run_claims_no_result(capsys):
    Session(options("--dry-run")).done({"a": 1}, "done")
    Session(options("--dry-run", "--json")).done({"a": 1}, "done")
    assert capsys.readouterr().out == 'nothing was changed: this was a dry run\n{\n "dry_run": true\n}\n'
