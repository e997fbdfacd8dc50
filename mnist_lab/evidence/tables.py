"""Results as tables and sentences, the same in a terminal, a notebook and README."""

import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from mnist_lab.data import WRONG_TEST_LABELS
from mnist_lab.evidence.records import Record
from mnist_lab.evidence.results import (
    LAST_EPOCHS,
    TARGET,
    Gain,
    Result,
    compare,
    gains,
    misread_wrong_labels,
    row_name,
    same_kind,
    summarise,
)
from mnist_lab.evidence.uncertainty import Interval, prediction_interval, wilson_interval

UNKNOWN = "–"  # what one seed cannot tell
GOAL = f">= {100 * TARGET:.2f} %"
TERMINAL = 80  # characters across
GAP = "  "  # between columns


@dataclass(frozen=True)
class Table:
    """Rows of texts under headers, with a note below."""

    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str
    spare: Sequence[str] = ()  # headers of columns that a narrow terminal can do without, the most dispensable first

    def text(self, wide: bool = False) -> str:
        """Return aligned text for a terminal of 80 columns, or with every column however ``wide``.

        To make it fit, headers are wrapped, and spare columns are left out and named in the note.
        """
        columns = {header: [row[place] for row in self.rows] for place, header in enumerate(self.headers)}
        widths = {header: max(map(len, [*cells, *header.split()])) for header, cells in columns.items()}
        for header in () if wide else self.spare:
            if sum(widths.values()) + len(GAP) * (len(widths) - 1) > TERMINAL:
                del widths[header]
        left_out = ", ".join(header for header in self.headers if header not in widths)
        note = self.note + (f" Left out to fit {TERMINAL} columns: {left_out}." if left_out else "")
        wrapped = [textwrap.wrap(header, width) for header, width in widths.items()]
        high = max(map(len, wrapped))
        heads = zip(*([""] * (high - len(lines)) + lines for lines in wrapped), strict=True)
        rows = zip(*(columns[header] for header in widths), strict=True)
        lines = [*heads, ["-" * width for width in widths.values()], *rows]
        aligned = (GAP.join(map(str.ljust, line, widths.values())).rstrip() for line in lines)
        return "\n".join([*aligned, "", textwrap.fill(note, TERMINAL)])

    def markdown(self) -> str:
        """Return Markdown for a notebook or README."""
        lines = [self.headers, ["---"] * len(self.headers), *self.rows]
        return "\n".join([*(f"| {' | '.join(line)} |" for line in lines), "", self.note])


def overview(records: Sequence[Record]) -> list[Table]:
    """Return what all ``records`` add up to: results, consistency and gains on CPUs, then results on GPUs if any."""
    found = summarise([record for record in records if record.device_type == "cpu"])
    on_gpu = summarise([record for record in records if record.device_type != "cpu"])
    tables = [results_table(found), consistency_table(found), gains_table(gains(records))]
    return [*tables, *([results_table(on_gpu)] if on_gpu else [])]


def results_table(results: Sequence[Result]) -> Table:
    """Return what every recipe reached."""
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
    spare = ("seconds", "loss", "max", "min", "epochs", "95 % interval of the mean", "parameters")
    return Table(headers, rows, provenance(results), spare)


def provenance(results: Sequence[Result]) -> str:
    """Return which data and machines the numbers come from, and what they are."""
    scored = " and ".join(sorted({f"{result.scored_on} images of {result.data}" for result in results}))
    devices = "; ".join(sorted({one for result in results for one in result.device.split("; ")}))
    return (
        f"Last epoch, scored on {scored}; mean ± standard deviation over seeds. Parameters: trainable / deployed. "
        "Seconds: a run with its evaluations, median over seeds; other programs may have run beside it. "
        f"Device: {devices}."
    )


def consistency_table(results: Sequence[Result]) -> Table:
    """Return how often every recipe is on target, and what it misreads."""
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
        "Seeds count by their last epoch. A new seed: with 95 % confidence, at least this share of new seeds reaches "
        "the target (one-sided bound of Clopper and Pearson; even if every seed does, it takes 59 to prove 95 %). "
        f"Last {LAST_EPOCHS} epochs: of all seeds together. Misread: images, mean over seeds; "
        f"{len(WRONG_TEST_LABELS)} of MNIST's test labels are known to be wrong. Other images too: both the seeds and "
        "the images are drawn again (bootstrap); more seeds alone cannot make this interval narrow."
    )
    spare = ("95 % interval, other images too", "of these, label wrong")
    return Table(headers, rows, note, spare)


def gains_table(gained: Sequence[Gain]) -> Table:
    """Return what every change brought, and whether that is more than chance."""
    headers = ("step", "change", "against", "gain, points", "95 % interval", "Hedges' g", "p", "verdict")
    rows = []
    for gain in gained:
        row = (gain.row, gain.change, gain.against, signed(gain.points, digits=3))
        if gain.difference is None:
            row += (UNKNOWN, UNKNOWN, UNKNOWN, "not known: too few seeds")
        else:
            found = gain.difference
            row += (signed_interval(found.interval, digits=3), signed(found.effect, digits=1), p_value(found.p_value))
            row += ("no difference" if not found.is_clear else "better" if gain.points > 0 else "worse",)
        rows.append(row)
    note = (
        "Differences of mean accuracies over seeds, in percentage points, with Welch's interval and test; Hedges' g is "
        "the gain in standard deviations (variances not pooled). A gain whose interval holds 0 is no difference. "
        "The p-values are not corrected for the number of comparisons."
    )
    return Table(headers, rows, note, spare=("change", "Hedges' g", "p"))


def comparison_table(runs: Sequence[Record]) -> Table:
    """Return single runs; from the second on, each is compared image by image with the one above it."""
    headers = ("step", "change", "loss", "accuracy", "wrong")
    headers += ("gain, points", "only now right", "only before right", "McNemar p") if len(runs) > 1 else ()
    rows = []
    for before, after in zip([None, *runs], runs, strict=False):
        count, wrong = after.scored_images, len(after.mistakes)
        accuracy = f"{100 * after.accuracy:.2f} % ({percent(wilson_interval(count - wrong, count))})"
        row = (row_name(after), after.change, f"{after.loss:.4f}", accuracy, f"{wrong} of {count:,}")
        if before is not None:
            found = compare(before, after)
            row += (signed(found.points, digits=2), str(found.gained), str(found.lost), p_value(found.p_value))
        rows.append(row + ("",) * (len(headers) - len(row)))
    scored = " and ".join(sorted({f"{run.settings.score_on} images of {run.data}" for run in runs}))
    note = f"Last epoch, scored on {scored}; in brackets Wilson's 95 % interval, what so many images leave open."
    return Table(headers, rows, note, spare=("change", "loss", "McNemar p"))


def beside(gpu: Record, study: Sequence[Record]) -> str:
    """Return one sentence on a GPU run against the CPU runs of its recipe: within the spread of their seeds, or not.

    Within is where one more seed is expected in 95 of 100 cases: Student's prediction interval.
    """
    said = f"{gpu.environment.device}, seed {gpu.seed}: {100 * gpu.accuracy:.2f} %"
    accuracies = [run.accuracy for run in same_kind(gpu, study)]
    if len(accuracies) < 2:
        return (
            f"{said}; fewer than two CPU runs of step {gpu.name} have this recipe and these images: nothing to compare"
        )
    low, high = prediction_interval(accuracies)
    place = "within" if low <= gpu.accuracy <= high else "outside"
    spread = mean_and_sd(statistics.fmean(accuracies), statistics.stdev(accuracies), digits=2)
    return (
        f"{said}; {len(accuracies)} CPU seeds: {spread} % (standard deviation), so one more is expected from "
        f"{100 * low:.2f} to {100 * min(high, 1):.2f} % (95 % prediction interval): the GPU run lies {place} "
        "the spread of the seeds"
    )


def wrong_labels(run: Record) -> str:
    """Say how many of a run's mistakes are mistakes of the labels."""
    count, wrong, excused = run.scored_images, len(run.mistakes), misread_wrong_labels(run)
    said = f"Misread: {wrong} of {count:,}"
    if excused is None:
        return f"{said}. Wrong labels are known of MNIST's test images only."
    known, left = len(WRONG_TEST_LABELS), wrong - len(excused)
    return (
        f"{said} ({100 * wrong / count:.2f} %), the result. {len(excused)} of them are among the {known} test images "
        f"whose label is known to be wrong; without these {known}: {left} of {count - known:,} "
        f"({100 * left / (count - known):.2f} %)."
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
