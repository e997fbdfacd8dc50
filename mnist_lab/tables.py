"""Results as tables and sentences, the same in a terminal, a notebook and README."""

from collections.abc import Sequence
from dataclasses import dataclass

from mnist_lab.data import WRONG_TEST_LABELS
from mnist_lab.records import Record
from mnist_lab.results import LAST_EPOCHS, TARGET, Gain, Result, compare, gains, misread_wrong_labels, summarise
from mnist_lab.uncertainty import Interval, wilson_interval

UNKNOWN = "–"  # what one seed cannot tell
GOAL = f">= {100 * TARGET:.2f} %"


@dataclass(frozen=True)
class Table:
    """Rows of texts under headers, with a note below."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str

    def text(self) -> str:
        """Return aligned text for a terminal."""
        widths = [max(map(len, column)) for column in zip(self.headers, *self.rows, strict=True)]
        lines = [self.headers, ["-" * width for width in widths], *self.rows]
        aligned = ("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in lines)
        return "\n".join([*(line.rstrip() for line in aligned), "", self.note])

    def markdown(self) -> str:
        """Return Markdown for a notebook or README."""
        lines = [self.headers, ["---"] * len(self.headers), *self.rows]
        return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", self.note])


def overview(records: Sequence[Record]) -> list[Table]:
    """Return what all ``records`` add up to: results, consistency and gains."""
    found = summarise(records)
    return [results_table(found), consistency_table(found), gains_table(gains(records))]


def results_table(results: Sequence[Result]) -> Table:
    """Return what every row reached."""
    headers = ("step", "change", "parameters", "epochs", "seeds", "accuracy, %", "95 % interval of the mean")
    headers += ("min", "max", "loss", "seconds")
    rows = [
        (
            result.row,
            result.change,
            f"{result.trainable:,} / {result.deployed:,}",
            str(result.epochs),
            str(result.seeds),
            mean_and_sd(result.mean, result.sd),
            percent(result.interval, digits=3),
            f"{100 * result.minimum:.2f}",
            f"{100 * result.maximum:.2f}",
            f"{result.loss:.4f}",
            f"{result.seconds:.0f}",
        )
        for result in results
    ]
    return Table(headers, rows, provenance(results))


def provenance(results: Sequence[Result]) -> str:
    """Return which data and machines the numbers come from, and what they are."""
    scored = " and ".join(sorted({f"{result.scored_on} images of {result.data}" for result in results}))
    devices = "; ".join(sorted({result.device for result in results}))
    return (
        f"Last epoch, scored on {scored}; mean ± standard deviation over seeds. Parameters: trainable / deployed. "
        f"Seconds: a run with its evaluations, median, whatever else the machine did. Device: {devices}."
    )


def consistency_table(results: Sequence[Result]) -> Table:
    """Return how often every row is on target, and what it misreads."""
    headers = ("step", f"seeds {GOAL}", "a new seed, at least", f"last {LAST_EPOCHS} epochs {GOAL}")
    headers += (f"seeds with all {LAST_EPOCHS}", "misread", "of these, label wrong", "95 % interval, other images too")
    rows = [
        (
            result.row,
            f"{result.seeds_on_target} of {result.seeds}",
            f"{100 * result.on_target_at_least:.1f} %",
            f"{result.late_epochs_on_target} of {result.late_epochs}",
            f"{result.seeds_consistent} of {result.seeds}",
            f"{round(result.misread, 1):g}",
            UNKNOWN if result.misread_wrong_labels is None else f"{round(result.misread_wrong_labels, 1):g}",
            percent(result.two_way_interval),
        )
        for result in results
    ]
    note = (
        "Seeds by their last epoch. A new seed: how often it is on target at least, with 95 % confidence (Clopper and "
        f"Pearson, one-sided; 59 of 59 are the fewest that prove 95 %). Last {LAST_EPOCHS} epochs: of all seeds. "
        f"Misread: images, mean over seeds; of MNIST's test labels {len(WRONG_TEST_LABELS)} are known to be wrong. "
        "Other images too: seeds and images drawn again (bootstrap), which no number of seeds narrows to nothing."
    )
    return Table(headers, rows, note)


def gains_table(gained: Sequence[Gain]) -> Table:
    """Return what every change brought, and whether that is more than chance."""
    headers = ("step", "change", "against", "gain, points", "95 % interval", "Hedges' g", "p", "verdict")
    rows = []
    for gain in gained:
        row = (gain.row, gain.change, gain.against, signed(gain.points, digits=3))
        if gain.difference is None:
            row += (UNKNOWN, UNKNOWN, UNKNOWN, "not known: too few seeds")
        else:
            row += (
                signed_interval(gain.difference.interval, digits=3),
                signed(gain.difference.effect, digits=1),
                p_value(gain.difference.p_value),
            )
            row += (verdict(gain),)
        rows.append(row)
    note = (
        "Differences of mean accuracies over seeds, in percentage points: Welch's interval and test, and the gain in "
        "standard deviations (Hedges' g, variances not pooled). A gain whose interval holds 0 is no difference. "
        "Each p is for itself, not corrected for the number of lines."
    )
    return Table(headers, rows, note)


def verdict(gain: Gain) -> str:
    """Say whether a gain is larger than its uncertainty."""
    if not gain.difference.is_clear:
        return "no difference"
    return "better" if gain.points > 0 else "worse"


def comparison_table(runs: Sequence[Record]) -> Table:
    """Return single runs, each compared image by image with the one above it."""
    headers = ("row", "change", "loss", "accuracy", "wrong", "gain, points", "only now right")
    headers += ("only before right", "McNemar p")
    rows = []
    for before, after in zip([None, *runs], runs, strict=False):
        count, wrong = after.scored_images, len(after.mistakes)
        accuracy = f"{100 * after.accuracy:.2f} % ({percent(wilson_interval(count - wrong, count))})"
        row = (after.row, after.change, f"{after.loss:.4f}", accuracy, f"{wrong} of {count:,}")
        if before is None:
            row += ("", "", "", "")
        else:
            found = compare(before, after)
            row += (signed(found.points, digits=2), str(found.gained), str(found.lost), p_value(found.p_value))
        rows.append(row)
    scored = " and ".join(sorted({f"{run.settings['score_on']} images of {run.data}" for run in runs}))
    note = f"Last epoch, scored on {scored}; in brackets the 95 % Wilson interval, what so many images leave open."
    return Table(headers, rows, note)


def place_in_study(run: Record, study: Sequence[Record]) -> str:
    """Say where a run stands among the seeds of its row in ``study``, which holds it."""
    seeds = [record for record in study if record.row == run.row]
    said = f"Row {run.row}, seed {run.seed}: {100 * run.accuracy:.2f} %"
    if len(seeds) == 1:
        return f"{said}. No other seed of this recipe on these images is tracked, and one seed has no spread."
    (result,) = summarise(seeds)
    better = sum(record.accuracy > run.accuracy for record in seeds)
    equal = sum(record.accuracy == run.accuracy for record in seeds) - 1
    shared = f", shared with {equal} other{'s' if equal > 1 else ''}" if equal else ""
    return (
        f"{said}, rank {better + 1} of {len(seeds)} seeds{shared}. Their mean ± standard deviation is "
        f"{mean_and_sd(result.mean, result.sd)} %, the 95 % interval of the mean "
        f"{percent(result.interval, digits=3)} %."
    )


def wrong_labels(run: Record) -> str:
    """Say how many of a run's mistakes are mistakes of the labels."""
    count, wrong, excused = run.scored_images, len(run.mistakes), misread_wrong_labels(run)
    if excused is None:
        return f"Misread: {wrong} of {count:,}. Wrong labels are known of MNIST's test images only."
    known = len(WRONG_TEST_LABELS)
    return (
        f"Misread: {wrong} of {count:,} ({100 * wrong / count:.2f} %), the headline. {excused} of them are among the "
        f"{known} test images whose label is known to be wrong; without these {known}: {wrong - excused} of "
        f"{count - known:,} ({100 * (wrong - excused) / (count - known):.2f} %)."
    )


def mean_and_sd(mean: float, sd: float | None, digits: int = 3) -> str:
    """Return a mean accuracy in per cent with its standard deviation, or one seed's accuracy, which has none."""
    if sd is None:
        return f"{100 * mean:.2f}"
    return f"{100 * mean:.{digits}f} ± {100 * sd:.{digits}f}"


def percent(interval: Interval | None, digits: int = 2) -> str:
    """Return an interval of shares in per cent."""
    return UNKNOWN if interval is None else " – ".join(f"{100 * end:.{digits}f}" for end in interval)


def signed(difference: float, digits: int) -> str:
    """Return a difference with its sign; what is rounded to 0 is +0."""
    return f"{round(difference, digits) + 0.0:+.{digits}f}"  # -0.0 + 0.0 is 0.0


def signed_interval(interval: Interval | None, digits: int) -> str:
    """Return an interval of a difference."""
    return UNKNOWN if interval is None else " – ".join(signed(end, digits) for end in interval)


def p_value(p: float) -> str:
    """Return a p-value with two digits; what is smaller than 0.0001 is said to be so."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"
