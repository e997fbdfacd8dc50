import pickle

import pytest
import torch

from mnist_lab.augment import Policy
from mnist_lab.batches import normalise
from mnist_lab.speed.per_image import PerImageBatches, albumentations_transform, torchvision_transform

MAKERS = (albumentations_transform, torchvision_transform)


def batches(split, size, transform, device: str = "cpu") -> PerImageBatches:
    return PerImageBatches(split, size, transform, workers=0, device=torch.device(device))


@pytest.mark.parametrize("make", MAKERS)
def test_without_distortion_an_image_is_only_normalised(make, few):
    images, labels = next(iter(batches(few, 103, make(Policy()))))
    assert images.shape == (103, 1, 28, 28) and images.dtype == torch.float32
    expected = {label: normalise(few.images[few.labels == label].float() / 255) for label in range(10)}
    for image, label in zip(images, labels.tolist(), strict=True):  # shuffled
        assert (expected[label] - image).abs().amax((1, 2, 3)).min() < 1e-4


@pytest.mark.parametrize("make", MAKERS)
def test_images_are_distorted_one_by_one(make, digits):
    image = digits.train.images[0, 0].numpy()
    distort = make(Policy(rotation=20.0, shift=2, scale=0.1, shear=10.0))
    first, second = distort(image), distort(image)
    assert first.shape == (1, 28, 28) and not torch.equal(first, second)


def test_a_share_of_the_images_may_stay_as_it_is(digits):
    image = digits.train.images[0, 0].numpy()
    sometimes, never = (albumentations_transform(Policy(rotation=20.0), share) for share in (0.25, 0.0))
    same = sum(torch.equal(sometimes(image), never(image)) for _ in range(200))
    assert 120 < same < 180


@pytest.mark.parametrize("make", MAKERS)
def test_a_transform_can_be_sent_to_a_worker(make, digits):
    """As where worker processes start anew in place of being forked: on macOS and Windows, and by Python 3.14."""
    image = digits.train.images[0, 0].numpy()
    distort = make(Policy())
    assert torch.equal(pickle.loads(pickle.dumps(distort))(image), distort(image))


def test_incomplete_batches_are_left_out_and_images_shuffled(few):
    shuffled = batches(few, 50, torchvision_transform(Policy()))
    epochs = [torch.cat([labels for _, labels in shuffled]) for _ in range(2)]
    assert len(shuffled) == 2 and len(epochs[0]) == 100
    assert not torch.equal(*epochs)


def test_batches_end_up_on_the_device(few):
    for images, labels in batches(few, 50, torchvision_transform(Policy()), "meta"):  # a device that is everywhere
        assert images.device.type == labels.device.type == "meta"
