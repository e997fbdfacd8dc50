"""What there is to train again of the published series."""

from collections.abc import Sequence

from mnist_lab import publish, sweep
from mnist_lab.published.recipes import AS_PUBLISHED, REPAIRED, PublishedRecipe
from mnist_lab.sweep import Entry

SEEDS, LAST_STEP_SEEDS = 3, 5  # the third step of a series is what it advertises


def choose(names: Sequence[str]) -> list[Entry]:
    """Return the entries of series ("A"), steps ("A1") and "repairs", each once; without names, of all steps.

    Raises RunError, which lists the names, for one that is not there.
    """
    steps = {recipe.published: [entry(recipe)] for recipe in AS_PUBLISHED}
    groups = steps | {letter: [own for step in steps if step[0] == letter for own in steps[step]] for letter in "ABCDE"}
    groups["repairs"] = [entry(recipe) for recipe in REPAIRED]
    return sweep.choose(groups, names or list(steps))


def entry(recipe: PublishedRecipe) -> Entry:
    """Say where the records of ``recipe`` are tracked, and how many seeds it gets."""
    seeds = LAST_STEP_SEEDS if recipe.row[1:] == "3" else SEEDS
    return Entry(recipe, publish.PUBLISHED / recipe.row.replace(" ", "-"), "test", seeds)
