import argparse
import json

import pytest

from mnist_lab.evidence import commands, records
from mnist_lab.options import UsageError


def run(folder, *arguments) -> int:
    parser = argparse.ArgumentParser()
    commands.add_commands(parser.add_subparsers())
    options = parser.parse_args(["results", *arguments])
    return options.command(options, folder)


def test_results_are_printed_for_people_and_for_scripts(make_record, tmp_path, capsys):
    records.write([make_record(seed=seed) for seed in (0, 1)], tmp_path)
    assert run(tmp_path) == 0
    assert "Left out" in capsys.readouterr().out
    assert run(tmp_path, "--wide") == 0
    assert "Left out" not in capsys.readouterr().out
    assert run(tmp_path, "--json") == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert (result["row"], result["seeds"], result["mean"]) == ("3", 2, 0.9952)


def test_without_records_the_command_says_what_to_do(tmp_path):
    with pytest.raises(UsageError, match="run the steps first"):
        run(tmp_path)
