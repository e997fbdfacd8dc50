"""What a network is made of, and what it costs."""

import contextlib
import copy
import io
from dataclasses import dataclass

import torch
from torch import nn

from mnist_lab.models import count_parameters, fold_batch_norm
from mnist_lab.receptive_field import Row, trace


@dataclass(frozen=True)
class Facts:
    """The numbers by which networks are compared."""

    name: str
    trainable: int  # parameters
    deployed: int  # parameters once every norm that follows a convolution is folded into it
    multiply_accumulates: int  # for one image
    receptive_field: int  # of the logits, pixels


def facts(model: nn.Sequential) -> Facts:
    """Count parameters both ways, multiply-accumulates, and the pixels that the logits see."""
    rows = trace(model)
    return Facts(
        name=type(model).__name__,
        trainable=count_parameters(model),
        deployed=count_parameters(fold_batch_norm(model)),
        multiply_accumulates=sum(row.multiply_accumulates for row in rows),
        receptive_field=rows[-1].field_out,
    )


def layer_table(model: nn.Module) -> str:
    """Return torchsummary's table as text.

    torchsummary sends random images through the network to find the shapes; it gets a copy in evaluation mode and a
    borrowed random number generator, so that a summary changes neither the model nor a seeded run.
    """
    from torchsummary import summary

    text = io.StringIO()
    clone = copy.deepcopy(model).eval().cpu()
    with torch.random.fork_rng(devices=[]), torch.no_grad(), contextlib.redirect_stdout(text):
        # torchsummary makes its random images on CUDA whenever there is one, unless told "cpu".
        summary(clone, (1, 28, 28), device="cpu")
    # What follows the total is wrong for a norm without scale, and of no use at this size.
    return text.getvalue().partition("\nTrainable params")[0].strip()


def field_table(rows: list[Row]) -> str:
    """Return a trace as text, one line per layer."""
    width = max(14, *(len(row.layer) + 1 for row in rows))
    lines = [
        f"{'layer':<{width}}{'kernel':>7}{'stride':>7}{'out':>12}{'jump':>6}{'field':>7}{'parameters':>12}{'MACs':>10}"
    ]
    for row in rows:
        out = f"{row.channels_out}x{row.size_out}x{row.size_out}"
        lines.append(
            f"{row.layer:<{width}}{row.kernel:>7}{row.stride:>7}{out:>12}{row.jump_out:>6}{row.field_out:>7}"
            f"{row.parameters:>12,}{row.multiply_accumulates:>10,}"
        )
    parameters, products = sum(row.parameters for row in rows), sum(row.multiply_accumulates for row in rows)
    lines.append(f"{'total':<{width + 39}}{parameters:>12,}{products:>10,}")
    return "\n".join(lines)
