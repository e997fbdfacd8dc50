"""The drawing page: one HTML file that reads digits as they are drawn, offline, in plain JavaScript.

``page.html`` is the page without a network; :func:`render` fills that in. The page has an interpreter for the layers
of :mod:`mnist_lab.use.network`, so another network needs no other page.
"""

import base64
import json
from pathlib import Path

import numpy as np

from mnist_lab import LabError
from mnist_lab.use.preprocess import BOX, INK, MIDDLE, MOST_DIGITS, SIDE
from mnist_lab.use.reading import CLOSE, doubt
from mnist_lab.use.weights import Network

TEMPLATE = Path(__file__).with_name("page.html")
PLACE = "{{ LAB }}"  # in the template: where the network goes, as JSON
DIGITS = [str(digit) for digit in range(10)]


class PageError(LabError):
    """The page cannot show this network."""


def render(network: Network, sure_from: float) -> str:
    """Return the page for ``network``. A reading below the probability ``sure_from`` is said to be unsure.

    Its weights are in the page as little-endian float32 in base64, layer by layer, the weights (channels out,
    channels in / groups, kernel, kernel) before the bias. Raises PageError for classes other than the digits.
    """
    header = network.header
    if header.classes != DIGITS:
        raise PageError(f"the page reads the digits 0 to 9, and this network tells {', '.join(header.classes)} apart")
    layers, numbers = [], []
    for number, layer in enumerate(header.layers):
        described = layer.model_dump()
        if f"{number}.weight" in network.arrays:
            weight, bias = network.arrays[f"{number}.weight"], network.arrays[f"{number}.bias"]
            kernel = weight.shape[2] if weight.ndim == 4 else 1
            described |= {"channels": len(bias), "incoming": weight.shape[1], "kernel": kernel}
            numbers += [weight.ravel(), bias]
        layers.append(described)
    lab = {
        "about": f"{header.model}, seed {header.seed}, trained on {header.train_images:,} images of {header.data}: it "
        f"reads {100 * header.accuracy:.2f} % of {header.scored_images:,} {header.scored_on} images.",
        "parameters": sum(array.size for array in network.arrays.values() if array.any()),  # but for missing biases
        "checksum": header.sha256,
        "sure_from": sure_from,
        "measured": not doubt(network),  # whether that was fixed on networks like this one
        "most": MOST_DIGITS,
        "close": CLOSE,
        "mean": header.mean,
        "std": header.std,
        "side": SIDE,
        "box": BOX,
        "middle": MIDDLE,
        "ink": INK,
        "layers": layers,
        "weights": base64.b64encode(np.concatenate(numbers).astype("<f4").tobytes()).decode(),
    }
    text = json.dumps(lab, ensure_ascii=False).replace("<", "\\u003c")  # "</script>" would end the JSON
    return TEMPLATE.read_text(encoding="utf-8").replace(PLACE, text)
