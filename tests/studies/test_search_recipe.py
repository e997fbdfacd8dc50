import json
from dataclasses import asdict, fields, replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mnist_lab import experiment
from mnist_lab.augment import CleanEnd
from mnist_lab.batches import ShuffledBatches, normalise
from mnist_lab.data import Dataset, Split
from mnist_lab.models import leaves
from mnist_lab.recipe import ParameterError, Recipe
from mnist_lab.studies.search.distortions import CutOut, ElasticEngine
from mnist_lab.studies.search.notation import COMPACT
from mnist_lab.studies.search.recipe import Variant
from mnist_lab.studies.search.taught import RepeatedBatches, SelfTaughtBatches

STEP = Recipe("CompactNet", 2, 20, 0.01, "one-cycle", 0.2, 0.9, 13.0, 2, 0.15, 10.0, 0, "tensor")


def made(**changes) -> Variant:
    return Variant(**(asdict(STEP) | {"family": "search", "name": "a", "change": "b"} | changes))


class Says(nn.Module):
    """A teacher that says the same of every image, and remembers what it was shown."""

    def __init__(self, logits: torch.Tensor):
        super().__init__()
        self.logits = logits
        self.shown = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        assert not self.training
        self.shown.append(images)
        return self.logits.expand(len(images), -1)


def test_as_it_is_it_trains_as_the_step_does(few, settings):
    data = Dataset("few", few, few)
    runs = [experiment.train(one, data, settings, print) for one in (STEP, made(layers=COMPACT))]
    first, second = ([epoch.test for epoch in run.history] for run in runs)
    assert first == second
    assert runs[0].opening_loss == pytest.approx(runs[1].opening_loss, rel=1e-6)


def test_every_option_trains_at_once_and_is_plain_data(few, settings):
    recipe = made(
        layers="3x3 8, 3x3 8 groups 2 pool, separable 12 padded, average", activation="ReLU", dropout=0.05, elastic=0.5,
        clean_epochs=1, teacher=0.3, views=2, beta1=0.8, beta2=0.99, weight_decay=0.02, smoothing=0.1,
        norm="scale and shift", fresh_statistics=True,
    )  # fmt: skip
    defaults = made()
    own = {field.name for field in fields(Variant)} - {field.name for field in fields(Recipe)}
    usual = {"family", "name", "change", "distortion", "method", "cycled_momentum"}
    assert own - usual == {name for name in own if getattr(recipe, name) != getattr(defaults, name)}
    assert Variant(**json.loads(json.dumps(asdict(recipe)))) == recipe
    run = experiment.train(recipe, Dataset("few", few, few), settings, print)
    assert len(run.history) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"layers": "5x5"}, {"activation": "Relu"}, {"norm": "scale"}, {"teacher": 1.0}, {"views": 0}, {"beta1": 1.0},
        {"distortion": "Mixup"}, {"method": "sgd"}, {"smoothing": 1.5}, {"family": "others"},
    ],
)  # fmt: skip
def test_a_wrong_option_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        made(**wrong)


def test_only_the_frontier_sees_the_test_images():
    assert (made().kind, made().score_on) == ("trial", "held-out")
    assert (made(family="images").kind, made(family="images").score_on) == ("ablation", "held-out")
    assert (made(family="frontier").kind, made(family="frontier").score_on) == ("frontier", "test")


def test_the_engine_is_elastic_and_its_end_clean():
    assert isinstance(made(elastic=1.0).augment(), ElasticEngine)
    engine = made(epochs=5, elastic=1.0, clean_epochs=2).augment()
    assert isinstance(engine, CleanEnd) and isinstance(engine.engine, ElasticEngine) and engine.distorted_left == 3
    plain = {"rotation": 0.0, "shift": 0, "scale": 0.0, "shear": 0.0}
    assert made(clean_epochs=1, **plain).augment() is None
    assert isinstance(made(elastic=1.0, **plain).augment(), ElasticEngine)
    assert isinstance(made(distortion="cutout").augment(), CutOut)


def test_filters_decay_and_biases_do_not():
    recipe = made(layers=COMPACT, weight_decay=0.04, beta1=0.8, beta2=0.98)
    network = recipe.network()
    groups = recipe.optimizer(network.parameters()).param_groups
    decays = {id(one): group["weight_decay"] for group in groups for one in group["params"]}
    assert {one.dim() > 1: decays[id(one)] for one in network.parameters()} == {True: 0.04, False: 0.0}
    assert {group["betas"] for group in groups} == {(0.8, 0.98)}
    assert len(decays) == len(list(network.parameters()))


def test_a_teacher_is_heard_from_the_second_epoch_on(few):
    logits = torch.randn(10)
    teacher = Says(logits)
    ours = SelfTaughtBatches(ShuffledBatches(few, 20, seed=0, augment=made().augment()), teacher, 0.25)
    theirs = ShuffledBatches(few, 20, seed=0, augment=made().augment())
    assert len(ours) == len(theirs)
    for epoch in range(3):
        for (images, targets), (expected, labels) in zip(ours, theirs, strict=True):
            assert torch.equal(images, expected)  # distorted as without a teacher
            if epoch == 0:
                assert torch.equal(targets, labels) and not teacher.shown
                continue
            blended = 0.75 * F.one_hot(labels, 10) + 0.25 * logits.softmax(0)
            assert torch.allclose(targets, blended, atol=1e-6) and not targets.requires_grad
            undistorted = normalise(few.images.float() / 255)
            assert all((undistorted == image).flatten(1).all(1).any() for image in teacher.shown[-1])


def test_the_teacher_is_the_average(few, settings):
    parts = experiment.assemble(made(teacher=0.5), Dataset("few", few, few), settings)
    assert isinstance(parts.batches, SelfTaughtBatches) and parts.batches.average is parts.average.model
    with pytest.raises(ParameterError, match="let averaging be above 0"):
        experiment.assemble(made(teacher=0.5, averaging=0.0), Dataset("few", few, few), settings)


def test_labels_are_soft_from_the_second_epoch_on(few, settings):
    recipe = made(epochs=2, teacher=0.4)
    run = experiment.train(recipe, Dataset("few", few, few), settings, print)
    without = experiment.train(replace(recipe, teacher=0.0), Dataset("few", few, few), settings, print)
    assert run.history[0].train == without.history[0].train
    assert run.history[1].train.loss != without.history[1].train.loss


def test_views_show_every_image_again_and_otherwise_distorted():
    marked = Split(
        torch.arange(40, dtype=torch.uint8).view(40, 1, 1, 1).expand(40, 1, 28, 28).contiguous(), torch.arange(40)
    )
    batches = RepeatedBatches(marked, 10, 3, seed=0, augment=None)
    assert len(batches) == 4
    seen = []
    for images, labels in batches:
        assert images.shape == (30, 1, 28, 28) and sorted(labels.tolist()) == sorted(3 * labels[:10].tolist())
        seen += labels[:10].tolist()
    assert sorted(seen) == list(range(40))
    again = RepeatedBatches(marked, 10, 2, seed=0, augment=made().augment())
    images, _ = next(iter(again))
    assert images.shape[0] == 20 and not torch.allclose(images[:10], images[10:], atol=0.05)


def test_a_network_is_as_its_text_says():
    kinds = [type(layer) for layer in leaves(made(layers=COMPACT, activation="ReLU", dropout=0.1).network())]
    assert kinds.count(nn.ReLU) == kinds.count(nn.Dropout) == 6
