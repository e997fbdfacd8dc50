"""What ablations, frontier and tracks found: tables from their records. Runs on GPUs are left out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mnist_lab.evidence.records import Record, in_order
from mnist_lab.evidence.results import Result, by_row, summarise
from mnist_lab.evidence.tables import UNKNOWN, Table, mean_and_sd, percent, signed, signed_interval, verdict
from mnist_lab.evidence.uncertainty import Difference, dunnett, welch
from mnist_lab.experiment import TARGET
from mnist_lab.studies.search.recipe import FAMILIES, Variant
from mnist_lab.studies.search.variants import BASELINE, BASELINE_2A, STEP
from mnist_lab.writers import FOLDS, fold_means

APART, FRONTIER = "step 2a", "frontier"  # families: row 2a and what is changed in it; fewer parameters or epochs


@dataclass(frozen=True)
class Outcome:
    """All seeds of step 3, or of a variant of it, by their last epoch."""

    records: Sequence[Record]
    result: Result
    loss_change: Difference | None = None  # of log(loss), against the baseline: below 0 is better; None: not known
    gain: Difference | None = None  # of accuracy, in percentage points, against the baseline of ablations

    @property
    def name(self) -> str:
        return self.result.row

    @property
    def family(self) -> str:
        return str(self.records[0].recipe.get("family", FAMILIES[0]))

    @property
    def verdict(self) -> str | None:
        """Say whether the loss differs from the baseline's by more than the luck of seeds; None for the frontier, which
        is held against the target alone.
        """
        if self.name in (BASELINE, BASELINE_2A, STEP):
            return "baseline"
        if self.family == FRONTIER:
            return None
        return verdict(self.loss_change, more="worse", less="better")


def on_cpus(records: Sequence[Record]) -> list[list[Record]]:
    """Group the runs on CPUs by recipe. Raises RecordError if a name stands for several recipes."""
    return by_row(in_order(record for record in records if record.device_type == "cpu"))


def ablations(records: Sequence[Record]) -> list[Outcome]:
    """Return what the ablations among ``records`` reached: families together, and in each the lowest loss first."""
    mine = [one for one in records if one.kind == "ablation" and one.recipe["family"] != APART]
    return compare_by_fold(mine, BASELINE)


def apart(records: Sequence[Record]) -> list[Outcome]:
    """Return what row 2a reached without one of its decisions, the lowest loss first."""
    mine = [one for one in records if one.kind == "ablation" and one.recipe["family"] == APART]
    return compare_by_fold(mine, BASELINE_2A)


def compare_by_fold(records: Sequence[Record], baseline: str) -> list[Outcome]:
    """Compare recipes with the one that is named ``baseline``, fold by fold."""
    groups = on_cpus(records)
    losses = {group[0].name: {record.seed: math.log(record.loss) for record in group} for group in groups}
    accuracies = {group[0].name: {record.seed: 100 * record.accuracy for record in group} for group in groups}
    changes, gains = against_baseline(losses, baseline), against_baseline(accuracies, baseline)
    found = [Outcome(own, *summarise(own), *(one.get(own[0].name) for one in (changes, gains))) for own in groups]
    return sorted(found, key=lambda outcome: (FAMILIES.index(outcome.family), outcome.result.loss))


def against_baseline(values: dict[str, dict[int, float]], name: str = BASELINE) -> dict[str, Difference]:
    """Compare each recipe with the baseline of this name, all at once and fold by fold.

    ``values`` are what each recipe reached, by seed: accuracies, or logarithms of losses, since a recipe with twice
    the loss has about twice the spread, too, and the comparison takes all to spread alike.

    A seed decides the fold: what all recipes have in common there is no difference between them. Of several seeds of a
    fold the mean counts. Recipes that lack a fold are left out. So are all, if the baseline does.
    """
    means = {recipe: list(fold_means(own).values()) for recipe, own in values.items()}
    whole = {recipe: own for recipe, own in means.items() if len(own) == FOLDS}
    baseline = whole.pop(name, None)
    found = dunnett(baseline, list(whole.values()), in_blocks=True) if baseline and whole else None
    return dict(zip(whole, found, strict=True)) if found else {}


def frontier(records: Sequence[Record]) -> list[Outcome]:
    """Return what the frontier among ``records`` and step 3 itself reached, by epochs and then by parameters."""
    mine = [one for one in records if one.kind == "frontier" or (one.kind, one.name) == ("step", STEP)]
    found = [Outcome(group, *summarise(group)) for group in on_cpus(mine)]
    return sorted(found, key=lambda outcome: (outcome.result.epochs, outcome.result.trainable))


def ablation_table(found: Sequence[Outcome], of: str = "step 3") -> Table:
    """Return what each change of step 3, or ``of`` another row, does on held-out images."""
    columns = {
        "what": lambda one: one.family,
        "change": lambda one: one.result.change,
        "parameters": lambda one: f"{one.result.trainable:,}",
        "seeds": lambda one: one.result.seeds,
        "accuracy, %": lambda one: mean_and_sd(one.result.mean, one.result.sd, digits=2),
        "gain, points": lambda one: points(one.gain, digits=2),
        "loss": lambda one: f"{one.result.loss:.4f}",
        f"times {of}'s": lambda one: UNKNOWN if one.loss_change is None else times(one.loss_change.mean),
        "95 % interval": lambda one: UNKNOWN if one.loss_change is None else times(*one.loss_change.interval),
        "verdict": lambda one: one.verdict,
    }
    note = (
        "Last epoch on held-out writers, a sixth of them for each seed; mean ± standard deviation over seeds. "
        f"Against {of}, fold by fold, with Dunnett's intervals: the gain in accuracy, and the loss as a multiple (less "
        "is better). 95 % confidence that all intervals of a column hold together, if the accuracies, or the "
        "logarithms of the losses, spread alike. The verdict is by the loss."
    )
    if {"smoothing", "mixup"} & {one.name for one in found}:
        note += " Label smoothing and mixup make a network less sure, which raises its loss: judge them by accuracy."
    spare = ("parameters", "seeds", "accuracy, %", "what", "gain, points", "loss")
    return Table.of(found, columns, note, spare)


def not_measured(found: Sequence[Outcome], variants: Sequence[Variant]) -> str:
    """Name the ``variants`` that are not among what was ``found``; say nothing if all are."""
    waiting = [one.name for one in variants if one.name not in {outcome.name for outcome in found}]
    return f"Not measured yet: {', '.join(waiting)}." if waiting else ""


def points(gain: Difference | None, digits: int) -> str:
    """Return a gain in accuracy, in percentage points, with its interval."""
    return UNKNOWN if gain is None else f"{signed(gain.mean, digits)} ({signed_interval(gain.interval, digits)})"


def times(*logarithms: float) -> str:
    """Return what a difference of logarithms, or the ends of its interval, mean as a factor."""
    return " – ".join(f"{math.exp(logarithm):.2f}" for logarithm in logarithms)


def frontier_table(found: Sequence[Outcome]) -> Table:
    """Return accuracy against parameters and epochs; the note names the least of each that reaches the target."""
    columns = {
        "step 3 with": lambda one: "nothing changed" if one.name == STEP else one.result.change,
        "parameters": lambda one: f"{one.result.trainable:,}",
        "epochs": lambda one: one.result.epochs,
        "seeds": lambda one: one.result.seeds,
        "accuracy, %": lambda one: mean_and_sd(one.result.mean, one.result.sd),
        "95 % interval of the mean": lambda one: percent(one.result.interval, digits=3),
        "multiply-accumulates": lambda one: f"{one.records[0].model.multiply_accumulates:,}",
    }
    note = f"Last epoch, on the test images; mean ± standard deviation over seeds. {cheapest(found)}"
    return Table.of(found, columns, note, spare=("multiply-accumulates", "seeds"))


def tracks(records: Sequence[Record]) -> list[Outcome]:
    """Return step 3 itself, and what the tracks among ``records`` reached, the least work first."""
    mine = [one for one in records if one.kind == "track" or (one.kind, one.name) == ("step", STEP)]
    groups = on_cpus(mine)
    losses = {group[0].name: [math.log(record.loss) for record in group] for group in groups}
    changes = {name: welch(losses[STEP], own) for name, own in losses.items() if name != STEP}
    found = [Outcome(group, *summarise(group), changes.get(group[0].name)) for group in groups]
    return sorted(found, key=lambda outcome: (outcome.records[0].recipe.get("views", 1), outcome.name != STEP))


def tracks_table(found: Sequence[Outcome]) -> Table:
    """Return what more work for every image brings."""
    (own,) = [[100 * run.accuracy for run in one.records] for one in found if one.name == STEP]

    def gain(one: Outcome) -> str:
        return points(None if one.name == STEP else welch(own, [100 * run.accuracy for run in one.records]), digits=3)

    columns = {
        "step 3 with": lambda one: "nothing changed" if one.name == STEP else one.result.change,
        "seeds": lambda one: one.result.seeds,
        "accuracy, %": lambda one: mean_and_sd(one.result.mean, one.result.sd),
        "95 % interval of the mean": lambda one: percent(one.result.interval, digits=3),
        "gain, points": gain,
        "loss": lambda one: f"{one.result.loss:.4f}",
        "times step 3's": lambda one: UNKNOWN if one.loss_change is None else times(one.loss_change.mean),
        "95 % interval": lambda one: UNKNOWN if one.loss_change is None else times(*one.loss_change.interval),
        "work": lambda one: work(one.records[0].recipe),
        "teachers": lambda one: one.records[0].recipe.get("teachers", 0),
    }
    note = (
        "Last epoch, on the test images; mean ± standard deviation over seeds. Accuracies and the logarithms of "
        "losses are compared by Welch's test, with 95 % intervals. Work: of an update, times step 3's; a teacher that "
        "is asked about every batch adds its forward pass, a third of a training's multiply-accumulates. A teacher is "
        "one more training of step 3; all seeds share it."
    )
    return Table.of(found, columns, note, spare=("work", "teachers", "loss"))


def work(recipe: Mapping[str, object]) -> str:
    """Say what an update of a track costs, as a multiple of step 3's: by views and by teachers asked in it."""
    asked = recipe["teachers"] if "asked" in recipe else 0
    return f"{recipe.get('views', 1) * (1 + asked / 3):g}"


def by_size(found: Sequence[Outcome]) -> list[Outcome]:
    """Return those of the frontier that train for as long as step 3, the smallest network first."""
    longest = max(outcome.result.epochs for outcome in found)
    return [outcome for outcome in found if outcome.result.epochs == longest]


def by_epochs(found: Sequence[Outcome]) -> list[Outcome]:
    """Return those of the frontier with as many parameters as step 3, the fewest epochs first."""
    largest = max(outcome.result.trainable for outcome in found)
    return [outcome for outcome in found if outcome.result.trainable == largest]


def enough(found: Sequence[Outcome]) -> tuple[Result | None, Result | None]:
    """Return the smallest network and the fewest epochs whose mean accuracy reaches the target."""
    series = by_size(found), by_epochs(found)
    small, short = (next((one.result for one in part if one.result.mean >= TARGET), None) for part in series)
    return small, short


def finding(found: Sequence[Outcome]) -> str:
    """Say in a few words from how many parameters and from how many epochs on the mean reaches the target."""
    small, short = enough(found)
    if small is None:
        return f"No network here has a mean of {100 * TARGET:g} %"
    epochs = f", and from {short.epochs} epochs" if short and short.epochs < small.epochs else ""
    return f"Means reach {100 * TARGET:g} % from {small.trainable:,} parameters on{epochs}"


def cheapest(found: Sequence[Outcome]) -> str:
    """Say which is the smallest network, and which the fewest epochs, whose mean accuracy reaches the target."""
    longest, largest = by_size(found)[0].result.epochs, by_epochs(found)[0].result.trainable
    small, short = enough(found)
    goal = f"with a mean of at least {100 * TARGET:.2f} %"
    said = [f"After {longest} epochs there is no network {goal}."]
    if small:
        said = [f"After {longest} epochs the smallest network {goal} has {small.trainable:,} parameters{doubt(small)}."]
    if short:
        said.append(f"With {largest:,} parameters the fewest epochs for it are {short.epochs}{doubt(short)}.")
    return " ".join(said)


def doubt(result: Result) -> str:
    """Return a remark if more seeds could still bring the mean below the target."""
    return "" if result.interval and result.interval[0] >= TARGET else ", though its interval reaches below"
