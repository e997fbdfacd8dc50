"""What step 3 sees: its filters and templates, which pixels decided an error, and what training images it is near."""

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F

from mnist_lab.analysis.kept import read_checked
from mnist_lab.analysis.networks import Training, load
from mnist_lab.analysis.shrinking import convolutions, templates
from mnist_lab.batches import OrderedBatches, normalise
from mnist_lab.data import Split
from mnist_lab.evidence.records import read_list, write_list
from mnist_lab.experiment import load_data
from mnist_lab.models import fold_batch_norm, leaves
from mnist_lab.recipe import STRICT
from mnist_lab.runtime import make_repeatable, write_whole
from mnist_lab.training import predict

FILE, ARRAYS = "inside.json", "inside.npz"
PATCH = 5  # side of the square that is hidden, pixels
NEIGHBOURS = 5
MAPPED = 24  # errors whose maps are compared: the most confident ones
SHOWN = 8  # errors whose maps are kept
RANDOM_SEED = 900  # of the network that was never trained


class Inside(BaseModel):
    """What was looked at, beside the arrays in a file of their own."""

    model_config = STRICT

    trained: str  # see networks.Training
    seed: int
    digits_of_filters: list[int]  # the digit for which each template speaks most
    errors: list[int]  # test images that the seed misreads, the most confident mistake first
    labels: list[int]
    predicted: list[int]
    confidences: list[float]
    shown: list[int]  # of these, by their place in the list: those whose maps are kept
    agreement: dict[str, dict[str, float]]  # of maps: method -> compared with -> mean rank correlation over errors
    agreement_unsigned: dict[str, dict[str, float]]  # the same of their absolute values
    neighbours: list[list[int]]  # of each error: the nearest training images
    neighbour_labels: list[list[int]]
    sha256: str  # of the arrays


@dataclass(frozen=True)
class Arrays:
    """Pictures: filters (C, K, K), templates (C, H, W), and maps (shown, 28, 28) by method and network."""

    filters: np.ndarray
    templates: np.ndarray
    maps: dict[str, np.ndarray]  # "occlusion, trained", "gradient, random", ...


def look(first: Training, second: Training, folder: Path, out: Path) -> None:
    """Look into the network of ``first``, and write what was seen to ``out``.

    A second seed says how far maps agree between networks that do the same; one that was never trained, how far they
    would agree if they showed only the image. Raises OSError.
    """
    data = load_data(first.settings)
    network, other = load(first, folder), load(second, folder)
    make_repeatable(RANDOM_SEED, first.settings.threads)
    random = first.recipe.network().eval()
    test = first.recipe.scored(data.test)
    found = predict(network, test)
    confidence, predicted = found.max(1)
    errors = (predicted != data.test.labels).nonzero().flatten()
    errors = errors[confidence[errors].argsort(descending=True)]
    labels, wrong = data.test.labels[errors], predicted[errors]
    shown = list(range(min(SHOWN, len(errors))))

    mapped = errors[:MAPPED], labels[:MAPPED], wrong[:MAPPED]
    images = normalise(data.test.images[mapped[0]].float() / 255, test.mean, test.std)
    kinds = {"trained": network, "another seed": other, "random": random}
    maps = {(method, kind): METHODS[method](model, images, *mapped[1:])
            for method in METHODS for kind, model in kinds.items()}  # fmt: skip
    near = neighbours(network, data.train, data.test.take(errors), test)
    deployed = fold_batch_norm(network)
    head = leaves(deployed)[leaves(deployed).index(templates(deployed)) + 1]
    arrays = {"filters": convolutions(deployed)[0].weight[:, 0], "templates": templates(deployed).weight[:, 0]}
    arrays |= {f"{method}, {kind}": found[shown] for (method, kind), found in maps.items()}
    content = io.BytesIO()
    half = {name: array.detach().numpy().astype(np.float16) for name, array in arrays.items()}  # pictures need no more
    np.savez_compressed(content, **half)
    write_whole(out / ARRAYS, content.getvalue())
    told = Inside(
        trained=first.trained,
        seed=first.seed,
        digits_of_filters=head.weight.flatten(1).argmax(0).tolist(),
        errors=errors.tolist(),
        labels=labels.tolist(),
        predicted=wrong.tolist(),
        confidences=[round(one, 4) for one in confidence[errors].tolist()],
        shown=shown,
        agreement=agree(maps),
        agreement_unsigned=agree({kind: found.abs() for kind, found in maps.items()}),
        neighbours=near.tolist(),
        neighbour_labels=data.train.labels[near].tolist(),
        sha256=hashlib.sha256(content.getvalue()).hexdigest(),
    )
    write_list(out / FILE, [told])


def read(folder: Path) -> tuple[Inside, Arrays] | None:
    """Return what was seen, None if nobody has looked yet. Raises RecordError or AnalysisError for damaged files."""
    items = read_list(folder / FILE, Inside)
    if not items:
        return None
    content = read_checked(folder / ARRAYS, items[0].sha256, FILE)
    with np.load(io.BytesIO(content)) as loaded:
        arrays = {name: loaded[name].astype(np.float32) for name in loaded.files}
    return items[0], Arrays(arrays.pop("filters"), arrays.pop("templates"), arrays)


def margin(model: nn.Module, images: Tensor, labels: Tensor, wrong: Tensor) -> Tensor:
    """Return by how much the logit of the digit read exceeds that of the label, (N,)."""
    logits = model(images)
    return (logits.gather(1, wrong[:, None]) - logits.gather(1, labels[:, None]))[:, 0]


@torch.no_grad()
def occlusion_map(model: nn.Module, images: Tensor, labels: Tensor, wrong: Tensor) -> Tensor:
    """Return by how much hiding the square around each pixel lowers the margin, (N, 28, 28).

    Zeiler and Fergus, ECCV 2014, section 4.2. Hidden pixels are black, as paper is; so where there is no ink the map
    is 0. Where it is positive, ink speaks for the digit that was read.
    """
    reach, side = PATCH // 2, images.shape[-1]
    places = torch.arange(side)
    across = (places[None, :] - places[:, None]).abs() <= reach  # (place, pixel)
    hidden = (across[:, None, :, None] & across[None, :, None, :]).flatten(0, 1)[:, None]  # (784, 1, 28, 28)
    maps, black = torch.zeros(len(images), side * side), images.min()
    for found, image, label, read in zip(maps, images, labels, wrong, strict=True):
        inked = (hidden & (image > black)).flatten(1).any(1)
        copies = torch.where(hidden[inked], black, image[None])
        many = len(copies)
        whole = margin(model, image[None], label[None], read[None])
        found[inked] = whole - margin(model, copies, label.expand(many), read.expand(many))
    return maps.view(-1, side, side)


def gradient_map(model: nn.Module, images: Tensor, labels: Tensor, wrong: Tensor) -> Tensor:
    """Return how fast each pixel raises the margin, (N, 28, 28) (Simonyan, Vedaldi and Zisserman, 2014, section 3)."""
    images = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(margin(model, images, labels, wrong).sum(), images)
    return gradient[:, 0]


METHODS: dict[str, Callable[[nn.Module, Tensor, Tensor, Tensor], Tensor]] = {
    "occlusion": occlusion_map,
    "gradient": gradient_map,
}


def agree(maps: Mapping[tuple[str, str], Tensor]) -> dict[str, dict[str, float]]:
    """Return the correlation of the trained network's maps with those of each other one, by method."""
    found: dict[str, dict[str, float]] = {method: {} for method in METHODS}
    for (method, kind), others in maps.items():
        if kind != "trained":
            found[method][kind] = correlation(maps[method, "trained"], others)
    return found


def correlation(maps: Tensor, others: Tensor) -> float:
    """Return the mean rank correlation (Spearman's) of two networks' maps (N, 28, 28).

    The sanity check of Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018: a map that random weights do
    not change shows the image, not the network. Random weights speak for either of two digits as often as for the
    other, so that with signs they agree to 0 in the mean, whatever a map shows; absolute values can tell. Pixels that
    are 0 in both maps are left out.
    """
    from scipy.stats import spearmanr

    found = []
    for one, other in zip(maps.flatten(1).numpy(), others.flatten(1).numpy(), strict=True):
        moved = (one != 0) | (other != 0)
        value = spearmanr(one[moved], other[moved]).statistic if moved.sum() > 2 else 0.0
        found.append(0.0 if np.isnan(value) else float(value))
    return round(float(np.mean(found)), 2) + 0.0  # never -0.0


@torch.no_grad()
def neighbours(network: nn.Sequential, train: Split, queries: Split, like: OrderedBatches) -> Tensor:
    """Return the training images nearest to each of ``queries``, (N, neighbours), the nearest first.

    Near by the angle between what the last layer is given, numbers in which the logits are linear, each divided by its
    deviation over the training images. ``like`` tells how images are normalised.
    """
    features = nn.Sequential(*leaves(network)[: leaves(network).index(convolutions(network)[-1])]).eval()

    def embed(split: Split) -> Tensor:
        batches = OrderedBatches(split, mean=like.mean, std=like.std)
        return torch.cat([features(images).flatten(1) for images, _ in batches])

    known = embed(train)
    deviation = known.std(0).clamp(min=1e-6)
    likeness = F.normalize(embed(queries) / deviation, dim=1) @ F.normalize(known / deviation, dim=1).T
    return likeness.topk(min(NEIGHBOURS, len(train))).indices
