"""Files of weights: what is written comes back, and what is not right is refused with a sentence."""

import json
import pickle
import struct

import numpy as np
import pytest
import torch
from torch import nn

from mnist_lab import models, use
from mnist_lab.evidence.records import TRACKED, load_file
from mnist_lab.experiment import Run
from mnist_lab.training import Epoch, Metrics
from mnist_lab.use import pytorch, weights
from mnist_lab.use.weights import KEY, Network, WeightsError, as_bytes, checksum


def run_of(model: nn.Module) -> Run:
    scored = Metrics(0.1, 0.9)
    return Run(model, [Epoch(1, 0.01, scored, scored, 1.0)], torch.zeros(5, 10), 2.3, 1.0)


def moved(model: nn.Module) -> nn.Module:
    """Return ``model`` with norms that do something."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
    return model.eval()


@pytest.fixture
def saved(tmp_path, recipe, settings, digits):
    torch.manual_seed(0)
    return pytorch.save(run_of(moved(models.CompactNet())), digits, recipe, settings, tmp_path / "1.safetensors")


@pytest.mark.parametrize("name", models.MODELS)
def test_what_is_saved_reads_as_before(name, tmp_path, recipe, settings, digits):
    torch.manual_seed(0)
    model = moved(models.build(name))
    network = use.load(pytorch.save(run_of(model), digits, recipe, settings, tmp_path / "new" / "1.safetensors"))
    images = digits.test.images[:50, 0].numpy() / 255
    normalised = torch.tensor((images[:, None] - network.header.mean) / network.header.std, dtype=torch.float32)
    with torch.no_grad():
        expected = model(normalised).numpy()
        again = pytorch.build(network)(normalised).numpy()
    assert np.abs(network.logits(images) - expected).max() < 1e-4
    assert np.abs(again - expected).max() < 1e-4
    assert np.allclose(network.probabilities(images).sum(axis=1), 1)
    header = network.header
    assert (header.model, header.seed, header.accuracy, header.data) == (name, settings.seed, 0.9, digits.name)
    assert (header.train_images, header.scored_images) == (len(digits.train), len(digits.test))
    assert header.recipe["rotation"] == recipe.rotation


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.AvgPool2d(2, 3), nn.Flatten(), nn.Linear(100, 10)],
        [nn.Conv2d(1, 6, 5, padding=2), nn.MaxPool2d(3, 2, 1), nn.Conv2d(6, 4, 3, groups=2), nn.Dropout(0.1),
         nn.Conv2d(4, 10, 12), nn.Flatten(), nn.LogSoftmax(1)],
    ],
)  # fmt: skip
def test_other_layers_compute_as_in_pytorch(layers):
    torch.manual_seed(0)
    model = nn.Sequential(*layers).eval()
    found, arrays = pytorch.from_torch(model)
    network = Network(use.load().header.model_copy(update={"layers": found, "mean": 0.0, "std": 1.0}), arrays)
    images = torch.rand(7, 1, 28, 28)
    with torch.no_grad():
        expected = model(images).softmax(1).numpy()
    assert np.abs(network.probabilities(images.numpy()) - expected).max() < 1e-5


@pytest.mark.parametrize("layer", [nn.GELU(), nn.Conv2d(1, 2, 3, dilation=2), nn.Conv2d(1, 2, (3, 5)),
                                   nn.Conv2d(1, 2, 3, padding="same"), nn.MaxPool2d(2, ceil_mode=True)])  # fmt: skip
def test_what_a_file_cannot_hold_is_refused(layer):
    with pytest.raises(WeightsError, match="cannot hold"):
        pytorch.from_torch(nn.Sequential(layer, nn.Flatten()))


def test_the_published_network_is_that_of_step_3s_record(mnist):
    """The same seed of the same recipe, and it misreads exactly the images that the record lists."""
    network, record = use.load(), load_file(TRACKED / "steps" / "3.jsonl")[0]
    header = network.header
    assert (header.recipe, header.seed, header.accuracy) == (record.recipe, record.seed, record.accuracy)
    found = network.logits(mnist.test.images[:, 0].numpy() / 255).argmax(axis=1)
    assert set(np.flatnonzero(found != mnist.test.labels.numpy()).tolist()) == record.misread
    assert weights.PUBLISHED.stat().st_size < 40_000


def header_of(content: bytes) -> dict:
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length])


def with_header(content: bytes, **changes) -> bytes:
    """Return a file whose own header says something else, as safetensors has it."""
    length = struct.unpack("<Q", content[:8])[0]
    outer = header_of(content)
    outer["__metadata__"][KEY] = json.dumps(json.loads(outer["__metadata__"][KEY]) | changes)
    text = json.dumps(outer).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


class Boom:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was executed",))


def test_files_that_are_not_right(saved, tmp_path):
    good = saved.read_bytes()
    network = use.load(saved)
    header, arrays = network.header, network.arrays
    changed = bytearray(good)
    changed[-5] ^= 1
    lying = header.model_copy(update={"accuracy": 1.0})
    small = {**arrays, "0.weight": arrays["0.weight"][:4]}
    nan = {**arrays, "0.weight": arrays["0.weight"] * np.float32(np.nan)}
    double = {**arrays, "0.weight": arrays["0.weight"].astype(np.float64)}
    scalar = {**arrays, "0.weight": np.zeros((), dtype=np.float32)}
    extra = {**arrays, "99.weight": np.zeros(3, dtype=np.float32)}
    missing = {name: array for name, array in arrays.items() if name != "0.bias"}
    nine = header.model_copy(update={"classes": list("123456789")})

    def hostile(**said: str) -> bytes:
        """Return a file with a right checksum that says what C would execute once it stood in a comment."""
        return as_bytes(header.model_copy(update=said), arrays)

    other = weights.as_safetensors({"conv1.weight": np.zeros((8, 1, 3, 3), dtype=np.float32)})
    torch.save({"weight": torch.zeros(3)}, tmp_path / "torch.pt")
    cases = {
        "its checksum is wrong": bytes(changed),
        "checksum is": with_header(good, accuracy=1.0),
        "it is of format 2, and this version of mnist-lab reads 1": with_header(good, format=2),
        "its header has a wrong accuracy": with_header(good, accuracy=7.0),
        "its header has a wrong surprise": with_header(good, surprise=1),
        "its header has a wrong model": hostile(model="x */ int system(); /*"),
        "its header has a wrong data": hostile(data="MNIST\n */ #include <evil.h>"),
        "its header has a wrong sha256": with_header(good, sha256="*/ 0"),
        "its header has a wrong layers.0.kind": with_header(good, layers=[{"kind": "python"}]),
        "its header has a wrong layers.0.stride": with_header(good, layers=[{"kind": "ReLU", "stride": 10**9}]),
        "does not fit what comes into it": as_bytes(header, small),
        "not all finite": as_bytes(header, nan),
        "of 32 bits": as_bytes(header, double),
        "convolution, does not fit what comes into it": as_bytes(header, scalar),
        "no layer uses 99.weight": as_bytes(header, extra),
        "has no 0.weight and 0.bias": as_bytes(header, missing),
        "not in 9 classes": as_bytes(nine, arrays),
        "another program wrote it": other,
        "pickles, as of torch.save, are never opened": pickle.dumps(Boom()),
        "are never opened": (tmp_path / "torch.pt").read_bytes(),
        "no file of weights": struct.pack("<Q", 2**62) + good[8:],
        "no file of weights ": struct.pack("<Q", 50_000_000) + good[8:],
        "is no file of weights": good[:1000],
        "no file of weights in safetensors": b"",
        "it is larger than 16 MB": bytes(17_000_000),
    }
    for message, content in cases.items():
        path = tmp_path / "case.safetensors"
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=message):
            use.load(path)
    # The checksum finds what changed, and no more: someone who lies consistently is believed.
    assert checksum(lying, arrays) != header.sha256
    path.write_bytes(as_bytes(lying, arrays))
    assert use.load(path).header.accuracy == 1.0
    for place in ("nowhere", "."):
        with pytest.raises(WeightsError, match=f"cannot read {tmp_path / place}: "):
            use.load(tmp_path / place)


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 100, 3000])
def test_a_file_that_was_cut_off(saved, tmp_path, length):
    (tmp_path / "cut").write_bytes(saved.read_bytes()[:length])
    with pytest.raises(WeightsError):
        use.load(tmp_path / "cut")
