"""Step 3's recipe with one thing changed (the ablations), with fewer parameters or epochs (the frontier), and with more
work for every image than a step is allowed (the tracks); and row 2a with one of its decisions taken back towards row 1.

The ideas come from the literature and from the published series; that one of them does not help a network this small
is worth knowing, too. Where a change needs a value of its own, as another optimizer needs another rate, it gets the
usual one: only step 3 itself was tuned, which favours it. An idea of your own is one more line in :func:`ablations`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial

from mnist_lab.evidence.records import Record, RecordError
from mnist_lab.recipe import Recipe
from mnist_lab.studies.search.assisted import Assisted, Matched
from mnist_lab.studies.search.notation import COMPACT
from mnist_lab.studies.search.recipe import Variant
from mnist_lab.writers import FOLDS

STEP = "3"  # the name of its records
BASELINE, BASELINE_2A = "step-3", "step-2a"  # the names of step 3 and row 2a among their ablations
EPOCHS = (1, 3, 5, 8)  # on the frontier; step 3 itself has 15
ON_TEST = {"frontier": 5, "track": 10}  # seeds of what is scored on the test images
VIEWS = (2, 4)  # of every image in a batch, on the tracks
FULL = "3x3 8, 3x3 8, 3x3 8 pool, 3x3 16, 3x3 16, 3x3 16, templates"
AVERAGE = "3x3 8, separable 8, separable 16 pool, separable 40, separable 40, separable 80, average"
EARLY = "3x3 8 pool, separable 8, separable 16, separable 40, separable 40, separable 56, templates"
# Channels of smaller networks, block by block, by about how many parameters they have.
SIZES = {
    "1k": (4, 4, 8, 8, 8, 10),
    "2k": (4, 8, 8, 16, 16, 20),
    "3k": (8, 8, 12, 20, 20, 28),
    "4k": (8, 8, 12, 24, 24, 32),
    "6k": (8, 8, 16, 32, 36, 44),
}


def rows_of_steps(records: Sequence[Record]) -> dict[str, Recipe]:
    """Return the recipe of each row of the table of steps by its name, as its first record on a CPU states it.

    Raises RecordError if there is none of step 3.
    """
    found: dict[str, Recipe] = {}
    for one in records:
        if one.kind in ("step", "intermediate") and one.device_type == "cpu":
            found.setdefault(one.name, Recipe(**one.recipe))
    if STEP not in found:
        raise RecordError("there is no record of step 3 on a CPU, from which the others are derived")
    return found


def compact(channels: tuple[int, ...]) -> str:
    """Return CompactNet with so many channels after each block, as text."""
    first, second, pooled, *others = channels
    rest = "".join(f", separable {width}" for width in others)
    return f"3x3 {first}, separable {second}, separable {pooled} pool{rest}, templates"


def usual_seeds(variant: Variant) -> int:
    """Return how many seeds it is trained from: one for each fold of writers, or more for a score on test images."""
    return ON_TEST.get(variant.kind, FOLDS)


def vary(step: Recipe, family: str, name: str, words: str, **changes: object) -> Variant:
    """Return the recipe of ``step`` with ``changes``."""
    return Variant(**(asdict(step) | {"family": family, "name": name, "change": words} | changes))


def ablations(step: Recipe) -> list[Variant]:
    """Return ``step`` itself, then the ablations, which differ from it in one thing each.

    What has to change along with it is in the words: channels, to stay within the budget of parameters, and with the
    batch size the rate and the average, so that both reach over as many images as before (for Adam the rate goes with
    the square root of the size: Malladi et al., NeurIPS 2022).
    """
    change = partial(vary, step)

    def distorted(name: str, words: str, factor: float, shift: int) -> Variant:
        others = {kind: factor * getattr(step, kind) for kind in ("rotation", "scale", "shear")}
        words += f", shifts up to {shift} pixel{'' if shift == 1 else 's'}"  # whole ones, so not quite by the factor
        return change("images", name, words, shift=shift, **others)

    def batches(name: str, size: int) -> Variant:
        share = size / step.batch_size
        peak, kept = round(share**0.5 * step.learning_rate, 4), round(1 - share * (1 - step.averaging), 4)
        words = f"{size} images; peak rate {peak:g} and averaging {kept:g} to match"
        return change("batch", name, words, batch_size=size, learning_rate=peak, averaging=kept)

    def network(name: str, words: str, layers: str = COMPACT, **options: object) -> Variant:
        return change("network", name, words, layers=layers, **options)

    half = step.learning_rate / 2
    sgd = "SGD, Nesterov momentum 0.9, peak rate 0.2, weight decay 0.0001"
    statistics = "norm statistics measured anew on undistorted images"
    narrower = compact((8, 8, 16, 40, 40, 52))
    bent = re.sub(r"separable \d+", r"\g<0> bent", narrower)
    wide = "5x5 16 pool, separable 32, separable 40, separable 48, templates"
    return [
        change("step 3", BASELINE, "unchanged"),
        change("images", "no-augmentation", "no distortions", rotation=0.0, shift=0, scale=0.0, shear=0.0),
        distorted("half-augmentation", "distortions half as strong", 0.5, shift=1),
        distorted("more-augmentation", "distortions 1.5 times as strong", 1.5, shift=2),
        change("images", "no-clean-end", "distortions to the end", clean_epochs=0),
        change("images", "clean-end", "no distortions in the last three epochs", clean_epochs=3),
        change("images", "elastic", "strokes bent as well, by up to 0.75 pixels", elastic=0.75),
        change("images", "balanced", "distortions balanced over each batch (Sobol)", distortion="balanced"),
        change("images", "mixup", "blended in pairs as well (mixup, α 0.2)", distortion="mixup"),
        change("images", "cutout", "a black square of 6 x 6 pixels as well (cutout)", distortion="cutout"),
        change("labels", "smoothing", "smoothed by 0.1", smoothing=0.1),
        change("labels", "teacher", "blended with 0.3 of what the average says", teacher=0.3),
        change("rate", "half-rate", "peak halved", learning_rate=half),
        change("rate", "double-rate", "peak doubled", learning_rate=step.learning_rate * 2),
        change("rate", "constant", "constant, at half the peak", schedule="constant", learning_rate=half),
        change("rate", "short-warmup", "warm-up over a twentieth of the run", warmup=0.05),
        change("average", "no-average", "no averaging of the weights", averaging=0.0),
        change("average", "fresh-statistics", statistics, fresh_statistics=True),
        batches("half-batch", step.batch_size // 2),
        batches("double-batch", 2 * step.batch_size),
        change("optimizer", "adamw", "AdamW, weight decay 0.1", weight_decay=0.1),
        change("optimizer", "sgd", sgd, method="SGD", learning_rate=0.2, weight_decay=1e-4),
        change("optimizer", "muon", "Muon for the blocks' 1x1 filters, at Adam's rate", method="Muon"),
        change("optimizer", "cycled-momentum", "Adam, momentum from 0.95 to 0.85 and back", cycled_momentum=True),
        network("relu", "ReLU", activation="ReLU"),
        network("leaky-relu", "LeakyReLU, slope 0.1", activation="LeakyReLU"),
        network("scaled-norms", "norms with a scale; 52 channels last", narrower, norm="scale and shift"),
        network("bent-blocks", "norm and SiLU inside the separable blocks, too; 52 channels last", bent),
        network("full-convolutions", "ordinary convolutions; 8, 8, 8, 16, 16, 16 channels", FULL),
        network("average-head", "average pooling, no templates; 80 channels last", AVERAGE),
        network("early-pooling", "pooling after the first block", EARLY),
        network("wide", "5x5 to 16 channels, pooled; three blocks of 32, 40, 48", wide),
        network("dropout", "dropout of 0.05 after every block", dropout=0.05),
    ]


def frontier(step: Recipe) -> list[Variant]:
    """Return ``step`` with fewer parameters, and with fewer epochs; nothing else is changed or chosen for them.

    Both series end at the step itself, which has records of its own.
    """
    change = partial(vary, step, "frontier")
    sizes = {size: f"{', '.join(map(str, channels))} channels" for size, channels in SIZES.items()}
    smaller = [change(size, words, layers=compact(SIZES[size])) for size, words in sizes.items()]
    lengths = {epochs: f"{epochs} epoch{'s' if epochs > 1 else ''}" for epochs in EPOCHS}
    return [*smaller, *(change(words.replace(" ", "-"), words, epochs=epochs) for epochs, words in lengths.items())]


def tracks(step: Recipe) -> list[Variant]:
    """Return ``step`` with more work: several views of every image in a batch, or teachers that are trained first.

    Updates are as many as ever, with several views each of so many times the work. A teacher costs one more training;
    to ask it in an update costs a third of the update's work, too.
    """
    change = partial(vary, step, "track")
    twice, fourfold = (change(f"{many}-views", f"{many} views of every image in a batch", views=many) for many in VIEWS)
    half = change("assisted", "half of every label from the mean of five other networks of step 3", teacher=0.5)
    both = replace(twice, name="assisted-2-views", change=f"{half.change}; {twice.change}", teacher=half.teacher)
    words = f"{twice.change}; labels are what three other networks of step 3 say of each"
    matched = asdict(replace(twice, name="matched-2-views", change=words)) | {"teacher": 1.0, "teachers": 3}
    return [twice, fourfold, Assisted(**asdict(half)), Assisted(**asdict(both)), Matched(**matched)]


def apart(row_2a: Recipe, row_1: Recipe) -> list[Variant]:
    """Return row 2a itself, then with one of its decisions taken back towards row 1, within the budget of parameters.

    The norms go back along with the rate, which they are said to allow.
    """
    change = partial(vary, row_2a, "step 2a")
    rate = row_1.learning_rate
    return [
        change(BASELINE_2A, "unchanged"),
        change("2a-full-convolutions", "ordinary convolutions; 8, 8, 8, 16, 16, 16 channels", layers=FULL),
        change("2a-average-head", "average pooling, no templates; 80 channels last", layers=AVERAGE),
        change("2a-early-pooling", "pooling after the first block", layers=EARLY),
        change("2a-no-norms", f"no norms, rate {rate:g}", layers=COMPACT, norm="none", learning_rate=rate),
        change("2a-relu", "ReLU", layers=COMPACT, activation="ReLU"),
        change("2a-rate", f"rate {rate:g}", learning_rate=rate),
    ]


def every(rows: Mapping[str, Recipe]) -> list[Variant]:
    """Return all variants of the steps, whose recipes are given by the names of their rows."""
    step = rows["3"]
    beside = apart(rows["2a"], rows["1"]) if {"1", "2a"} <= rows.keys() else []
    return [*ablations(step), *beside, *frontier(step), *tracks(step)]
