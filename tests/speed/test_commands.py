import argparse
import json
from dataclasses import asdict

import pytest

from mnist_lab.evidence import records
from mnist_lab.speed.commands import add_commands, measure_step

TRACKED = "notebooks/records/benchmarks/cpu.json"


@pytest.mark.parametrize(("given", "place"), [([], "runs/benchmark-cpu.json"), (["--publish"], TRACKED)])
def test_only_publishing_replaces_the_tracked_benchmark(recipe, measured, make_record, tmp_path, capsys, given, place):
    records.write([make_record(recipe=asdict(recipe), accuracies=(0.99, 0.994))], tmp_path / "notebooks" / "records")
    parser, asked = argparse.ArgumentParser(), []
    add_commands(parser.add_subparsers())

    def measure(recipe, settings):
        asked.append((recipe, settings))
        return measured

    assert measure_step(parser.parse_args(["bench", "--json", "--device", "cpu", *given]), tmp_path, measure) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / place).read_text(encoding="utf-8"))
    assert len(list(tmp_path.rglob("*.json"))) == 1
    ((found, settings),) = asked
    assert (found, settings.device, settings.data) == (recipe, "cpu", "MNIST")
