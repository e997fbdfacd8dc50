"""How far a network's confidence can be trusted: what it claims against what it does.

What is fitted here, the temperature and the threshold of "unsure", is fitted on training images by writers that the
network was not trained on; the test images only show what came of it.
"""

import math
from dataclasses import dataclass

import numpy as np

from mnist_lab.analysis.errors import ratio
from mnist_lab.analysis.probabilities import loss
from mnist_lab.evidence.uncertainty import Interval
from mnist_lab.use.reading import Confidence

CLAIMS = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001)  # chances of error, between bins
BINS = 15  # of equal mass
REPEATS = 200


def cooled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return probabilities (..., 10) whose logits were divided by ``temperature``; above 1 it lowers confidence.

    Guo, Pleiss, Sun and Weinberger, "On Calibration of Modern Neural Networks", ICML 2017, section 4.2.
    """
    powers = probabilities.clip(1e-12) ** (1 / temperature)
    return powers / powers.sum(-1, keepdims=True)


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature at which the cross-entropy of probabilities (N, 10) is lowest."""
    from scipy.optimize import minimize_scalar

    found = minimize_scalar(
        lambda power: loss(cooled(probabilities, math.exp(power)), labels), bounds=(-1.5, 1.5), method="bounded"
    )
    return math.exp(found.x)


@dataclass(frozen=True)
class Bin:
    """Answers that claim about the same chance of error."""

    claimed: float  # chance of error, mean over the answers
    observed: float  # share that is wrong
    interval: Interval  # of the latter, for other images
    answers: float  # per seed


def reliability(found: np.ndarray, labels: np.ndarray) -> list[Bin]:
    """Return claimed and observed errors of seeds' probabilities (seeds, N, 10), by the claim, the largest first.

    The seeds read the same images, so an image with all of its seeds counts as one when intervals are drawn.
    """
    claimed = 1 - found.max(-1)
    wrong = found.argmax(-1) != labels
    told = []
    for high, low in zip((1, *CLAIMS), (*CLAIMS, 0), strict=True):
        inside = (claimed < high) & (claimed >= low)
        sizes = inside.sum(0)
        if sizes.sum():
            events = (wrong & inside).sum(0)
            rate, interval = ratio(events[sizes > 0], sizes[sizes > 0])
            told.append(Bin(float(claimed[inside].mean()), rate, interval, float(sizes.sum() / len(found))))
    return told


def calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the expected calibration error (ECE) of probabilities (N, 10) over bins with equally many images.

    Nguyen and O'Connor, EMNLP 2015: bins of equal width would leave all but one of them empty here.
    """
    return _calibration_error(probabilities.max(-1), probabilities.argmax(-1) == labels)


def expected_if_calibrated(probabilities: np.ndarray) -> float:
    """Return the mean ECE that these confidences would show if they were right: so few errors always leave some."""
    generator, confidence = np.random.default_rng(0), probabilities.max(-1)
    draws = [generator.random(len(confidence)) < confidence for _ in range(REPEATS)]
    return float(np.mean([_calibration_error(confidence, right) for right in draws]))


def _calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    order = np.argsort(confidence, kind="stable")
    gaps = [(confidence[part] - right[part]).sum() for part in np.array_split(order, BINS)]
    return float(np.abs(gaps).sum() / len(order))


def risk_by_coverage(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the share of errors among the surest 1, 2, ... N answers, (N,); probabilities are (N, 10)."""
    confidence, wrong = probabilities.max(-1), probabilities.argmax(-1) != labels
    return wrong[np.argsort(-confidence, kind="stable")].cumsum() / np.arange(1, len(wrong) + 1)


@dataclass(frozen=True)
class Threshold:
    """What a threshold does to the answers of an average seed."""

    unsure: float  # share of the answers
    risk: float  # errors among the others
    caught: float  # share of the errors that are called unsure


def measured(sure: Confidence) -> Threshold:
    """Return what the threshold of ``mnist-lab predict`` did to the answers that it was set on."""
    wrong = sure.wrong_of_sure + sure.wrong_of_unsure
    risk = sure.wrong_of_sure / max(1, sure.images - sure.unsure)
    return Threshold(sure.unsure / sure.images, risk, sure.wrong_of_unsure / max(1, wrong))


def apply_threshold(found: np.ndarray, labels: np.ndarray, threshold: float) -> Threshold:
    """Call answers below ``threshold`` unsure; ``found`` are (seeds, N, 10)."""
    unsure, wrong = found.max(-1) < threshold, found.argmax(-1) != labels
    kept = max(1, (~unsure).sum())
    return Threshold(float(unsure.mean()), float((wrong & ~unsure).sum() / kept),
                     float((wrong & unsure).sum() / max(1, wrong.sum())))  # fmt: skip
