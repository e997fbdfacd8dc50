import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import OneCycleLR

from mnist_lab.batches import OrderedBatches, ShuffledBatches
from mnist_lab.models import build
from mnist_lab.training import Diverged, Metrics, Tally, WeightAverage, evaluate, fit, predict, train_one_epoch


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return build("CompactNet")


def adam(model: nn.Module, rate: float = 0.01) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters(), lr=rate)


def test_metrics_do_not_depend_on_how_images_are_cut_into_batches(model, few):
    whole, uneven = (evaluate(model, OrderedBatches(few, size)) for size in (103, 10))
    assert uneven.loss == pytest.approx(whole.loss, rel=1e-5)
    assert uneven.accuracy == whole.accuracy
    assert uneven.accuracy * 103 == pytest.approx(round(uneven.accuracy * 103))


def test_evaluation_is_that_of_the_formula(model, few):
    images, labels = next(iter(OrderedBatches(few, 103)))
    with torch.no_grad():
        logits = model.eval()(images)
    found = evaluate(model, OrderedBatches(few, 10))
    assert found.loss == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-5)
    assert found.accuracy == int((logits.argmax(1) == labels).sum()) / 103


def test_evaluation_changes_nothing(model, few):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    evaluate(model, OrderedBatches(few))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_probabilities_add_up_to_one(model, few):
    images, _ = next(iter(OrderedBatches(few, 103)))
    with torch.no_grad():
        expected = model.eval()(images).softmax(1)
    probabilities = predict(model.train(), OrderedBatches(few, 10))
    assert probabilities.shape == (103, 10)
    assert torch.allclose(probabilities, expected, atol=1e-6)
    assert torch.allclose(probabilities.sum(1), torch.ones(103), atol=1e-5)


def test_an_epoch_updates_once_per_batch_by_the_gradient():
    """One weight, known by hand: logits w * x for class 0 and 0 for the others."""
    model = nn.Sequential(nn.Conv2d(1, 2, 28, bias=False), nn.Flatten())
    nn.init.zeros_(model[0].weight)
    images, labels = torch.ones(4, 1, 28, 28), torch.tensor([0, 0, 0, 1])
    found = train_one_epoch(model, [(images, labels)] * 2, torch.optim.SGD(model.parameters(), lr=0.001))
    step = 0.001 * 0.25  # the gradient of the mean loss at 0 is 1/2 - 3/4 for every weight of class 0
    loss = (math.log(2) + F.cross_entropy(torch.tensor([[784 * step, -784 * step]] * 4), labels).item()) / 2
    assert found.loss == pytest.approx(loss, rel=1e-5)
    assert found.accuracy == 0.75
    assert model[0].weight[0].mean() > step


def test_training_accuracy_counts_images(model, few):
    found = train_one_epoch(model, list(OrderedBatches(few, 50)), adam(model))  # of 50, 50 and 3
    assert found.accuracy * 103 == pytest.approx(round(found.accuracy * 103))


def run(model, few, optimizer, scheduler=None, average=None, *, batches=None, epochs=2, on_epoch=lambda epoch: None):
    return fit(
        model,
        batches or ShuffledBatches(few, 20, seed=0),
        OrderedBatches(few),
        optimizer,
        scheduler,
        average,
        epochs=epochs,
        on_epoch=on_epoch,
    )


def test_an_image_is_right_where_the_network_says_the_likeliest_digit_of_a_soft_label():
    tally, logits = Tally(), torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 2.0, 1.0]])
    tally.add(torch.tensor(0.5), logits, torch.tensor([[0.6, 0.4, 0.0], [0.6, 0.1, 0.3], [0.2, 0.5, 0.3]]))
    assert tally.metrics() == Metrics(0.5, 2 / 3)


def test_the_schedule_advances_once_per_batch(model, few):
    batches = ShuffledBatches(few, 10, seed=0)
    optimizer = adam(model)
    scheduler = OneCycleLR(optimizer, max_lr=0.01, total_steps=2 * len(batches))
    history = run(model, few, optimizer, scheduler, batches=batches)
    assert scheduler.last_epoch == 2 * len(batches)
    assert history[0].learning_rate == pytest.approx(0.01 / 25)
    with pytest.raises(ValueError, match="total"):
        scheduler.step()


def test_a_history_has_every_epoch_and_reports_each_as_it_ends(model, few):
    seen = []
    history = run(model, few, adam(model), epochs=3, on_epoch=seen.append)
    assert [epoch.number for epoch in history] == [1, 2, 3]
    assert seen == history
    assert all(epoch.seconds > 0 for epoch in history)


def test_divergence_names_the_epoch_and_ends_the_run(model, few):
    batches = list(ShuffledBatches(few, 20, seed=0))
    batches[2][0][:] = math.nan
    seen = []
    with pytest.raises(Diverged, match="epoch 1: the loss is nan in training"):
        run(model, few, adam(model), batches=batches, epochs=3, on_epoch=seen.append)
    assert not seen


def test_a_network_that_can_no_longer_be_scored_is_divergence(model, few):
    def ruin(epoch):
        with torch.no_grad():
            next(model.parameters()).fill_(math.nan)

    with pytest.raises(Diverged, match="epoch 2"):
        run(model, few, adam(model), on_epoch=ruin)


def test_the_average_is_a_moving_average_that_forgets_its_start():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 100.0)
    average = WeightAverage(model, 0.9)
    expected = None
    for update in range(200):
        nn.init.constant_(model.weight, float(update))
        average.update()
        keep = min(0.9, update / (9 + update))  # nothing at first: it copies
        expected = float(update) if expected is None else keep * expected + (1 - keep) * update
        assert average.model.weight.item() == pytest.approx(expected, rel=1e-5)
    assert average.model.weight.item() == pytest.approx(199 - 9, abs=0.1)  # it lags by decay / (1 - decay)


def test_the_average_follows_norm_statistics_and_is_what_gets_scored(model, few):
    average = WeightAverage(model, 0.9)
    history = run(model, few, adam(model), None, average)
    test = OrderedBatches(few)
    assert history[-1].test == evaluate(average.model, test)
    assert history[-1].test != evaluate(model, test)
    averaged, last = dict(average.model.named_buffers()), dict(model.named_buffers())
    means = [name for name in averaged if name.endswith("running_mean")]
    assert means and all(averaged[name].abs().max() > 0 for name in means)
    assert not any(torch.equal(averaged[name], last[name]) for name in means)


def test_what_is_scored_can_be_prepared(model, few):
    seen = []
    fit(
        model, ShuffledBatches(few, 20, seed=0), OrderedBatches(few), adam(model), average=WeightAverage(model, 0.9),
        epochs=2, before_scoring=seen.append, on_epoch=lambda epoch: None,
    )  # fmt: skip
    assert len(seen) == 2 and seen[0] is not model
