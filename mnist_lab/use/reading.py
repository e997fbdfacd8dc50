"""What a network reads in a picture, and how sure it is."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from mnist_lab.use.network import STRICT
from mnist_lab.use.preprocess import Box, find_digits
from mnist_lab.use.weights import Network

CONFIDENCE = Path(__file__).with_name("confidence.json")
ALLOWED = 0.001  # share of wrong ones among the held-out images that count as sure
CLOSE = 0.1  # a runner-up of at least this probability is named


class Confidence(BaseModel):
    """From which probability on a reading is sure: measured on images that were held out of training."""

    model_config = STRICT

    sure_from: float  # the least probability of a reading that is sure
    images: int  # held out of training, on which this was measured
    unsure: int  # of these
    wrong_of_sure: int
    wrong_of_unsure: int
    scored_on: str  # "held-out": by people whose other digits were not trained on either
    networks: int  # that read them, each those which were held out of its training
    recipe: dict[str, str | int | float | bool]  # of these networks
    commit: str | None


@dataclass(frozen=True)
class Reading:
    """A digit in a picture, as a network reads it."""

    digit: str  # the most probable class
    probability: float
    second: str
    second_probability: float
    sure: bool
    box: Box  # in pixels of the picture
    image: np.ndarray  # (28, 28) in [0, 1], what the network saw

    @property
    def is_close(self) -> bool:
        return self.second_probability >= CLOSE

    def describe(self) -> str:
        """Return a line on it."""
        doubt = "" if self.sure else "  unsure"
        other = (
            f"{',' if doubt else ' '} or {self.second} ({percent(self.second_probability)})" if self.is_close else ""
        )
        return f"{self.digit}  {percent(self.probability)}{doubt}{other}"

    def draw(self) -> str:
        """Return what the network saw in 28 lines of characters, two for each pixel."""
        shades = np.array(list(" ░▒▓█"))[np.round(4 * self.image).astype(int)]
        return "\n".join("".join(np.repeat(row, 2)).rstrip() for row in shades)


def percent(probability: float) -> str:
    """Return a probability in per cent; none is 100 %."""
    return f"{100 * probability:.1f} %" if probability < 0.9995 else "> 99.9 %"


def read(network: Network, picture: Path | bytes) -> list[Reading]:
    """Return the digits in a picture (a file, or its content), from left to right.

    Raises PictureError for what is not a picture, and NoDigit for one in which there is none.
    """
    found, least = find_digits(picture), load_confidence().sure_from
    probabilities = network.probabilities(np.stack([digit.image for digit in found]))
    readings = []
    for digit, shares in zip(found, probabilities, strict=True):
        first, second = np.argsort(-shares, kind="stable")[:2]
        names, sure = network.header.classes, bool(shares[first] >= least)
        values = (names[first], float(shares[first]), names[second], float(shares[second]))
        readings.append(Reading(*values, sure, digit.box, digit.image))
    return readings


def load_confidence(path: Path = CONFIDENCE) -> Confidence:
    """Read what says when a reading is sure."""
    return Confidence.model_validate_json(path.read_bytes())


def doubt(network: Network) -> str:
    """Say why "sure" means little for a network; nothing for those of the recipe that it was measured on."""
    if network.header.recipe == load_confidence().recipe:
        return ""
    return 'From which probability on this network is right was not measured: "unsure" is said as of step 3\'s.'


def find_sure(probabilities: np.ndarray, right: np.ndarray) -> float:
    """Return the least probability from which on at most 1 in 1,000 readings is wrong.

    ``probabilities`` (N,) are those of the digits that were read, and ``right`` (N,) says whether they were right.
    Readings of equal probability count together. 1.0 if even the surest of them are wrong too often.
    """
    order = np.argsort(-probabilities, kind="stable")
    ranked, wrong = probabilities[order], np.cumsum(~right[order])
    last = np.append(ranked[1:] != ranked[:-1], True)  # of those with the same probability
    good = last & (wrong <= ALLOWED * np.arange(1, len(ranked) + 1))
    return float(ranked[np.flatnonzero(good)[-1]]) if good.any() else 1.0
