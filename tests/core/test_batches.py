import pytest
import torch

from mnist_lab.batches import MEAN, STD, OrderedBatches, ShuffledBatches


def test_mean_and_standard_deviation_are_those_of_the_training_images(mnist):
    shares = torch.bincount(mnist.train.images.flatten(), minlength=256).double() / mnist.train.images.numel()
    pixels = torch.arange(256) / 255
    mean = (shares * pixels).sum()
    assert mean.item() == pytest.approx(MEAN, abs=1e-4)
    assert (shares * (pixels - mean) ** 2).sum().sqrt().item() == pytest.approx(STD, abs=1e-4)


def test_an_epoch_shows_every_image_once_but_the_incomplete_batch(few):
    few.images[:, 0, 0, 0] = torch.arange(103)
    batches = ShuffledBatches(few, 10, seed=0)
    seen = torch.cat([images[:, 0, 0, 0] for images, _ in batches]) * STD + MEAN
    seen = (seen * 255).round().int().tolist()
    assert len(batches) == 10 and len(seen) == 100
    assert len(set(seen)) == 100


def test_a_seed_means_the_same_batches_and_epochs_differ(few):
    first, again = ShuffledBatches(few, 50, seed=3), ShuffledBatches(few, 50, seed=3)
    epochs = [[labels for _, labels in batches] for batches in (first, again, first)]
    assert all(torch.equal(a, b) for a, b in zip(epochs[0], epochs[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(epochs[0], epochs[2], strict=True))


def test_augmentation_sees_pixels_in_0_to_1_and_the_batches_are_normalised_last(few):
    class Blank:
        def draw(self, images, generator):
            return torch.arange(images)

        def __call__(self, images, draws):
            assert images.min() >= 0 and images.max() <= 1
            assert torch.equal(draws, torch.arange(10))  # the rows of the first batch
            return torch.zeros_like(images)

    images, _ = next(iter(ShuffledBatches(few, 10, seed=0, augment=Blank())))
    assert torch.allclose(images, torch.full_like(images, -MEAN / STD))


def test_a_batch_larger_than_the_data_is_an_error(few):
    with pytest.raises(ValueError, match=r"batch size 104 does not fit 103"):
        ShuffledBatches(few, 104, seed=0)


def test_ordered_batches_show_all_images_in_order_and_change_none(few):
    before = few.images.clone()
    for size in (103, 10):
        batches = OrderedBatches(few, size)
        labels = torch.cat([labels for _, labels in batches])
        assert torch.equal(labels, few.labels)
        assert len(batches) == len(list(batches))
    assert torch.equal(few.images, before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_a_seed_means_the_same_batches_on_cuda(few, recipe):
    on_cpu = ShuffledBatches(few, 50, seed=3, augment=recipe.augment())
    on_gpu = ShuffledBatches(few.to(torch.device("cuda")), 50, seed=3, augment=recipe.augment())
    for (images, labels), (gpu_images, gpu_labels) in zip(on_cpu, on_gpu, strict=True):
        assert torch.equal(labels, gpu_labels.cpu())
        assert torch.allclose(images, gpu_images.cpu(), atol=1e-4)
