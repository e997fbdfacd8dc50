import math
import random

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from mnist_lab import augment
from mnist_lab.augment import (
    AlbumentationsEngine,
    CleanEnd,
    Distortions,
    Policy,
    TensorEngine,
    albumentations_pipeline,
    draw_distortions,
    inverse_matrix,
    resample,
)

A = pytest.importorskip("albumentations")
STRONG = Policy(rotation=20, shift=3, scale=0.2, shear=15)


@pytest.fixture
def images(digits) -> torch.Tensor:
    return digits.train.images[:64].float() / 255


def still(count: int, **changes: torch.Tensor) -> Distortions:
    """Distortions that leave images as they are, but for ``changes``."""
    zeros = torch.zeros(count)
    values = {"rotation": zeros, "shift": torch.zeros(count, 2, dtype=torch.int64), "scale": zeros + 1, "shear": zeros}
    return Distortions(**{**values, **changes})


def distort(images: torch.Tensor, draws: Distortions) -> torch.Tensor:
    return resample(images, inverse_matrix(draws))


def apply(engine, images: torch.Tensor, seed: int) -> torch.Tensor:
    return engine(images, engine.draw(len(images), torch.Generator().manual_seed(seed)))


def dot(column: int, row: int) -> torch.Tensor:
    image = torch.zeros(1, 1, 28, 28)
    image[0, 0, row, column] = 1
    return image


def centre(image: torch.Tensor) -> tuple[float, float]:
    """Return the column and row of the ink's centre of mass."""
    ink = image[0, 0] / image.sum()
    places = torch.arange(28.0)
    return float((ink.sum(0) * places).sum()), float((ink.sum(1) * places).sum())


@pytest.mark.parametrize("size", [(28, 28), (20, 32)])
@pytest.mark.parametrize("batch", [1, 3, 125])
def test_images_are_those_of_an_affine_grid_to_the_last_bit(size, batch):
    generator = torch.Generator().manual_seed(batch)
    images = torch.rand(batch, 1, *size, generator=generator)
    matrix = inverse_matrix(draw_distortions(STRONG, batch, generator), *size)
    for given in (matrix, torch.cat([matrix.flatten(1), torch.ones(batch, 2)], dim=1)[:, :6].view(-1, 2, 3)):
        grid = F.affine_grid(matrix, [batch, 1, *size], align_corners=False)
        assert torch.equal(resample(images, given), F.grid_sample(images, grid, align_corners=False))


def test_nothing_drawn_changes_nothing(images):
    assert torch.allclose(distort(images, still(64)), images, atol=1e-5)


def test_a_shift_moves_a_dot_by_whole_pixels():
    moved = distort(dot(10, 10), still(1, shift=torch.tensor([[3, -2]])))
    assert torch.allclose(moved, dot(13, 8), atol=1e-5)


def test_a_quarter_turn_is_counter_clockwise():
    turned = distort(dot(20, 13), still(1, rotation=torch.tensor([90.0])))
    assert torch.allclose(turned, dot(13, 7), atol=1e-4)  # from the right to the top, about (13.5, 13.5)


def test_scale_moves_a_dot_away_from_the_centre():
    column, _ = centre(distort(dot(18, 13), still(1, scale=torch.tensor([1.5]))))
    assert column == pytest.approx(13.5 + 4.5 * 1.5, abs=0.3)


def test_shear_moves_the_lower_half_to_the_right():
    column, row = centre(distort(dot(13, 20), still(1, shear=torch.tensor([20.0]))))
    assert column == pytest.approx(13 + 6.5 * math.tan(math.radians(20)), abs=0.3)
    assert row == pytest.approx(20, abs=0.01)


def test_a_batch_keeps_shape_and_range_and_its_input(images):
    before = images.clone()
    distorted = apply(TensorEngine(STRONG), images, 0)
    assert distorted.shape == images.shape
    assert distorted.min() >= 0 and distorted.max() <= 1 + 1e-6
    assert torch.equal(images, before)
    assert not torch.equal(distorted[0], distorted[1])


def test_the_generator_alone_decides_what_is_drawn(images):
    torch.manual_seed(0)
    first = apply(TensorEngine(STRONG), images, 5)
    torch.manual_seed(1)
    assert torch.equal(apply(TensorEngine(STRONG), images, 5), first)
    assert not torch.equal(apply(TensorEngine(STRONG), images, 6), first)


def test_a_blank_image_stays_blank():
    blank = torch.zeros(8, 1, 28, 28)
    assert apply(TensorEngine(STRONG), blank, 0).abs().max() == 0


def fixed_affine(draws: Distortions, index: int):
    """Return albumentations' transform that draws exactly what ``draws`` hold for one image."""
    rotation, scale, shear = (float(values[index]) for values in (draws.rotation, draws.scale, draws.shear))
    across, down = (int(value) for value in draws.shift[index])
    return A.Affine(
        rotate=(rotation, rotation),
        translate_px={"x": (across, across), "y": (down, down)},
        scale=(scale, scale),
        shear={"x": (-shear, -shear), "y": (0, 0)},  # albumentations applies the negative of what it draws
        p=1,
        strict=True,
    )


def test_both_engines_draw_the_same_image(images):
    draws = draw_distortions(STRONG, len(images), torch.Generator().manual_seed(0))
    ours = distort(images, draws)[:, 0].numpy()
    theirs = np.stack([fixed_affine(draws, i)(image=image)["image"] for i, image in enumerate(images[:, 0].numpy())])
    # OpenCV rounds sampling positions to 1/32 pixel: neighbouring pixels differ by at most 1, so 2/32 in a pixel.
    assert np.abs(ours - theirs).max() < 2 / 32
    assert np.abs(ours - theirs).mean() < 0.002


def test_both_engines_draw_from_the_same_distributions():
    count = 2000
    draws = draw_distortions(STRONG, count, torch.Generator().manual_seed(0))
    (affine,) = albumentations_pipeline(STRONG).transforms
    affine.set_random_seed(0)
    theirs = [affine.get_params_dependent_on_data({"shape": (28, 28)}, {}) for _ in range(count)]
    matrices = np.stack([found["matrix"] for found in theirs])
    angles = np.array([(found["rotate"] + 180) % 360 - 180 for found in theirs])
    scales = np.array([found["scale"]["x"] for found in theirs])
    cos, sin = np.cos(np.deg2rad(angles)), np.sin(np.deg2rad(angles))
    slopes = (matrices[:, 0, 1] / scales - sin) / cos  # the matrix is shear . rotation . scale
    middle = matrices @ np.array([13.5, 13.5, 1])
    shifts = np.round(middle[:, :2] - 13.5).astype(int)
    for ours, other in [
        (draws.rotation, angles),
        (draws.scale, scales),
        (draws.shear, np.rad2deg(np.arctan(slopes))),
    ]:
        assert stats.ks_2samp(ours.numpy(), other).pvalue > 0.01
        assert np.abs(other).max() == pytest.approx(ours.abs().max().item(), rel=0.02)
    for axis in (0, 1):
        table = [np.bincount(side + 3, minlength=7) for side in (draws.shift[:, axis].numpy(), shifts[:, axis])]
        assert stats.chi2_contingency(table).pvalue > 0.01


def test_the_end_is_undistorted_and_the_rest_as_ever(images):
    engine, usual = CleanEnd(TensorEngine(STRONG), 2), TensorEngine(STRONG)
    ours, theirs = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    for epoch in range(4):
        shown = engine(images, engine.draw(64, ours))
        expected = usual(images, usual.draw(64, theirs))
        if epoch < 2:
            assert torch.equal(shown, expected)
        else:
            assert torch.equal(shown, images) and not torch.allclose(expected, images, atol=0.1)
    assert torch.equal(ours.get_state(), theirs.get_state())  # the order of images stays, too


def test_albumentations_follow_the_generator_and_nothing_else(images):
    engine = AlbumentationsEngine(albumentations_pipeline(STRONG))
    first = apply(engine, images, 5)
    random.seed(1)
    np.random.seed(1)
    assert torch.equal(apply(engine, images, 5), first)
    assert not torch.equal(apply(engine, images, 6), first)
    assert not torch.equal(first[0], first[1])


def test_albumentations_take_any_pipeline(images):
    engine = AlbumentationsEngine(A.Compose([A.HorizontalFlip(p=1.0)], strict=True))
    flipped = apply(engine, images, 0)
    assert torch.equal(flipped, images.flip(-1))


def test_every_engine_keeps_shape_range_and_input(images):
    for make in augment.ENGINES.values():
        before = images.clone()
        distorted = apply(make(STRONG), images, 0)
        assert distorted.shape == images.shape and distorted.dtype == torch.float32
        assert distorted.min() >= 0 and distorted.max() <= 1 + 1e-6
        assert torch.equal(images, before)
