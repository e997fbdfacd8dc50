"""Tables and sentences of the analyses."""

import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from mnist_lab.analysis.calibration import Threshold, calibration_error, expected_if_calibrated
from mnist_lab.analysis.corruptions import CORRUPTIONS
from mnist_lab.analysis.ensembles import Lesson, Shared, Together
from mnist_lab.analysis.errors import Budget, Exchange
from mnist_lab.analysis.fresh import Fresh
from mnist_lab.analysis.inside import MAPPED, Inside
from mnist_lab.analysis.probabilities import loss
from mnist_lab.analysis.robustness import CLEAN, Robustness, mean_errors, overall
from mnist_lab.analysis.shifts import Shifted
from mnist_lab.analysis.smaller import Smaller
from mnist_lab.evidence.tables import UNKNOWN, Table, mean_and_sd, percent, signed, signed_interval
from mnist_lab.evidence.uncertainty import mean_interval, paired
from mnist_lab.use.reading import ALLOWED


def budget_table(found: Sequence[Budget]) -> Table:
    """Return the error budget of each step."""
    parts = list(found[0].parts())
    rows = [(one.name, str(one.seeds), f"{one.errors:.1f}", *(f"{part:.1f}" for part in one.parts().values()))
            for one in found]  # fmt: skip
    note = (
        "Errors of an average seed in 10,000 test images; the four parts add up to them. "
        "The more seeds, the fewer images all of them misread."
    )
    return Table(("", "seeds", "errors", *parts), rows, note)


def exchange_table(found: Sequence[Exchange], seeds: int) -> Table:
    """Return what each step gained and lost; all exchanges are between so many ``seeds``."""
    columns = {
        "steps": lambda one: f"{one.before} → {one.after}",
        "now read": lambda one: f"{one.gained:.1f}",
        "now misread": lambda one: f"{one.lost:.1f}",
        "net": lambda one: f"{one.gained - one.lost:+.1f}",
    }
    return Table.of(found, columns, f"Test images, means over {seeds} seeds of each.")


def ensembles_table(found: Sequence[Together]) -> Table:
    """Return the errors of ensembles by their size."""
    columns = {
        "networks": lambda one: one.networks,
        "errors by vote": lambda one: f"{one.errors_by_vote:.1f}",
        "errors by mean probability": lambda one: f"{one.errors_by_mean:.1f}",
        "standard deviation": lambda one: f"{one.deviation:.1f}" if one.draws > 1 else "–",
        "ensembles": lambda one: one.draws,
    }
    note = (
        "Means over ensembles drawn from all seeds. These overlap, so that the standard deviation, of the errors by "
        "mean probability, is too small where an ensemble has many of the seeds."
    )
    return Table.of(found, columns, note)


def shared_table(found: Sequence[Shared]) -> Table:
    """Return ensembles whose networks share one budget."""
    groups = [[one for one in found if one.networks == count] for count in sorted({one.networks for one in found})]
    columns = {
        "networks": lambda group: group[0].networks,
        "parameters": lambda group: f"{group[0].parameters:,}",
        "multiply-accumulates": lambda group: f"{group[0].multiply_accumulates:,}",
        "one alone": lambda group: f"{statistics.fmean(statistics.fmean(one.errors_alone) for one in group):.1f}",
        "by vote": lambda group: f"{statistics.fmean(one.errors_by_vote for one in group):.1f}",
        "by mean probability": lambda group: f"{statistics.fmean(one.errors_by_mean for one in group):.1f}",
        "from – to": lambda group: " – ".join(str(end(one.errors_by_mean for one in group)) for end in (min, max)),
        "ensembles": lambda group: len(group),
    }
    note = "Test images misread; means over ensembles that have no network in common; from – to: by mean probability."
    return Table.of(groups, columns, note)


def shifts_table(found: Sequence[Shifted]) -> Table:
    """Return what shifted copies of an image bring, seed by seed against none."""
    groups = [[one for one in found if one.copies == copies] for copies in sorted({one.copies for one in found})]
    shares = [[one.correct / one.images for one in group] for group in groups]
    losses = [[one.loss for one in group] for group in groups]
    gains = [paired(shares[0], own) for own in shares]
    lower = [paired(losses[0], own) for own in losses]
    columns = {
        "copies": lambda row: groups[row][0].copies,
        "multiply-accumulates": lambda row: f"{groups[row][0].multiply_accumulates:,}",
        "seeds": lambda row: len(groups[row]),
        "accuracy, %": lambda row: mean_and_sd(statistics.fmean(shares[row]), _sd(shares[row])),
        "gain, points": lambda row: signed(100 * gains[row].mean, digits=3) if gains[row] else UNKNOWN,
        "95 % interval": lambda row: (
            signed_interval((100 * gains[row].interval[0], 100 * gains[row].interval[1]), digits=3)
            if gains[row]
            else UNKNOWN
        ),
        "loss": lambda row: f"{statistics.fmean(losses[row]):.4f}",
        "less by, 95 % interval": lambda row: (
            " – ".join(f"{-end:.4f}" for end in reversed(lower[row].interval)) if lower[row] else UNKNOWN
        ),
    }
    note = (
        "Mean ± standard deviation over seeds; gain and loss are compared with the image alone, seed by seed (Student)."
    )
    return Table.of(range(len(groups)), columns, note)


def lesson_sentence(found: Lesson) -> str:
    """Say what a single network would have to learn."""
    return (
        f"An average network misreads {found.repaired:.1f} images that all others together read right, and reads "
        f"{found.spoilt:.1f} that they misread. Of the former, its second guess is right for "
        f"{100 * found.second:.0f} %. It gives its wrong answer a probability of {found.doubt:.2f} there, where the "
        f"others give the right digit {found.teacher:.2f}, both on average: what it would have to learn are these "
        "close calls, and the others' probabilities tell which way they go."
    )


def limits_sentence(found: Budget, together: Sequence[Together], accuracy: float) -> str:
    """Say what an average seed would have to read better for a mean ``accuracy``, and how many seeds together do."""
    luck, allowed = found.parts()["misread by half of them or fewer"], (1 - accuracy) * found.images
    stays = found.errors - luck
    spared = f"luck would have to cost {allowed - stays:.1f} in place of {luck:.1f} images"
    enough = next((one for one in together if one.errors_by_mean <= allowed), None)
    said = "no ensemble here reads so well"
    if enough:
        said = f"{enough.networks} seeds together read so well, with {enough.errors_by_mean:.1f} errors"
    return (
        f"An average seed misreads {found.errors:.1f} images: {stays:.1f} have a wrong label or are misread by most "
        f"seeds, {luck:.1f} are bad luck. A mean of {100 * accuracy:g} % leaves room for {allowed:.0f} errors. While "
        f"the former stay, {spared if allowed > stays else 'luck alone cannot spare enough'}; {said}."
    )


def calibration_table(said: Mapping[str, np.ndarray], labels: np.ndarray) -> Table:
    """Return how well probabilities (seeds, N, 10) are calibrated, by the name of what said them."""
    rows = []
    for name, found in said.items():
        errors = [calibration_error(one, labels) for one in found]
        losses = [loss(one, labels) for one in found]
        lucky = statistics.fmean(expected_if_calibrated(one) for one in found[:5])
        confident = (found.argmax(-1) != labels) & (found.max(-1) > 0.9)
        rows.append((name, str(len(found)), mean_and_sd(statistics.fmean(errors), _sd(errors)), f"{100 * lucky:.3f}",
                     f"{statistics.fmean(losses):.4f}", f"{confident.sum() / len(found):.1f}"))  # fmt: skip
    headers = ("", "seeds", "calibration error, %", "if calibrated, %", "loss", "errors above 90 % confidence")
    note = (
        "Expected calibration error over 15 bins of equally many test images: mean ± standard deviation over seeds. "
        "Even a calibrated network would show some of it on so few errors; how much is in the next column (simulated)."
    )
    return Table(headers, rows, note)


def _sd(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) if len(values) > 1 else None


def threshold_sentence(threshold: float, writers: Threshold, test: Threshold) -> str:
    """Say where an answer becomes "unsure", and what that does."""
    unsure, caught = 100 * writers.unsure, 100 * writers.caught
    return (
        f"Below a confidence of {threshold:.3f} an answer is unsure. It is the lowest threshold that leaves at most "
        f"{100 * ALLOWED:.1f} % errors among the other answers on training images by held-out writers; "
        f"{unsure:.1f} % of the answers there are unsure, and {caught:.0f} % of the errors are among them. On the test "
        f"images, which had no part in it, {100 * test.unsure:.1f} % are unsure, with {100 * test.caught:.0f} % of the "
        f"errors, and {100 * test.risk:.2f} % of the other answers are wrong."
    )


def robustness_table(found: Sequence[Robustness]) -> Table:
    """Return the share misread by corruption, mean over strengths, for every recipe."""
    errors = mean_errors(found)
    rows = [(kind if kind != CLEAN else "none", *(f"{100 * of[kind]:.1f}" for of in errors.values()))
            for kind in (CLEAN, *CORRUPTIONS)]  # fmt: skip
    rows.append(("mean", *(f"{100 * one:.1f}" for one in overall(found).values())))
    seeds = {one.name: len(one.correct) for one in found}
    note = (
        f"Misread of {found[0].images:,} evenly spaced test images, %: mean over five strengths and all seeds ("
        + ", ".join(f"{name}: {count}" for name, count in seeds.items())
        + "). The last row is the mean over all corruptions."
    )
    return Table(("corruption", *errors), rows, note)


def agreement_table(seen: Inside) -> Table:
    """Return how far the maps of two networks agree."""
    both = {"signs included": seen.agreement, "absolute values": seen.agreement_unsigned}
    rows = [(method, compared, *(f"{found[method][kind]:.2f}" for kind in ("another seed", "random")))
            for compared, found in both.items() for method in found]  # fmt: skip
    note = (
        f"Rank correlation (Spearman's) between the maps of seed {seen.seed} and of another network; mean over its "
        f"most confident {min(MAPPED, len(seen.errors))} errors."
    )
    return Table(("map", "compared", "with another seed", "with random weights"), rows, note)


def neighbours_sentence(seen: Inside) -> str:
    """Say of which digit the nearest training images of the errors are."""
    near = [labels[0] for labels in seen.neighbour_labels]
    read = sum(one == digit for one, digit in zip(near, seen.predicted, strict=True))
    true = sum(one == digit for one, digit in zip(near, seen.labels, strict=True))
    return (
        f"Of {len(seen.errors)} errors, {read} have a nearest training image of the digit that was read, {true} one of "
        f"their label, and {len(seen.errors) - read - true} one of another digit."
    )


def smaller_table(found: Sequence[Smaller]) -> Table:
    """Return what each way to make step 3 smaller costs and saves."""
    groups = [[one for one in found if one.way == way] for way in dict.fromkeys(one.way for one in found)]
    accuracies = {id(group): [one.correct / one.images for one in group] for group in groups}
    columns = {
        "step 3 with": lambda group: group[0].way,
        "seeds": lambda group: len(group),
        "accuracy, %": lambda group: mean_and_sd(statistics.fmean(accuracies[id(group)]), _sd(accuracies[id(group)])),
        "95 % interval of the mean": lambda group: percent(mean_interval(accuracies[id(group)]), digits=3),
        "loss": lambda group: f"{statistics.fmean(one.loss for one in group):.4f}",
        "bytes": lambda group: f"{statistics.fmean(one.bytes for one in group):,.0f}",
        "multiply-accumulates": lambda group: f"{statistics.fmean(one.multiply_accumulates for one in group):,.0f}",
    }
    note = (
        '"Trained so": it shrank during the last third of its epochs, which are as many as ever; the others were '
        "trained first and shrunk after. Norms are folded. Bytes include scales, biases and what tells which weights "
        "are there; multiply-accumulates leave out pruned weights."
    )
    return Table.of(groups, columns, note)


def fresh_table(found: Sequence[Fresh]) -> Table:
    """Return what the steps read of digits from elsewhere."""
    accuracies = {one.name: [correct / one.images for correct in one.correct] for one in found}
    columns = {
        "step": lambda one: one.name,
        "seeds": lambda one: len(one.correct),
        "accuracy, %": lambda one: mean_and_sd(statistics.fmean(accuracies[one.name]), _sd(accuracies[one.name])),
        "95 % interval of the mean": lambda one: percent(mean_interval(accuracies[one.name]), digits=3),
    }
    return Table.of(found, columns, f"Scored on {found[0].data}: {found[0].images:,} images.")
