import copy
from dataclasses import asdict

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, Muon
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils._python_dispatch import TorchDispatchMode

from mnist_lab.batches import ShuffledBatches
from mnist_lab.models import build
from mnist_lab.recipe import Recipe
from mnist_lab.runtime import make_repeatable
from mnist_lab.speed.cuda_graph import RecordedUpdate, is_recordable, make_recordable
from mnist_lab.speed.side_by_side import train_one_epoch
from mnist_lab.speed.stack import StackedBatches, Update, stack
from mnist_lab.training import WeightAverage

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
OPTIMIZERS = {
    "Adam": lambda parameters: Adam(parameters, 0.01, fused=True),
    "AdamW": lambda parameters: AdamW(parameters, 0.01, fused=True),
    "SGD": lambda parameters: SGD(parameters, 0.1, momentum=0.9, nesterov=True, fused=True),
}


class Rehearsal(RecordedUpdate):
    """All of a recorded update that a CPU can do: warm up, put back, replay (here: simply update)."""

    def record(self, images, labels):
        self.warm_up(images, labels)
        return super(RecordedUpdate, self).__call__


class Failing:
    """A loss that fails once, in the update of that number."""

    def __init__(self, number: int, error: Exception):
        self.number, self.error, self.calls = number, error, 0

    def __call__(self, logits, labels):
        if not torch.is_grad_enabled():  # a metric, not the loss of an update
            return F.cross_entropy(logits, labels)
        self.calls += 1
        if self.calls == self.number:
            raise self.error
        return F.cross_entropy(logits, labels)


def with_dropout() -> nn.Sequential:
    return nn.Sequential(nn.Dropout(0.2), build("CompactNet"))


def train(kind, few, optimizer="Adam", device="cpu", loss=F.cross_entropy, precision=torch.float32, recordable=False):
    """Train a stack of two for two epochs; return every tensor of it, its average and its losses."""
    make_repeatable(0, 1)
    model = stack([with_dropout(), with_dropout()]).to(device, memory_format=torch.channels_last)
    average, chosen = WeightAverage(model, 0.9), OPTIMIZERS[optimizer](model.parameters())
    if recordable:
        make_recordable(chosen, torch.device(device))
    update = kind(model, chosen, average, loss, precision)
    batches = StackedBatches([ShuffledBatches(few.to(torch.device(device)), 20, seed=seed) for seed in (0, 1)])
    scheduler = OneCycleLR(chosen, 0.02, total_steps=2 * len(batches), cycle_momentum=False)
    metrics = [found for _ in range(2) for found in train_one_epoch(update, batches, scheduler)]
    losses = [torch.tensor(found.loss) for found in metrics]
    return [tensor.cpu() for tensor in [*model.state_dict().values(), *average.averages, *losses]]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_warming_up_leaves_no_trace(few, optimizer):
    assert all(map(torch.equal, train(Rehearsal, few, optimizer), train(Update, few, optimizer)))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_warm_up_that_fails_leaves_no_trace_and_says_why(few, number):
    with pytest.warns(UserWarning, match="without a CUDA graph, since recording one failed: not permitted"):
        found = train(Rehearsal, few, loss=Failing(number, RuntimeError("not permitted")))
    assert all(map(torch.equal, found, train(Update, few)))


def test_running_out_of_memory_is_not_hidden(few):
    with pytest.raises(torch.OutOfMemoryError):
        train(Rehearsal, few, loss=Failing(2, torch.OutOfMemoryError("no memory")))


class Unended(Rehearsal):
    """Where a recording that has failed cannot be ended either."""

    def record(self, images, labels):
        try:
            return super().record(images, labels)
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")


def test_running_out_of_memory_is_not_hidden_by_what_it_leads_to(few):
    with pytest.raises(torch.OutOfMemoryError):
        train(Unended, few, loss=Failing(2, torch.OutOfMemoryError("no memory")))


def test_every_tensor_that_an_update_changes_is_known(few):
    model = stack([build("CompactNet")] * 2)
    optimizer, average = OPTIMIZERS["Adam"](model.parameters()), WeightAverage(model, 0.9)
    update = RecordedUpdate(model, optimizer, average, F.cross_entropy)
    everything = [*model.parameters(), *model.buffers(), *average.averages, average.updates]
    before = copy.deepcopy(everything)
    images, labels = next(iter(StackedBatches([ShuffledBatches(few, 20, seed=seed) for seed in (0, 1)])))
    Update.__call__(update, images, labels)
    known = {id(tensor) for tensor in update.tensors()}
    changed = [tensor for tensor, old in zip(everything, before, strict=True) if not torch.equal(tensor, old)]
    changed += [tensor for state in optimizer.state.values() for tensor in state.values()]
    assert len(changed) > 50 and all(id(tensor) in known for tensor in changed)


class Operators(TorchDispatchMode):
    """Lists the operators that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, operator, types, arguments=(), named=None):
        self.names.append(str(operator))
        return operator(*arguments, **(named or {}))


def test_an_update_runs_nothing_that_a_graph_cannot_hold(few):
    with Operators() as seen:
        train(Update, few, recordable=True)
    assert "aten.nll_loss_backward.default" in seen.names
    assert not [name for name in seen.names if "scatter" in name or "index_put" in name]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_recordable_optimizer_still_follows_its_schedule(few, optimizer):
    plain, recordable = (train(Update, few, optimizer, recordable=flag) for flag in (False, True))
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(plain, recordable, strict=True))


class CycledMomentum(Recipe):
    def scheduler(self, optimizer, updates):
        return OneCycleLR(optimizer, self.learning_rate, total_steps=updates)


class ByMuon(Recipe):
    def optimizer(self, parameters):
        return Muon([nn.Parameter(torch.zeros(2, 2))])


@pytest.mark.parametrize(("kind", "expected"), [(Recipe, True), (CycledMomentum, False), (ByMuon, False)])
def test_an_update_that_changes_more_than_tensors_is_not_recorded(recipe, kind, expected):
    assert is_recordable(kind(**asdict(recipe)), 100) is expected


@needs_cuda
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_replayed_update_is_the_update(few, optimizer, precision):
    plain, again, replayed = (
        train(kind, few, optimizer, "cuda", precision=precision, recordable=True)
        for kind in (Update, RecordedUpdate, RecordedUpdate)
    )
    assert all(map(torch.equal, plain, replayed))
    assert all(map(torch.equal, again, replayed))
