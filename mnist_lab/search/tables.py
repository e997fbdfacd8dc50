"""What the search and the frontier found: tables from their records."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mnist_lab.records import Record
from mnist_lab.results import TARGET
from mnist_lab.search.candidates import FAMILIES
from mnist_lab.tables import UNKNOWN, Table, mean_and_sd, percent
from mnist_lab.uncertainty import Difference, Interval, dunnett, mean_interval

BASE = "step-3"  # the row that every other candidate is held against
SEARCH_FIGURE, FRONTIER_FIGURE = "00_search.png", "00_frontier.png"


@dataclass(frozen=True)
class Trial:
    """All seeds of one candidate, by their last epoch; accuracies in [0, 1]."""

    name: str
    family: str
    change: str
    parameters: int
    epochs: int
    seeds: int
    mean: float  # accuracy
    sd: float | None  # None with one seed, like the interval
    interval: Interval | None  # 95 % t-interval of the mean
    loss: float  # mean cross-entropy on the scored images, which tells candidates apart better than accuracy
    gain: Difference | None  # in log(loss), against step 3: less than 0 is better; None of step 3, or of one seed
    seconds_per_epoch: float  # median


def trials(records: Sequence[Record]) -> list[Trial]:
    """Reduce the seeds of every candidate; families together, and in each the lowest loss first."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.row, []).append(record)
    gains = against_the_step(groups)
    found = [_trial(group, gains.get(name)) for name, group in groups.items()]
    return sorted(found, key=lambda trial: (FAMILIES.index(trial.family), trial.loss))


def against_the_step(groups: Mapping[str, list[Record]]) -> dict[str, Difference]:
    """Compare the loss of each candidate of the search with step 3's, over the seeds of both, all at once.

    On a logarithmic scale: a recipe with twice the loss has about twice its spread, too, and the comparison takes all
    to spread alike. Left out are candidates of one seed: it has no spread. So are all, if step 3 itself has no more.
    """
    searched = {
        name: log_losses(group)
        for name, group in groups.items()
        if len(group) > 1 and group[0].settings["score_on"] == "held-out"
    }
    base = searched.pop(BASE, None)
    found = dunnett(base, list(searched.values())) if base and searched else None
    return dict(zip(searched, found, strict=True)) if found else {}


def log_losses(records: Sequence[Record]) -> list[float]:
    """Return the logarithm of the last epoch's loss of each record."""
    return [math.log(record.loss) for record in records]


def _trial(group: list[Record], gain: Difference | None) -> Trial:
    first, accuracies = group[0], [record.accuracy for record in group]
    return Trial(
        name=first.row,
        family=first.recipe["family"],
        change=first.recipe["change"],
        parameters=first.model["trainable"],
        epochs=first.recipe["epochs"],
        seeds=len(group),
        mean=statistics.fmean(accuracies),
        sd=statistics.stdev(accuracies) if len(group) > 1 else None,
        interval=mean_interval(accuracies),
        loss=statistics.fmean(record.loss for record in group),
        gain=gain,
        seconds_per_epoch=statistics.median(record.seconds_per_epoch for record in group),
    )


def verdict(trial: Trial) -> str:
    """Say whether a candidate's loss differs from step 3's by more than the luck of seeds."""
    if trial.name == BASE:
        return "the step"
    if trial.gain is None:
        return "not known: too few seeds"
    if not trial.gain.is_clear:
        return "no difference"
    return "better" if trial.gain.mean < 0 else "worse"


def search_table(records: Sequence[Record]) -> Table:
    """Return what each change of step 3 does on held-out images."""
    headers = ("what", "changed to", "parameters", "seeds", "accuracy, %", "loss", "times step 3's", "95 % interval")
    headers += ("verdict", "s/epoch")
    rows = [
        (
            trial.family,
            trial.change,
            f"{trial.parameters:,}",
            str(trial.seeds),
            mean_and_sd(trial.mean, trial.sd, digits=2),
            f"{trial.loss:.4f}",
            UNKNOWN if trial.gain is None else f"{math.exp(trial.gain.mean):.2f}",
            UNKNOWN if trial.gain is None else " – ".join(f"{math.exp(end):.2f}" for end in trial.gain.interval),
            verdict(trial),
            f"{trial.seconds_per_epoch:.1f}",
        )
        for trial in trials(records)
    ]
    note = (
        "Last epoch on 50,000 training images, scored on the 10,000 held out; mean ± standard deviation over seeds. "
        "The loss as a multiple of step 3's, less is better, with Dunnett's interval: all lines are right together, "
        "with 95 % confidence, if the losses' logarithms spread alike in all, and for these images alone. Smoothed "
        "labels and mixup forbid to be sure, which the loss counts against them: judge these by their accuracy. "
        "Seconds as they were, whatever else the machine did; measuring norms anew is not in them."
    )
    return Table(headers, rows, note)


def with_the_step(frontier: Sequence[Record], own: Sequence[Record]) -> list[Record]:
    """Return the records of the frontier, and after them all tracked seeds of what it shrinks: the last of our
    ``own`` steps. Without a frontier there is nothing to go with it."""
    if not frontier:
        return []
    words = {"family": frontier[0].recipe["family"], "change": "all its parameters and epochs"}
    whole = [replace(record, recipe=record.recipe | words) for record in own if record.row == own[-1].row]
    return [*frontier, *whole]


def frontier_table(records: Sequence[Record]) -> Table:
    """Return accuracy against parameters and epochs, with the cheapest of each on target in the note.

    ``records`` are those of :func:`with_the_step`.
    """
    headers = ("step 3 with", "parameters", "epochs", "seeds", "accuracy, %", "95 % interval of the mean", "s/epoch")
    found = sorted(trials(records), key=lambda trial: (trial.epochs, trial.parameters))
    rows = [
        (
            trial.change,
            f"{trial.parameters:,}",
            str(trial.epochs),
            str(trial.seeds),
            mean_and_sd(trial.mean, trial.sd),
            percent(trial.interval, digits=3),
            f"{trial.seconds_per_epoch:.1f}",
        )
        for trial in found
    ]
    return Table(
        headers, rows, f"Last epoch, on the test images; mean ± standard deviation over seeds. {cheapest(found)}"
    )


def cheapest(found: Sequence[Trial]) -> str:
    """Say which is the smallest network, and which the fewest epochs, whose mean accuracy is on target."""
    longest = max(trial.epochs for trial in found)
    largest = max(trial.parameters for trial in found)
    on_target = [trial for trial in found if trial.mean >= TARGET]
    small = min((trial for trial in on_target if trial.epochs == longest), key=lambda t: t.parameters, default=None)
    short = min((trial for trial in on_target if trial.parameters == largest), key=lambda t: t.epochs, default=None)
    goal = f"{100 * TARGET:.2f} %"
    said = [f"After {longest} epochs no network has a mean of at least {goal}."]
    if small is not None:
        said = [
            f"After {longest} epochs the smallest network with a mean of at least {goal} has {small.parameters:,} "
            f"parameters{surely(small)}."
        ]
    if short is not None:
        said.append(f"With {largest:,} parameters the fewest epochs for it are {short.epochs}{surely(short)}.")
    return " ".join(said)


def surely(trial: Trial) -> str:
    """Return a remark if more seeds could still bring the mean of a trial below the target."""
    if trial.interval is not None and trial.interval[0] >= TARGET:
        return ""
    return ", though its interval reaches below"


def search_block(records: Sequence[Record]) -> str:
    """Return README's table and figure of the search; a sentence if there is no record yet."""
    if not records:
        return "Not trained yet: `mnist-lab search`."
    return f"{search_table(records).markdown()}\n\n![What else step 3 could have been](images/{SEARCH_FIGURE})"


def frontier_block(records: Sequence[Record]) -> str:
    """Return README's table and figure of the frontier with the step; a sentence if there is no record yet."""
    if not records:
        return "Not trained yet: `mnist-lab search frontier`."
    return f"{frontier_table(records).markdown()}\n\n![Parameters and epochs](images/{FRONTIER_FIGURE})"
