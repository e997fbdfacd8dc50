"""What the search may choose: a network within the budget and how to train it, both at once.

A trial's parameters are Optuna's. Those of the network are its shape: ratios between the channels of its layers. The
channels are then as many as the trial's number of parameters allows. A shape that is over budget even with the fewest
channels is not trained (optimise.py).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace

from optuna.distributions import BaseDistribution
from optuna.trial import BaseTrial, FixedTrial

from mnist_lab.models import PARAMETER_BUDGET
from mnist_lab.recipe import Recipe
from mnist_lab.studies.search.notation import HEADS, Layer, count, size_left, write
from mnist_lab.studies.search.recipe import Variant

FAMILY = "search"
MULTIPLES = (4, 8, 16)  # channels are multiples of one of these: compiled layers compute so many side by side
SMALLEST_HEAD = 4  # rows and columns left for the templates
STRIDED = "6x6 stride 2"
BASELINE = {  # step 3 before the search, which is held against it; and what a starting point leaves unsaid
    "stem": "5x5", "stem layers": 1, "stem width": 0.5, "blocks": 3, "padded blocks": 0, "growth": 1.5,
    "channel multiple": 4, "parameters": 7306, "head": "templates", "activation": "SiLU",
    "batch size": 125, "peak": 0.01, "warm-up": 0.2, "average": 500, "beta1": 0.9, "1 - beta2": 0.001,
    "weight decay": 0.0, "rotation": 13.0, "shift": 2, "scale": 0.15, "shear": 10.0, "elastic": 0.0,
    "clean epochs": 0, "teacher": 0.0,
}  # fmt: skip
EVERY = BASELINE | {"stem": "3x3", "stem layers": 2, "between": "dense", "first width": 1.0}  # what a trial may ask for
CLEAN, TAUGHT = {"clean epochs": 2}, {"clean epochs": 2, "teacher": 0.3}
DENSE, SEPARABLE = {"stem": "3x3", "between": "dense"}, {"stem": "3x3", "between": "separable"}
TWO = DENSE | {"stem layers": 2, "first width": 0.5, "growth": 1.38, "parameters": 7790}  # 8, 16; 32, 38, 44
THREE = DENSE | {"stem layers": 3, "first width": 0.5, "growth": 1.4, "parameters": 7900}  # 8, 12, 16; 32, 38, 45
WIDE = SEPARABLE | {"stem layers": 4, "first width": 0.4, "stem width": 0.9, "blocks": 2, "growth": 1.15}
STARTS: tuple[Mapping[str, object], ...] = (  # what first trials found, from which the search sets out
    {},
    CLEAN,
    TAUGHT,
    TAUGHT | TWO,
    CLEAN | TWO,
    CLEAN | THREE,
    CLEAN | WIDE | {"parameters": 7400},
    TAUGHT | WIDE | {"parameters": 7900},
    TAUGHT | SEPARABLE | {"stem layers": 3, "first width": 0.65, "stem width": 0.7, "growth": 1.3, "parameters": 7950},
    TAUGHT | {"stem width": 0.65, "blocks": 4, "padded blocks": 1, "growth": 1.65, "parameters": 7200},
    CLEAN | {"stem": STRIDED, "stem width": 0.75, "growth": 1.38, "parameters": 7500},
    CLEAN | SEPARABLE | {"stem layers": 2, "first width": 0.7, "stem width": 0.7, "growth": 1.25, "parameters": 7900},
    CLEAN | TWO | {"elastic": 0.5, "rotation": 10.0},
    TAUGHT | TWO | {"beta1": 0.85, "1 - beta2": 0.01, "weight decay": 0.04, "average": 1000},
)


def recipe(trial: BaseTrial, step: Recipe, epochs: int) -> Variant:
    """Return what ``trial`` chooses in place of ``step``, trained for so many epochs."""
    chosen = choices(trial)
    called = {"family": FAMILY, "name": name_of(trial.number), "change": chosen["layers"], "epochs": epochs}
    return Variant(**(asdict(step) | chosen | called))


def choices(trial: BaseTrial) -> dict[str, object]:
    """Return what ``trial`` chooses, as fields of a recipe."""
    number, whole = trial.suggest_float, trial.suggest_int
    return {
        "layers": network(trial),
        "activation": trial.suggest_categorical("activation", ["SiLU", "ReLU"]),
        "batch_size": whole("batch size", 50, 250, log=True),
        "learning_rate": rounded(number("peak", 0.003, 0.03, log=True)),
        "warmup": rounded(number("warm-up", 0.05, 0.5)),
        "averaging": round(1 - 1 / whole("average", 100, 3000, log=True), 5),  # over so many updates
        "beta1": rounded(number("beta1", 0.7, 0.96)),
        "beta2": round(1 - number("1 - beta2", 0.001, 0.1, log=True), 4),
        "weight_decay": number("weight decay", 0.0, 0.2, step=0.02),
        "rotation": rounded(number("rotation", 0, 20)),
        "shift": whole("shift", 0, 3),
        "scale": rounded(number("scale", 0, 0.3)),
        "shear": rounded(number("shear", 0, 20)),
        "elastic": number("elastic", 0.0, 2.0, step=0.25),
        "clean_epochs": whole("clean epochs", 0, 4),
        "teacher": number("teacher", 0.0, 0.6, step=0.1),
    }


def network(trial: BaseTrial) -> str:
    """Return the network that ``trial`` chooses, as text."""
    stem = trial.suggest_categorical("stem", ["3x3", "5x5", STRIDED])
    depth = 1 if stem == STRIDED else trial.suggest_int("stem layers", 1, 4)
    last = trial.suggest_float("stem width", 0.25, 1)  # channels, those of the first block being 1
    first, between = last, "dense"
    if depth > 1:
        between = trial.suggest_categorical("between", ["dense", "groups", "separable"])
        first = last * trial.suggest_float("first width", 0.3, 1)
    blocks = trial.suggest_int("blocks", 2, 4)
    growth = trial.suggest_float("growth", 1, 2)
    padded = trial.suggest_int("padded blocks", 0, 2)
    head = trial.suggest_categorical("head", HEADS)
    allowed = trial.suggest_int("parameters", 6500, PARAMETER_BUDGET - 1)
    multiple = trial.suggest_categorical("channel multiple", MULTIPLES)

    def layers(widths: Sequence[int]) -> list[Layer]:
        """Return the network with so many channels after each layer."""
        start = [Layer(widths[0], int(stem[0]), stride=2 if stem == STRIDED else 1)]
        kinds = {"separable": between == "separable", "groups": 2 if between == "groups" else 1}
        start += [Layer(width, **kinds) for width in widths[1:depth]]
        if stem != STRIDED:
            start[-1] = replace(start[-1], pool=True)
        for pad in range(padded, blocks + 1):  # more blocks are padded where too little of the image would be left
            body = [Layer(width, separable=True, padded=place < pad) for place, width in enumerate(widths[depth:])]
            if size_left(start + body) >= SMALLEST_HEAD:
                break
        return start + body

    shape = [*ramp(first, last, depth), *ramp(1, growth, blocks)]
    return write(layers(fill(shape, multiple, lambda widths: count(layers(widths), head) <= allowed)), head)


def fill(shape: Sequence[float], multiple: int, fits: Callable[[Sequence[int]], bool]) -> list[int]:
    """Return the most channels that fit, in proportion to ``shape`` but for rounding to a ``multiple``."""

    def scaled(width: float) -> list[int]:
        return [multiple * max(1, round(width * share / multiple)) for share in shape]

    low, high = 0.0, 256.0
    while high - low > 0.01:
        middle = (low + high) / 2
        low, high = (middle, high) if fits(scaled(middle)) else (low, middle)
    widths = scaled(low)
    for place in reversed(range(len(widths))):  # what rounding left over goes to the last layers that it suffices for
        wider = [*widths[:place], widths[place] + multiple, *widths[place + 1 :]]
        widths = wider if fits(wider) else widths
    return widths


def ramp(first: float, last: float, steps: int) -> list[float]:
    """Return so many numbers from ``first`` to ``last``, equally far apart; of one, ``last``."""
    return [last - (last - first) * (steps - 1 - place) / max(1, steps - 1) for place in range(steps)]


def rounded(value: float) -> float:
    """Return ``value`` with three significant digits, which are enough to tell trials apart."""
    return float(f"{value:.3g}")


def starting_points() -> list[dict[str, object]]:
    """Return the parameters of each of STARTS in full."""
    points = [{**BASELINE, **start} for start in STARTS]
    for point in points:
        if point["stem"] == STRIDED:
            del point["stem layers"]  # the trial does not ask for it
    return points


def name_of(number: int) -> str:
    """Return what the records of a trial are called."""
    return f"trial-{number}"


def number_of(name: str) -> int:
    """Return the number of the trial whose records are called so."""
    return int(name.split("-")[1])


def is_of(recipe: Mapping[str, object], parameters: Mapping[str, object]) -> bool:
    """Whether a recipe is what a trial with these parameters chooses, for however many epochs."""
    return all(recipe.get(name) == value for name, value in choices(FixedTrial(dict(parameters))).items())


def distributions(parameters: Mapping[str, object]) -> dict[str, BaseDistribution]:
    """Return the ranges of these parameters of a trial, which say too whether they are logarithmic."""
    trial = FixedTrial(dict(parameters))
    choices(trial)
    return trial.distributions


def choose(parameters: Mapping[str, object], step: Recipe, epochs: int, number: int = 0) -> Variant:
    """Return the recipe of a trial with these parameters."""
    return recipe(FixedTrial(dict(parameters), number), step, epochs)
