import pytest
import torch
from torch.nn import functional as F
from torch.optim import Adam

from mnist_lab.models import CompactNet, build
from mnist_lab.speed.stack import stack, unstack
from mnist_lab.studies.search.muon import MuonAndAdam

POINTWISE = [f"{block}.1.weight" for block in range(1, 6)]  # of the five separable blocks


@pytest.fixture
def network() -> CompactNet:
    torch.manual_seed(0)
    return build("CompactNet")


def update(network, optimizer, images: torch.Tensor, labels: torch.Tensor) -> None:
    optimizer.zero_grad()
    F.cross_entropy(network(images).flatten(0, -2), labels.flatten(), reduction="sum").backward()
    optimizer.step()


def weights(network) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def test_muon_has_the_filters_between_channels_and_adam_the_rest(network, few):
    images, labels = few.images[:50].float() / 255, few.labels[:50]
    twin = build("CompactNet")
    twin.load_state_dict(network.state_dict())
    before = weights(network)
    update(network, MuonAndAdam(network.parameters(), 0.01), images, labels)
    update(twin, Adam(twin.parameters(), 0.01), images, labels)
    after, expected = weights(network), weights(twin)
    same = [name for name in after if torch.allclose(after[name], expected[name], atol=1e-6)]
    assert [name for name in after if name not in same] == POINTWISE
    for name in POINTWISE:
        step = (after[name] - before[name]).flatten(1)
        gradient = twin.get_parameter(name).grad.flatten(1)
        left, _, right = torch.linalg.svd(gradient, full_matrices=False)
        scale = 0.2 * 0.01 * max(step.shape) ** 0.5
        lengths = torch.linalg.svdvals(step / scale)
        # Orthogonal, as nearly as five iterations make it, but for directions that the gradient hardly has.
        assert lengths.quantile(0.1) > 0.3 and lengths.max() < 1.4, name
        assert F.cosine_similarity(step.flatten(), -(left @ right).flatten(), dim=0) > 0.9
        assert torch.linalg.svdvals(gradient)[0] > 5 * torch.linalg.svdvals(gradient)[-1]  # the gradient is not


def test_gradients_do_not_pile_up(network, few):
    images, labels = few.images[:50].float() / 255, few.labels[:50]
    optimizer = MuonAndAdam(network.parameters(), 0.0)
    for _ in range(2):
        update(network, optimizer, images, labels)
        found = [matrix.grad.clone() for matrices in optimizer.matrices for matrix in matrices]
    fresh = MuonAndAdam(network.parameters(), 0.0)
    update(network, fresh, images, labels)
    for ours, theirs in zip(found, (matrix.grad for matrices in fresh.matrices for matrix in matrices), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4 * float(theirs.abs().max()))


def test_a_schedule_sets_both_rates(network):
    optimizer = MuonAndAdam(network.parameters(), 0.01)
    torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.02, total_steps=100, cycle_momentum=False)
    rates = [group["lr"] for part in (optimizer.muon, optimizer.adam) for group in part.param_groups]
    assert rates == pytest.approx([0.02 / 25] * 2)


def test_each_network_of_a_stack_learns_as_it_would_alone(few):
    torch.manual_seed(0)
    networks = [build("CompactNet") for _ in range(2)]
    together = stack(networks).to(memory_format=torch.channels_last)
    images, labels = (few.images[:80].float() / 255).view(40, 2, 28, 28), few.labels[:80].view(40, 2)
    update(together, MuonAndAdam(together.parameters(), 0.01), images, labels)
    for i, (network, window) in enumerate(zip(networks, unstack(together, networks), strict=True)):
        before = weights(network)
        update(network, MuonAndAdam(network.parameters(), 0.01), images[:, i : i + 1], labels[:, i : i + 1].flatten())
        for name in POINTWISE:
            moved = network.get_parameter(name).detach() - before[name]
            rounding = 0.06 * float(moved.abs().max())  # PyTorch's Muon makes steps orthogonal in bfloat16
            assert torch.allclose(window.get_parameter(name) - before[name], moved, atol=rounding)
