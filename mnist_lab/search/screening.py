"""Trains the candidates of the search and of the frontier, and tracks what came out."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mnist_lab import publish, runner, study
from mnist_lab.recipe import Recipe, Settings, read_parameters
from mnist_lab.records import Record
from mnist_lab.search import candidates
from mnist_lab.search.candidates import Candidate
from mnist_lab.search.tables import BASE

SEEDS, MORE_SEEDS = 3, 5  # more of step 3, which all are held against, and of the frontier
SETTINGS = Settings(seed=0, device="auto", threads=1, data="MNIST", score_on="held-out", train_limit=None)


def step_3() -> Recipe:
    """Return the recipe of the last step, as its notebook states it."""
    recipe, _ = read_parameters(runner.find_steps()[-1].defaults())
    return recipe


def choose(names: Sequence[str]) -> list[Candidate]:
    """Return the candidates called so, and those of families called so; without names, all of the search.

    Raises RunError, which lists the names, for one that is not there.
    """
    step = step_3()
    searched, frontier = candidates.search(step), candidates.frontier(step)
    groups: dict[str, list[Candidate]] = {}
    for candidate in [*searched, *frontier]:
        groups.setdefault(candidate.family, []).append(candidate)
    groups |= {candidate.name: [candidate] for candidate in [*searched, *frontier]}
    unknown = [name for name in names if name not in groups]
    if unknown:
        raise runner.RunError(f"there is no candidate or family {', '.join(unknown)}: use {', '.join(groups)}")
    return list(dict.fromkeys(candidate for name in names for candidate in groups[name])) or searched


def default_seeds(candidate: Candidate) -> int:
    """Return how many seeds a candidate gets."""
    return MORE_SEEDS if candidate.family == "frontier" or candidate.name == BASE else SEEDS


def train(candidate: Candidate, seeds: int, device: str, parallel: int | None) -> list[Record]:
    """Train ``candidate`` from ``seeds`` seeds, as far as they are not tracked yet; each is tracked as soon as done.

    Candidates of the search are scored on held-out images, those of the frontier on the test images. Then README and
    the figures are written anew. Raises StudyError if a seed did not finish.
    """
    score_on = "test" if candidate.family == "frontier" else "held-out"
    settings = replace(SETTINGS, device=device, score_on=score_on)
    plan = study.Plan(candidate.row, candidate.title, candidate, settings, range(seeds))
    records = study.conduct(plan, folder_of(candidate), parallel)
    publish.write_overview()
    return records


def folder_of(candidate: Candidate) -> Path:
    """Return where the records of a candidate are tracked."""
    return (publish.FRONTIER if candidate.family == "frontier" else publish.SEARCH) / candidate.name
