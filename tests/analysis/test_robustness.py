from dataclasses import replace

import numpy as np
import pytest
import torch

from mnist_lab.analysis import networks, robustness
from mnist_lab.analysis.corruptions import STRENGTHS
from mnist_lab.analysis.networks import Training
from mnist_lab.analysis.robustness import CLEAN, Robustness
from mnist_lab.training import Metrics


def test_networks_are_scored_at_every_strength(training, store, digits):
    (clean,) = robustness.score(CLEAN, [training], store, 10_000)
    found = networks.probabilities(training, store, digits.test)
    assert clean == [int((found.argmax(1) == digits.test.labels).sum())]
    rotated = robustness.score("rotation", [training, training], store, 50)
    assert len(rotated) == 2 and len(rotated[0]) == STRENGTHS
    assert max(rotated[0]) <= 50 and rotated[0] == rotated[1]  # the same images for every network


def test_scores_are_sorted_by_recipe(training):
    others = [training, replace(training, settings=replace(training.settings, seed=1)), replace(training, name="A3")]
    told = robustness.gather(others, [(CLEAN, [[9], [8], [7]]), ("blur", [[5] * 5, [4] * 5, [3] * 5])], images=10)
    assert [(one.name, one.corruption, len(one.correct)) for one in told] == [
        ("3", CLEAN, 2), ("A3", CLEAN, 1), ("3", "blur", 2), ("A3", "blur", 1),
    ]  # fmt: skip
    assert robustness.mean_errors(told)["3"] == pytest.approx({CLEAN: 0.15, "blur": 0.55})


def test_the_mean_is_over_corruptions_and_strengths():
    kinds = robustness.kinds()
    found = [Robustness(name="3", trained="", corruption=kind, images=100, correct=[[90] * STRENGTHS])
             for kind in kinds]  # fmt: skip
    found[kinds.index("blur")] = replace_correct(found[kinds.index("blur")], [[100 - 10 * n for n in range(1, 6)]])
    share = robustness.overall(found)["3"]
    assert share == pytest.approx((0.1 * (len(kinds) - 2) + 0.3) / (len(kinds) - 1))  # what is clean does not count


def replace_correct(one: Robustness, correct: list[list[int]]) -> Robustness:
    return one.model_copy(update={"correct": correct})


def test_no_error_at_all_is_half_an_image():
    assert Robustness(name="3", trained="", corruption=CLEAN, images=100, correct=[[100]]).errors == 0.005


def test_a_change_is_clear_or_the_luck_of_seeds():
    def of(name, errors):
        correct = [[10_000 - one] * STRENGTHS for one in errors]
        return Robustness(name=name, trained="", corruption="blur", images=10_000, correct=correct)

    before, half, alike = of("2", [100, 110, 90]), of("3", [50, 55, 45]), of("3", [95, 120, 90])
    assert robustness.clear_change(before, half, in_pairs=False) == pytest.approx(0.5, rel=1e-3)
    assert robustness.clear_change(before, alike, in_pairs=False) is None
    assert robustness.clear_change(before, of("3", [100]), in_pairs=False) is None
    little = of("3", [97, 108, 88])  # less than the seeds differ, but in each of them
    assert robustness.clear_change(before, little, in_pairs=False) is None
    assert robustness.clear_change(before, little, in_pairs=True) == pytest.approx(0.976, rel=1e-2)


def test_kinds_start_with_none():
    assert robustness.kinds()[0] == CLEAN and len(robustness.kinds()) == 19


def test_scores_of_another_recipe_or_of_other_images_are_not_taken_for_these(training):
    other = Training("3", replace(training.recipe, epochs=5), training.settings)
    scores = [(kind, [[1] if kind == CLEAN else [1] * STRENGTHS]) for kind in robustness.kinds()]
    told = robustness.gather([training], scores, images=10)
    assert robustness.told_of(told, [training], 10) == told
    assert robustness.told_of(told, [other], 10) == robustness.told_of(told, [training], 20) == []
    assert robustness.told_of(told, [training, training], 10) == robustness.told_of(told[:-1], [training], 10) == []


def test_errors_have_a_row_for_each_seed():
    found = Robustness(name="3", trained="", corruption="blur", images=10, correct=[[9, 8, 7, 6, 5]] * 2).errors
    assert found.shape == (2, 5) and np.allclose(found[0], [0.1, 0.2, 0.3, 0.4, 0.5])


@pytest.mark.parametrize("images", [100, 10_000])
def test_the_images_are_evenly_spaced(training, store, digits, monkeypatch, images):
    """By ten or so: a hundred of a thousand."""
    seen = []

    def note(network, batches):
        seen.append(batches.split)
        return Metrics(0.0, 1.0)

    monkeypatch.setattr(robustness, "evaluate", note)
    (correct,) = robustness.score(CLEAN, [training], store, images)
    count = min(images, len(digits.test))
    step = len(digits.test) // count
    assert correct == [count] and len(seen[0]) == count
    assert torch.equal(seen[0].images, digits.test.images[::step][:count])
