import subprocess
import sys

import pytest

from mnist_lab import cli
from mnist_lab.cloud.commands import VERBS

NAMES = ["doctor", "policy", "render", "up", "run", "status", "logs", "fetch", "open", "stop", "down"]


def test_the_verbs_are_the_documented_ones():
    assert [name for name, _, _ in VERBS] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_verb_helps_and_takes_the_settings(name, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["sagemaker", name, "--help"])
    assert caught.value.code == 0
    said = capsys.readouterr().out
    assert all(option in said for option in ("--json", "--dry-run", "--region", "--role", "--bucket", "--config"))


def test_wrong_usage_is_exit_code_2():
    with pytest.raises(SystemExit) as caught:
        cli.main(["sagemaker", "fly"])
    assert caught.value.code == 2


def test_the_command_line_needs_no_library_of_aws():
    """The instance has none, and executes notebooks through this command line."""
    program = (
        "import sys; sys.modules['boto3'] = sys.modules['botocore'] = sys.modules['sagemaker'] = None\n"
        "from mnist_lab import cli; cli.main(['models'])"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
