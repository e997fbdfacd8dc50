from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mnist_lab import experiment
from mnist_lab.batches import ShuffledBatches
from mnist_lab.data import Dataset
from mnist_lab.recipe import ParameterError, Recipe
from mnist_lab.studies.search import assisted
from mnist_lab.studies.search.assisted import Assisted, Matched
from mnist_lab.studies.search.taught import DistilledBatches, MatchedBatches

STEP = Recipe("CompactNet", 2, 20, 0.01, "one-cycle", 0.2, 0.9, 13.0, 2, 0.15, 10.0, 0, "tensor")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(assisted, "FOLDER", tmp_path)
    return tmp_path


def test_targets_are_blended_with_the_mean_of_what_teachers_say_of_the_undistorted_images(few):
    asked = []

    class Says(nn.Module):
        def __init__(self, weight: float):
            super().__init__()
            self.weight = weight

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            assert not self.training and not torch.is_grad_enabled()
            asked.append(len(images))
            return self.answer(images)

        def answer(self, images: torch.Tensor) -> torch.Tensor:
            return self.weight * images.mean((1, 2, 3))[:, None] * torch.arange(10.0)  # another one for each image

    teachers = [Says(1.0).train(), Says(-2.0)]
    distorted, plain = (ShuffledBatches(few, 20, seed=0, augment=engine) for engine in (STEP.distort(), None))
    taught = DistilledBatches(ShuffledBatches(few, 20, seed=0, augment=STEP.distort()), teachers, 0.4)
    for (images, targets), (expected, labels), (undistorted, _) in zip(taught, distorted, plain, strict=True):
        assert torch.equal(images, expected) and not torch.equal(images, undistorted)
        said = torch.stack([teacher.answer(undistorted).softmax(1) for teacher in teachers]).mean(0)
        assert torch.allclose(targets, 0.6 * F.one_hot(labels, 10) + 0.4 * said)
    assert len(list(taught)) == len(taught) == len(plain)
    assert sum(asked) == 2 * len(few)  # once about every image, in all epochs


def test_matched_targets_are_what_teachers_say_of_the_images_as_the_network_sees_them(few, recipe):
    teachers = [recipe.network() for _ in range(2)]
    for one in teachers:
        one.train()(torch.rand(50, 1, 28, 28))  # running statistics that are not those of a batch
    states = [{name: value.clone() for name, value in one.state_dict().items()} for one in teachers]
    for share in (1.0, 0.4):
        distorted = ShuffledBatches(few, 20, seed=0, augment=STEP.distort())
        taught = MatchedBatches(ShuffledBatches(few, 20, seed=0, augment=STEP.distort()), teachers, share)
        for (images, targets), (expected, labels) in zip(taught, distorted, strict=True):
            assert torch.equal(images, expected) and not targets.requires_grad
            said = torch.stack([teacher.eval()(images).softmax(1) for teacher in teachers]).mean(0)
            assert torch.allclose(targets, (1 - share) * F.one_hot(labels, 10) + share * said, atol=1e-5)
    for one, before in zip(teachers, states, strict=True):
        assert all(map(torch.equal, one.state_dict().values(), before.values()))


def test_a_matched_step_learns_what_its_teachers_say_and_no_labels(few, folder, settings):
    words = {"family": "track", "name": "", "change": "", "views": 2, "teacher": 1.0, "teachers": 1}
    recipe = Matched(**asdict(STEP) | words)
    (teacher,) = assisted.trained(STEP, few, 1)
    images, targets = next(iter(recipe.batches(few, 0, None)))
    assert torch.allclose(targets, teacher.eval()(images).softmax(1), atol=1e-5)
    runs = [experiment.train(one, Dataset("few", few, few), settings, print) for one in (recipe, recipe, STEP)]
    assert runs[0].history[-1].test == runs[1].history[-1].test != runs[2].history[-1].test
    assert Assisted(**asdict(STEP) | words | {"teacher": 0.9}) and "asked" in asdict(recipe)
    with pytest.raises(ValueError, match="less than 1"):
        Assisted(**asdict(STEP) | words)


def test_on_a_gpu_it_is_said_before_teachers_are_trained(few, folder):
    on_gpu = SimpleNamespace(images=SimpleNamespace(is_cuda=True))
    taught = Assisted(**asdict(STEP), family="track", name="assisted", change="", teacher=0.5)
    with pytest.raises(ParameterError, match="a teacher needs device cpu"):
        taught.batches(on_gpu, 0, None)
    assert not list(folder.iterdir())


def test_teachers_are_trained_once_and_are_none_of_the_seeds(few, folder):
    before = torch.get_rng_state()
    networks = assisted.trained(STEP, few, 2)
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*.pt")}
    assert [path.name for path in sorted(files)] == ["seed-1000.pt", "seed-1001.pt"]
    again = assisted.trained(STEP, few, 2)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.pt")} == files
    assert torch.equal(torch.get_rng_state(), before)
    for one, other in zip(networks, again, strict=True):
        assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
    assert not torch.equal(networks[0][0][0].weight, networks[1][0][0].weight)
    assisted.trained(STEP, few.first(len(few) - 1), 1)
    assisted.trained(replace(STEP, learning_rate=0.02), few, 1)
    assert len(list(folder.iterdir())) == 3  # other images or another recipe have other teachers


def test_an_assisted_step_learns_from_its_teachers(few, folder, settings):
    recipe = Assisted(**asdict(STEP), family="track", name="assisted", change="taught", teacher=0.5, teachers=2)
    data = Dataset("few", few, few)
    runs = [experiment.train(one, data, settings, print) for one in (recipe, recipe, STEP)]
    assert runs[0].history[-1].test == runs[1].history[-1].test != runs[2].history[-1].test
    assert runs[0].history[-1].train.loss > runs[2].history[-1].train.loss  # softer targets


def test_an_assisted_step_may_have_several_views_of_every_image(few, folder):
    recipe = Assisted(**asdict(STEP), family="track", name="", change="", teacher=0.5, teachers=1, views=2)
    taught = recipe.batches(few, 0, None)
    images, targets = next(iter(taught))
    assert len(images) == len(targets) == 2 * STEP.batch_size
    assert torch.equal(*targets.chunk(2)) and not torch.equal(*images.chunk(2))  # one answer for both views
