"""The five series together: what of them can be trained, and how often."""

from torch import nn

from mnist_lab.studies.others import series_a, series_b, series_c, series_d, series_e
from mnist_lab.studies.others.recipe import PublishedRecipe

SERIES = (series_a, series_b, series_c, series_d, series_e)
RECIPES = {recipe.name: recipe for series in SERIES for recipe in series.RECIPES}
CLAIMS = {name: claim for series in SERIES for name, claim in series.CLAIMS.items()}
VARIANTS = tuple(variant for series in SERIES for variant in series.VARIANTS)
SEEDS, LAST_STEP_SEEDS = 3, 5  # the third step of a series is what it advertises


def usual_seeds(recipe: PublishedRecipe) -> int:
    """Return from how many seeds ``recipe`` is trained unless one asks for another number."""
    return LAST_STEP_SEEDS if recipe.name[1:] == "3" else SEEDS


def networks() -> dict[str, tuple[type[nn.Sequential], str]]:
    """Return each network's class and the repository that published it, by the network's name."""
    return {name: (getattr(one.series, one.model), one.series.REPOSITORY) for name, one in RECIPES.items()}
