import shutil

import numpy as np
import pytest
import torch
from torch import nn

from mnist_lab import cli, use
from mnist_lab.use import export, int8, pytorch
from mnist_lab.use.weights import Network


@pytest.fixture
def images() -> np.ndarray:
    """Random blots (40, 28, 28), bytes, from empty to full."""
    generator = np.random.default_rng(0)
    blots = generator.normal(size=(40, 7, 7)).repeat(4, axis=1).repeat(4, axis=2)
    return np.where(blots > np.linspace(-2, 2, 40)[:, None, None], 255, 0).astype(np.uint8)


@pytest.fixture(params=["step 3", "other layers"])
def network(request) -> Network:
    """Step 3's, and one with the other layers that all forms have."""
    published = use.load()
    if request.param == "step 3":
        return published
    torch.manual_seed(0)
    first = nn.Conv2d(1, 6, 4, stride=2), nn.ReLU(), nn.AvgPool2d(2, 2)
    second = nn.Conv2d(6, 8, 3, groups=2), nn.MaxPool2d(2), nn.Conv2d(8, 10, 2), nn.Flatten()
    found, arrays = pytorch.from_torch(nn.Sequential(*first, *second))
    return Network(published.header.model_copy(update={"layers": found}), arrays)


def test_onnx_computes_the_same_for_any_number_of_images(network, images, tmp_path):
    onnx = pytest.importorskip("onnx")
    path = tmp_path / "network.onnx"
    path.write_bytes(export.as_onnx(network))
    expected = export.from_pytorch(network, images)
    assert np.abs(export.from_onnx(path, images) - expected).max() < 1e-4
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    alone = session.run(["logits"], {"images": images[:1, None].astype(np.float32) / 255})[0]
    assert alone.shape == (1, 10) and np.abs(alone - expected[:1]).max() < 1e-4
    said = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert "20 pixels" in said["preprocessing"] and said["sha256"] == network.header.sha256
    assert said["classes"] == '["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"]'


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_c_computes_nearly_the_same(network, images, tmp_path):
    expected = export.from_pytorch(network, images)
    model = int8.quantise(network, images)
    (tmp_path / "mnist_lab_int8.h").write_text(int8.as_header(model, network.header), encoding="utf-8")
    shutil.copyfile(export.PROGRAM, tmp_path / "mnist_lab_int8.c")
    found = export.from_c(tmp_path, images)
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 0.03 * np.ptp(expected)
    assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99


def test_c_refuses_what_its_program_lacks(images):
    published = use.load()
    for layers in ([nn.Flatten(), nn.Linear(784, 10)], [nn.Conv2d(1, 10, 28, padding=1), nn.MaxPool2d(3), nn.Flatten()],
                   [nn.Conv2d(1, 10, 28), nn.ReLU(), nn.Flatten()]):  # fmt: skip
        found, arrays = pytorch.from_torch(nn.Sequential(*layers))
        network = Network(published.header.model_copy(update={"layers": found}), arrays)
        with pytest.raises(int8.NotQuantisable, match="export to onnx"):
            int8.quantise(network, images)


def test_every_test_image_is_read_as_by_pytorch(mnist, capsys, tmp_path):
    pytest.importorskip("onnxruntime")
    assert cli.main(["export", "onnx", "--check", "--out", str(tmp_path)]) == 0
    assert "10,000 test images: 0 read otherwise than by PyTorch" in capsys.readouterr().out


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_in_integers_few_test_images_are_read_otherwise(mnist, capsys, tmp_path):
    assert cli.main(["export", "c", "--check", "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    different = int(lines[1].split(": ")[1].split()[0])
    assert different <= 20 and len(lines) == 2 + different and lines[2].startswith("    image ")


def test_without_mnist(tmp_path, capsys):
    arguments = ["--out", str(tmp_path), "--data", str(tmp_path)]
    pytest.importorskip("onnx")
    assert cli.main(["export", "onnx", *arguments]) == 0
    assert "not compared with PyTorch: no MNIST in" in capsys.readouterr().out
    assert cli.main(["export", "onnx", "--check", *arguments]) == 1
    assert "it was not compared with PyTorch" in capsys.readouterr().err
    assert cli.main(["export", "c", *arguments]) == 1
    assert "are measured on training images, but no MNIST" in capsys.readouterr().err


def test_a_difference_is_told(capsys):
    expected = np.eye(10)
    found = expected.copy()
    found[3] = found[4]
    with pytest.raises(export.ExportError, match="something else"):
        export.compare("onnx", expected, found, np.arange(10))
    assert "image 3, a 3: 3 by PyTorch, 4 here" in capsys.readouterr().out
    many = np.tile(expected, (10, 1)), np.tile(expected, (10, 1)), np.tile(np.arange(10), 10)
    many[1][3] = found[3]
    export.compare("c", *many)
    assert "100 test images: 1 read otherwise" in capsys.readouterr().out
    many[1][13] = found[3]
    with pytest.raises(export.ExportError, match="too coarse for this network: at most 1% of"):
        export.compare("c", *many)


def test_without_onnxruntime_it_is_not_compared(mnist, capsys, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
    assert cli.main(["export", "onnx", "--out", str(tmp_path)]) == 0
    assert 'onnxruntime is not installed (pip install -e ".[export]")' in capsys.readouterr().out
    assert cli.main(["export", "onnx", "--check", "--out", str(tmp_path)]) == 1


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_a_channel_of_next_to_nothing_is_its_bias(images, tmp_path):
    """Its weights need a multiplier that has no bits left, and its bias, in units of theirs, would not fit."""
    published = use.load()
    convolution = "0.weight"
    for factor in (1e-6, 1e-12, 0):
        arrays = published.arrays | {convolution: published.arrays[convolution].copy()}
        arrays[convolution][0] *= factor
        network = Network(published.header, arrays)
        (tmp_path / "mnist_lab_int8.h").write_text(int8.as_header(int8.quantise(network, images), network.header))
        shutil.copyfile(export.PROGRAM, tmp_path / "mnist_lab_int8.c")
        found, expected = export.from_c(tmp_path, images), export.from_pytorch(network, images)
        assert np.corrcoef(found.ravel(), expected.ravel())[0, 1] > 0.99


def test_c_refuses_numbers_without_bounds(images):
    layers, arrays = pytorch.from_torch(nn.Sequential(nn.Conv2d(1, 10, 28), nn.Flatten()))
    arrays["0.weight"] *= np.float32(1e12)
    network = Network(use.load().header.model_copy(update={"layers": layers}), arrays)
    with pytest.raises(int8.NotQuantisable, match="too fast"):
        int8.quantise(network, images)
