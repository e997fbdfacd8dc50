"""How networks read drawings and other people's digits, and when they can be sure of it: measured over seeds."""

import hashlib
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import BaseModel, ConfigDict

from mnist_lab.data import DataNotFound, load_mnist
from mnist_lab.experiment import Run, load_data, train
from mnist_lab.recipe import Recipe, Settings
from mnist_lab.runtime import commit, environment, pick_device, write_whole
from mnist_lab.use import weights
from mnist_lab.use.collections import COLLECTIONS, Drawn
from mnist_lab.use.network import SIDE
from mnist_lab.use.preprocess import NoDigit, find_digits
from mnist_lab.use.pytorch import save
from mnist_lab.use.reading import CONFIDENCE, Confidence, find_sure, load_confidence

RECORD = Path("notebooks", "records", "use", "step3.json")
CONDITIONS = ("as drawn", "inverted", "fitted")
HEADERS = ("pictures", "how many", *(f"{condition}, %" for condition in CONDITIONS), "unsure, %", "sure but wrong, %")
NOTE = (
    "Read right; mean over seeds, in brackets the lowest and the highest. As drawn: the whole picture, black on white, "
    "made 28 x 28. Inverted: the same, white on black. Fitted: as mnist-lab predict does it, where a picture in which "
    "not exactly one digit is found counts as misread. Unsure: of all fitted ones; sure but wrong: of the sure ones."
)


class Counts(BaseModel):
    """What one network made of one collection of pictures."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    wrong: dict[str, int]  # for each condition, how many were misread; what gives no single digit is
    unsure: int  # of the fitted ones
    wrong_of_sure: int


class Reader(BaseModel):
    """One network."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    seed: int
    test_wrong: int  # of MNIST's 10,000 test images as they are
    weights: str  # the SHA-256 in their header
    collections: dict[str, Counts]


class Handwriting(BaseModel):
    """What was measured, over all seeds."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    recipe: dict[str, str | int | float | bool]
    sure_from: float
    pictures: dict[str, int]  # in each collection
    lost: dict[str, int]  # of these, in how many not exactly one digit was found
    readers: list[Reader]  # by seed
    commit: str | None


@dataclass(frozen=True)
class Prepared:
    """A collection as networks see it, under each condition."""

    images: dict[str, np.ndarray]  # (N, 28, 28) in [0, 1]
    labels: np.ndarray  # (N,)
    lost: np.ndarray  # (N,), whether fitting found not exactly one digit


def run(seeds: int, device: str, root: Path, *, publish: bool) -> int:
    """Train what is missing, measure, and keep the results in runs/ or, published, as tracked. Raises LabError."""
    recipe, settings = step_3(root, device)
    folder = root / "runs" / "use" / hashlib.sha256(json.dumps(asdict(recipe)).encode()).hexdigest()[:12]
    sure = folder / CONFIDENCE.name
    if not sure.is_file():
        write_whole(sure, as_text(measure_confidence(recipe, settings)))
    networks = [trained(recipe, settings, seed, folder) for seed in range(seeds)]
    found = measure(networks, prepare_all(), load_confidence(sure).sure_from)
    place = root / RECORD if publish else root / "runs" / "use" / RECORD.name
    write_whole(place, as_text(found))
    if publish:
        write_whole(CONFIDENCE, sure.read_bytes())
    print(f"written: {place}")
    return 0


def step_3(root: Path, device: str) -> tuple[Recipe, Settings]:
    """Return the recipe of step 3's records, and settings for its seed 0 on ``device``."""
    text = (root / "notebooks" / "records" / "steps" / "3.jsonl").read_text(encoding="utf-8")
    first = json.loads(text.partition("\n")[0])
    return Recipe(**first["recipe"]), Settings(**first["settings"] | {"device": device, "seed": 0})


def trained(recipe: Recipe, settings: Settings, seed: int, folder: Path) -> weights.Network:
    """Return the network of one seed: the published one, else that in ``folder``, else a new one, kept there."""
    path = folder / f"{seed}.safetensors"
    if weights.PUBLISHED.is_file():
        published = weights.load()
        if (published.header.recipe, published.header.seed) == (asdict(recipe), seed):
            return published
    if not path.is_file():
        settings = Settings(**asdict(settings) | {"seed": seed, "score_on": "test"})
        data = load_data(settings)
        print(f"seed {seed}:", flush=True)
        save(train(recipe, data, settings), data, recipe, settings, path)
    return weights.load(path)


def measure_confidence(recipe: Recipe, settings: Settings) -> Confidence:
    """Train without a sixth of the writers, and measure on their images from where on readings are sure."""
    settings = Settings(**asdict(settings) | {"seed": 0, "score_on": "writers"})
    data = load_data(settings)
    print("without a sixth of the writers, to measure when readings are sure:", flush=True)
    found = train(recipe, data, settings)
    return confidence(found, data.test.labels.cpu().numpy(), recipe, settings)


def confidence(found: Run, labels: np.ndarray, recipe: Recipe, settings: Settings) -> Confidence:
    """Return from where on the readings of a run are sure; ``labels`` (N,) are those of the images it was scored on."""
    probabilities = found.probabilities.numpy()
    highest, right = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == labels
    sure = highest >= (least := find_sure(highest, right))
    return Confidence(
        sure_from=least,
        images=len(labels),
        unsure=int((~sure).sum()),
        wrong_of_sure=int((sure & ~right).sum()),
        wrong_of_unsure=int((~sure & ~right).sum()),
        scored_on=settings.score_on,
        recipe=asdict(recipe),
        seed=settings.seed,
        device=environment(pick_device(settings.device)).device,
        commit=commit(),
    )


def prepare_all() -> dict[str, Prepared]:
    """Return every collection that is at hand, and say which is not."""
    prepared = {}
    for name, drawn in COLLECTIONS.items():
        try:
            prepared[name] = prepare(drawn())
        except DataNotFound as error:
            print(f"without {name}: {error}", flush=True)
    return prepared


def prepare(drawn: Drawn) -> Prepared:
    """Return pictures as networks see them, under each condition."""
    images, labels, lost = {condition: [] for condition in CONDITIONS}, [], []
    for picture, label in drawn:
        small = np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX)) / 255
        found = fitted(picture)
        lost.append(found is None)
        for condition, image in zip(CONDITIONS, (small, 1 - small, small if found is None else found), strict=True):
            images[condition].append(image.astype(np.float32))
        labels.append(label)
    return Prepared({name: np.stack(seen) for name, seen in images.items()}, np.array(labels), np.array(lost))


def fitted(picture: np.ndarray) -> np.ndarray | None:
    """Return the digit (28, 28) that is found in a picture's PNG; None unless it is exactly one."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    try:
        found = find_digits(file.getvalue())
    except NoDigit:
        return None
    return found[0].image if len(found) == 1 else None


def measure(networks: Iterable[weights.Network], prepared: dict[str, Prepared], sure_from: float) -> Handwriting:
    """Have every network read every collection."""
    networks, test = list(networks), load_mnist().test
    pixels, labels = test.images[:, 0].numpy() / np.float32(255), test.labels.numpy()
    readers = []
    for network in networks:
        wrong = int((network.logits(pixels).argmax(axis=1) != labels).sum())
        counts = {name: count(network, one, sure_from) for name, one in prepared.items()}
        header = network.header
        readers.append(Reader(seed=header.seed, test_wrong=wrong, weights=header.sha256, collections=counts))
        print(f"seed {header.seed} has read everything", flush=True)
    return Handwriting(
        recipe=networks[0].header.recipe,
        sure_from=sure_from,
        pictures={name: len(one.labels) for name, one in prepared.items()},
        lost={name: int(one.lost.sum()) for name, one in prepared.items()},
        readers=readers,
        commit=commit(),
    )


def count(network: weights.Network, one: Prepared, sure_from: float) -> Counts:
    """Return what ``network`` makes of a collection."""
    probabilities = {condition: network.probabilities(images) for condition, images in one.images.items()}
    wrong = {condition: found.argmax(axis=1) != one.labels for condition, found in probabilities.items()}
    wrong["fitted"] |= one.lost
    sure = (probabilities["fitted"].max(axis=1) >= sure_from) & ~one.lost
    return Counts(
        wrong={condition: int(found.sum()) for condition, found in wrong.items()},
        unsure=int((~sure).sum()),
        wrong_of_sure=int((wrong["fitted"] & sure).sum()),
    )


def load_handwriting(path: Path) -> Handwriting:
    """Read a record of this."""
    return Handwriting.model_validate_json(path.read_bytes())


def as_text(found: BaseModel) -> bytes:
    """Return ``found`` as JSON."""
    return found.model_dump_json(indent=1).encode() + b"\n"


def rows(found: Handwriting) -> list[tuple[str, ...]]:
    """Return a row for each collection, in the columns of HEADERS, and before them MNIST's test images as they are."""
    test = 10_000
    plain = spread([100 * (1 - one.test_wrong / test) for one in found.readers])
    table = [("MNIST's test images as they are", f"{test:,}", "", "", plain, "", "")]
    for name, count in found.pictures.items():
        counts = [one.collections[name] for one in found.readers]
        right = [spread([100 * (1 - one.wrong[condition] / count) for one in counts]) for condition in CONDITIONS]
        unsure = spread([100 * one.unsure / count for one in counts])
        wrong = spread([100 * one.wrong_of_sure / max(1, count - one.unsure) for one in counts])
        table.append((name, f"{count:,}", *right, unsure, wrong))
    return table


def spread(values: list[float]) -> str:
    """Return a mean, and with several values in brackets the lowest and the highest."""
    mean = f"{sum(values) / len(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.2f} – {max(values):.2f})"
