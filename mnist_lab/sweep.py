"""Many recipes, chosen by name: each is trained from several seeds, tracked and shown before the next one starts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mnist_lab import publish, runner, study
from mnist_lab.published.recipes import PublishedRecipe
from mnist_lab.recipe import Settings
from mnist_lab.records import Record
from mnist_lab.search.candidates import Candidate


@dataclass(frozen=True)
class Entry:
    """A recipe of a sweep."""

    recipe: PublishedRecipe | Candidate
    folder: Path  # where its records are tracked
    score_on: str  # "test" or "held-out"
    seeds: int  # that it usually gets


def choose(groups: Mapping[str, Sequence[Entry]], names: Iterable[str]) -> list[Entry]:
    """Return the entries of the groups called so, each once.

    Raises RunError, which lists the groups, for one that is not there.
    """
    unknown = [name for name in names if name not in groups]
    if unknown:
        raise runner.RunError(f"there is nothing called {', '.join(unknown)} to train: use {', '.join(groups)}")
    return list(dict.fromkeys(entry for name in names for entry in groups[name]))


def train(entry: Entry, seeds: int, device: str, parallel: int | None) -> list[Record]:
    """Train the recipe of ``entry`` from ``seeds`` seeds, as far as they are not tracked yet; each is tracked as soon
    as it is done.

    Then README and the figures are written anew. Raises StudyError if a seed did not finish.
    """
    settings = Settings(seed=0, device=device, threads=1, data="MNIST", score_on=entry.score_on, train_limit=None)
    plan = study.Plan(entry.recipe.row, entry.recipe.title, entry.recipe, settings, range(seeds))
    records = study.conduct(plan, entry.folder, parallel)
    publish.write_overview()
    return records
