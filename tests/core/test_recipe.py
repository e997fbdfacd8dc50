from dataclasses import FrozenInstanceError, asdict, replace

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from mnist_lab.augment import ENGINES, AlbumentationsEngine, CleanEnd, TensorEngine
from mnist_lab.batches import normalise
from mnist_lab.experiment import measure_opening
from mnist_lab.models import MODELS, CompactNet, SkeletonNet
from mnist_lab.recipe import ParameterError, read_parameters


@pytest.fixture
def parameters(recipe, settings) -> dict:
    return {name.upper(): value for name, value in {**asdict(recipe), **asdict(settings)}.items()}


def test_parameters_become_a_recipe_and_settings(parameters, recipe, settings):
    assert read_parameters(parameters) == (recipe, settings)


def test_a_module_with_a_large_letter_is_no_parameter(parameters):
    assert read_parameters(parameters | {"F": torch.nn.functional}) == read_parameters(parameters)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"EPOHCS": 3}, r"unknown parameter EPOHCS \(did you mean EPOCHS\?\)"),
        ({"epochs": 3}, r"unknown parameter epochs \(did you mean EPOCHS\?\)"),
        ({"COLOUR": 3}, r"unknown parameter COLOUR: there are MODEL, EPOCHS"),
        ({"EPOCHS": 0}, "EPOCHS is 0: it should be greater than or equal to 1"),
        ({"EPOCHS": "3"}, "EPOCHS is '3': it should be a valid integer"),
        ({"EPOCHS": 2.5}, "EPOCHS is 2.5: "),
        ({"EPOCHS": True}, "EPOCHS is True: "),
        ({"BATCH_SIZE": -1}, "BATCH_SIZE is -1"),
        ({"LEARNING_RATE": -0.1}, "LEARNING_RATE is -0.1"),
        ({"LEARNING_RATE": float("nan")}, "LEARNING_RATE is nan"),
        ({"LEARNING_RATE": float("inf")}, "LEARNING_RATE is inf"),
        ({"LEARNING_RATE": "1e-3"}, "LEARNING_RATE is '1e-3': it should be a valid number"),
        ({"WARMUP": 1.0}, "WARMUP is 1.0"),
        ({"AVERAGING": 1.0}, "AVERAGING is 1.0"),
        ({"ROTATION": -5}, "ROTATION is -5"),
        ({"SHEAR": 90}, "SHEAR is 90"),
        ({"SHIFT": 28}, "SHIFT is 28"),
        ({"CLEAN_EPOCHS": -1}, "CLEAN_EPOCHS is -1: it should be greater than or equal to 0"),
        ({"CLEAN_EPOCHS": 0.5}, "CLEAN_EPOCHS is 0.5"),
        ({"CUTOUT": 4}, "unknown parameter CUTOUT"),
        (
            {"MODEL": "CompactNett"},
            r"MODEL is 'CompactNett': use one of SkeletonNet, CompactNet \(did you mean",
        ),
        ({"MODEL": 7}, "MODEL is 7: it should be a valid string"),
        ({"SCHEDULE": "cosine"}, "SCHEDULE is 'cosine': it should be 'constant' or 'one-cycle'"),
        ({"ENGINE": "kornia"}, "ENGINE is 'kornia'"),
        ({"DEVICE": "gpu"}, "DEVICE is 'gpu'"),
        ({"DATA": "mnist"}, "DATA is 'mnist': it should be 'MNIST' or 'digits'"),
        ({"SCORE_ON": "writers"}, "SCORE_ON is 'writers': it should be 'test' or 'held-out'"),
        ({"THREADS": 0}, "THREADS is 0"),
        ({"SEED": -1}, "SEED is -1"),
        ({"TRAIN_LIMIT": 5}, "TRAIN_LIMIT is 5"),
        ({"TRAIN_LIMIT": "none"}, "TRAIN_LIMIT is 'none'"),
        ({"EPOCHS": 0, "SEED": -1, "WARMUP": 2}, "EPOCHS is 0.*WARMUP is 2"),
    ],
)
def test_bad_parameters_are_named(parameters, change, message):
    with pytest.raises(ParameterError, match=message):
        read_parameters({**parameters, **change})


def test_a_missing_parameter_is_named(parameters):
    del parameters["SEED"]
    with pytest.raises(ParameterError, match="missing parameter SEED"):
        read_parameters(parameters)


def test_a_whole_number_may_stand_for_a_float(parameters):
    assert read_parameters({**parameters, "ROTATION": 7})[0].rotation == 7


@pytest.fixture
def own():
    """Makes classes of networks called MyNet, as a notebook's cell does; afterwards they are forgotten."""

    def make(base: type = CompactNet, **members) -> type:
        return type("MyNet", (base,), members)

    yield make
    MODELS.pop("MyNet", None)


def test_a_class_of_ones_own_trains_as_a_name_does(parameters, digits, own):
    first, settings = read_parameters({**parameters, "MODEL": own()})
    assert first.model == "MyNet" and isinstance(first.network(), MODELS["MyNet"])
    assert measure_opening(first, digits, settings) == measure_opening(
        replace(first, model="CompactNet"), digits, settings
    )
    again, _ = read_parameters({**parameters, "MODEL": own(SkeletonNet)})  # the cell was edited and run again
    assert isinstance(again.network(), SkeletonNet)
    assert read_parameters({**parameters, "MODEL": SkeletonNet})[0].model == "SkeletonNet"


def test_a_class_that_is_no_network_for_these_images_is_refused(parameters, own):
    def refused(network: type, message: str):
        with pytest.raises(ParameterError, match=message):
            read_parameters({**parameters, "MODEL": network})
        assert "MyNet" not in MODELS

    def init(*layers: nn.Module):
        return lambda self: nn.Sequential.__init__(self, *layers)

    refused(own(nn.Sequential, __init__=init(nn.Flatten(), nn.Linear(784, 11))), r"MyNet, which makes \(2, 11\) of two")
    refused(own(nn.Sequential, __init__=init(nn.Conv2d(1, 10, 3))), r"makes \(2, 10, 26, 26\)")
    refused(own(nn.Sequential, __init__=init(nn.Conv2d(3, 10, 28))), r"MyNet\(\) reads no images .*to have 3 channels")
    refused(own(nn.Sequential, __init__=lambda self, width: None), r"MyNet\(\) reads no images .*'width'")
    refused(own(object), "reads no images")
    refused(
        type("CompactNet", (CompactNet,), {}), "CompactNet of your own: give it a name that models.py does not have"
    )


def test_the_engine_is_the_one_asked_for(recipe):
    assert isinstance(recipe.augment(), TensorEngine)
    assert isinstance(replace(recipe, engine="albumentations").augment(), AlbumentationsEngine)
    assert replace(recipe, rotation=0.0, shift=0, scale=0.0, shear=0.0, clean_epochs=1).augment() is None
    ended = replace(recipe, epochs=5, clean_epochs=2).augment()
    assert isinstance(ended, CleanEnd) and isinstance(ended.engine, TensorEngine) and ended.distorted_left == 3
    assert replace(recipe, epochs=1, clean_epochs=1).augment().distorted_left == 1  # or nothing would be distorted


@pytest.mark.parametrize("engine", ENGINES)
def test_the_last_epochs_show_images_as_they_are_and_the_others_are_as_ever(recipe, few, engine):
    def three_epochs(clean_epochs: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        changed = replace(recipe, epochs=3, clean_epochs=clean_epochs, engine=engine)
        batches = changed.batches(few, seed=0, average=None)
        return [tuple(map(torch.cat, zip(*batches, strict=True))) for _ in range(3)]

    originals = {image.numpy().tobytes() for image in normalise(few.images.float() / 255)}
    (*distorted, (images, labels)), (*expected, (_, order)) = three_epochs(1), three_epochs(0)
    for ours, theirs in zip(distorted, expected, strict=True):
        assert all(map(torch.equal, ours, theirs))
        assert not originals & {image.numpy().tobytes() for image in ours[0]}
    assert {image.numpy().tobytes() for image in images} <= originals and torch.equal(labels, order)


def test_the_schedule_climbs_to_the_peak_and_falls_to_nearly_nothing(recipe):
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(()))], lr=recipe.learning_rate)
    scheduler = recipe.scheduler(optimizer, 100)
    assert isinstance(scheduler, OneCycleLR)
    rates = []
    for _ in range(99):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    peak = rates.index(max(rates))
    assert rates[peak] == pytest.approx(recipe.learning_rate) and peak == 19
    assert optimizer.param_groups[0]["lr"] < recipe.learning_rate / 10_000
    falls = [before - after for before, after in zip(rates[peak:], rates[peak + 1 :], strict=False)]
    assert max(falls) == pytest.approx(min(falls))  # a straight line
    assert replace(recipe, schedule="constant").scheduler(optimizer, 100) is None


def test_a_cycle_of_too_few_updates_is_an_error(recipe):
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(()))], lr=recipe.learning_rate)
    for updates in (1, 4, 5):
        with pytest.raises(ParameterError, match=rf"WARMUP 0.2 of {updates} updates"):
            recipe.scheduler(optimizer, updates)


def test_recipes_and_settings_cannot_be_changed(recipe, settings):
    for one, name in ((recipe, "epochs"), (settings, "seed")):
        with pytest.raises(FrozenInstanceError):
            setattr(one, name, 1)
        assert len({one, replace(one)}) == 1
