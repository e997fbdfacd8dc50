import pytest
import torch

from mnist_lab.analysis import networks, shifts, tables
from mnist_lab.analysis.shifts import Shifted


def test_an_image_moves_by_a_pixel_and_paper_comes_in():
    images = torch.zeros(1, 1, 4, 4, dtype=torch.uint8)
    images[0, 0, 1, 2] = 9
    assert shifts.shift(images, 1, 0)[0, 0, 2, 2] == 9 and shifts.shift(images, 0, -1)[0, 0, 1, 1] == 9
    assert torch.equal(shifts.shift(images, 0, 0), images)
    images[0, 0, 3] = 5
    assert shifts.shift(images, 1, 0)[0, 0, 3].tolist() == [0, 0, 0, 0]  # the last row has left the image
    assert shifts.shift(images, -1, 0)[0, 0, 3].tolist() == [0, 0, 0, 0]


def test_copies_are_all_shifts_by_at_most_a_pixel_once():
    assert {copies: len(set(found)) for copies, found in shifts.COPIES.items()} == {1: 1, 5: 5, 9: 9}
    assert all(abs(down) <= 1 and abs(right) <= 1 for down, right in shifts.COPIES[9])
    assert all(abs(down) + abs(right) <= 1 for down, right in shifts.COPIES[5])


def test_one_copy_is_the_network_itself_and_more_copies_are_means(training, store, digits):
    one, five, nine = [Shifted(**found) for found in shifts.score(training, store)]
    said = networks.probabilities(training, store, digits.test)
    assert (one.images, one.correct) == (len(digits.test), int((said.argmax(1) == digits.test.labels).sum()))
    split = type(digits.test)
    moved = [split(shifts.shift(digits.test.images, *by), digits.test.labels) for by in shifts.COPIES[5]]
    mean = torch.stack([networks.probabilities(training, store, copy) for copy in moved]).mean(0)
    assert five.correct == int((mean.argmax(1) == digits.test.labels).sum())
    right = mean[torch.arange(len(mean)), digits.test.labels]
    assert five.loss == pytest.approx(-float(right.clamp(min=1e-12).log().mean()), abs=1e-5)
    assert nine.multiply_accumulates == 9 * one.multiply_accumulates == 9 * 450_312


def test_gains_are_seed_by_seed():
    def of(copies, *correct):
        return [Shifted(trained="", seed=seed, copies=copies, images=1000, correct=one, loss=0.1,
                        multiply_accumulates=copies) for seed, one in enumerate(correct)]  # fmt: skip

    rows = tables.shifts_table([*of(1, 990, 991, 995), *of(5, 992, 992, 998)]).rows
    assert rows[0][4:6] == ("–", "–")
    assert rows[1][:5] == ("5", "5", "3", "99.400 ± 0.346", "+0.200")
