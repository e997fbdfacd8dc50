import argparse
import errno
import io
import json
import os
import re
import signal
import subprocess
import sys

import pytest

from mnist_lab import LabError, __version__, cli
from mnist_lab.data import DataNotFound
from mnist_lab.options import Interrupted


def ends(command):
    """Return a parser whose only command is ``command``, called "end"."""
    parser = argparse.ArgumentParser()
    parser.add_subparsers().add_parser("end").set_defaults(command=command)
    return parser


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["train"],
        ["run", "--epochs", "3"],
        ["study"],
        ["study", "3", "--seeds", "0"],
        ["study", "3", "--parallel", "x"],
        ["reproduce", "--seeds", "0"],
        ["reproduce", "-p", "EPOCHS", "1"],
    ],
)
def test_wrong_usage_is_exit_code_2(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: mnist-lab" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (LabError("what to do"), 1, "error: what to do"),
        (DataNotFound("where to look"), 1, "error: where to look"),
        (OSError(errno.ENOSPC, "No space left", "/here"), 1, "No space left: '/here'. Check the disk"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), 1, "reset by peer\n"),
        (OSError("a scheduler has gone"), 1, "error: a scheduler has gone\n"),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C"),
        (Interrupted(signal.SIGTERM), 143, "stopped by SIGTERM"),
    ],
)
def test_how_a_command_ends_is_said_in_a_line(capsys, error, code, said):
    def end(options):
        raise error

    assert cli.main(["end"], ends(end)) == code
    assert said in capsys.readouterr().err


def test_a_mistake_of_ours_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        cli.main(["end"], ends(lambda options: 1 / 0))


def test_a_signal_ends_a_command_as_an_exception():
    def end(options):
        signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(["end"], ends(end)) == 143
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_reader_who_stops_reading_sees_no_traceback():
    code = "import sys; from mnist_lab.cli import main; sys.exit(main(['models']))"
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipe) as writer:
        writer.stdout.close()  # as head does
        assert writer.stderr.read() == b""
    assert writer.returncode == 141


def test_a_closed_output_is_no_error(monkeypatch):
    """As of a job that some schedulers start."""
    monkeypatch.setattr(sys, "stdout", None)
    assert cli.main(["end"], ends(lambda options: print("done") or 0)) == 0


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device that is always full")
def test_output_that_cannot_be_written_is_told_in_a_line():
    code = (
        "import sys, test_cli; from mnist_lab import cli; "
        "sys.exit(cli.main(['end'], test_cli.ends(lambda options: print('done') or 0)))"
    )
    here = os.path.dirname(__file__)
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=here, stdout=full, stderr=subprocess.PIPE, encoding="utf-8"
        )
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 2 and "error: " in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_a_terminal_that_is_not_utf8_shows_the_results(monkeypatch, encoding):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    assert cli.main(["results"]) == 0
    assert "parameters" in terminal.buffer.getvalue().decode(encoding)


def test_what_the_cloud_needs_besides_is_told(monkeypatch, capsys):
    for name in ("boto3", "botocore", "botocore.session"):
        monkeypatch.setitem(sys.modules, name, None)
    assert cli.main(["sagemaker", "status", "--region", "us-east-1"]) == 1
    assert "pip install -r mnist_lab/cloud/requirements.txt" in capsys.readouterr().err


def test_help_and_version_load_no_heavy_library():
    code = (
        "import sys; from mnist_lab.cli import parser; parser().format_help(); "
        "print(sorted({'torch', 'numpy', 'pydantic', 'matplotlib', 'boto3', 'papermill'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"mnist-lab {__version__}\n"


def test_every_command_is_explained(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    said = capsys.readouterr().out
    (verbs,) = (action for action in cli.parser()._actions if isinstance(action, argparse._SubParsersAction))
    assert {"run", "ablate", "predict", "export"} <= verbs.choices.keys()
    for verb in verbs.choices:
        assert re.search(rf"^    {verb}(  +|\n +)\w", said, re.MULTILINE), verb


def test_every_network_is_listed_with_its_origin(capsys):
    assert cli.main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert cli.main(["models", "--json"]) == 0
    found = {model["name"]: model for model in json.loads(capsys.readouterr().out)}
    assert len(found) == len(lines) - 1
    assert (found["CompactNet"]["trainable"], found["CompactNet"]["origin"]) == (7946, "own")
    assert (found["E3"]["trainable"], found["E3"]["origin"]) == (7236, "dhairyag/multi_models_MNIST")
