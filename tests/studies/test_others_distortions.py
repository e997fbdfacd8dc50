import albumentations as A
import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms import InterpolationMode, RandomErasing, RandomResizedCrop
from torchvision.transforms import functional as TF

from mnist_lab.batches import MEAN
from mnist_lab.studies.others import distortions
from mnist_lab.studies.others.distortions import (
    DISTORTIONS,
    NEARLY_BLACK,
    Affine,
    Chain,
    Erase,
    Holes,
    ResizedCrop,
    Rotate,
    ShiftScaleRotate,
    resample,
    rotations,
    shifted,
)


@pytest.fixture
def pictures(digits) -> torch.Tensor:
    """Sixteen images as bytes (16, 28, 28)."""
    return digits.train.images[:16, 0]


def floats(pictures: torch.Tensor) -> torch.Tensor:
    return pictures[:, None].float() / 255


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def equal_pixels(ours: torch.Tensor, theirs: list) -> float:
    """Return the share of pixels that are the same grey of 256."""
    found = (ours[:, 0] * 255).round().byte()
    return float((found == torch.stack([torch.as_tensor(np.array(image)) for image in theirs])).float().mean())


@pytest.mark.parametrize("fill", [0, 1])
def test_a_rotation_is_torchvisions(pictures, fill):
    angles = torch.linspace(-15, 15, 16)
    ours = resample(floats(pictures), shifted(rotations(angles), torch.zeros(16, 2)), "nearest", fill / 255)
    theirs = [
        TF.rotate(Image.fromarray(image.numpy()), float(angle), fill=(fill,))
        for image, angle in zip(pictures, angles, strict=True)
    ]
    assert equal_pixels(ours, theirs) > 0.999  # a position halfway between two pixels may go to either


def test_an_affine_distortion_is_torchvisions(pictures):
    """The draws are read back from the matrix: whatever they are, torchvision given them makes the same image."""
    distortion = Affine(0.05, 0.02, shear=2, fill=NEARLY_BLACK)
    draws = distortion.draw(16, generator())
    matrix = draws.view(-1, 2, 3)
    scale = 1 / matrix[:, 0, 0]
    slope = matrix[:, 0, 1] * scale
    down = -matrix[:, 1, 2] * scale
    across = -matrix[:, 0, 2] * scale - slope * down
    shear = torch.rad2deg(slope.atan())
    assert {round(float(value), 3) for value in torch.cat([across, down])} <= {-1, 0, 1}
    assert (scale - 1).abs().max() <= 0.02 and 0.1 < shear.abs().max() <= 2
    theirs = [
        TF.affine(
            Image.fromarray(pictures[i].numpy()),
            angle=0,
            translate=[round(float(across[i])), round(float(down[i]))],
            scale=float(scale[i]),
            shear=[float(shear[i]), 0.0],
            fill=(1,),
        )
        for i in range(16)
    ]
    assert equal_pixels(distortion(floats(pictures), draws), theirs) > 0.999


def test_a_crop_is_torchvisions(pictures):
    crop = ResizedCrop(0.85)
    draws = crop.draw(16, generator())
    assert len({tuple(row.tolist()) for row in draws}) > 8
    ours = crop(floats(pictures), draws)
    for image, (left, top, width, height), found in zip(floats(pictures), draws.int().tolist(), ours, strict=True):
        theirs = TF.resized_crop(image, top, left, height, width, [28, 28], InterpolationMode.BILINEAR, antialias=True)
        assert torch.allclose(found, theirs, atol=1e-5)


def test_shift_scale_rotate_is_that_of_albumentations(pictures):
    """One image after the other: albumentations' matrix and our resampling of it; OpenCV rounds to 1/32 pixel."""
    transform = A.Affine(
        rotate=(-7, 7), translate_percent=(-0.0625, 0.0625), scale=(0.95, 1.05), keep_ratio=False, p=1, strict=True
    )
    compose = A.Compose([transform], seed=3)
    for image in pictures.numpy():
        theirs = torch.as_tensor(compose(image=image)["image"]).float() / 255
        drawn = transform.params["matrix"]
        inverse = torch.as_tensor(np.linalg.inv(drawn)[:2], dtype=torch.float32)
        middle = inverse[:, :2] @ torch.full((2,), 13.5) + inverse[:, 2] - 13.5
        matrix = torch.cat([inverse[:, :2], middle[:, None]], dim=1)
        ours = resample(torch.as_tensor(image)[None, None].float() / 255, matrix[None], "bilinear")[0, 0]
        assert (ours - theirs).abs().max() < 2.5 / 32


def test_what_shift_scale_rotate_draws_is_what_albumentations_draws():
    """But for the shift, which has parts of a pixel, as in the versions that took the option ``value``."""
    count = 4000
    transform = A.Affine(rotate=(-7, 7), scale=(0.95, 1.05), keep_ratio=False, p=1, strict=True)
    transform.set_random_seed(0)
    theirs = np.stack([transform.get_params_dependent_on_data({"shape": (28, 28)}, {})["matrix"] for _ in range(count)])
    theirs = np.linalg.inv(theirs)[:, :2]
    ours = ShiftScaleRotate(0.0625, 0.05, 7, share=1.0).draw(count, generator()).view(-1, 2, 3).double().numpy()
    for row in range(2):
        for column in range(2):
            pair = [np.round(drawn[:, row, column], 4) + 0.0 for drawn in (ours, theirs)]  # rounding is no difference
            assert stats.ks_2samp(*pair).pvalue > 0.01, (row, column)
    shifts = -np.linalg.solve(ours[:, :, :2], ours[:, :, 2:]).squeeze(2)
    for along in shifts.T:
        assert stats.kstest(along, stats.uniform(-1.75, 3.5).cdf).pvalue > 0.01


def test_a_share_of_the_images_stays_as_it_is(pictures):
    some = ShiftScaleRotate(0.0625, 0.05, 7, share=0.25)
    draws = some.draw(4000, generator())
    still = (draws == torch.eye(2, 3).flatten()).all(dim=1)
    assert float(still.float().mean()) == pytest.approx(0.75, abs=0.03)
    assert torch.allclose(some(floats(pictures), torch.eye(2, 3).flatten().expand(16, 6)), floats(pictures), atol=1e-6)


def test_crops_and_erased_parts_are_drawn_as_torchvision_draws_them():
    count, image = 4000, torch.zeros(1, 28, 28)
    torch.manual_seed(0)
    theirs = [RandomResizedCrop.get_params(image, [0.85, 1.0], [3 / 4, 4 / 3]) for _ in range(count)]
    ours = ResizedCrop(0.85).draw(count, generator())
    for column, place in [(0, 1), (1, 0), (2, 3), (3, 2)]:
        assert stats.ks_2samp(ours[:, column].numpy(), [drawn[place] for drawn in theirs]).pvalue > 0.01
    theirs = [RandomErasing.get_params(image, (0.02, 0.33), (0.3, 3.3), [0.0])[:4] for _ in range(count)]
    ours = Erase(share=1.0).draw(count, generator())
    for column, place in [(0, 1), (1, 0), (2, 3), (3, 2)]:
        assert stats.ks_2samp(ours[:, column].numpy(), [drawn[place] for drawn in theirs]).pvalue > 0.01


def test_erased_parts_are_mean_grey_and_rare():
    erase = Erase(share=0.1)
    draws = erase.draw(4000, generator())
    erased = erase(torch.ones(4000, 1, 28, 28), draws)
    assert torch.equal(erased.unique(), torch.tensor([MEAN, 1.0]))
    hit = (erased < 1).flatten(1).any(dim=1)
    assert float(hit.float().mean()) == pytest.approx(0.1, abs=0.02)
    areas = (erased[hit] < 1).flatten(1).float().mean(dim=1)
    assert 0.01 < areas.min() < 0.04 and 0.28 < areas.max() < 0.36


def test_holes_are_those_of_albumentations():
    count = 3000
    transform = A.CoarseDropout(
        num_holes_range=(1, 3), hole_height_range=(4, 5), hole_width_range=(5, 5), p=1, strict=True
    )
    transform.set_random_seed(0)
    white = np.full((28, 28), 255, dtype=np.uint8)
    theirs = np.stack([transform(image=white)["image"] for _ in range(count)]) == 0
    holes = Holes()
    ours = (holes(torch.ones(count, 1, 28, 28), holes.draw(count, generator()))[:, 0] == 0).numpy()
    assert stats.ks_2samp(ours.sum((1, 2)), theirs.sum((1, 2))).pvalue > 0.01  # black pixels in an image
    assert np.abs(ours.mean(0) - theirs.mean(0)).max() < 0.04  # how often each pixel is black
    assert ours.mean(0)[0, 0] < 0.02 < ours.mean(0)[14, 14]


@pytest.mark.parametrize("name", [name for name in DISTORTIONS if name != "none"])
def test_a_chain_keeps_shape_range_and_input_and_follows_its_generator(pictures, name):
    images, chain = floats(pictures), Chain(DISTORTIONS[name])
    before = images.clone()
    draws = chain.draw(16, generator(5))
    distorted = chain(images, draws)
    assert distorted.shape == images.shape and distorted.dtype == torch.float32
    assert distorted.min() >= -1e-6 and distorted.max() <= 1 + 1e-6
    assert torch.equal(images, before) and not torch.equal(distorted, images)
    assert torch.equal(Chain(DISTORTIONS[name]).draw(16, generator(5)), draws)
    assert not torch.equal(chain.draw(16, generator(6)), draws)


def test_a_chain_applies_its_parts_in_order(pictures):
    images, parts = floats(pictures), (Rotate(7), Holes())
    chain = Chain(parts)
    draws = chain.draw(16, generator())
    turned = parts[0](images, draws[:, :6])
    assert torch.equal(chain(images, draws), parts[1](turned, draws[:, 6:]))
    assert distortions.NEARLY_BLACK < MEAN
