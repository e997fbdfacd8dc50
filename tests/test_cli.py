import signal
import subprocess
import sys

import pytest

from mnist_lab import cli, commands, runner


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
        *((kind("what to do"), 1, "error: what to do") for kind in cli.EXPECTED),
        (KeyboardInterrupt(), 130, "stopped by Ctrl-C"),
        (runner.Interrupted(signal.SIGTERM), 143, "stopped by SIGTERM"),
        (runner.Interrupted(signal.SIGHUP), 129, "stopped by SIGHUP"),
    ],
)
def test_how_a_command_ends_is_told_in_a_line(monkeypatch, capsys, error, code, said):
    def end(options):
        raise error

    monkeypatch.setattr(commands, "print_models", end)
    assert cli.main(["models"]) == code
    assert said in capsys.readouterr().err


def test_a_reader_who_stops_reading_sees_no_traceback():
    code = "import sys; from mnist_lab.cli import main; sys.exit(main(['models']))"
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipe) as writer:
        writer.stdout.close()  # as head does
        assert writer.stderr.read() == b""
    assert writer.returncode == 141


def test_a_mistake_of_ours_is_not_hidden(monkeypatch):
    def end(options):
        raise ZeroDivisionError

    monkeypatch.setattr(commands, "print_models", end)
    with pytest.raises(ZeroDivisionError):
        cli.main(["models"])


def test_every_command_is_explained(capsys):
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    said = capsys.readouterr().out
    for verb in ("run", "study", "reproduce", "search", "bench", "results", "models", "readme", "workbook"):
        assert f"\n    {verb}" in said
