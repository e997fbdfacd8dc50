import json
from dataclasses import asdict, fields, replace

import pytest
import torch
from torch import nn

from mnist_lab import experiment, runner
from mnist_lab.data import Dataset
from mnist_lab.models import leaves
from mnist_lab.recipe import Recipe, read_parameters
from mnist_lab.search import candidates
from mnist_lab.search.candidates import FAMILIES
from mnist_lab.search.distortions import DISTORTIONS
from mnist_lab.search.networks import NETWORKS

STEP, _ = read_parameters(runner.find_steps()[-1].defaults())
SEARCH, FRONTIER = candidates.search(STEP), candidates.frontier(STEP)
EVERY = [*SEARCH, *FRONTIER]


def own(recipe) -> dict:
    return {field.name: getattr(recipe, field.name) for field in fields(Recipe)}


def test_the_first_is_the_step_itself(digits, settings):
    first = SEARCH[0]
    assert own(first) == asdict(STEP) and first.row == "step-3"
    data = Dataset(digits.name, digits.train.first(1500), digits.test)
    openings = [experiment.measure_opening(recipe, data, settings, 0) for recipe in (STEP, first)]
    assert openings[0] == openings[1]


def test_every_other_differs_from_the_step_and_from_each_other():
    assert len({candidate.name for candidate in EVERY}) == len(EVERY)
    assert set(FAMILIES) == {candidate.family for candidate in EVERY}
    described = [json.dumps(asdict(replace(candidate, family="", name="", change=""))) for candidate in EVERY]
    assert len(set(described)) == len(described)
    assert all(candidate.epochs < STEP.epochs or candidate.network_name for candidate in FRONTIER)


def test_every_network_is_tried():
    assert {candidate.network_name for candidate in EVERY} == {"", *NETWORKS}


@pytest.mark.parametrize("candidate", EVERY, ids=lambda candidate: candidate.name)
def test_a_candidate_is_plain_data_and_trains(candidate, digits, settings, capsys):
    assert json.loads(json.dumps(asdict(candidate))) == asdict(candidate)
    few = replace(candidate, epochs=2, batch_size=32, warmup=0.2)
    data = Dataset(digits.name, digits.train.first(320), digits.test)
    run = experiment.train(few, data, settings)
    assert run.history[-1].train.loss < run.opening_loss + 0.05
    assert experiment.subject(few, data) == f"{digits.name}, {candidate.change}"


def test_all_that_a_change_brings_with_it_is_in_its_words():
    by_name = {candidate.name: candidate for candidate in SEARCH}
    for name in ("half-batch", "double-batch"):
        batch = by_name[name]
        assert batch.change.startswith(f"{batch.batch_size} images; peak {batch.learning_rate:g} and ")
        assert f"average {batch.averaging:g} " in batch.change
        same_images = batch.batch_size / (1 - batch.averaging), STEP.batch_size / (1 - STEP.averaging)
        assert same_images[0] == pytest.approx(same_images[1], rel=0.02)
    assert by_name["half-augmentation"].change.endswith(f"by up to {round(STEP.shift / 2)} pixel")
    assert by_name["more-augmentation"].change.endswith(f"by up to {round(STEP.shift * 1.5)} pixels")
    for candidate in SEARCH:
        norms = [layer for layer in leaves(candidate.network()) if isinstance(layer, nn.BatchNorm2d)]
        channels = [norm.num_features for norm in norms]
        if candidate.family == "network" and set(channels) != {16, 32, 40, 48}:
            assert f"{', '.join(map(str, channels[:4]))} channels" in candidate.change
        else:
            assert "channels" not in candidate.change


def test_biases_do_not_decay():
    adamw = next(candidate for candidate in SEARCH if candidate.method == "AdamW")
    optimizer = adamw.optimizer(adamw.network().parameters(), torch.device("cpu"))
    decays = {
        parameter.dim() > 1: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]
    }
    assert decays == {True: 0.1, False: 0.0}


def test_a_cycled_momentum_falls_where_the_rate_climbs():
    cycled = next(candidate for candidate in SEARCH if candidate.cycled_momentum)
    optimizer = cycled.optimizer([nn.Parameter(torch.zeros(3))], torch.device("cpu"))
    scheduler = cycled.scheduler(optimizer, 100)
    moments, rates = [], []
    for _ in range(100):
        moments.append(optimizer.param_groups[0]["betas"][0])
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step() if len(rates) < 100 else None
    assert moments[0] == moments[-1] == pytest.approx(0.95) and min(moments) == pytest.approx(0.85)
    assert moments.index(min(moments)) == rates.index(max(rates)) == 100 * STEP.warmup - 1


def test_every_distortion_is_tried_and_numbers_that_change_are_not_recorded():
    assert {candidate.distortion for candidate in EVERY} == {"", *DISTORTIONS}
    assert {candidate.name for candidate in EVERY if not candidate.recordable} == {"muon", "cycled-momentum"}
    assert {candidate.name for candidate in EVERY if candidate.fresh_statistics} == {"fresh-statistics"}


@pytest.mark.parametrize("method", ["Adam", "AdamW", "SGD"])
def test_on_a_gpu_an_update_can_be_recorded(method, monkeypatch):
    """The rate is a tensor that a graph reads, and Adam counts its steps on the device."""
    on_cpu = torch.tensor
    monkeypatch.setattr(torch, "tensor", lambda value, device: on_cpu(value))  # needs no GPU
    optimizer = replace(SEARCH[0], method=method).optimizer([nn.Parameter(torch.zeros(3, 3))], torch.device("cuda"))
    group = optimizer.param_groups[0]
    assert isinstance(group["lr"], torch.Tensor) and group.get("capturable", True)
