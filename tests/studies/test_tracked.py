"""The tracked records, and today's code: one still makes the other."""

import json
import math
import re
import statistics
from dataclasses import asdict, replace

import pytest

from mnist_lab.evidence.records import TRACKED, load, load_file
from mnist_lab.evidence.uncertainty import welch
from mnist_lab.experiment import load_data, measure_opening
from mnist_lab.recipe import Recipe
from mnist_lab.runtime import ROOT
from mnist_lab.studies.others.catalogue import RECIPES, VARIANTS
from mnist_lab.studies.search import confirmation, tables, trials
from mnist_lab.studies.search.assisted import Assisted
from mnist_lab.studies.search.recipe import Variant
from mnist_lab.studies.search.variants import every, rows_of_steps
from mnist_lab.studies.study import tolerance
from mnist_lab.writers import FOLDS

FILES = sorted(TRACKED.rglob("*.jsonl"))


@pytest.fixture(scope="module")
def recipes() -> dict:
    """Return every recipe of the studies by the kind and name of its records."""
    rows = rows_of_steps(load(TRACKED / "steps"))
    others = {("published", one.name): one for one in (*RECIPES.values(), *VARIANTS)}
    return others | {(one.kind, one.name): one for one in every(rows)}


def percent(change: float) -> str:
    """Return by how much a loss is higher or lower, from the change of its logarithm."""
    return f"{100 * abs(math.expm1(change)):.0f} %"


def search_page() -> str:
    """Return all that the page of the search says, on one line."""
    page = json.loads((ROOT / "notebooks" / "evidence" / "search.ipynb").read_text("utf-8"))
    return " ".join(" ".join("".join(cell["source"]) for cell in page["cells"]).split())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "notebooks")))
def test_a_tracked_recipe_still_starts_training_as_its_record_says(path, recipes, mnist):
    record = load_file(path)[0]
    kinds = {"step": Recipe, "intermediate": Recipe, "exercise": Recipe, "trial": Variant}
    own = kinds.get(record.kind)
    recipe = own(**record.recipe) if own else recipes[record.kind, record.name]
    assert asdict(recipe) == record.recipe
    if isinstance(recipe, Assisted):
        pytest.skip("its teachers would be trained first, for minutes")
    settings = replace(record.settings, device="cpu")
    opening = measure_opening(recipe, load_data(settings), settings)
    assert math.isclose(opening, record.opening_loss, rel_tol=tolerance(record.name))


def test_every_recipe_of_the_studies_has_records_or_is_said_to_have_none(recipes):
    tracked = {(record.kind, record.name) for record in (load_file(path)[0] for path in FILES)}
    missing = {name for kind, name in recipes.keys() - tracked}
    text = (ROOT / "notebooks" / "evidence" / "search.ipynb").read_text("utf-8")
    named = {name for line in re.findall(r"Not measured yet: ([^.]+)\.", text) for name in line.split(", ")}
    assert missing == named


def test_what_the_search_page_says_of_two_networks_is_true_of_the_trials():
    text, tried = search_page(), trials.read(TRACKED)
    best, own = trials.ranked(tried)[0].network, next(one.network for one in tried if one.number == 50)
    for network, count in ((best, "one network {} times"), (own, "in {} trials")):
        losses = [one.loss for one in trials.ranked(tried) if one.network == network]
        assert count.format(len(losses)) in text
        assert f"from {min(losses):.4f} to {max(losses):.4f} (mean {statistics.fmean(losses):.4f})" in text


def test_why_step_3_stays_as_it_is_on_the_search_page_is_in_the_records():
    text, study, tried = search_page(), load(TRACKED), trials.read(TRACKED)
    step = rows_of_steps(study)["3"]
    found = {one.number: one for one in confirmation.compare(study, 15, tried, step)}
    assert (
        found[50].is_step
        and [found[number].loss_change.mean for number in (186, 168)]
        == sorted(one.loss_change.mean for one in found.values() if one.loss_change)[:2]
    )

    def said(change) -> str:
        return f"({tables.times(*change.interval)})"

    for number, words in ((51, "51 is {} times its loss"), (56, "56 {} times"), (186, "trial 186 is {} times that of"),
                          (168, "168 has {} times the loss")):  # fmt: skip
        change = found[number].loss_change_from_step
        assert words.format(tables.times(change.mean)) in text and said(change) in text, number
    ours, other, own = ({one.seed: one for one in found[number].records} for number in (186, 168, 50))
    assert len(ours) == len(other) == len(own) == 18
    losses = confirmation.differences(own, ours, confirmation.log_loss)
    new = confirmation.over_folds([change for fold, change in losses.items() if fold >= trials.folds_of(tried)])
    assert f"it is {tables.times(new.mean)} times {said(new)}" in text
    for theirs in (ours, other):
        gains = confirmation.differences(own, theirs, lambda one: 100 * one.accuracy)
        more = confirmation.over_folds(gains.values())
        assert f"{more.mean:.3f} points higher ({more.interval[0]:.3f} – {more.interval[1]:.3f})" in text
    work = {number: found[number].records[0].model.multiply_accumulates for number in (50, 168, 186)}
    assert round(work[186] / work[50], 1) == round(work[168] / work[50], 1) == 2.5
    assert not any(found[number].loss_change_from_step.is_clear for number in (185, 120, 203))
    assert math.expm1(found[50].loss_change.mean) == pytest.approx(-1 / 7, abs=0.01)
    assert not found[50].loss_change_on_new_folds.is_clear


def test_what_the_search_page_does_not_exclude_is_in_its_table():
    text = search_page()
    found = {one.name: one.loss_change for one in tables.ablations(load(TRACKED))}
    for name in ("average-head", "full-convolutions", "no-average", "constant", "no-clean-end"):
        assert f"p to {percent(found[name].interval[1])} more" in text, name
    wide = found["wide"]
    assert f"{percent(wide.mean)} more loss, and up to {percent(wide.interval[1])} is not excluded" in text


def test_what_the_search_page_says_of_other_changes_is_in_its_table():
    text, found = search_page(), {one.name: one for one in tables.ablations(load(TRACKED))}
    for name, words in {
        "cutout": "(cutout) raises the loss by",
        "mixup": "(mixup) by",
        "adamw": "weight decay of 0.1, raises the loss by",
        "early-pooling": "instead of the last, the loss rises by",
    }.items():
        assert f"{words} {percent(found[name].loss_change.mean)}" in text, name
    whole, early = (found[name].records[0].model for name in ("step-3", "early-pooling"))
    assert "a ninth of the parameters goes, and more than half of the work" in text
    assert round(whole.trainable / (whole.trainable - early.trainable)) == 9
    assert early.multiply_accumulates < whole.multiply_accumulates / 2
    worse = {name for name, one in found.items() if one.verdict == "worse"}
    assert worse == {"no-augmentation", "cutout", "mixup", "smoothing", "adamw", "early-pooling"}
    assert not any(one.verdict == "better" for one in found.values())
    assert all(found[name].gain.interval[1] < 0 for name in ("no-augmentation", "mixup", "adamw"))
    assert not found["smoothing"].gain.is_clear


def test_what_the_search_page_says_of_row_2a_taken_apart_is_in_its_table():
    text, found = search_page(), {one.name: one for one in tables.apart(load(TRACKED))}
    for name, words in {
        "2a-early-pooling": "the first of the three, the loss rises by {}, and accuracy falls by {:.2f} points",
        "2a-no-norms": "at row 1's rate, the loss rises by {}, and accuracy falls by {:.2f} points",
        "2a-average-head": "With average pooling the loss is {} lower (an interval that hardly excludes 1)",
        "2a-full-convolutions": "with ordinary convolutions {}; in accuracy, neither shows a difference",
    }.items():
        change, gain = found[name].loss_change.mean, found[name].gain
        assert words.format(percent(change), -gain.mean) in text, name
        assert gain.is_clear == (change > 0)  # what raises the loss costs accuracy, too
    verdicts = {name: one.verdict for name, one in found.items() if name != "step-2a"}
    assert verdicts == {
        "2a-full-convolutions": "better",
        "2a-average-head": "better",
        "2a-relu": "no difference",
        "2a-rate": "no difference",
        "2a-early-pooling": "worse",
        "2a-no-norms": "worse",
    }


def test_what_rounding_does_to_step_3_on_the_search_page_is_in_the_records():
    """Trial 50 and step 3 are one recipe, trained from the same seeds by two versions of the code."""
    files = [load_file(TRACKED / name) for name in ("ablations/step-3.jsonl", "search/trial-50-15-epochs.jsonl")]
    words = ("family", "name", "change", "layers")  # the network as text: trial 50's is CompactNet, written out
    step, trial = ({one.seed: one for one in runs if one.seed < FOLDS} for runs in files)
    recipes = [{name: value for name, value in one[0].recipe.items() if name not in words} for one in (step, trial)]
    assert recipes[0] == recipes[1] and step.keys() == trial.keys()
    assert all(math.isclose(step[seed].opening_loss, trial[seed].opening_loss, rel_tol=1e-5) for seed in step)
    later, earlier = (statistics.fmean(one.loss for one in runs.values()) for runs in (step, trial))
    assert f"there its loss is {later:.4f}; here, as trial 50, it was {earlier:.4f} with these six" in search_page()


def test_more_work_gains_what_the_search_page_says():
    found = tables.tracks(load(TRACKED / "steps") + load(TRACKED / "tracks"))
    reached = {one.name: [run.accuracy for run in one.records] for one in found}
    gain = welch(reached["3"], reached["2-views"])
    assert gain.is_clear and 0.0002 < gain.mean < 0.001
    assert welch(reached["3"], reached["4-views"]).is_clear
    assert not welch(reached["2-views"], reached["4-views"]).is_clear
    for without, taught in (("3", "assisted"), ("2-views", "assisted-2-views"), ("3", "matched-2-views")):
        assert not welch(reached[without], reached[taught]).is_clear
    assert welch(reached["matched-2-views"], reached["2-views"]).interval[0] > 0
    (less,) = (one.loss_change for one in found if one.name == "matched-2-views")
    assert less.is_clear and f"each of them, the loss is {percent(less.mean)} below step 3's" in search_page()
    losses = {one.name: [math.log(run.loss) for run in one.records] for one in found}
    assert not welch(losses["2-views"], losses["matched-2-views"]).is_clear
    alone = welch(losses["3"], losses["2-views"])
    assert alone.is_clear and f"two views alone lower it by {percent(alone.mean)}," in search_page()
