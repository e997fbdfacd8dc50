"""A network that was trained on the digits sample, and answers made up for the test."""

from pathlib import Path

import numpy as np
import pytest

from mnist_lab.analysis import networks
from mnist_lab.analysis.networks import Training


@pytest.fixture(scope="session")
def training(recipe, settings) -> Training:
    return Training("3", recipe, settings)


@pytest.fixture(scope="session")
def store(training, tmp_path_factory) -> Path:
    """A folder that has the network of ``training``."""
    folder = tmp_path_factory.mktemp("networks")
    networks.keep(training, folder)
    return folder


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of 4 seeds for 3,000 images, right as often as they say, and the labels."""
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(3000, 10)) * 3
    shares = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    labels = np.array([generator.choice(10, p=one) for one in shares])
    noisy = np.exp(logits + 0.2 * generator.normal(size=(4, 3000, 10)))
    return noisy / noisy.sum(-1, keepdims=True), labels
