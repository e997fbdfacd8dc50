"""Networks for other programs, each compared with PyTorch on all of MNIST's test images."""

import importlib.util
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from mnist_lab import LabError
from mnist_lab.use.int8 import as_header, quantise
from mnist_lab.use.weights import Network

NEAR = 1e-4  # ONNX: the largest difference of a logit that rounding may make
MOST_DIFFERENT = 0.01  # integers: the largest share of images that may be read otherwise; of step 3, it is 0.0008
CALIBRATION = 1000  # training images on which the ranges of 8-bit numbers are measured
PROGRAM = Path(__file__).with_name("int8.c")
EXTRA = 'pip install -e ".[export]"'
PREPROCESSING = (
    "images: (N, 1, 28, 28), float32, 0 for paper and 1 for ink (white on black). A digit is cropped to its ink, "
    "scaled by area until its longer side has 20 pixels, divided by its largest value, and pasted so that its centre "
    "of mass lies in row and column 14, counted from 0 and rounded to whole pixels. Mean and standard deviation are "
    "part of the network. See mnist_lab/use/preprocess.py."
)


class ExportError(LabError):
    """A network cannot be written in this form, or reads otherwise than it should there."""


def run(form: str, network: Network, folder: Path, data: Path | None, *, must_check: bool) -> int:
    """Write ``network`` into ``folder`` as "onnx" or "c", and say how it compares with PyTorch where that can be.

    Raises ExportError if it cannot be written, or if it differs from PyTorch by more than rounding explains (see
    :func:`compare`); with ``must_check`` also if nothing can be compared.
    """
    folder.mkdir(parents=True, exist_ok=True)
    splits, lacking = find_mnist(data)
    if form == "onnx":
        written = [folder / "mnist_lab.onnx"]
        written[0].write_bytes(as_onnx(network))
        if splits and importlib.util.find_spec("onnxruntime") is None:
            splits, lacking = None, f"onnxruntime is not installed ({EXTRA})"
    else:
        if splits is None:
            raise ExportError(f"the ranges of its numbers are measured on training images, but {lacking}")
        written = [folder / "mnist_lab_int8.h", folder / "mnist_lab_int8.c"]
        model = quantise(network, splits.train.images[:CALIBRATION, 0].numpy())
        written[0].write_text(as_header(model, network.header), encoding="utf-8")
        shutil.copyfile(PROGRAM, written[1])
        if shutil.which("cc") is None:
            splits, lacking = None, "there is no C compiler (cc)"
    print("written:", *written)
    if splits is None:
        if must_check:
            raise ExportError(f"it was not compared with PyTorch: {lacking}")
        print(f"not compared with PyTorch: {lacking}")
        return 0
    pixels, labels = splits.test.images[:, 0].numpy(), splits.test.labels.numpy()
    expected = from_pytorch(network, pixels)
    found = from_onnx(written[0], pixels) if form == "onnx" else from_c(folder, pixels)
    compare(form, expected, found, labels)
    return 0


def find_mnist(folder: Path | None):
    """Return MNIST from ``folder``, MNIST_LAB_DATA or the checkout, or None; and then why not."""
    try:
        from mnist_lab.data import DataNotFound, data_folder, load_mnist
    except ImportError as error:
        return None, f'{error.name} is not installed (pip install -e ".[train]")'
    try:
        return load_mnist(data_folder(folder)), ""  # a folder by name is never downloaded into
    except DataNotFound as error:
        return None, str(error)


def compare(form: str, expected: np.ndarray, found: np.ndarray, labels: np.ndarray) -> None:
    """Print how logits (N, classes) agree with those ``expected``.

    Raises ExportError for ONNX that does not, and for integers if more than MOST_DIFFERENT are read otherwise.
    """
    before, after = expected.argmax(1), found.argmax(1)
    different = np.flatnonzero(before != after)
    largest = float(np.abs(expected - found).max())
    print(
        f"{len(labels):,} test images: {len(different)} read otherwise than by PyTorch; logits differ by at most "
        f"{largest:.2g}; {(before != labels).sum()} misread by PyTorch, {(after != labels).sum()} here"
    )
    for index in different:
        print(f"    image {index}, a {labels[index]}: {before[index]} by PyTorch, {after[index]} here")
    if form == "onnx" and (len(different) or largest > NEAR):
        raise ExportError(f"ONNX Runtime computes something else: logits may differ by {NEAR}")
    if len(different) > MOST_DIFFERENT * len(labels):
        raise ExportError(
            f"integers of 8 bits are too coarse for this network: at most {MOST_DIFFERENT:.0%} of the images may be "
            "read otherwise. Export it to onnx"
        )


def from_pytorch(network: Network, pixels: np.ndarray) -> np.ndarray:
    """Return the logits (N, classes) that PyTorch computes for ``pixels`` (N, 28, 28), bytes."""
    import torch

    from mnist_lab.batches import normalise
    from mnist_lab.use.pytorch import build

    model = build(network)
    images = torch.from_numpy(np.ascontiguousarray(pixels)).unsqueeze(1).float() / 255
    images = normalise(images, network.header.mean, network.header.std)
    with torch.no_grad():
        return torch.cat([model(part) for part in images.split(1000)]).numpy()


def from_onnx(path: Path, pixels: np.ndarray) -> np.ndarray:
    """Return the logits that ONNX Runtime computes."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = np.ascontiguousarray(pixels)[:, None].astype(np.float32) / np.float32(255)
    return np.concatenate([session.run(None, {"images": part})[0] for part in np.array_split(images, 10)])


def from_c(folder: Path, pixels: np.ndarray) -> np.ndarray:
    """Compile the C program in ``folder`` and return the logits that it prints. Raises ExportError."""
    with tempfile.TemporaryDirectory() as scratch:
        program = Path(scratch, "read_digits")
        compiler = ["cc", "-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program]
        try:
            subprocess.run(
                [*compiler, folder / "mnist_lab_int8.c"], check=True, stderr=subprocess.PIPE, encoding="utf-8"
            )
            done = subprocess.run([program], input=pixels.tobytes(), stdout=subprocess.PIPE, check=True)
        except subprocess.CalledProcessError as error:
            raise ExportError(f"the C program fails: {error.stderr or error}") from None
    rows = [[int(word) for word in line.split()] for line in done.stdout.decode("ascii").splitlines()]
    return np.array(rows)[:, 1:] / 256  # the first is the digit; logits are in 256ths


def as_onnx(network: Network) -> bytes:
    """Return ``network`` as an ONNX file: "images" in [0, 1] (N, 1, 28, 28) in, "logits" (N, classes) out.

    Raises ExportError without the package onnx.
    """
    try:
        import onnx
    except ImportError:
        raise ExportError(f"it takes the package onnx ({EXTRA})") from None
    from onnx import TensorProto, helper, numpy_helper

    header = network.header
    constants = {"mean": np.float32(header.mean), "std": np.float32(header.std), **network.arrays}
    nodes = [
        helper.make_node("Sub", ["images", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], [""]),
    ]
    for number, layer in enumerate(header.layers):
        names = [f"{number}.weight", f"{number}.bias"]
        around = {"strides": [layer.stride] * 2, "pads": [layer.padding] * 4}
        pooled = {"kernel_shape": [layer.kernel] * 2} | around
        if layer.kind == "SiLU":  # x sigmoid(x)
            nodes += [helper.make_node("Sigmoid", [""], [f"{number}.gate"])]
            nodes += [helper.make_node("Mul", ["", f"{number}.gate"], [""])]
            continue
        kind, inputs, options = {
            "convolution": ("Conv", names, {"group": layer.groups} | around),
            "linear": ("Gemm", names, {"transB": 1}),
            "max pooling": ("MaxPool", [], pooled),
            "average pooling": ("AveragePool", [], pooled | {"count_include_pad": 1}),
            "ReLU": ("Relu", [], {}),
            "flatten": ("Flatten", [], {}),
        }[layer.kind]
        nodes.append(helper.make_node(kind, ["", *inputs], [""], **options))
    connect(nodes)
    graph = helper.make_graph(
        nodes,
        header.model,
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", len(header.classes)])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], producer_name="mnist-lab")
    model.ir_version = 8  # of the time of opset 17: programs that are some years old read it
    said = header.model_dump(exclude={"layers", "recipe", "classes"})
    facts = {"preprocessing": PREPROCESSING, "classes": json.dumps(header.classes), "recipe": json.dumps(header.recipe)}
    helper.set_model_props(model, {name: str(value) for name, value in said.items()} | facts)
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


def connect(nodes: list) -> None:
    """Name what flows from each node to the next: an empty name is what the node before puts out."""
    before = "images"
    for number, node in enumerate(nodes):
        for place, name in enumerate(node.input):
            node.input[place] = name or before
        if not node.output[0]:
            node.output[0] = before = "logits" if number == len(nodes) - 1 else f"maps {number}"
