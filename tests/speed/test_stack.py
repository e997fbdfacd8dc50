import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mnist_lab.batches import ShuffledBatches
from mnist_lab.models import MODELS, build, count_parameters
from mnist_lab.speed.side_by_side import train_one_epoch
from mnist_lab.speed.stack import StackedBatches, Update, stack, unstack
from mnist_lab.training import float_state
from mnist_lab.training import train_one_epoch as train_alone


def all_kinds() -> nn.Sequential:
    """A network of every kind of layer that can be stacked, and that ours do not have."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.LeakyReLU(),
        nn.AvgPool2d(4),
        nn.Dropout(0.0),
        nn.Conv2d(6, 10, 7),
        nn.ReLU(),
        nn.Flatten(),
    )


NETWORKS = {**MODELS, "every kind of layer": all_kinds}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_a_stack_gives_every_network_its_own_logits(make):
    networks = [make() for _ in range(3)]
    images = torch.randn(5, 3, 28, 28)
    stacked = stack(networks)
    for mode in (True, False):  # in training, norms work by the batch: each network by its own
        found = stacked.train(mode)(images)
        assert found.shape[:2] == (5, 3)
        for i, network in enumerate(networks):
            assert torch.allclose(found[:, i], network.train(mode)(images[:, i : i + 1]), atol=1e-5)


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_updates_of_a_stack_are_those_of_its_networks(make, few):
    """In double precision, where two orders of summing differ far less than two networks do.

    By SGD: Adam would make a whole step of the rounding of a gradient that is nearly 0.
    """

    def double(batches):
        return [(images.double(), labels) for images, labels in batches]

    def smoothed(logits, labels):
        return F.cross_entropy(logits.double(), labels, label_smoothing=0.1)

    seeds, networks = (5, 6, 7), [make().double() for _ in range(3)]
    stacked = stack(networks)
    update = Update(stacked, torch.optim.SGD(stacked.parameters(), lr=0.1, momentum=0.9), None, smoothed)
    found = train_one_epoch(
        update, double(StackedBatches([ShuffledBatches(few, 20, seed=seed) for seed in seeds])), None
    )
    for seed, network, metrics, window in zip(seeds, networks, found, unstack(stacked, networks), strict=True):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
        expected = train_alone(network, double(ShuffledBatches(few, 20, seed=seed)), optimizer, loss_function=smoothed)
        assert metrics.loss == pytest.approx(expected.loss, rel=1e-6)  # a stack's logits are in single precision
        assert metrics.accuracy == expected.accuracy
        for (key, ours), theirs in zip(window.state_dict().items(), network.state_dict().values(), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5) or key.endswith("num_batches_tracked")


def test_a_stack_trains_no_more_than_its_networks_do():
    networks = [build("CompactNet") for _ in range(3)]  # whose norms have a constant scale
    stacked = stack(networks)
    assert count_parameters(stacked) == 3 * count_parameters(networks[0])
    assert sum(t.numel() for t in float_state(stacked)) == 3 * sum(t.numel() for t in float_state(networks[0]))


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_a_network_of_nothing_but_nan_does_not_change_a_bit_of_its_neighbours(make, few):
    def train(ruined: bool) -> list[list[torch.Tensor]]:
        torch.manual_seed(0)
        networks = [make() for _ in range(3)]
        if ruined:
            for parameter in networks[1].parameters():
                nn.init.constant_(parameter, float("nan"))
        stacked = stack(networks).to(memory_format=torch.channels_last)
        update = Update(stacked, torch.optim.Adam(stacked.parameters(), fused=True), None, F.cross_entropy)
        batches = StackedBatches([ShuffledBatches(few, 20, seed=seed) for seed in range(3)])
        metrics = train_one_epoch(update, batches, None)
        windows = unstack(stacked, networks)
        return [[*windows[i].state_dict().values(), torch.tensor(metrics[i].loss)] for i in range(3)]

    healthy, beside_nan = train(False), train(True)
    for i in (0, 2):
        assert all(map(torch.equal, healthy[i], beside_nan[i]))
    assert beside_nan[1][-1].isnan()


def test_dropout_of_a_stack_gives_each_network_masks_of_its_own():
    networks = [nn.Sequential(nn.Conv2d(1, 5, 1), nn.Dropout(0.2)) for _ in range(3)]
    for network in networks:
        nn.init.zeros_(network[0].weight)
        nn.init.ones_(network[0].bias)
    stacked = stack(networks)
    dropped = (stacked(torch.zeros(50, 3, 28, 28)) == 0).view(50, 3, 5, 28, 28)
    shares = dropped.double().mean(dim=(0, 2, 3, 4))
    assert torch.allclose(shares, torch.full_like(shares, 0.2), atol=0.01)
    together = (dropped[:, 0] & dropped[:, 1]).double().mean()
    assert together.item() == pytest.approx(0.2**2, abs=0.005)
    assert not (stacked.eval()(torch.zeros(50, 3, 28, 28)) == 0).any()


def test_windows_follow_the_stack():
    networks = [build("CompactNet") for _ in range(2)]
    stacked = stack(networks).to(memory_format=torch.channels_last)
    windows = unstack(stacked, networks)
    with torch.no_grad():
        for tensor in [*stacked.parameters(), *stacked.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor))
    images = torch.randn(5, 2, 28, 28)
    found = stacked.eval()(images)
    for i, window in enumerate(windows):
        assert torch.allclose(found[:, i], window.eval()(images[:, i : i + 1]), atol=1e-4)
        assert not torch.equal(networks[i][0][0].weight, window[0][0].weight)  # the originals stay


@pytest.mark.parametrize("augmented", [True, False])
def test_stacked_batches_are_those_of_each_seed(few, recipe, augmented):
    def batches(seed):
        return ShuffledBatches(few, 20, seed=seed, augment=recipe.augment() if augmented else None)

    alone, together = [batches(5), batches(6)], StackedBatches([batches(5), batches(6)])
    assert len(together) == len(alone[0])
    for (images, labels), *singles in zip(together, *alone, strict=True):
        assert images.shape == (20, 2, 28, 28)
        for i, (own_images, own_labels) in enumerate(singles):
            assert torch.equal(labels[:, i], own_labels)
            assert torch.allclose(images[:, i : i + 1], own_images, atol=1e-6)


def test_a_layer_that_mixes_networks_is_refused():
    with pytest.raises(ValueError, match=r"Softmax.* cannot be stacked"):
        stack([nn.Sequential(nn.Softmax(1)) for _ in range(2)])
