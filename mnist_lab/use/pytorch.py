"""From PyTorch to files of weights, and back."""

import copy
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mnist_lab.batches import MEAN, STD
from mnist_lab.data import Dataset
from mnist_lab.experiment import Run
from mnist_lab.models import fold_batch_norm, leaves
from mnist_lab.recipe import Recipe, Settings
from mnist_lab.runtime import commit, write_whole
from mnist_lab.use.network import Layer
from mnist_lab.use.weights import FORMAT, Header, Network, WeightsError, as_bytes

NOTHING = (nn.Identity, nn.Dropout, nn.Dropout2d, nn.LogSoftmax)  # when a network reads; a softmax follows anyhow


def save(run: Run, data: Dataset, recipe: Recipe, settings: Settings, path: Path) -> Path:
    """Write the network of ``run`` to ``path`` with all that the other arguments say of it, and return the path.

    Raises WeightsError for layers that a file cannot hold, and OSError.
    """
    layers, arrays = from_torch(run.model)
    header = Header(
        format=FORMAT,
        model=type(run.model).__name__,
        layers=layers,
        classes=[str(digit) for digit in range(run.probabilities.shape[1])],
        mean=MEAN,
        std=STD,
        recipe=asdict(recipe),
        seed=settings.seed,
        data=data.name,
        train_images=len(data.train),
        scored_on=settings.score_on,
        scored_images=len(data.test),
        accuracy=run.history[-1].test.accuracy,
        commit=commit(),
    )
    Network(header, arrays)  # which checks that all fits together
    write_whole(path, as_bytes(header, arrays))
    return path


def from_torch(model: nn.Sequential) -> tuple[list[Layer], dict[str, np.ndarray]]:
    """Return the layers and arrays of ``model`` as it reads, with its norms folded.

    Raises WeightsError for layers of other kinds than :class:`Layer` has, or with options that it lacks.
    """
    layers: list[Layer] = []
    arrays: dict[str, np.ndarray] = {}
    for module in leaves(fold_batch_norm(copy.deepcopy(model).cpu().double())):
        if isinstance(module, NOTHING):
            continue
        number = len(layers)
        layers.append(describe(module))
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            bias = torch.zeros(len(module.weight)) if module.bias is None else module.bias.detach()
            arrays[f"{number}.weight"] = module.weight.detach().float().contiguous().numpy()
            arrays[f"{number}.bias"] = bias.float().numpy()
    return layers, arrays


def describe(module: nn.Module) -> Layer:
    """Return what a file says of ``module``. Raises WeightsError if :func:`build` would not make the same of it."""
    plain = {nn.Linear: "linear", nn.ReLU: "ReLU", nn.SiLU: "SiLU", nn.Flatten: "flatten"}
    if type(module) in plain:
        return Layer(kind=plain[type(module)])
    kinds = {nn.Conv2d: "convolution", nn.MaxPool2d: "max pooling", nn.AvgPool2d: "average pooling"}
    if type(module) in kinds:
        names = ("stride", "padding") if isinstance(module, nn.Conv2d) else ("kernel_size", "stride", "padding")
        values = {name.removesuffix("_size"): same(getattr(module, name)) for name in names}
        options = {"dilation": 1, "padding_mode": "zeros", "ceil_mode": False, "count_include_pad": True}
        usual = all(same(getattr(module, name, usual)) == usual for name, usual in options.items())
        if usual and all(isinstance(value, int) for value in (*values.values(), same(module.kernel_size))):
            return Layer(kind=kinds[type(module)], groups=getattr(module, "groups", 1), **values)
    raise WeightsError(f"a file of weights cannot hold {module}: extend network.Layer, or use other layers")


def same(value: object) -> object:
    """Return what is the same both ways, of a pair or of one value; None if the two differ."""
    if isinstance(value, tuple):
        return value[0] if len(set(value)) == 1 else None
    return value


def build(network: Network) -> nn.Sequential:
    """Return ``network`` as PyTorch's: normalised images (N, 1, 28, 28) in, logits out; in evaluation mode."""
    modules: list[nn.Module] = []
    for number, layer in enumerate(network.header.layers):
        weight, bias = (network.arrays.get(f"{number}.{name}") for name in ("weight", "bias"))
        if layer.kind == "convolution":
            inputs, outputs = weight.shape[1] * layer.groups, len(weight)
            module = nn.Conv2d(
                inputs, outputs, weight.shape[-1], stride=layer.stride, padding=layer.padding, groups=layer.groups
            )
        elif layer.kind == "linear":
            module = nn.Linear(weight.shape[1], len(weight))
        elif layer.kind in ("max pooling", "average pooling"):
            kind = nn.MaxPool2d if layer.kind == "max pooling" else nn.AvgPool2d
            module = kind(layer.kernel, layer.stride, layer.padding)
        else:
            module = {"ReLU": nn.ReLU, "SiLU": nn.SiLU, "flatten": nn.Flatten}[layer.kind]()
        if weight is not None:
            module.load_state_dict({"weight": torch.tensor(weight), "bias": torch.tensor(bias)})
        modules.append(module)
    return nn.Sequential(*modules).eval()
