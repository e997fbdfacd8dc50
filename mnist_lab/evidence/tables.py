"""Results as tables and sentences, the same in a terminal, a notebook and README."""

import statistics
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mnist_lab.data import WRONG_TEST_LABELS
from mnist_lab.evidence.records import Record
from mnist_lab.evidence.results import LAST_EPOCHS, Gain, Result, gains, misread_wrong_labels, row_name, summarise
from mnist_lab.evidence.uncertainty import Difference, Interval, mcnemar, prediction_interval, wilson_interval
from mnist_lab.experiment import TARGET

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

    @classmethod
    def of(cls, items: Iterable, columns: Mapping[str, Callable], note: str, spare: Sequence[str] = ()) -> "Table":
        """Return a table with a row for each of ``items``: ``columns`` are headers, each with what makes its cells."""
        rows = [tuple(str(cell(item)) for cell in columns.values()) for item in items]
        return cls(tuple(columns), rows, note, spare)

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


def headline_table(results: Sequence[Result]) -> Table:
    """Return the results in five columns, narrow enough for a page."""
    columns = {
        "step": lambda one: one.row,
        "what changed": lambda one: one.change,
        "parameters": lambda one: f"{one.trainable:,}",
        "accuracy, %": lambda one: mean_and_sd(one.mean, one.sd).replace(" ", "\N{NO-BREAK SPACE}"),
        f"seeds {GOAL}": lambda one: f"{one.seeds_on_target} of {one.seeds}",
    }
    scored = " and ".join(sorted({f"{one.scored_on} images of {one.data}" for one in results}))
    epochs = " and ".join(sorted({str(one.epochs) for one in results}))
    note = f"After the last of {epochs} epochs, on the {scored}: mean ± standard deviation over all seeds."
    between = [one.row for one in results if not one.row.isdigit()]
    if between:
        note += f" Rows {', '.join(between)} are on the way to the step of their number."
    return Table.of(results, columns, note)


def results_table(results: Sequence[Result]) -> Table:
    """Return what every recipe reached, and which data and machines the numbers come from."""
    columns = {
        "step": lambda one: one.row,
        "change": lambda one: one.change,
        "parameters": lambda one: " / ".join(f"{count:,}" for count in dict.fromkeys((one.trainable, one.deployed))),
        "epochs": lambda one: one.epochs,
        "seeds": lambda one: one.seeds,
        "accuracy, %": lambda one: mean_and_sd(one.mean, one.sd),
        "95 % interval of the mean": lambda one: percent(one.interval, digits=3),
        "min": lambda one: f"{100 * one.minimum:.2f}",
        "max": lambda one: f"{100 * one.maximum:.2f}",
        "loss": lambda one: f"{one.loss:.4f}",
        "seconds": lambda one: f"{one.seconds:.0f}",
    }
    scored = " and ".join(sorted({f"{result.scored_on} images of {result.data}" for result in results}))
    devices = "; ".join(sorted({one for result in results for one in result.device.split("; ")}))
    note = (
        f"Last epoch, scored on {scored}; mean ± standard deviation over seeds. Parameters: trainable, and deployed "
        "where that is another number. Seconds: a run with its evaluations, median over seeds; other programs may have "
        f"run beside it. Device: {devices}."
    )
    spare = ("seconds", "loss", "max", "min", "epochs", "95 % interval of the mean", "parameters")
    return Table.of(results, columns, note, spare)


def consistency_table(results: Sequence[Result]) -> Table:
    """Return how often every recipe is on target, and what it misreads."""
    columns = {
        "step": lambda one: one.row,
        f"seeds {GOAL}": lambda one: f"{one.seeds_on_target} of {one.seeds}",
        "share of new seeds on target, at least": lambda one: f"{100 * one.on_target_at_least:.1f} %",
        f"last {LAST_EPOCHS} epochs {GOAL}": lambda one: f"{one.late_epochs_on_target} of {one.late_epochs}",
        f"seeds with all {LAST_EPOCHS}": lambda one: f"{one.seeds_consistent} of {one.seeds}",
        "misread": lambda one: images(one.misread),
        "of these, label wrong": lambda one: images(one.misread_wrong_labels),
        "accuracy, 95 %, seeds and writers redrawn": lambda one: percent(one.by_writer),
    }
    note = (
        "Seeds count by their last epoch. New seeds: with 95 % confidence, at least this share of them reaches "
        "the target (one-sided bound of Clopper and Pearson; even if every seed does, it takes 59 to prove 95 %). "
        f"Last {LAST_EPOCHS} epochs: of all seeds together. Misread: images, mean over seeds; "
        f"{len(WRONG_TEST_LABELS)} of MNIST's test labels are known to be wrong. Redrawn: both the seeds and the "
        "people who wrote the digits are drawn again (bootstrap), since mistakes cluster by writer; more seeds "
        f"alone cannot make this interval narrow.{unknown_writers(any(one.by_writer for one in results))}"
    )
    spare = ("accuracy, 95 %, seeds and writers redrawn", "of these, label wrong")
    return Table.of(results, columns, note, spare)


def gains_table(gained: Sequence[Gain]) -> Table:
    """Return what every change brought, and whether that is more than chance."""
    columns = {
        "step": lambda gain: gain.row,
        "change": lambda gain: gain.change,
        "against": lambda gain: gain.against,
        "gain, points": lambda gain: signed(gain.points, digits=3),
        "95 % interval": lambda gain: signed_interval(gain.difference and gain.difference.interval, digits=3),
        "other writers too": lambda gain: signed_interval(gain.by_writer, digits=2),
        "Hedges' g": lambda gain: signed(gain.difference and gain.difference.effect, digits=1),
        "p": lambda gain: UNKNOWN if gain.difference is None else p_value(gain.difference.p_value),
        "verdict": lambda gain: verdict(gain.difference),
    }
    note = (
        "Differences of mean accuracies over seeds, in percentage points, with Welch's interval and test. Rows that "
        "begin as one training are compared seed by seed, over the seeds that both have (Student's paired test). "
        "Hedges' g is the gain in standard deviations (variances not pooled; of "
        "the differences, if paired). A gain whose interval holds 0 is no difference: that is the verdict, on these "
        "images. The p-values are not corrected for the number of comparisons. Other writers too: the interval if "
        "other people had written the digits as well, paired image by image (bootstrap over seeds and writers)."
        f"{unknown_writers(any(gain.by_writer for gain in gained))}"
    )
    return Table.of(gained, columns, note, spare=("change", "Hedges' g", "p", "other writers too"))


def unknown_writers(known: bool) -> str:
    """Say why there is no interval over other writers, unless some are ``known``."""
    if known:
        return ""
    return (
        " Here it is not known: that takes several seeds on MNIST, and QMNIST's label files in MNIST_LAB_DATA or data/."
    )


def comparison_table(runs: Sequence[Record]) -> Table:
    """Return single runs; from the second on, each is compared image by image with the one above it."""
    headers = ("step", "change", "loss", "accuracy", "wrong")
    headers += ("gain, points", "newly right", "newly wrong", "McNemar p") if len(runs) > 1 else ()
    rows = []
    for before, after in zip([None, *runs], runs, strict=False):
        count, wrong = after.scored_images, len(after.mistakes)
        accuracy = f"{100 * after.accuracy:.2f} % ({percent(wilson_interval(count - wrong, count))})"
        row = (row_name(after), after.change, f"{after.loss:.4f}", accuracy, f"{wrong} of {count:,}")
        if before is not None:
            gained, lost = len(before.misread - after.misread), len(after.misread - before.misread)
            points = signed(100 * (after.accuracy - before.accuracy), digits=2)
            row += (points, str(gained), str(lost), p_value(mcnemar(gained, lost)))
        rows.append(row + ("",) * (len(headers) - len(row)))
    scored = " and ".join(sorted({f"{run.settings.score_on} images of {run.data}" for run in runs}))
    interval = "Wilson's 95 % interval, the accuracies that so many images leave plausible for one network"
    note = f"Last epoch, scored on {scored}; in brackets {interval}."
    return Table(headers, rows, note, spare=("change", "loss", "McNemar p"))


def beside(gpu: Record, study: Sequence[Record]) -> str:
    """Return one sentence on a GPU run against the CPU runs of its recipe: within the spread of their seeds, or not.

    Within is where one more seed is expected in 95 of 100 cases: Student's prediction interval. CPU runs of another
    recipe or on other images are left out.
    """
    said = f"{gpu.environment.device}, seed {gpu.seed}: {100 * gpu.accuracy:.2f} %"
    like = (gpu.name, gpu.recipe, gpu.images, "cpu")
    accuracies = [run.accuracy for run in study if (run.name, run.recipe, run.images, run.device_type) == like]
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


def signed(difference: float | None, digits: int) -> str:
    """Return a difference with its sign; what is rounded to 0 is +0."""
    return UNKNOWN if difference is None else f"{round(difference, digits) + 0.0:+.{digits}f}"  # -0.0 + 0.0 is 0.0


def signed_interval(interval: Interval | None, digits: int) -> str:
    """Return the interval of a difference."""
    return UNKNOWN if interval is None else " – ".join(signed(end, digits) for end in interval)


def verdict(difference: Difference | None, more: str = "better", less: str = "worse") -> str:
    """Say what ``more`` or ``less`` of something means, if the difference is larger than the luck of seeds."""
    if difference is None:
        return "not known: too few seeds"
    if not difference.is_clear:
        return "no difference"
    return more if difference.mean > 0 else less


def images(count: float | None) -> str:
    """Return a mean number of images."""
    return UNKNOWN if count is None else f"{round(count, 1):g}"


def p_value(p: float) -> str:
    """Return a p-value with two digits; what is smaller than 0.0001 is said to be so."""
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}"
