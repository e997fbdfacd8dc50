import inspect
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mnist_lab import models
from mnist_lab.models import MODELS, PARAMETER_BUDGET, build, count_parameters, fold_batch_norm
from mnist_lab.receptive_field import trace

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


def test_the_docstring_states_the_count(model):
    assert f"{count_parameters(model):,} parameters" in inspect.getdoc(type(model))


def test_the_comments_state_shapes_and_receptive_fields(model):
    stated = [tuple(int(number) for number in row if number) for row in COMMENT.findall(inspect.getsource(type(model)))]
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


def test_a_norm_without_a_convolution_cannot_be_folded():
    negative = nn.BatchNorm2d(4)
    nn.init.constant_(negative.weight, -1.0)
    for layers in (
        [nn.Conv2d(1, 4, 3), nn.ReLU(), models.BatchNorm(4)],
        [models.BatchNorm(1), nn.Conv2d(1, 4, 3)],
        [nn.MaxPool2d(2), models.BatchNorm(1)],
        [nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), negative],
    ):
        with pytest.raises(ValueError, match="cannot be folded"):
            fold_batch_norm(nn.Sequential(*layers))


def test_pooling_before_norm_and_relu_is_exact():
    block = settled(models.stem(6))
    convolution, pool, norm, relu = block
    images = torch.rand(4, 1, 28, 28)
    assert torch.allclose(block(images), pool(relu(norm(convolution(images)))), atol=1e-6)


def test_the_norm_has_a_bias_and_no_scale():
    assert [name for name, _ in models.BatchNorm(4).named_parameters()] == ["bias"]


def test_an_unknown_model_is_an_error():
    with pytest.raises(ValueError, match="SkeletonNet, CompactNet"):
        build("HugeNet")
