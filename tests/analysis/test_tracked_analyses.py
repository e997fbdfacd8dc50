"""What is tracked of the analyses is of today's recipes."""

import json
from dataclasses import replace

import numpy as np
import pytest

from mnist_lab.analysis import (
    calibration,
    ensembles,
    fresh,
    inside,
    kept,
    networks,
    probabilities,
    robustness,
    shifts,
    smaller,
)
from mnist_lab.analysis.networks import ON_MNIST, of_seeds
from mnist_lab.evidence.records import FOLDERS, TRACKED, load, read_list
from mnist_lab.evidence.uncertainty import paired
from mnist_lab.runtime import ROOT
from mnist_lab.studies.search.variants import frontier, rows_of_steps

KINDS = {
    probabilities.INDEX: probabilities.Packed,
    ensembles.FILE: ensembles.Shared,
    shifts.FILE: shifts.Shifted,
    robustness.FILE: robustness.Robustness,
    smaller.FILE: smaller.Smaller,
    inside.FILE: inside.Inside,
    fresh.FILE: fresh.Fresh,
}


def page(name: str) -> str:
    """Return all that a notebook of evidence says, on one line."""
    notebook = json.loads((ROOT / "notebooks" / "evidence" / f"{name}.ipynb").read_text("utf-8"))
    return " ".join(" ".join("".join(cell["source"]) for cell in notebook["cells"]).split())


@pytest.fixture(scope="module")
def today() -> set[str]:
    """Names of the recipes of the steps, the frontier and the published third steps, as they are now."""
    rows = rows_of_steps(load(TRACKED / FOLDERS["step"]))
    recipes = rows | {one.name: one for one in frontier(rows["3"])} | networks.published_third_steps()
    settings = [ON_MNIST, replace(ON_MNIST, score_on="held-out")]
    return {of_seeds(name, recipe, [0], one)[0].trained for name, recipe in recipes.items() for one in settings}


@pytest.mark.parametrize("file", KINDS)
def test_records_are_of_todays_recipes(file, today):
    found = read_list(kept.tracked() / file, KINDS[file])
    if not found:
        pytest.skip(f"{file} is not tracked yet")
    ours = {one.trained for one in found}
    assert ours <= today, "a recipe changed: mnist-lab analyse --publish"


def test_arrays_are_those_of_their_index():
    folder = kept.tracked()
    for packed in probabilities.read_index(folder).values():
        answers = probabilities.unpack(packed, folder)
        correct = [int((one.argmax(-1) == answers.labels).sum()) for one in answers.probabilities]
        assert correct == packed.correct
    inside.read(folder)
    assert sum(path.stat().st_size for path in folder.glob("*")) < 2_000_000


def test_what_the_page_says_of_the_maps_is_so():
    """Occlusion passes the check against random weights and another seed, the gradient does not."""
    seen, _ = inside.read(kept.tracked())
    assert all(abs(found["random"]) < 0.1 for found in seen.agreement.values())
    occlusion, gradient = seen.agreement_unsigned["occlusion"], seen.agreement_unsigned["gradient"]
    assert occlusion["another seed"] > occlusion["random"] + 0.2 > 0.2
    assert gradient["another seed"] < gradient["random"] + 0.1
    near = [labels[0] for labels in seen.neighbour_labels]
    assert sum(label == read for label, read in zip(near, seen.predicted, strict=True)) > len(near) / 2


def test_what_the_pages_say_of_trust_and_of_shifted_copies_is_so():
    folder = kept.tracked()
    answers = probabilities.unpack(probabilities.read_index(folder)["3", "test"], folder)
    found = [calibration.calibration_error(one, answers.labels) for one in answers.probabilities[:10]]
    expected = [calibration.expected_if_calibrated(one) for one in answers.probabilities[:2]]
    assert np.mean(found) < 1.3 * np.mean(expected)
    correct, losses = ({copies: [] for copies in shifts.COPIES} for _ in range(2))
    for one in read_list(folder / shifts.FILE, shifts.Shifted):
        correct[one.copies].append(one.correct)
        losses[one.copies].append(one.loss)
    assert not any(paired(correct[1], correct[copies]).is_clear for copies in (5, 9))
    assert all(paired(losses[1], losses[copies]).interval[1] < 0 for copies in (5, 9))
    own = [calibration.fit_temperature(one, answers.labels) for one in answers.probabilities[:10]]
    assert abs(np.mean(own) - 1) < np.std(own) < 0.05
    ten = ensembles.by_size(answers.probabilities, answers.labels, sizes=(1, 10))
    assert ten[1].errors_by_mean < 0.8 * ten[0].errors_by_mean


def test_what_the_pages_say_of_robustness_pruning_and_shared_budgets_is_so():
    folder = kept.tracked()
    found = read_list(folder / robustness.FILE, robustness.Robustness)
    errors, overall = robustness.mean_errors(found), robustness.overall(found)
    grey, light = (errors["3"][kind] / errors["1"][kind] for kind in ("grey background", "uneven light"))
    text = page("robustness")
    assert (
        f"on grey backgrounds step 3 misreads {grey:.1f} times as many as step 1, in uneven light {light:.1f}" in text
    )
    assert f"{min(overall, key=overall.get)}, trained on parts of the image" in text
    around_a_square = min(errors, key=lambda name: errors[name]["hidden square"])
    assert f"the published {around_a_square} was trained with holes in the digits, and reads best around a" in text
    made = read_list(folder / smaller.FILE, smaller.Smaller)
    ways = (
        "32 bits",
        "50% of the weights, trained so",
        "30% of the weights, trained so",
        "10% of the weights, trained so",
    )
    whole, half, third, tenth = (smaller.mean_of(made, way).errors for way in ways)
    assert half < 1.1 * whole < 1.3 * whole < third and 8 < tenth / whole < 12
    shared = {one.networks: one.parameters for one in read_list(folder / ensembles.FILE, ensembles.Shared)}
    assert shared[3] == pytest.approx(0.8 * 8000, rel=0.02)
