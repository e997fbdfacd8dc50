import copy

import pytest
import torch
from torch import nn

from mnist_lab.batches import ShuffledBatches
from mnist_lab.cuda_graph import GraphedUpdate
from mnist_lab.models import build
from mnist_lab.training import Update, WeightAverage, train_one_epoch


class Recorder(GraphedUpdate):
    """All of a graphed update that a CPU can do: warm up, put back, replay (here: simply update)."""

    def record(self, images, labels):
        self.warm_up(images, labels)
        return super(GraphedUpdate, self).__call__


class Unrecordable(GraphedUpdate):
    def record(self, images, labels):
        raise RuntimeError("operation not permitted when stream is capturing")


OPTIMIZERS = {
    "adam": lambda model: torch.optim.Adam(model.parameters(), lr=0.01, fused=True),
    "sgd": lambda model: torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
}


def train(kind: type[Update], few, optimizer: str = "adam", device: str = "cpu") -> tuple[list[torch.Tensor], float]:
    torch.manual_seed(0)
    model = build("CompactNet").to(device)
    average = WeightAverage(model, 0.9)
    update = kind(model, OPTIMIZERS[optimizer](model), average)
    batches = ShuffledBatches(few.to(torch.device(device)), 20, seed=0)
    losses = [train_one_epoch(update, batches)[0].loss for _ in range(2)]
    return [tensor.cpu() for tensor in [*model.state_dict().values(), *average.averages]], losses[-1]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_warming_up_leaves_no_trace(few, optimizer):
    expected, loss = train(Update, few, optimizer)
    found, same_loss = train(Recorder, few, optimizer)
    assert same_loss == loss
    assert all(map(torch.equal, found, expected))


def test_where_nothing_can_be_recorded_training_goes_on_and_says_so(few):
    expected, loss = train(Update, few)
    with pytest.warns(UserWarning, match="without a CUDA graph, since it cannot be recorded: operation not"):
        found, same_loss = train(Unrecordable, few)
    assert same_loss == loss
    assert all(map(torch.equal, found, expected))


def test_every_tensor_that_an_update_changes_is_known(few):
    model = build("CompactNet")
    update = GraphedUpdate(model, OPTIMIZERS["adam"](model), WeightAverage(model, 0.9))
    before = copy.deepcopy([*model.parameters(), *model.buffers(), *update.average.averages])
    images, labels = next(iter(ShuffledBatches(few, 20, seed=0)))
    Update.__call__(update, images, labels)
    Update.__call__(update, images, labels)
    now = update.tensors()
    assert len(now) == len(before) + 1 + 3 * len(list(model.parameters()))  # the count; Adam's step and two moments
    assert not any(map(torch.equal, now[: len(before)], before))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_replayed_update_is_the_update(few):
    def rate(model: nn.Module) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), lr=torch.tensor(0.01, device="cuda"), fused=True, capturable=True)

    OPTIMIZERS["capturable"] = rate
    expected, loss = train(Update, few, "capturable", "cuda")
    found, same_loss = train(GraphedUpdate, few, "capturable", "cuda")
    assert same_loss == pytest.approx(loss, rel=1e-4)
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in zip(found, expected, strict=True))
