"""A study: many seeds of one recipe, each kept as soon as it is done."""

import contextlib
import itertools
import math
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from tqdm import tqdm

from mnist_lab.experiment import load_data, measure_opening, train_together
from mnist_lab.recipe import AnyRecipe, Settings
from mnist_lab.records import Record, load_records, record, save
from mnist_lab.runner import environment
from mnist_lab.runtime import available_memory, pick_device
from mnist_lab.training import Diverged, Epoch

PROCESS_MEMORY = 1.5  # GiB to have free for each process
TOGETHER = 32  # seeds in one stack on a GPU


class StudyError(RuntimeError):
    """A study cannot start, or some of its seeds did not finish; what had finished is kept."""


@dataclass(frozen=True)
class Plan:
    """What a study trains: the recipe of one row of the results, from several seeds."""

    row: str
    change: str
    recipe: AnyRecipe
    settings: Settings  # of every seed, but for the seed
    seeds: Sequence[int]

    def settings_of(self, seed: int) -> Settings:
        return replace(self.settings, seed=seed)


def conduct(plan: Plan, folder: Path, parallel: int | None = None) -> list[Record]:
    """Train the seeds of ``plan`` that have no record in ``folder`` yet; return the records of all, in order.

    On a CPU each seed trains in a process and thread of its own, ``parallel`` of them at a time (by default one
    per core): no number depends on how many. On a GPU ``parallel`` seeds train as one stack. Raises StudyError
    if ``folder`` holds something else, or if a seed did not finish: the same command then goes on where it was.
    """
    done = finished(plan, folder)
    waiting = [seed for seed in plan.seeds if seed not in done]
    on_gpu = pick_device(plan.settings.device).type == "cuda"
    with Progress(plan, len(plan.seeds) - len(waiting)) as progress:
        if on_gpu:
            problems = train_in_stacks(plan, waiting, folder, parallel or TOGETHER, progress)
        else:
            problems = train_in_processes(plan, waiting, folder, parallel or os.cpu_count() or 1, progress)
    if problems:
        told = "".join(f"\n  seed {seed}: {problem}" for seed, problem in sorted(problems.items()))
        raise StudyError(f"{len(problems)} of {len(plan.seeds)} seeds did not finish; the others are in {folder}{told}")
    trained = {found.seed: found for found in load_records(folder)}
    return [trained[seed] for seed in plan.seeds]


def finished(plan: Plan, folder: Path) -> dict[int, Record]:
    """Return the records in ``folder`` by their seeds.

    Raises RecordError for a file that is not a record, and StudyError for a record of another recipe or other
    images, or made by code that trains otherwise than today's.
    """
    found = load_records(folder)
    wanted = description(plan.row, asdict(plan.recipe), asdict(plan.settings))
    for earlier in found:
        theirs = description(earlier.row, earlier.recipe, earlier.settings)
        for name in wanted:
            if theirs.get(name) != wanted[name]:
                raise StudyError(
                    f"{folder / earlier.file_name} is of another study: its {name} is {theirs.get(name)!r}, not "
                    f"{wanted[name]!r}. Name another folder with --out, or remove this one"
                )
    if found:
        opening = measure_opening(plan.recipe, load_data(plan.settings), plan.settings, found[0].seed)
        if not math.isclose(opening, found[0].opening_loss, rel_tol=1e-3):
            raise StudyError(
                f"{folder / found[0].file_name} was made by code that trains otherwise (loss of the first batches "
                f"{found[0].opening_loss:.4f}, now {opening:.4f}). Name another folder with --out, or remove this one"
            )
    return {earlier.seed: earlier for earlier in found}


def description(row: str, recipe: dict, settings: dict) -> dict[str, object]:
    """Return what the records of one study have in common."""
    return {"row": row, **recipe, **{name: settings.get(name) for name in ("data", "score_on", "train_limit")}}


class Progress:
    """A bar that counts seeds and moves with every epoch, and a line for each seed that is done."""

    def __init__(self, plan: Plan, done: int):
        epochs = plan.recipe.epochs
        self.bar = tqdm(total=len(plan.seeds) * epochs, initial=done * epochs, desc=f"row {plan.row}", unit="epoch")

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def epoch(self, epoch: Epoch) -> None:
        self.bar.update()

    def seed(self, found: Record) -> None:
        with self.bar.external_write_mode():
            print(f"seed {found.seed:3d}   accuracy {found.accuracy:7.2%}   loss {found.loss:.4f}", flush=True)


def train_in_stacks(plan: Plan, seeds: list[int], folder: Path, together: int, progress: Progress) -> dict[int, str]:
    """Train ``seeds`` on a GPU, ``together`` at once; return what went wrong with which."""
    data = load_data(plan.settings)
    problems = {}
    for start in range(0, len(seeds), together):
        chunk = seeds[start : start + together]
        try:
            outcomes = train_together(plan.recipe, data, plan.settings, chunk, on_epoch=progress.epoch)
        except torch.OutOfMemoryError as error:
            raise StudyError(
                f"{len(chunk)} networks in one stack do not fit into the GPU's memory: use a smaller --parallel"
            ) from error
        for seed, outcome in zip(chunk, outcomes, strict=True):
            if isinstance(outcome, Diverged):
                problems[seed] = str(outcome)
            else:
                found = record(plan.row, plan.change, outcome, data, plan.recipe, plan.settings_of(seed))
                save(found, folder)
                progress.seed(found)
    return problems


def train_in_processes(
    plan: Plan, seeds: list[int], folder: Path, processes: int, progress: Progress
) -> dict[int, str]:
    """Train each of ``seeds`` in its own process, ``processes`` at a time; return what went wrong with which."""
    check_memory(min(processes, len(seeds)))
    context = multiprocessing.get_context("spawn")  # a fork would inherit the locks of PyTorch's threads
    waiting, problems = iter(seeds), {}
    running: dict[Connection, tuple[multiprocessing.process.BaseProcess, int]] = {}
    try:
        while True:
            for seed in itertools.islice(waiting, processes - len(running)):
                ours, theirs = context.Pipe(duplex=False)
                process = context.Process(target=train_alone, args=(plan, seed, folder, theirs), daemon=True)
                with environment(TQDM_DISABLE="1", OMP_NUM_THREADS="1"), ctrl_c_ignored():
                    process.start()
                theirs.close()  # or the pipe would not end with the process
                running[ours] = process, seed
            if not running:
                return problems
            for pipe in multiprocessing.connection.wait(list(running)):
                process, seed = running[pipe]
                try:
                    message = pipe.recv()
                except EOFError:
                    process.join()
                    if process.exitcode:
                        problems[seed] = explain(process.exitcode)
                    del running[pipe]
                else:
                    if isinstance(message, Epoch):
                        progress.epoch(message)
                    elif isinstance(message, Record):
                        progress.seed(message)
                    else:
                        problems[seed] = message
    finally:
        for process, _ in running.values():
            process.terminate()
            process.join()


def train_alone(plan: Plan, seed: int, folder: Path, pipe: Connection) -> None:
    """Train one seed and keep its record; send every epoch, then the record or what went wrong."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # to leave nothing behind
    settings = plan.settings_of(seed)
    try:
        data = load_data(settings)
        (outcome,) = train_together(plan.recipe, data, settings, [seed], on_epoch=pipe.send)
        if isinstance(outcome, Diverged):
            pipe.send(str(outcome))
        else:
            found = record(plan.row, plan.change, outcome, data, plan.recipe, settings)
            save(found, folder)
            pipe.send(found)
    except BrokenPipeError:  # the parent process is gone: so is the wish for this seed
        pass
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")


def explain(exit_code: int) -> str:
    """Say in words how a process ended that told nothing."""
    if exit_code == -signal.SIGKILL:
        return "its process was killed, most likely for want of memory: try fewer with --parallel"
    return f"its process ended with exit code {exit_code}"


def check_memory(processes: int) -> None:
    """Raise StudyError if so many processes would not fit into the memory that is free."""
    free = available_memory()
    if free is not None and processes * PROCESS_MEMORY > free:
        fitting = int(free / PROCESS_MEMORY)
        raise StudyError(
            f"{processes} processes need {processes * PROCESS_MEMORY:.1f} GiB of memory, and {free:.1f} GiB are free: "
            + (f"at most --parallel {fitting}" if fitting else "free some")
        )


@contextlib.contextmanager
def ctrl_c_ignored() -> Iterator[None]:
    """Let a process that starts now inherit deafness to Ctrl-C: its parent will end it."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
