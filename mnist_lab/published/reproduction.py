"""Trains the published series again, from several seeds each, and tracks what came out."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mnist_lab import publish, runner, study
from mnist_lab.published.recipes import AS_PUBLISHED, RECIPES, REPAIRED, PublishedRecipe
from mnist_lab.recipe import Settings
from mnist_lab.records import Record

SEEDS, LAST_STEP_SEEDS = 3, 5  # the third step of a series is what it advertises
MNIST_TEST = Settings(seed=0, device="auto", threads=1, data="MNIST", score_on="test", train_limit=None)


def choose(names: Sequence[str]) -> list[PublishedRecipe]:
    """Return the recipes of series ("A"), steps ("A1") and "repairs", each once; without names, of all steps.

    Raises RunError, which lists the names, for one that is not there.
    """
    groups = {recipe.published: [recipe] for recipe in AS_PUBLISHED}
    groups |= {letter: [recipe for recipe in AS_PUBLISHED if recipe.published[0] == letter] for letter in "ABCDE"}
    groups["repairs"] = list(REPAIRED)
    unknown = [name for name in names if name not in groups]
    if unknown:
        raise runner.RunError(f"there is nothing called {', '.join(unknown)} to reproduce: use {', '.join(groups)}")
    return list(dict.fromkeys(recipe for name in names or RECIPES for recipe in groups[name]))


def default_seeds(recipe: PublishedRecipe) -> int:
    """Return how many seeds a step gets: more for what a series advertises."""
    return LAST_STEP_SEEDS if recipe.published[1:] == "3" else SEEDS


def reproduce(recipe: PublishedRecipe, seeds: int, device: str, parallel: int | None) -> list[Record]:
    """Train ``recipe`` from ``seeds`` seeds, as far as they are not tracked yet; each is tracked as soon as it is done.

    Then README and the figures are written anew. Raises StudyError if a seed did not finish.
    """
    plan = study.Plan(recipe.row, recipe.title, recipe, replace(MNIST_TEST, device=device), range(seeds))
    records = study.conduct(plan, folder_of(recipe), parallel)
    publish.write_overview()
    return records


def folder_of(recipe: PublishedRecipe) -> Path:
    """Return where the records of a recipe are tracked."""
    return publish.PUBLISHED / recipe.row.replace(" ", "-")
