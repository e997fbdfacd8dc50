import pytest
import torch

from mnist_lab.analysis.corruptions import CORRUPTIONS, STRENGTHS, corrupt
from mnist_lab.data import Split


@pytest.fixture(scope="module")
def some(digits) -> Split:
    return digits.test.first(60)


def distance(split: Split, other: Split) -> float:
    return float((split.images.float() - other.images.float()).abs().mean())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_seeded_leaves_its_input_and_grows(some, name):
    before = some.images.clone()
    found = [corrupt(some, name, strength) for strength in range(1, STRENGTHS + 1)]
    again = corrupt(some, name, 3)
    assert torch.equal(again.images, found[2].images) and torch.equal(some.images, before)
    assert all(one.images.dtype == torch.uint8 and one.images.shape == before.shape for one in found)
    distances = [distance(some, one) for one in found]
    assert 0 < distances[0] < distances[-1] and distances[2] > distances[0]


def test_strokes_get_thicker_and_thinner(some):
    ink = some.images.float().mean()
    assert corrupt(some, "thicker strokes", 3).images.float().mean() > 1.3 * ink
    assert corrupt(some, "thinner strokes", 3).images.float().mean() < 0.7 * ink


def test_a_hidden_square_only_takes_ink_away(some):
    hidden = corrupt(some, "hidden square", 3).images
    assert ((hidden == some.images) | (hidden == 0)).all()
    assert ((hidden != some.images).flatten(1).sum(1) <= 8 * 8).all()


def test_a_shift_moves_the_middle_of_the_ink_by_its_pixels():
    images = torch.zeros(20, 1, 28, 28, dtype=torch.uint8)
    images[:, :, 12:16, 12:16] = 255
    moved = corrupt(Split(images, torch.zeros(20)), "shift", 4).images[:, 0].float()
    places = torch.arange(28.0)
    total = moved.sum((1, 2))
    across = (moved.sum(1) * places).sum(1) / total - 13.5
    down = (moved.sum(2) * places).sum(1) / total - 13.5
    assert torch.hypot(across, down).allclose(torch.full((20,), 4.0), atol=0.05)


def test_grey_background_keeps_ink_white(some):
    grey = corrupt(some, "grey background", 3).images
    assert int(grey.min()) == round(0.3 * 255)
    assert (grey[some.images == 255] == 255).all()
