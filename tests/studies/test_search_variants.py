import json
import math
from dataclasses import asdict, fields, replace

import pytest
import torch
from samples import STEP
from torch import nn
from torch.nn import functional as F

from mnist_lab import experiment
from mnist_lab.data import Dataset
from mnist_lab.evidence import records
from mnist_lab.fields.trace import facts
from mnist_lab.models import PARAMETER_BUDGET, build, count_parameters, leaves
from mnist_lab.recipe import Recipe
from mnist_lab.studies.search import assisted, variants
from mnist_lab.studies.search.distortions import DISTORTIONS
from mnist_lab.studies.search.recipe import FAMILIES
from mnist_lab.writers import FOLDS

ROW_2A = Recipe("CompactNet", 15, 100, 0.01, "constant", 0.15, 0.0, 0.0, 0, 0.0, 0.0, 0, "tensor")
ROWS = {"1": replace(ROW_2A, model="SkeletonNet", learning_rate=0.003), "2a": ROW_2A, "3": STEP}
ABLATIONS, FRONTIER, TRACKS = variants.ablations(STEP), variants.frontier(STEP), variants.tracks(STEP)
APART = variants.apart(ROW_2A, ROWS["1"])
EVERY = {variant.name: variant for variant in variants.every(ROWS)}


def test_the_baseline_trains_as_the_step_does(few, settings):
    baseline = EVERY[variants.BASELINE]
    assert {field.name: getattr(baseline, field.name) for field in fields(Recipe)} == asdict(STEP)
    data = Dataset("few", few, few)
    openings = [experiment.measure_opening(replace(one, batch_size=20), data, settings) for one in (STEP, baseline)]
    assert openings[0] == pytest.approx(openings[1], rel=1e-6)


def test_all_others_differ_from_the_step_and_from_each_other():
    assert len(EVERY) == len(ABLATIONS) + len(APART) + len(FRONTIER) + len(TRACKS)
    what = [json.dumps(asdict(replace(one, family="step 3", name="", change=""))) for one in EVERY.values()]
    assert len(set(what)) == len(what)
    assert {one.family for one in EVERY.values()} == set(FAMILIES) - {"search"}
    assert {one.distortion for one in EVERY.values()} == {"", *DISTORTIONS}
    assert all(one.epochs < STEP.epochs or count_parameters(one.network()) < 7000 for one in FRONTIER)


@pytest.mark.parametrize("name", EVERY)
def test_each_is_plain_data_and_trains(name, digits, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(assisted, "FOLDER", tmp_path)
    variant = replace(EVERY[name], epochs=2, batch_size=16, warmup=0.2)
    assert type(variant)(**json.loads(json.dumps(asdict(variant)))) == variant
    data = Dataset(digits.name, digits.train.first(160), digits.test.first(50))
    run = experiment.train(variant, data, settings, on_epoch=lambda epoch: None)
    before = experiment.initial_network(variant, settings).parameters()
    assert not any(map(torch.equal, run.model.parameters(), before)) and math.isfinite(run.history[-1].train.loss)


def test_the_tracked_records_are_of_the_recipes_of_today():
    tracked = records.load(records.TRACKED)
    now = {(one.kind, one.name): one for one in variants.every(variants.rows_of_steps(tracked))}
    for record in tracked:
        if record.kind in ("ablation", "frontier", "track"):
            variant = now[record.kind, record.name]
            assert (record.recipe, record.change) == (asdict(variant), variant.change), record.name
            assert record.settings.score_on == variant.score_on, record.name


def test_ablations_come_to_every_fold_of_writers():
    assert {(one.kind, variants.usual_seeds(one)) for one in (*ABLATIONS, *APART)} == {("ablation", FOLDS)}
    scored_on_test = {(one.kind, variants.usual_seeds(one)) for one in (*FRONTIER, *TRACKS)}
    assert scored_on_test == set(variants.ON_TEST.items())
    assert {one.score_on for one in (*FRONTIER, *TRACKS)} == {"test"}


def test_all_that_a_change_brings_with_it_is_in_its_words():
    for batch in (EVERY["half-batch"], EVERY["double-batch"]):
        assert batch.change.startswith(f"{batch.batch_size} images; peak rate {batch.learning_rate:g} and ")
        assert f"averaging {batch.averaging:g} " in batch.change
        same_images = batch.batch_size / (1 - batch.averaging), STEP.batch_size / (1 - STEP.averaging)
        assert same_images[0] == pytest.approx(same_images[1], rel=0.02)
    for name in ("half-augmentation", "more-augmentation"):
        assert f"up to {EVERY[name].shift} pixel" in EVERY[name].change
    for variant in EVERY.values():
        convolutions = [layer for layer in leaves(variant.network()) if isinstance(layer, nn.Conv2d)]
        last = convolutions[-1].in_channels
        assert (f"{last} channels" in variant.change or f" {last}" in variant.change) == (last != 56), variant.name


def test_labels_are_smoothed():
    logits, labels = torch.randn(50, 10), torch.arange(50) % 10
    own, others = F.cross_entropy(logits, labels), -logits.log_softmax(1).mean()
    assert EVERY["smoothing"].loss(logits, labels).item() == pytest.approx(float(0.9 * own + 0.1 * others), rel=1e-5)
    assert ABLATIONS[0].loss(logits, labels).item() == pytest.approx(float(own), rel=1e-6)


def test_norms_are_measured_on_the_training_images(few):
    network = build("CompactNet")
    norm = network[0][1]
    ABLATIONS[0].before_scoring(network, few)
    assert not norm.running_mean.any()
    EVERY["fresh-statistics"].before_scoring(network, few)
    with torch.no_grad():
        convolved = network[0][:1](next(iter(ABLATIONS[0].scored(few)))[0])
    assert torch.allclose(norm.running_mean, convolved.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(norm.running_var, convolved.var((0, 2, 3)), rtol=1e-4)


@pytest.mark.parametrize(("name", "decay"), [("adamw", 0.1), ("sgd", 1e-4)])
def test_biases_do_not_decay(name, decay):
    groups = EVERY[name].optimizer(build("CompactNet").parameters()).param_groups
    assert {one.dim() > 1: group["weight_decay"] for group in groups for one in group["params"]} == {
        True: decay,
        False: 0.0,
    }


def test_a_cycled_momentum_falls_where_the_rate_climbs():
    cycled = EVERY["cycled-momentum"]
    optimizer = cycled.optimizer([nn.Parameter(torch.zeros(3))])
    scheduler = cycled.scheduler(optimizer, 100)
    moments, rates = [], []
    for _ in range(100):
        moments.append(optimizer.param_groups[0]["betas"][0])
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step() if len(rates) < 100 else None
    assert moments[0] == moments[-1] == pytest.approx(0.95) and min(moments) == pytest.approx(0.85)
    assert moments.index(min(moments)) == rates.index(max(rates)) == 100 * STEP.warmup - 1


def test_every_network_is_within_the_budget():
    for name, variant in EVERY.items():
        counts = facts(variant.network())
        assert counts.trainable < PARAMETER_BUDGET and counts.deployed < PARAMETER_BUDGET, name
    assert [round(count_parameters(EVERY[size].network()), -3) for size in variants.SIZES] == [
        1000,
        2000,
        3000,
        4000,
        6000,
    ]


def test_networks_start_from_the_step_s_weights_but_for_what_is_changed():
    def seeded(variant) -> nn.Sequential:
        torch.manual_seed(0)
        return variant.network()

    ours = dict(seeded(EVERY[variants.BASELINE]).named_parameters())
    for name in ("relu", "leaky-relu", "dropout"):
        theirs = dict(seeded(EVERY[name]).named_parameters())
        assert all(torch.equal(theirs[name], values) for name, values in ours.items())
    kinds = [type(layer) for layer in leaves(EVERY["relu"].network())]
    assert kinds.count(nn.ReLU) == 6 and nn.SiLU not in kinds
    assert [type(layer) for layer in leaves(EVERY["dropout"].network())].count(nn.Dropout) == 6
