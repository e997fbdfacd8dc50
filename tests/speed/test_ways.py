import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mnist_lab.augment import TensorEngine
from mnist_lab.models import count_parameters, leaves
from mnist_lab.speed import ways
from mnist_lab.speed.ways import LAYERS, usable_layers
from mnist_lab.studies.others.series_e import E3

LOADER = """
import torch
from mnist_lab.augment import Policy
from mnist_lab.data import Split
from mnist_lab.speed.per_image import PerImageBatches, torchvision_transform
from mnist_lab.speed.ways import short_names
few = Split(torch.zeros(100, 1, 28, 28, dtype=torch.uint8), torch.zeros(100, dtype=torch.int64))
with short_names():
    print(len(list(PerImageBatches(few, 50, torchvision_transform(Policy()), 1, torch.device("cpu")))))
"""


def test_every_way_is_timed_against_the_first(recipe, settings, monkeypatch):
    monkeypatch.setattr(ways, "BASELINE_BATCH", 50)
    found = ways.compare_ways(recipe, replace(settings, threads=2), rounds=1, sample=100, workers=(0,))
    kinds = len(usable_layers(recipe, torch.device("cpu")))
    assert [(way.batch_size, way.threads) for way in found] == [(32, 2), (32, 1)] * kinds + [(32, 2), (32, 2), (50, 2)]
    assert found[0].ratio == 1.0 and found[0].name.startswith("whole batches in memory")
    for way in found:
        assert way.seconds_per_epoch == pytest.approx(way.ratio * found[0].seconds_per_epoch)  # with one round
    assert [way.model for way in found] == ["CompactNet"] * (2 * kinds + 2) + ["E3"]


def test_every_epoch_that_is_timed_is_distorted(recipe, small, settings):
    once = ways.train_once(replace(recipe, clean_epochs=1), small, settings)
    assert isinstance(once.args[1].augment, TensorEngine)


def test_layers_that_cannot_be_compiled_are_no_way(recipe):
    assert list(usable_layers(recipe, torch.device("meta"))) == list(LAYERS)[-1:]


@pytest.mark.skipif(not Path("/tmp").is_dir(), reason="needs another folder for temporary files")
def test_a_loader_with_workers_runs_where_names_are_long(tmp_path):
    deep = tmp_path / ("long" * 30)
    deep.mkdir()
    command, variables = [sys.executable, "-c", LOADER], os.environ | {"TMPDIR": str(deep)}
    done = subprocess.run(command, env=variables, capture_output=True, encoding="utf-8")
    assert done.stdout.strip() == "2", done.stderr


def test_the_baseline_is_the_published_network():
    ours, theirs = ways.baseline_network(), E3()
    assert list(map(repr, leaves(ours))) == list(map(repr, leaves(theirs)))
    assert count_parameters(ours) == count_parameters(theirs) == 7236
