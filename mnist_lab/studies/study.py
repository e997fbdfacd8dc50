"""A study: many seeds of one recipe, each kept as soon as it is done."""

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import CancelledError, Executor, Future, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from mnist_lab import LabError
from mnist_lab.data import Dataset
from mnist_lab.evidence.records import Kind, Record, append, in_order, load, load_file, place, record
from mnist_lab.experiment import Run, load_data, measure_opening, train
from mnist_lab.recipe import AnyRecipe, Settings
from mnist_lab.runtime import environment, pick_device
from mnist_lab.speed.compiled import compiled
from mnist_lab.training import Diverged, Epoch
from mnist_lab.writers import FOLDS

ON_MNIST = Settings(seed=0, device="cpu", threads=1, data="MNIST", score_on="test", train_limit=None)
# Series that clip their logits: within ten updates another processor's last digits become 0.4 % of the loss. (The least
# of what a variant there changes is 1.3 %.)
ROUGH = "AB"  # how their names begin, and no others
KILLED = "a process was killed, most likely for want of memory: try a smaller --parallel"


class StudyError(LabError):
    """A study cannot start, or some of its seeds did not finish; what had finished is kept."""


@dataclass(frozen=True)
class Plan:
    """What a study trains: one recipe from several seeds. The names are those of :class:`records.Record`."""

    kind: Kind
    name: str
    change: str
    recipe: AnyRecipe
    settings: Settings  # of every seed, but for the seed
    seeds: Sequence[int]
    step: int | None = None

    def settings_of(self, seed: int) -> Settings:
        return replace(self.settings, seed=seed)

    @property
    def device_type(self) -> str:
        """Return "cpu" or "cuda"."""
        device = self.settings.device
        return pick_device(device).type if device == "auto" else device

    @property
    def place(self) -> Path:
        """Return the file of its records, relative to a store."""
        return place(self.kind, self.name, self.device_type)


def conduct(plans: Sequence[Plan], stores: Sequence[Path], executor: Executor, together: int = 1) -> list[Record]:
    """Train the seeds of ``plans`` that are in no store yet, and return the records of all, plan by plan.

    Stores are folders of records. A new record is added to the last of them as soon as it is made. The executor gets
    ``together`` seeds at a time: 1 for a CPU, more for a GPU, which trains them side by side. On CPUs numbers do not
    depend on who trains a seed. Raises RecordError if a store is damaged, and StudyError if it holds something else
    under the name of a plan, or if a seed did not finish: the same call then goes on from there.
    """
    known = [[(store / plan.place, finished(plan, store / plan.place)) for store in stores] for plan in plans]
    done = [{seed: one for _, found in reversed(files) for seed, one in found.items()} for files in known]
    waiting = [[seed for seed in plan.seeds if seed not in found] for plan, found in zip(plans, done, strict=True)]
    check_openings(executor, [(plan, files) for plan, files, seeds in zip(plans, known, waiting, strict=True) if seeds])
    work: dict[Future, tuple[Plan, list[int], dict[int, Record]]] = {}
    for plan, found, seeds in zip(plans, done, waiting, strict=True):
        for chunk in chunks(plan.settings, seeds, together):
            work[executor.submit(train_seeds, plan, chunk)] = plan, chunk, found
    total, problems = sum(len(plan.seeds) for plan in plans), []
    with tqdm(total=total, initial=total - sum(map(len, waiting)), unit="seed", disable=None) as bar:  # on terminals
        for future in as_completed(work):
            plan, chunk, found = work[future]
            made = outcome(future)
            for seed, one in zip(chunk, [made] * len(chunk) if isinstance(made, str) else made, strict=True):
                if isinstance(one, str):
                    problems.append(f"{plan.name}, seed {seed}: {one}")
                    said = "did not finish"
                else:
                    found[seed] = keep(one, stores[-1])
                    said = scored(one)
                with bar.external_write_mode():
                    print(f"{plan.name}   seed {seed:3d}   {said}", flush=True)
                bar.update()
    if problems:
        told = "\n  ".join(sorted(problems))
        raise StudyError(
            f"{len(problems)} of {total} seeds did not finish. The others are kept, and the same command goes on from "
            f"there:\n  {told}"
        )
    return [found[seed] for plan, found in zip(plans, done, strict=True) for seed in plan.seeds]


def chunks(settings: Settings, seeds: Sequence[int], size: int) -> list[list[int]]:
    """Cut ``seeds`` into lists of at most ``size``, each of seeds that are trained and scored on the same images."""
    folds = FOLDS if settings.score_on == "held-out" else 1
    alike = [[seed for seed in seeds if seed % folds == fold] for fold in range(folds)]
    return [group[start : start + size] for group in alike for start in range(0, len(group), size)]


def keep(made: Record, store: Path) -> Record:
    """Add a record to ``store``, and return it. Raises StudyError if that cannot be written."""
    try:
        append(made, store)
    except OSError as error:
        raise StudyError(f"cannot write {store / made.place}: {error.strerror}") from error
    return made


def finished(plan: Plan, path: Path) -> dict[int, Record]:
    """Return the records in a file by seed; none if there is no file.

    Raises RecordError if it is damaged, and StudyError if it is of another recipe than the plan's or other images.
    """
    found = load_file(path) if path.is_file() else []
    wanted = asdict(plan.recipe) | images(plan.settings)
    for theirs in [one.recipe | images(one.settings) for one in found]:
        for name in wanted | theirs:
            if theirs.get(name) != wanted.get(name):
                raise StudyError(
                    f"{path} is of another study: its {name} is {theirs.get(name)!r}, not {wanted.get(name)!r}. "
                    "Move that file away to start anew"
                )
    return {one.seed: one for one in found}


def images(settings: Settings) -> dict[str, object]:
    """Return what decides which images a seed is trained and scored on."""
    return {"data": settings.data, "score_on": settings.score_on, "train_limit": settings.train_limit}


def check_openings(executor: Executor, known: Iterable[tuple[Plan, list[tuple[Path, dict[int, Record]]]]]) -> None:
    """Raise StudyError unless today's code starts to train as the first record of every file says."""
    firsts = [(plan, path, next(iter(found.values()))) for plan, files in known for path, found in files if found]
    futures = [executor.submit(opening, plan, first.seed) for plan, _, first in firsts]
    for (plan, path, first), future in zip(firsts, futures, strict=True):
        now = outcome(future)
        if isinstance(now, str):
            raise StudyError(f"{plan.name} cannot be trained: {now}")
        if not math.isclose(now, first.opening_loss, rel_tol=tolerance(first.name)):
            raise StudyError(
                f"{path} was made by code that trains otherwise (loss of the first batches {first.opening_loss:.4f}, "
                f"now {now:.4f}). Move that file away to start anew"
            )


def tolerance(name: str) -> float:
    """Return by how much, relatively, the loss of a recipe's first batches may differ by how processors round."""
    return 1e-2 if name[0] in ROUGH else 1e-3


def outcome(future: Future) -> Any:
    """Return what a task returned, or a sentence on what went wrong."""
    try:
        return future.result()
    except BrokenProcessPool:
        return KILLED
    except CancelledError:
        return "the scheduler was lost"
    except LabError as error:
        return str(error)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def scored(made: Record) -> str:
    """Say what a run reached."""
    return f"accuracy {made.accuracy:7.2%}   loss {made.loss:.4f}   {made.seconds:5.0f} s"


def opening(plan: Plan, seed: int) -> float:
    """Return the loss of the first batches of a seed; see experiment.measure_opening."""
    return measure_opening(plan.recipe, load_data(plan.settings_of(seed)), plan.settings_of(seed), compiled)


def train_seeds(plan: Plan, seeds: Sequence[int]) -> list[Record | str]:
    """Train ``seeds`` where this runs; return for each its record, or a sentence on what went wrong.

    On a GPU they train side by side, on a CPU one after the other; all on the images of the first (:func:`chunks`).
    """
    data = load_data(plan.settings_of(seeds[0]))
    device, precision = data.train.images.device, torch.float32
    if device.type == "cpu":
        runs = [train_alone(plan, seed, data) for seed in seeds]
    else:
        from mnist_lab.speed.side_by_side import pick_precision, train_together

        precision = pick_precision(device, len(seeds))
        try:
            runs = train_together(plan.recipe, data, plan.settings, seeds)
        except torch.OutOfMemoryError:
            return [f"{len(seeds)} networks do not fit into the GPU's memory: try a smaller --parallel"] * len(seeds)
    of, made_in = (plan.kind, plan.name, plan.change), environment(device, precision)
    return [
        str(run)
        if isinstance(run, Diverged)
        else record(*of, run, data, plan.recipe, plan.settings_of(seed), step=plan.step, made_in=made_in)
        for seed, run in zip(seeds, runs, strict=True)
    ]


def train_alone(
    plan: Plan, seed: int, data: Dataset, on_epoch: Callable[[Epoch], None] = lambda epoch: None
) -> Run | Diverged:
    """Train one seed, with compiled layers where that is possible, and print nothing."""
    try:
        return train(plan.recipe, data, plan.settings_of(seed), on_epoch, prepare=compiled)
    except Diverged as error:
        return error


def gather(stores: Sequence[Path]) -> list[Record]:
    """Return the records of all ``stores``, in the order of the results; of two for a seed, that of the first store."""
    found = {(one.place, one.seed): one for store in reversed(stores) for one in load(store)}
    return in_order(found.values())
