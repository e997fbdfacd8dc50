"""The compiled layers compute what PyTorch's layers compute, and stand back where they cannot."""

import copy
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune

from mnist_lab.experiment import assemble, train
from mnist_lab.fields.trace import facts, trace
from mnist_lab.models import BatchNorm, CompactNet, SkeletonNet, build, leaves
from mnist_lab.speed import compiled as module
from mnist_lab.speed.compiled import build as compile_block
from mnist_lab.speed.compiled import compiled, compiler_of, find_blocks, toolchain
from mnist_lab.training import Diverged, WeightAverage, train_one_epoch

LAST = torch.channels_last
needs_compiler = pytest.mark.skipif(toolchain() is None, reason="needs g++ and a processor with AVX2")


def two_convolutions() -> nn.Sequential:
    """A stem of two 3x3 convolutions at full resolution; every kind of padding; widths that are no multiples of 16."""
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.SiLU()),
        nn.Sequential(nn.Conv2d(8, 16, 3, padding=1, bias=False), nn.MaxPool2d(2), BatchNorm(16), nn.SiLU()),
        nn.Sequential(nn.Conv2d(16, 16, 5, padding=2, groups=16, bias=False), nn.Conv2d(16, 24, 1, bias=False)),
        nn.Sequential(nn.BatchNorm2d(24), nn.SiLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(24, 24, 3, groups=24, bias=False), nn.Conv2d(24, 20, 1, bias=False), BatchNorm(20)),
        nn.ReLU(),
        nn.Conv2d(20, 10, 4),
        nn.Flatten(),
    )


def odd_sizes() -> nn.Sequential:
    """Odd images to pool, a 7x7 depthwise convolution, a 3x3 convolution without any norm, an eager layer between."""
    return nn.Sequential(
        nn.Conv2d(1, 12, 4, bias=False),
        nn.MaxPool2d(2),
        nn.Conv2d(12, 12, 7, padding=1, groups=12, bias=False),
        nn.SiLU(),
        nn.BatchNorm2d(12),
        nn.Conv2d(12, 32, 2, padding=1, bias=False),
        nn.Conv2d(32, 32, 9, groups=32, bias=False),
        nn.Conv2d(32, 10, 1, bias=False),
        nn.Flatten(),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def anew():
    """Ask for the compiler anew, in a test that changes PATH, and after it."""
    toolchain.cache_clear()
    yield
    toolchain.cache_clear()


def pair(make, folder: Path) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the same network twice, the second time compiled.

    The first layer computes without rounding, as images are multiples of 1 / 4: so a pooling after it has no near ties,
    which rounding could decide in two ways.
    """
    torch.manual_seed(0)
    eager = make().to(memory_format=LAST)
    first = next(eager.parameters())
    first.data.copy_((16 * first).round() / 16)
    for norm in (layer for layer in eager.modules() if type(layer) is nn.BatchNorm2d):
        nn.init.uniform_(norm.weight, -1, 1)
    return eager, compiled(copy.deepcopy(eager), folder)


def random_batch(size: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(size, 1, 28, 28).mul(4).round() / 4, torch.arange(size) % 10


@needs_compiler
@pytest.mark.parametrize(
    ("make", "chains"),
    [(CompactNet, [8, 0]), (two_convolutions, [6, 0]), (odd_sizes, [2, 0, 2, 0]), (SkeletonNet, [0, 1, 0, 1, 0])],
)
def test_loss_gradients_and_norms_are_those_of_pytorch(make, chains, folder):
    """In double precision: in single precision, PyTorch's own layers round more than the compiled ones do."""
    eager, fast = pair(make, folder)
    exact = eager.double()
    assert [sum(block.library is not None for block in chain.blocks) for chain in fast.chains] == chains
    for size in (12, 9):
        images, labels = random_batch(size)
        losses = []
        for network, given in ((exact, images.double()), (fast, images)):
            network.train().zero_grad()
            losses.append(F.cross_entropy(network(given), labels))
            losses[-1].backward()
        assert losses[1].item() == pytest.approx(losses[0].item(), rel=1e-5)
        for ours, theirs in zip(fast.parameters(), exact.parameters(), strict=True):
            error = 2e-6 * max(1, float(theirs.grad.abs().max()))
            assert torch.allclose(ours.grad.double(), theirs.grad, 1e-4, error)
        for ours, theirs in zip(fast.buffers(), exact.buffers(), strict=True):
            assert torch.allclose(ours.to(theirs), theirs, 1e-5, 1e-6)


@needs_compiler
def test_hundreds_of_updates_lower_the_loss_alike(recipe, small, settings, folder):
    recipe = replace(recipe, epochs=25, learning_rate=0.003)
    runs = [
        train(recipe, small, settings, lambda epoch: None, prepare=prepare) for prepare in (nn.Identity(), fast(folder))
    ]
    assert runs[0].opening_loss == pytest.approx(runs[1].opening_loss, rel=1e-4)
    for eager, ours in zip(*(run.history for run in runs), strict=True):
        assert ours.train.loss == pytest.approx(eager.train.loss, rel=0.03, abs=0.01)
    assert runs[1].history[-1].train.loss < 0.3 * runs[1].history[0].train.loss
    assert compiler_of(runs[0].model) is None and "g++" in compiler_of(runs[1].model)


def fast(folder: Path):
    return lambda model: compiled(model, folder)


@needs_compiler
def test_the_same_seed_gives_the_same_bits(recipe, small, settings, folder):
    first, second = (train(recipe, small, settings, lambda epoch: None, prepare=fast(folder)) for _ in range(2))
    assert torch.equal(first.probabilities, second.probabilities)
    assert [epoch.train for epoch in first.history] == [epoch.train for epoch in second.history]


@needs_compiler
def test_only_training_is_compiled(folder):
    eager, ours = pair(CompactNet, folder)
    images, _ = random_batch()
    assert isinstance(ours, CompactNet) and type(ours).__name__ == "CompactNet"
    assert ours.state_dict().keys() == eager.state_dict().keys()
    assert trace(ours) == trace(eager) and facts(ours) == facts(eager)
    assert torch.equal(ours.eval()(images), eager.eval()(images))
    with torch.no_grad():  # as a recipe measures its norms anew
        assert torch.equal(ours.train()(images), eager.train()(images))
    seen = []
    ours.eval()[1].register_forward_hook(lambda layer, entering, leaving: seen.append(leaving))
    ours(images)
    assert seen[0].shape == (12, 8, 24, 24)


@needs_compiler
def test_copies_train_by_their_own_weights(folder):
    _, ours = pair(CompactNet, folder)
    average, (images, labels) = WeightAverage(ours, 0.9), random_batch()
    train_one_epoch(ours, [(images, labels)] * 3, torch.optim.SGD(ours.parameters(), 0.1), average=average)
    other = copy.deepcopy(ours)
    before = [weight.clone() for weight in ours.parameters()]
    train_one_epoch(other, [(images, labels)] * 3, torch.optim.SGD(other.parameters(), 0.1))
    assert all(map(torch.equal, ours.parameters(), before))
    assert not any(map(torch.equal, other.parameters(), before))
    assert not torch.equal(average.model[0][1].running_mean, ours[0][1].running_mean)


@needs_compiler
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_found(recipe, small, settings, folder, value):
    def ruin(model: nn.Module) -> nn.Module:
        nn.init.constant_(model[0][0].weight[:1], value)
        return compiled(model, folder)

    with pytest.raises(Diverged):
        train(recipe, small, settings, lambda epoch: None, prepare=ruin)


@needs_compiler
def test_gradients_of_gradients_are_those_of_pytorch(folder):
    found = []
    for network in pair(two_convolutions, folder):
        torch.manual_seed(1)
        images, labels = random_batch()
        weights = list(network.train().parameters())
        first = torch.autograd.grad(F.cross_entropy(network(images), labels), weights, create_graph=True)
        found.append(torch.autograd.grad(sum((one**2).sum() for one in first), weights, allow_unused=True))
    for ours, theirs in zip(*found, strict=True):
        assert torch.allclose(ours, theirs, 1e-3, 1e-4 * max(1, float(theirs.abs().max())))


@needs_compiler
def test_a_gradient_of_the_images_and_other_batches_take_pytorchs_way(folder):
    eager, ours = pair(CompactNet, folder)
    images, labels = random_batch()
    found = []
    for network in (eager, ours):
        given = images.clone().requires_grad_()
        F.cross_entropy(network.train()(given), labels).backward()
        found.append(given.grad)
    assert torch.allclose(*found, 1e-4, 1e-6)
    ours[3][2].eval()  # a norm that is frozen, as in fine-tuning
    eager[3][2].eval()
    assert torch.allclose(ours(images), eager(images), 1e-4, 1e-5)
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        ours.train()(images[:1])  # the last norm has one number per channel


@needs_compiler
def test_hooks_are_called_while_they_are_there(folder):
    """Pruning and rounding set weights, or what a layer is given, by hooks."""
    model, images = compiled(CompactNet().to(memory_format=LAST), folder).train(), torch.rand(4, 1, 28, 28)
    convolutions = [layer for layer in leaves(model) if type(layer) is nn.Conv2d]
    first, last, seen = convolutions[1], convolutions[-1], []

    def note(layer: nn.Module, given: tuple[torch.Tensor]) -> None:
        seen.append(given[0].shape[1])

    hooks = [layer.register_forward_pre_hook(note) for layer in (first, last)]
    model(images).sum().backward()
    assert seen == [first.in_channels, last.in_channels]
    seen.clear()
    nested = next(child for child in model if isinstance(child, nn.Sequential))
    hooks += [container.register_forward_pre_hook(note) for container in (model, nested)]
    model(images)
    assert len(seen) == 4
    for hook in hooks:
        hook.remove()
    prune.custom_from_mask(first, "weight", (torch.rand(first.weight.shape) < 0.5).float())
    for _ in range(2):  # the second time, the weights of the first have no graph left
        model(images).sum().backward()
    assert ((first.weight == 0) == (first.weight_mask == 0)).all() and first.weight_orig.grad is not None


@needs_compiler
def test_wide_layers_have_room(folder):
    """An image between them takes more memory than a stack has."""

    def make() -> nn.Sequential:
        wide = [nn.Conv2d(320, 320, 3, groups=320, bias=False), nn.Conv2d(320, 320, 1, bias=False)]
        start = [nn.Conv2d(1, 320, 3, bias=False), BatchNorm(320), nn.SiLU(), *wide]
        return nn.Sequential(*start, BatchNorm(320), nn.SiLU(), nn.AvgPool2d(24), nn.Conv2d(320, 10, 1), nn.Flatten())

    eager, ours = pair(make, folder)
    images, labels = random_batch(2)
    for network in (eager, ours):
        F.cross_entropy(network.train()(images), labels).backward()
    assert compiler_of(ours)
    assert torch.allclose(ours[3].weight.grad, eager[3].weight.grad, 1e-3, 1e-6)


def test_a_norm_that_is_frozen_stays_so(folder):
    model = CompactNet()
    norm = next(layer for layer in leaves(model) if isinstance(layer, nn.BatchNorm2d))
    norm.eval()
    assert not norm.training and compiled(model, folder).training and not norm.training


@needs_compiler
def test_what_follows_a_layer_of_pytorch_passes_its_gradient_on(folder):
    def make() -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2), BatchNorm(8), nn.SiLU(), nn.Conv2d(8, 10, 13, bias=False), nn.Flatten()
        )

    eager, ours = pair(make, folder)
    images, labels = random_batch()
    for network in (eager, ours):
        F.cross_entropy(network.train()(images), labels).backward()
    assert torch.allclose(ours[0].weight.grad, eager[0].weight.grad, 1e-4, 1e-6)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 8, 3, bias=True), nn.Conv2d(8, 8, 3, stride=2, bias=False), nn.Conv2d(8, 8, (3, 1), bias=False),
        nn.Conv2d(8, 8, 3, dilation=2, bias=False), nn.Conv2d(8, 8, 3, padding="same", bias=False),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect", bias=False), nn.Conv2d(8, 16, 3, groups=8, bias=False),
        nn.Conv2d(6, 8, 3, bias=False), nn.Conv2d(8, 10, 3, bias=False), nn.MaxPool2d(3), nn.MaxPool2d(2, 1),
        nn.MaxPool2d(2, ceil_mode=True), nn.BatchNorm2d(10), nn.BatchNorm2d(8, affine=False), nn.SiLU(),
        nn.BatchNorm2d(8, momentum=None), nn.BatchNorm2d(8, track_running_stats=False), nn.AvgPool2d(2),
    ],
    ids=repr,
)  # fmt: skip
def test_what_the_kernels_do_not_cover_is_left_to_pytorch(layer):
    (block,) = find_blocks([layer])
    assert not any((block.norm, block.activation, block.depthwise, block.convolution, block.pooling))


def test_another_network_or_type_is_left_as_it_is(folder):
    class Own(CompactNet):
        def forward(self, x):
            return super().forward(x)

    for model in (Own(), CompactNet().double(), nn.Conv2d(1, 8, 3)):
        kind = type(model)
        assert compiled(model, folder) is model and type(model) is kind and compiler_of(model) is None


def fake_compiler(place: Path, script: str) -> None:
    (place / "g++").write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    (place / "g++").chmod(stat.S_IRWXU)


@pytest.mark.parametrize(
    "script",
    [
        None,  # no g++ at all
        "exit 1",
        "echo '#define __AVX__ 1'; echo '#define __VERSION__ \"3\"'",  # an old processor
        'case "$*" in *-dM*) echo "#define __AVX2__ 1"; echo "#define __VERSION__ \\"3\\"";; *) exit 1;; esac',
        'case "$*" in *-dM*) echo "#define __AVX2__ 1"; echo "#define __VERSION__ \\"3\\"";; *) exit 0;; esac',
        'case "$*" in *-dM*) echo "#define __AVX2__ 1"; echo "#define __VERSION__ \\"3\\"";; '
        '*) for last; do :; done; echo damaged > "$last";; esac',
    ],
)
def test_without_a_compiler_that_works_pytorch_computes(script, anew, tmp_path, monkeypatch, recipe, small, settings):
    if script is not None:
        fake_compiler(tmp_path, script)
    monkeypatch.setenv("PATH", str(tmp_path))
    parts = assemble(recipe, small, settings, fast(tmp_path / "libraries"))
    assert compiler_of(parts.model) is None
    loss = train_one_epoch(parts.model, parts.batches, parts.optimizer).loss
    parts = assemble(recipe, small, settings)
    assert loss == train_one_epoch(parts.model, parts.batches, parts.optimizer).loss


@needs_compiler
def test_a_folder_that_cannot_be_written_is_told_by_the_record(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    assert compiler_of(compiled(build("CompactNet"), blocked / "folder")) is None


@needs_compiler
def test_several_may_compile_at_once_and_a_library_is_compiled_once(tmp_path):
    (block, *_) = find_blocks([nn.Conv2d(1, 8, 3, bias=False)])
    block.entering, block.leaving = (1, 9, 9), (8, 7, 7)
    with ThreadPoolExecutor(3) as pool:
        found = set(pool.map(lambda _: compile_block(block.macros(), tmp_path), range(3)))
    (library,) = found
    assert [path for path in tmp_path.iterdir() if path.name != ".lock"] == [library]
    made = library.stat().st_mtime_ns
    assert compile_block(block.macros(), tmp_path) == library and library.stat().st_mtime_ns == made
    assert compile_block(block.macros() | {"HEIGHT": 10}, tmp_path) != library


def test_libraries_are_kept_beside_other_local_results():
    assert module.FOLDER.parts[-2:] == ("runs", "compiled")
    assert os.path.isfile(module.SOURCE)
