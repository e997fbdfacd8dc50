import argparse
import json
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from mnist_lab.evidence import records
from mnist_lab.models import MODELS, build, leaves
from mnist_lab.speed import diagnosis
from mnist_lab.speed.commands import add_commands, tell_what_works


class Picky(nn.Module):
    """A layer that works in single precision alone, and gives other numbers each time in channels_last."""

    def forward(self, images):
        if images.dtype != torch.float32:
            raise RuntimeError("unable to find an engine\nand more")
        return images * (1 + torch.rand(()) if images.is_contiguous(memory_format=torch.channels_last) else 1)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(diagnosis, "SECONDS", 0)


def test_a_failure_is_a_line_and_not_the_end(recipe, settings, monkeypatch, quick):
    monkeypatch.setattr(diagnosis, "operations", lambda count, recipe: [("a layer", Picky(), (2, 3, 4, 4))])
    lines = [line.strip() for line in diagnosis.diagnose(replace(recipe, batch_size=8), settings, [2])]
    (place,) = [number for number, line in enumerate(lines) if line.startswith("a layer")]
    count, microseconds, fails, *rest = lines[place].removeprefix("a layer").split()
    assert (count, fails, rest) == ("2", "fails", ["not", "the", "same", "twice", "fails"])
    assert float(microseconds.replace(",", "")) > 0
    reason = "fails with RuntimeError: unable to find an engine"
    assert lines[place + 1 : place + 3] == [f"bfloat16: {reason}", f"bfloat16 channels_last: {reason}"]
    assert "training uses, for 2: torch.float32, channels_last, as Update" in lines


def test_a_warning_counts_as_a_failure():
    def warn():
        torch.nn.functional.softmax(torch.zeros(2))  # warns that it chose a dimension

    assert diagnosis.attempt(warn).startswith("fails with UserWarning: Implicit dimension choice")


def test_every_convolution_norm_and_pooling_is_tried_with_its_input(recipe):
    found = {" ".join(name.split()[:2]): (layer, shape) for name, layer, shape in diagnosis.operations(3, recipe)}
    for network in MODELS:
        tried = [number for number, layer in enumerate(leaves(build(network))) if isinstance(layer, diagnosis.TRIED)]
        assert {name for name in found if name.startswith(network)} == {f"{network} {number}" for number in tried}
    head, shape = found["CompactNet 24"]
    assert shape == (recipe.batch_size, 3 * 56, 5, 5) and head(torch.zeros(shape)).shape[2:] == (1, 1)


def test_the_command_prints_lines_that_a_report_can_hold(recipe, make_record, tmp_path, capsys, quick):
    step = make_record(recipe=asdict(replace(recipe, batch_size=8)), accuracies=(0.99, 0.994))
    records.write([step], tmp_path / "notebooks" / "records")
    parser = argparse.ArgumentParser()
    add_commands(parser.add_subparsers())
    for format in ([], ["--json"]):
        options = parser.parse_args(["bench", "--quick", "--device", "cpu", *format])
        assert tell_what_works(options, tmp_path) == 0
    text, _, last = capsys.readouterr().out.rstrip("\n").rpartition("\n")
    lines = text.splitlines()
    assert [line[:30] for line in lines] == [line[:30] for line in "\n".join(json.loads(last)).splitlines()]
    assert any(line.startswith("CompactNet 24 Conv2d (5, 5)") for line in lines) and "fails" not in text
    assert max(map(len, lines[1:])) < 140 and not list(tmp_path.rglob("benchmark*"))
    with pytest.raises(SystemExit):
        parser.parse_args(["bench", "--quick", "--publish"])
