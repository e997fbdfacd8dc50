import pytest
import torch
from torch import nn

from mnist_lab.analysis import inside, networks
from mnist_lab.batches import OrderedBatches, normalise


@pytest.fixture
def network(training, store):
    return networks.load(training, store)


@pytest.fixture
def some(digits):
    images = normalise(digits.test.images[:3].float() / 255)
    return images, torch.tensor([1, 2, 3]), torch.tensor([4, 5, 6])


def test_a_gradient_map_is_the_slope_of_the_margin(network, some):
    network, images = network.double(), some[0].double()
    slope = inside.gradient_map(network, images, *some[1:])[1, 14, 12]
    step = torch.zeros_like(images)
    step[1, 0, 14, 12] = 1e-5
    margins = [float(inside.margin(network, images + sign * step, *some[1:])[1].detach()) for sign in (1, -1)]
    assert float(slope) == pytest.approx((margins[0] - margins[1]) / 2e-5, rel=1e-3)


def test_an_occlusion_map_is_what_hiding_changes(network, some):
    found = inside.occlusion_map(network, *some)
    hidden = some[0].clone()
    hidden[:, :, 12:17, 8:13] = hidden.min()
    expected = inside.margin(network, *some) - inside.margin(network, hidden, *some[1:])
    assert torch.allclose(found[:, 14, 10], expected, atol=1e-5)
    assert (found[:, :2, :2].abs() < 1e-5).all()  # black hides nothing in a black corner


def test_random_weights_change_the_maps(network, training, some):
    torch.manual_seed(5)
    random = training.recipe.network().eval()
    for method in inside.METHODS.values():
        maps = method(network, *some)
        assert abs(inside.correlation(maps, method(random, *some))) < 0.7
        assert inside.correlation(maps, 2 * maps) == pytest.approx(1)
        assert inside.correlation(maps, -maps) == pytest.approx(-1)


def test_maps_that_say_nothing_agree_with_nothing():
    nothing = torch.zeros(2, 28, 28)
    assert inside.correlation(nothing, nothing) == 0


def test_an_image_seen_in_training_is_its_own_nearest(network, digits, training):
    queries = digits.train.take(torch.tensor([17, 3]))
    near = inside.neighbours(network, digits.train, queries, training.recipe.scored(digits.test))
    assert near[:, 0].tolist() == [17, 3] and near.shape == (2, inside.NEIGHBOURS)


def test_neighbours_are_near_in_what_the_logits_see(network, digits, training):
    """By hand, for one image."""
    like = training.recipe.scored(digits.test)
    layers = list(inside.leaves(network))
    last = max(place for place, layer in enumerate(layers) if isinstance(layer, nn.Conv2d))
    features = nn.Sequential(*layers[:last])
    with torch.no_grad():
        known = torch.cat([features(images).flatten(1) for images, _ in OrderedBatches(digits.train)])
        one = features(next(iter(OrderedBatches(digits.test.first(1))))[0]).flatten(1)
    deviation = known.std(0).clamp(min=1e-6)
    best = torch.cosine_similarity(one / deviation, known / deviation).argmax()
    assert inside.neighbours(network, digits.train, digits.test.first(1), like)[0, 0] == best


def test_what_was_seen_comes_back(training, store, digits, tmp_path):
    inside.look(training, training, store, tmp_path)  # in place of a second seed
    seen, arrays = inside.read(tmp_path)
    found = networks.probabilities(training, store, digits.test)
    wrong = (found.argmax(1) != digits.test.labels).nonzero().flatten().tolist()
    assert sorted(seen.errors) == wrong and seen.confidences == sorted(seen.confidences, reverse=True)
    assert arrays.filters.shape == (8, 3, 3) and arrays.templates.shape == (56, 5, 5)
    assert arrays.maps["occlusion, random"].shape == (len(seen.shown), 28, 28)
    assert abs(seen.agreement["gradient"]["random"]) < 0.7
    assert 0 <= seen.agreement_unsigned["gradient"]["random"] < 1
    assert seen.agreement_unsigned["occlusion"]["another seed"] == pytest.approx(1)  # it is the same
    labels = digits.train.labels[: training.settings.train_limit][torch.tensor(seen.neighbours)]
    assert labels.tolist() == seen.neighbour_labels
    (tmp_path / inside.ARRAYS).write_bytes(b"")
    with pytest.raises(networks.AnalysisError, match="is not the file"):
        inside.read(tmp_path)
    (tmp_path / inside.FILE).unlink()
    assert inside.read(tmp_path) is None
