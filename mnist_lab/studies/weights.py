"""Weights in files: of networks that are trained once, by whoever comes first, and used again."""

import io
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from filelock import FileLock
from torch import nn

from mnist_lab.recipe import AnyRecipe
from mnist_lab.runtime import write_whole


def keep(path: Path, make: Callable[[], Mapping]) -> None:
    """Keep the state that ``make`` returns, as of a trained network, unless the file has it; others wait meanwhile.

    Raises what ``make`` raises, and OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            content = io.BytesIO()
            torch.save(make(), content)
            write_whole(path, content.getvalue())


def load(path: Path, recipe: AnyRecipe) -> nn.Sequential:
    """Return the network of a recipe with the weights of a file. Raises what torch raises for one that is damaged."""
    network = recipe.network().to(memory_format=torch.channels_last)
    network.load_state_dict(torch.load(path, weights_only=True))
    return network
