import inspect
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mnist_lab import models
from mnist_lab.fields.trace import trace
from mnist_lab.models import MODELS, PARAMETER_BUDGET, build, count_parameters, fold_batch_norm

COMMENT = re.compile(r"# \(N, +(\d+)(?:, +(\d+), +(\d+))?\) +(\d+)$", re.MULTILINE)


@pytest.fixture(params=MODELS)
def model(request) -> nn.Sequential:
    torch.manual_seed(0)
    return build(request.param)


def settled(model: nn.Module) -> nn.Module:
    """Give the norms statistics that differ from their start."""
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.rand(50, 1, 28, 28))
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def test_images_become_ten_logits(model):
    assert model(torch.rand(5, 1, 28, 28)).shape == (5, 10)


def test_both_counts_are_below_the_budget(model):
    assert count_parameters(model) < PARAMETER_BUDGET
    assert count_parameters(fold_batch_norm(model)) < PARAMETER_BUDGET


def test_every_network_goes_by_the_name_of_its_class():
    assert list(MODELS) == [network.__name__ for network in MODELS.values()]


def test_no_network_has_a_layer_that_a_gpu_cannot_repeat(model):
    assert not any(isinstance(module, nn.AdaptiveAvgPool2d) for module in model.modules())


def test_the_docstring_states_the_count(model):
    assert f"{count_parameters(model):,} parameters" in inspect.getdoc(type(model))


def test_the_comments_state_shapes_and_receptive_fields(model):
    table = next(rows for kind in type(model).__mro__ if (rows := COMMENT.findall(inspect.getsource(kind))))
    stated = [tuple(int(number) for number in row if number) for row in table]
    found, maps = [], torch.rand(2, 1, 28, 28)
    for position, block in enumerate(model.eval(), 1):
        maps = block(maps)
        found.append((*maps.shape[1:], trace(nn.Sequential(*list(model)[:position]))[-1].field_out))
    assert stated == found


def test_a_gradient_reaches_every_parameter(model):
    F.cross_entropy(model(torch.rand(20, 1, 28, 28)), torch.arange(20) % 10).backward()
    assert all(parameter.grad is not None and parameter.grad.abs().max() > 0 for parameter in model.parameters())


def test_it_can_learn_twenty_images_by_heart(model, digits):
    images, labels = digits.train.images[:20].float() / 255, digits.train.labels[:20]
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.05


def test_folding_norms_changes_no_logit(model):
    images = torch.rand(9, 1, 28, 28)
    before = {name: value.clone() for name, value in settled(model).state_dict().items()}
    folded = fold_batch_norm(model)
    assert torch.allclose(folded(images), model(images), atol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def negative_norm() -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(4)
    nn.init.constant_(norm.weight, -1.0)
    return norm


def test_a_norm_without_weights_is_folded_through_a_pooling():
    network = settled(nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.BatchNorm2d(4, affine=False)))
    images, folded = torch.rand(9, 1, 28, 28), fold_batch_norm(network)
    assert torch.allclose(folded(images), network(images), atol=1e-5)
    assert [type(layer) for layer in folded] == [nn.Conv2d, nn.MaxPool2d]


@pytest.mark.parametrize(
    ("layers", "channels"),
    [
        (lambda: [nn.Conv2d(1, 4, 3), nn.ReLU(), models.BatchNorm(4)], 4),
        (lambda: [models.BatchNorm(1), nn.Conv2d(1, 4, 3)], 1),
        (lambda: [nn.MaxPool2d(2), models.BatchNorm(1), nn.Conv2d(1, 4, 3)], 1),
        (lambda: [nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), negative_norm()], 4),
        (lambda: [nn.Conv2d(1, 4, 3), nn.AvgPool2d(2), nn.BatchNorm2d(4), nn.Flatten()], 4),
    ],
)
def test_a_norm_without_a_convolution_costs_two_numbers_per_channel(layers, channels):
    network = settled(nn.Sequential(*layers()))
    images, state = torch.rand(9, 1, 28, 28), torch.get_rng_state()
    folded = fold_batch_norm(network)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.allclose(folded(images), network(images), atol=1e-5)
    assert count_parameters(folded) == 40 + 2 * channels
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


def test_a_norm_that_stays_keeps_its_precision():
    folded = fold_batch_norm(nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.BatchNorm2d(4)).double())
    assert folded(torch.rand(2, 1, 28, 28, dtype=torch.double)).dtype == torch.double


def test_pooling_before_the_norm_is_exact():
    block = settled(models.separable_block(1, 6, pool=True))
    depthwise, across, pool, norm, silu = block
    images = torch.rand(4, 1, 28, 28)
    assert torch.allclose(block(images), silu(pool(norm(across(depthwise(images))))), atol=1e-6)


def test_the_norm_has_a_bias_and_a_scale_that_stays_1():
    norm = models.BatchNorm(4)
    assert [name for name, _ in norm.named_parameters()] == ["bias"]
    assert not norm.weight.requires_grad and "weight" not in norm.state_dict()
    assert torch.equal(norm.weight, torch.ones(4)) and norm.half().weight.dtype == torch.half


def test_every_norm_that_trains_has_a_weight(model):
    """Without one, the gradient of its bias has no elements on CUDA, and training ends there."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.weight is not None and norm.bias is not None for norm in norms)
