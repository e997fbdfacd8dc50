"""What there is to train of the search and of the frontier."""

from collections.abc import Sequence

from mnist_lab import publish, runner, sweep
from mnist_lab.recipe import Recipe, read_parameters
from mnist_lab.search import candidates
from mnist_lab.search.candidates import Candidate
from mnist_lab.search.tables import BASE
from mnist_lab.sweep import Entry

SEEDS, MORE_SEEDS = 3, 5  # more of step 3, which all are held against, and of the frontier


def step_3() -> Recipe:
    """Return the recipe of the last step, as its notebook states it."""
    recipe, _ = read_parameters(runner.find_steps()[-1].defaults())
    return recipe


def choose(names: Sequence[str]) -> list[Entry]:
    """Return the candidates called so, and those of families called so; without names, all of the search.

    Raises RunError, which lists the names, for one that is not there.
    """
    step = step_3()
    searched, frontier = candidates.search(step), candidates.frontier(step)
    groups: dict[str, list[Entry]] = {}
    for candidate in [*searched, *frontier]:
        groups.setdefault(candidate.family, []).append(entry(candidate))
    groups |= {candidate.name: [entry(candidate)] for candidate in [*searched, *frontier]}
    return sweep.choose(groups, names or [candidate.name for candidate in searched])


def entry(candidate: Candidate) -> Entry:
    """Say where the records of ``candidate`` are tracked, how many seeds it gets, and what it is scored on: those of
    the search on held-out images, those of the frontier on the test images."""
    if candidate.family == "frontier":
        return Entry(candidate, publish.FRONTIER / candidate.name, "test", MORE_SEEDS)
    return Entry(
        candidate, publish.SEARCH / candidate.name, "held-out", MORE_SEEDS if candidate.name == BASE else SEEDS
    )
