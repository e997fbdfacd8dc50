import json
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

from mnist_lab import experiment
from mnist_lab.batches import MEAN
from mnist_lab.data import Dataset
from mnist_lab.models import build, count_parameters, leaves
from mnist_lab.published.claims import CLAIMS
from mnist_lab.published.distortions import DISTORTIONS, Rotate
from mnist_lab.published.recipes import AS_PUBLISHED, RECIPES, REPAIRED
from mnist_lab.receptive_field import trace

PARAMETERS = {
    "A1": 5732, "A2": 7316, "A3": 7316, "B1": 10_554, "B2": 7498, "B3": 9776, "B3Later": 8014, "C1": 1674, "C2": 5208,
    "C3": 6188, "D1": 12_316, "D2": 6016, "D3": 6016, "E1": 6984, "E2": 7236, "E3": 7236,
}  # fmt: skip


def rates(recipe, updates: int, group: str = "lr", rate: float | torch.Tensor | None = None) -> list[float]:
    """Return the learning rate, or another number of the optimizer's, at every one of ``updates`` updates."""
    optimizer = recipe.optimizer([nn.Parameter(torch.zeros(3))], torch.device("cpu"))
    if rate is not None:
        optimizer.param_groups[0]["lr"] = rate
    scheduler = recipe.scheduler(optimizer, updates)
    found = []
    for _ in range(updates):
        value = optimizer.param_groups[0][group]
        found.append(value[0] if isinstance(value, tuple) else float(value))
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
    return found


def test_every_step_is_there_once_with_its_own_network():
    assert list(RECIPES) == list(PARAMETERS) == list(CLAIMS)
    for recipe in AS_PUBLISHED:
        assert recipe.model == recipe.published == recipe.row
        assert count_parameters(recipe.network()) == PARAMETERS[recipe.published]
        assert recipe.title == f"{recipe.published} as published"


def test_every_distortion_is_used():
    assert {recipe.distortion for recipe in AS_PUBLISHED} == set(DISTORTIONS)


@pytest.mark.parametrize("recipe", [*AS_PUBLISHED, *REPAIRED], ids=lambda recipe: recipe.row)
def test_a_recipe_is_plain_data(recipe):
    assert json.loads(json.dumps(asdict(recipe))) == asdict(recipe)


@pytest.mark.parametrize("recipe", [*AS_PUBLISHED, *REPAIRED], ids=lambda recipe: recipe.row)
def test_a_recipe_trains(recipe, digits, settings, capsys):
    """A few updates: the loss falls, whatever the distortion, optimizer and schedule are."""
    few = replace(recipe, epochs=2, batch_size=32)
    data = Dataset(digits.name, digits.train.first(480), digits.test)
    run = experiment.train(few, data, settings)
    assert run.history[-1].train.loss < run.opening_loss + 0.05
    assert "epoch  2/2" in capsys.readouterr().out
    assert experiment.subject(recipe, data) == f"{digits.name}, {recipe.title}"


def test_steps_come_between_epochs():
    found = rates(RECIPES["A1"], 15 * 7)
    for epoch in range(15):
        assert found[epoch * 7 : epoch * 7 + 7] == pytest.approx([0.02 * 0.5 ** (epoch // 5)] * 7)
    third = rates(RECIPES["A3"], 15 * 7)
    assert third[8 * 7 - 1] == pytest.approx(0.01) and third[8 * 7] == pytest.approx(0.001)
    assert set(rates(RECIPES["C1"], 30)) == {0.01}


def test_steps_are_those_of_steplr():
    optimizer = SGD([nn.Parameter(torch.zeros(1))], lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 7, 0.1)
    found = rates(RECIPES["B3"], 15 * 4)
    for epoch in range(15):
        assert found[4 * epoch] == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()


def test_a_cycle_is_that_of_the_library():
    found, moments = rates(RECIPES["C3"], 200), rates(RECIPES["C3"], 200, "betas")
    assert found[0] == pytest.approx(0.003 / 25) and max(found) == pytest.approx(0.003)
    assert found.index(max(found)) == 39 and found[-1] == pytest.approx(0.003 / 25 / 1000)
    assert moments[0] == pytest.approx(0.95) and min(moments) == pytest.approx(0.85)
    found, moments = rates(RECIPES["E3"], 200), rates(RECIPES["E3"], 200, "momentum")
    assert found.index(max(found)) == 59 and found[-1] == pytest.approx(0.15 / 25 / 175)
    assert moments[59] == pytest.approx(0.85)


def test_a_rate_in_a_tensor_is_changed_in_place():
    """A recorded graph reads the tensor that it was given: the schedule must write into that one."""
    rate = torch.tensor(0.02)
    found = rates(RECIPES["A1"], 15 * 2, rate=rate)
    assert found[0] == pytest.approx(0.02) and float(rate) == pytest.approx(0.02 * 0.5**3)
    assert found == pytest.approx(rates(RECIPES["A1"], 15 * 2))


def test_optimizers_are_those_stated():
    parameters, cpu = [nn.Parameter(torch.zeros(3))], torch.device("cpu")
    first, last = RECIPES["A1"].optimizer(parameters, cpu), RECIPES["E3"].optimizer(parameters, cpu)
    assert isinstance(first, SGD) and isinstance(last, SGD)
    assert [first.defaults[name] for name in ("lr", "momentum", "weight_decay")] == [0.02, 0.9, 1e-4]
    assert [last.defaults[name] for name in ("lr", "momentum", "weight_decay")] == [0.15, 0.95, 5e-4]
    third = RECIPES["C3"].optimizer(parameters, cpu)
    assert isinstance(third, Adam) and third.defaults["weight_decay"] == 5e-5


def test_a_cycled_momentum_is_not_recorded():
    assert {name for name, recipe in RECIPES.items() if not recipe.recordable} == {"C3", "E2", "E3"}


def test_series_b_scores_images_that_are_normalised_otherwise(few):
    (own, _), (theirs, _) = (next(iter(RECIPES[name].scored(few))) for name in ("A3", "B3"))
    pixels = few.images.float() / 255
    assert torch.allclose(own, (pixels - 0.1307) / 0.3081)
    assert torch.allclose(theirs, (pixels - 0.1325) / 0.3104)


def test_repairs_change_what_they_say():
    for recipe in REPAIRED:
        broken, repaired = leaves(build(recipe.model)), leaves(recipe.network())
        if recipe.repair == "no dropout":
            assert [type(layer) for layer in broken if not isinstance(layer, nn.Dropout)] == [*map(type, repaired)]
            assert len(broken) > len(repaired)
        elif recipe.repair == "black corners":
            assert [*map(type, broken)] == [*map(type, repaired)]
            assert DISTORTIONS[RECIPES[recipe.published].distortion][1] == Rotate(15, fill=MEAN)
            assert DISTORTIONS[recipe.distortion][1] == Rotate(15, fill=0.0)
        elif recipe.repair == "batches of 32":
            assert [*map(type, broken)] == [*map(type, repaired)]
            assert (RECIPES[recipe.published].batch_size, recipe.batch_size) == (64, 32)
        else:
            last = max(index for index, layer in enumerate(broken) if isinstance(layer, nn.Conv2d))
            kept = [type(layer) for layer in broken[last:] if not isinstance(layer, nn.ReLU)]
            assert [type(layer) for layer in repaired] == [type(layer) for layer in broken[:last]] + kept
            assert len(broken) == len(repaired) + 1
            network = recipe.network().eval()
            assert network(torch.rand(5, 1, 28, 28)).min() < 0
        assert recipe.title == recipe.row == f"{recipe.published} {recipe.repair}"
        assert type(recipe.network()).__name__ == recipe.model
        assert trace(recipe.network())[-1].field_out == trace(build(recipe.model))[-1].field_out


def test_a_misspelt_repair_is_not_ignored():
    with pytest.raises(KeyError, match="no drop-out"):
        replace(RECIPES["E3"], repair="no drop-out").network()


def test_a_repair_starts_from_the_same_weights(settings):
    broken = experiment.initial_network(RECIPES["E3"], settings, 4)
    repaired = experiment.initial_network(next(r for r in REPAIRED if r.row == "E3 no dropout"), settings, 4)
    for one, other in zip(broken.parameters(), repaired.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_change_is_told_in_the_title():
    assert replace(RECIPES["E3"], schedule="constant").title == "E3 changed"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("name", ["A1", "C1", "C3", "D3", "E3"])
def test_cuda_starts_as_the_cpu_does(name, digits, settings):
    """But for dropout, whose masks differ between devices."""
    recipe = replace(RECIPES[name], batch_size=32, repair="no dropout")
    on_gpu = replace(settings, device="cuda")
    opening = experiment.measure_opening(recipe, experiment.load_data(on_gpu), on_gpu, 0)
    expected = experiment.measure_opening(recipe, experiment.load_data(settings), settings, 0)
    assert opening == pytest.approx(expected, rel=1e-3)
