"""The parts of ``mnist-lab analyse``: which networks each needs, what it computes of them, and what it writes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from pydantic import BaseModel
from torch import Tensor
from tqdm import tqdm

from mnist_lab.analysis import (
    ensembles,
    fresh,
    handwriting,
    inside,
    networks,
    probabilities,
    robustness,
    shifts,
    smaller,
)
from mnist_lab.analysis.kept import once, tracked
from mnist_lab.analysis.networks import ON_MNIST, AnalysisError, Training, digest, of_seeds
from mnist_lab.data import load_mnist
from mnist_lab.evidence.records import FOLDERS, Record, read_list, write_list
from mnist_lab.evidence.records import load as load_records
from mnist_lab.recipe import AnyRecipe, Settings
from mnist_lab.runtime import write_whole
from mnist_lab.studies.search.variants import rows_of_steps
from mnist_lab.studies.study import outcome
from mnist_lab.use.handwriting import RECORD
from mnist_lab.use.reading import CONFIDENCE, load_confidence
from mnist_lab.writers import FOLDS, deal, load_writers

STEPS = ("1", "2", "3")
KEPT = 30  # seeds of step 3 whose probabilities are kept
SHIFTED = 10  # seeds that are asked about shifted copies
SHRUNK = 5  # seeds that are made smaller
ROWS, PUBLISHED = 3, 1  # seeds of each that read corrupted images
READERS = 10  # seeds that read drawings
CORRUPTED = 2_500  # test images, every fourth: what corruptions do is far larger than the luck of so many
QUICK_IMAGES = 500  # that a quick run corrupts, and drawings that it reads
TRIALS = 3  # ensembles of each kind, with no network in common


@dataclass(frozen=True)
class Bench:
    """Where the parts find and leave things, and who works for them."""

    records: Path  # the folder of tracked records
    networks: Path  # the folder that keeps weights
    out: Path  # for what is made
    executor: Executor
    seeds: int | None = None  # of each recipe, in place of the usual numbers
    changes: Mapping[str, int] = field(default_factory=dict)  # EPOCHS, TRAIN_LIMIT: of a quick run

    def count(self, usual: int) -> int:
        """Return how many seeds to take."""
        return self.seeds or usual

    @property
    def settings(self) -> Settings:
        """Return where and on what the networks train."""
        return replace(ON_MNIST, train_limit=self.changes.get("TRAIN_LIMIT"))

    def shortened(self, recipe: AnyRecipe) -> AnyRecipe:
        """Return a recipe, with fewer epochs in a quick run."""
        return replace(recipe, epochs=self.changes["EPOCHS"]) if self.changes else recipe

    def steps(self) -> dict[str, AnyRecipe]:
        """Return the recipe of each row of the table of steps by name. Raises AnalysisError if a step has none."""
        found = rows_of_steps(self.step_records())
        if missing := [name for name in STEPS if name not in found]:
            raise AnalysisError(f"step {missing[0]} has no records in {self.records}: mnist-lab run --publish")
        return {name: self.shortened(recipe) for name, recipe in found.items()}

    def step_records(self) -> list[Record]:
        """Return the tracked records of the steps."""
        return load_records(self.records / FOLDERS["step"])

    def trained(self, name: str, score_on: str = "test") -> str:
        """Return what records call the networks of a step as its recipe is now."""
        (one,) = of_seeds(name, self.steps()[name], [0], replace(self.settings, score_on=score_on))
        return one.trained

    def train(self, trainings: Iterable[Training]) -> None:
        """Train what is not there yet, and check that the code would still begin to train what is."""
        self.do("train", [(networks.keep, one, self.networks) for one in trainings])

    def seeds_of_step_3(self, usual: int) -> list[Training]:
        """Return networks of step 3, trained; so many unless told otherwise."""
        trainings = of_seeds("3", self.steps()["3"], range(self.count(usual)), self.settings)
        self.train(trainings)
        return trainings

    def write(self, name: str, items: Sequence[BaseModel]) -> list[Path]:
        """Write a part's ``items`` into the file of this name, and return it."""
        write_list(self.out / name, items)
        return [self.out / name]

    def do(self, what: str, tasks: Sequence[tuple]) -> list:
        """Carry out tasks (function, arguments ...), and return their results in order.

        Raises AnalysisError if some failed; what the others kept stays.
        """
        futures: dict[Future, int] = {self.executor.submit(*task): place for place, task in enumerate(tasks)}
        found, problems = [None] * len(tasks), []
        for future in tqdm(as_completed(futures), what, len(tasks), unit="task", disable=None, leave=False):
            if future.cancelled() or future.exception() is not None:
                problems.append(outcome(future))
            else:
                found[futures[future]] = future.result()
        if problems:
            told = "\n  ".join(sorted(set(problems)))
            raise AnalysisError(f"{len(problems)} of {len(tasks)} tasks failed; the same command goes on:\n  {told}")
        return found


def make_probabilities(bench: Bench) -> list[Path]:
    """Keep what the seeds of step 3 say of the test images."""
    test = load_mnist().test
    trainings = bench.seeds_of_step_3(KEPT)
    said = [networks.probabilities(one, bench.networks, test) for one in trainings]
    packed = probabilities.pack(trainings[0], said, test.labels.numpy(), [one.seed for one in trainings], bench.out)
    compare(packed, said, test.labels, bench)
    return index([packed], bench)


def compare(packed: probabilities.Packed, said: Sequence[Tensor], labels: Tensor, bench: Bench) -> None:
    """Say how many networks misread exactly the images that the tracked record of their seed lists."""
    tracked = {one.seed: one for one in bench.step_records() if one.name == packed.name and one.device_type == "cpu"}
    pairs = [(tracked[seed], one) for seed, one in zip(packed.seeds, said, strict=True) if seed in tracked]
    alike = sum(one.misread == set((found.argmax(1) != labels).nonzero().flatten().tolist()) for one, found in pairs)
    if not bench.changes:
        print(f"  step {packed.name}: {alike} of {len(pairs)} networks misread the images that their records list")


def make_writers(bench: Bench) -> list[Path]:
    """Keep what networks of step 3 say of images by writers that they were not trained on, and when they are sure."""
    recipe, train = bench.steps()["3"], load_mnist().train
    trainings = of_seeds("3", recipe, range(FOLDS), replace(bench.settings, score_on="held-out"))
    fold = deal(load_writers("train"))
    bench.train(trainings)
    said = torch.zeros(len(train), 10)
    for one in trainings:
        held = torch.from_numpy(fold == one.seed).nonzero().flatten()
        said[held] = networks.probabilities(one, bench.networks, train.take(held))
    labels = train.labels.numpy()
    sure = handwriting.measure_confidence(said.double().numpy(), labels, trainings)
    write_whole(bench.out / CONFIDENCE.name, as_json(sure))
    packed = probabilities.pack(trainings[0], [said], labels, [0], bench.out)
    return [*index([packed], bench), bench.out / CONFIDENCE.name]


def index(packed: Sequence[probabilities.Packed], bench: Bench) -> list[Path]:
    """Write the index of all probabilities anew, tracked ones and these, and return it with the files of these."""
    known = probabilities.read_index(tracked(bench.records))
    known |= {(one.name, one.scored_on): one for one in packed}
    known = {key: one for key, one in known.items() if one.trained == bench.trained(*key)}  # not of an older recipe
    path = bench.out / probabilities.INDEX
    write_list(path, list(known.values()))
    return [path, *(bench.out / one.file for one in packed)]


def make_ensembles(bench: Bench) -> list[Path]:
    """Score ensembles that share a budget of parameters, from ever smaller networks."""
    from mnist_lab.studies.search.variants import frontier

    step, groups = bench.steps()["3"], []
    for name, recipe, count in ensembles.sharing(step, frontier(step)):
        groups += enumerate(ensembles.members(name, recipe, count, bench.count(TRIALS), bench.settings))
    bench.train([one for _, group in groups for one in group])
    scores = bench.do("score", [(ensembles.score, trial, group, bench.networks) for trial, group in groups])
    return bench.write(ensembles.FILE, [ensembles.Shared(**one) for one in scores])


def make_shifts(bench: Bench) -> list[Path]:
    """Ask networks of step 3 about every test image and about copies of it, shifted by a pixel."""
    trainings = bench.seeds_of_step_3(SHIFTED)
    scores = bench.do("shift", [(shifts.score, one, bench.networks) for one in trainings])
    return bench.write(shifts.FILE, [shifts.Shifted(**one) for found in scores for one in found])


def make_robustness(bench: Bench) -> list[Path]:
    """Score every row of the table of steps and the published third steps on corrupted images.

    What is tracked of a recipe is not made again.
    """
    published = {name: bench.shortened(recipe) for name, recipe in networks.published_third_steps().items()}
    groups = [of_seeds(name, one, range(bench.count(ROWS)), bench.settings) for name, one in bench.steps().items()]
    groups += [of_seeds(name, one, range(bench.count(PUBLISHED)), bench.settings)
               for name, one in published.items()]  # fmt: skip
    images = QUICK_IMAGES if bench.changes else CORRUPTED
    known = read_list(tracked(bench.records) / robustness.FILE, robustness.Robustness)
    found = [robustness.told_of(known, group, images) for group in groups]
    trainings = [one for group, told in zip(groups, found, strict=True) if not told for one in group]
    found.append(score_robustness(bench, trainings, images) if trainings else [])
    order = {group[0].name: place for place, group in enumerate(groups)}
    told = [one for items in found for one in items]
    return bench.write(robustness.FILE, sorted(told, key=lambda one: order[one.name]))


def score_robustness(bench: Bench, trainings: Sequence[Training], images: int) -> list[robustness.Robustness]:
    """Score trained networks on so many test images under every corruption."""
    bench.train(trainings)
    key = digest([one.place.as_posix() for one in trainings], images)
    tasks = []
    for kind in robustness.kinds():
        path = bench.out / "robustness" / f"{kind.replace(' ', '-')}-{key}.json"
        tasks.append((once, path, robustness.score, kind, trainings, bench.networks, images))
    scores = bench.do("corrupt", tasks)
    return robustness.gather(trainings, zip(robustness.kinds(), scores, strict=True), images)


def make_smaller(bench: Bench) -> list[Path]:
    """Make step 3 smaller in every way. What is tracked of a way is not made again."""
    trainings = of_seeds("3", bench.steps()["3"], range(bench.count(SHRUNK)), bench.settings)
    known = read_list(tracked(bench.records) / smaller.FILE, smaller.Smaller)
    found = {way: smaller.told_of(known, way, trainings) for way in smaller.WAYS}
    missing = [way for way, told in found.items() if not told]
    if not all(way.tuned for way in missing):
        bench.train(trainings)
    if any(way.tuned for way in missing):
        bench.do("begin", [(smaller.keep_beginning, one, bench.networks) for one in trainings])
    tasks = []
    for way in missing:
        for one in trainings:
            name = digest([way.name, one.place.as_posix()])
            tasks.append((once, bench.out / "smaller" / f"{name}.json", smaller.make, way, one, bench.networks))
    for made in bench.do("shrink", tasks):
        (way,) = (way for way in missing if way.name == made["way"])
        found[way].append(smaller.Smaller(**made))
    return bench.write(smaller.FILE, [one for told in found.values() for one in told])


def make_inside(bench: Bench) -> list[Path]:
    """Look into the first network of step 3."""
    first, second = of_seeds("3", bench.steps()["3"], (0, 1), bench.settings)
    bench.train([first, second])
    bench.do("look", [(inside.look, first, second, bench.networks, bench.out)])
    return [bench.out / inside.FILE, bench.out / inside.ARRAYS]


def make_handwriting(bench: Bench) -> list[Path]:
    """Have step 3 read drawings and other people's digits."""
    made, trainings = make_writers(bench), bench.seeds_of_step_3(READERS)
    sure = load_confidence(bench.out / CONFIDENCE.name).sure_from
    path = bench.out / RECORD.name
    prepared = handwriting.prepare_all(QUICK_IMAGES if bench.changes else None)
    found = handwriting.measure(trainings, bench.networks, load_mnist().test, prepared, sure)
    write_whole(path, as_json(found))
    return [*made, path]


def as_json(found: BaseModel) -> bytes:
    """Return ``found`` as a file that people can read, too."""
    return found.model_dump_json(indent=1).encode() + b"\n"


def make_fresh(bench: Bench) -> list[Path]:
    """Score steps 1, 2 and 3 on QMNIST's lost digits; one that is not at hand says so."""
    steps = bench.steps()
    fresh.load_lost_digits()  # or say now that they cannot be had
    trainings = [one for name in STEPS for one in of_seeds(name, steps[name], range(bench.count(10)), bench.settings)]
    bench.train(trainings)
    scores = bench.do("score", [(fresh.score, one, bench.networks) for one in trainings])
    return bench.write(fresh.FILE, fresh.gather(trainings, scores))


MAKERS: dict[str, Callable[[Bench], list[Path]]] = {
    "probabilities": make_probabilities,
    "writers": make_writers,
    "ensembles": make_ensembles,
    "shifts": make_shifts,
    "robustness": make_robustness,
    "smaller": make_smaller,
    "inside": make_inside,
    "handwriting": make_handwriting,
    "fresh": make_fresh,
}
