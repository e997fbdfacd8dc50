"""Weights in files: of networks that are trained once, by whoever comes first, and used again."""

import io
import math
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from filelock import FileLock
from torch import nn

from mnist_lab import LabError
from mnist_lab.recipe import AnyRecipe
from mnist_lab.runtime import write_whole


class KeptError(LabError):
    """A file of weights is damaged, or of another training than today's code does."""


def keep(path: Path, make: Callable[[], Mapping], opening: Callable[[], float], tolerance: float = 1e-3) -> None:
    """Keep the state that ``make`` returns, as of a trained network, unless the file has it; others wait meanwhile.

    ``opening`` returns the loss of the training's first batches (:func:`experiment.measure_opening`). It is kept, too,
    and if it is another one by now, but for a relative ``tolerance``, the code has changed. Raises KeptError then, and
    if the file is damaged; what ``make`` and ``opening`` raise; and OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            content = io.BytesIO()
            torch.save({"opening_loss": opening(), "state": make()}, content)
            write_whole(path, content.getvalue())
        elif not math.isclose(now := opening(), before := read(path)["opening_loss"], rel_tol=tolerance):
            raise KeptError(
                f"{path} is of code that trained otherwise (loss of the first batches {before:.4f}, now {now:.4f}): "
                "move its folder away, and it is trained again"
            )


def read(path: Path) -> dict:
    """Return what :func:`keep` wrote: "state" and "opening_loss". Raises KeptError if the file is damaged, OSError."""
    content = path.read_bytes()
    try:
        found = torch.load(io.BytesIO(content), weights_only=True)
        return {name: found[name] for name in ("state", "opening_loss")}
    except Exception as error:  # of many kinds: torch names none for a file that is damaged
        raise KeptError(f"{path} cannot be read ({error}): delete it, and it is trained again") from None


def load(path: Path, recipe: AnyRecipe) -> nn.Sequential:
    """Return the network of a recipe with the weights of a file. Raises what :func:`read` raises."""
    network = recipe.network().to(memory_format=torch.channels_last)
    network.load_state_dict(read(path)["state"])
    return network
