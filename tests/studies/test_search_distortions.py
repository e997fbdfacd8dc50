import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mnist_lab.augment import Policy, TensorEngine
from mnist_lab.studies.search.distortions import ALPHA, SIDE, BalancedEngine, CutOut, ElasticEngine, Mixup

POLICY = Policy(rotation=13, shift=2, scale=0.15, shear=10)


@pytest.fixture
def images(digits) -> torch.Tensor:
    return digits.train.images[:64].float() / 255


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(engine: type[TensorEngine], images: int) -> dict[str, torch.Tensor]:
    """Return what was drawn, each distortion by itself, as a share of what may be drawn; and slants."""

    def matrix(**policy) -> torch.Tensor:
        return engine(Policy(**policy)).draw(images, seeded(1))[:, :6].view(-1, 2, 3)

    turns, shifts = matrix(rotation=13), -14 * matrix(shift=2)[:, :, 2]
    sizes, slants = 1 / matrix(scale=0.15)[:, 0, 0] - 1, torch.rad2deg(-matrix(shear=10)[:, 0, 1].atan())
    degrees = torch.rad2deg(torch.atan2(turns[:, 1, 0], turns[:, 0, 0]))
    return {
        "turn": degrees / 13,
        "across": shifts[:, 0],
        "down": shifts[:, 1],
        "size": sizes / 0.15,
        "slant": slants / 10,
    }


def test_strokes_bend_smoothly(images):
    """On a ramp, the brightness of a pixel tells where it comes from."""
    ramp = torch.stack([torch.arange(28.0).expand(28, 28), torch.arange(28.0).expand(28, 28).T]).unsqueeze(1) / 28
    engine = ElasticEngine(Policy(), 1.5)
    drawn = engine.draw(200, seeded(0))
    moved = torch.stack([(engine(ramp[[axis] * 200], drawn) - ramp[axis])[:, 0] * 28 for axis in (0, 1)])
    inside = moved[..., 4:-4, 4:-4]  # nothing of the black outside
    assert 1.2 < inside.abs().max() < 1.5 * 1.9  # bicubic interpolation may overshoot
    assert inside.mean().abs() < 0.05
    steps = inside.diff(dim=-1).abs().max(), inside.diff(dim=-2).abs().max()
    assert max(steps) < 0.5 * inside.abs().max()
    assert torch.corrcoef(inside[:, :, 10, 10])[0, 1].abs() < 0.2  # across and down are drawn apart
    still = ElasticEngine(POLICY, 0.0)
    numbers = still.draw(64, seeded(1))
    assert torch.allclose(still(images, numbers), TensorEngine(POLICY)(images, numbers[:, :6]), atol=1e-4)
    assert not torch.allclose(engine(images, engine.draw(64, seeded(1))), images, atol=0.1)


def test_balanced_draws_cover_the_range_in_every_batch():
    """Each quarter of the range, or each whole number, is drawn about as often: not so by independent draws."""

    def unevenness(drawn: torch.Tensor) -> float:
        drawn = drawn.round() if drawn.abs().max() > 1.5 else drawn
        places, parts = ((drawn + 2) / 5 * 5 + 0.5, 5) if drawn.abs().max() > 1.5 else ((drawn + 1) * 2, 4)
        shares = [(places.floor() == part).view(-1, 125).sum(1) / 125 for part in range(parts)]
        return float((torch.stack(shares) - 1 / parts).abs().max())

    balanced, independent = numbers(BalancedEngine, 125 * 40), numbers(TensorEngine, 125 * 40)
    for name in balanced:
        assert unevenness(balanced[name]) < 0.03 < 0.06 < unevenness(independent[name]), name


def test_balanced_draws_are_uniform_and_unrelated():
    drawn = torch.stack(list(numbers(BalancedEngine, 4096).values()))
    for name, values in zip(("turn", "across", "down", "size", "slant"), drawn, strict=True):
        if name in ("across", "down"):
            assert values.round().unique().tolist() == [-2, -1, 0, 1, 2]
        else:
            assert values.sort().values.numpy() == pytest.approx(torch.linspace(-1, 1, 4096).numpy(), abs=0.01), name
    assert torch.corrcoef(drawn).fill_diagonal_(0).abs().max() < 0.03


def test_balanced_draws_follow_the_seed():
    engine = BalancedEngine(Policy(rotation=13))
    first, again, other = (engine.draw(100, seeded(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    generator = seeded(0)
    assert not torch.equal(engine.draw(100, generator), engine.draw(100, generator))  # the next epoch has others


def test_cutout_blackens_a_square_inside_the_image(images):
    engine, white = CutOut(Policy()), torch.ones(400, 1, 28, 28)
    black = engine(white, engine.draw(400, seeded(0))) == 0
    assert (black.flatten(1).sum(1) == SIDE**2).all()
    rows, columns = black.any(3)[:, 0], black.any(2)[:, 0]
    assert (rows.sum(1) == SIDE).all() and (columns.sum(1) == SIDE).all()
    assert rows.any(0).all() and columns.any(0).all()  # it may lie at every edge
    numbers = engine.draw(64, seeded(1))
    left, top = numbers[0, 6:].int().tolist()
    shown, usual = engine(images, numbers)[0, 0], TensorEngine(Policy())(images, numbers[:, :6])[0, 0]
    square = slice(top, top + SIDE), slice(left, left + SIDE)
    shown[square] = usual[square]
    assert torch.equal(shown, usual)  # nothing else is changed


def test_mixup_blends_an_image_with_the_one_before(images):
    engine = Mixup(Policy())
    draws = engine.draw(64, seeded(0))
    share = draws[:, -1]
    assert share.min() >= 0 and share.max() <= 1 and share.min() < 0.5 < share.median()
    blended = engine(images, draws)
    expected = share[5] * images[5] + (1 - share[5]) * images[4]
    assert torch.allclose(blended[5], expected, atol=1e-5)
    assert torch.equal(engine.draw(64, seeded(0)), draws) and not torch.equal(engine.draw(64, seeded(1)), draws)


def test_mixup_has_the_loss_of_the_paper(images, digits):
    """Two images, one network, many shares: one label's mean loss is that of both labels, weighed by the share."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    nn.init.normal_(network[1].weight, std=0.3)  # it is sure of what it reads
    pair, labels = images[:2], digits.train.labels[:2]
    count = 20_000
    engine = Mixup(Policy())
    with torch.no_grad():
        shares = engine.draw(2 * count, seeded(0))[:, -1].view(-1, 2, 1, 1, 1)
        blended = shares * pair + (1 - shares) * pair.roll(1, 0)
        ours = F.cross_entropy(network(blended.flatten(0, 1)), labels.repeat(count))
        weights = torch.distributions.Beta(ALPHA, ALPHA).sample((count, 1, 1, 1))
        logits = network(weights * pair[0] + (1 - weights) * pair[1])
        losses = [F.cross_entropy(logits, label.repeat(count), reduction="none") for label in labels]
        theirs = (weights.flatten() * losses[0] + (1 - weights.flatten()) * losses[1]).mean()
        kept = losses[0].mean()  # one label, but the paper's shares
    assert ours.item() == pytest.approx(theirs.item(), rel=0.005)
    assert abs(kept - ours) > 0.03 * ours
