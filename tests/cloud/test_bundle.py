import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from mnist_lab.cloud.bundle import make_bundle, pack, pack_mnist
from mnist_lab.cloud.errors import CloudError
from mnist_lab.data import MNIST_SHA256, DataCorrupt, DataNotFound
from mnist_lab.evidence.records import load, write
from mnist_lab.runtime import ROOT


def names(archive) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as tar:
        return set(tar.getnames())


@pytest.fixture
def checkout(tmp_path):
    """A small checkout: two modules, two notebooks, a record."""
    root = tmp_path / "checkout"
    cell = {"cell_type": "code", "source": ["1"], "outputs": [], "execution_count": None, "metadata": {}}
    notebook = json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    for name, text in [
        ("mnist_lab/__init__.py", ""), ("mnist_lab/cloud/scripts/worker.sh", ""), ("mnist_lab/__pycache__/x.py", ""),
        ("notebooks/01_one.ipynb", notebook), ("notebooks/03_three.ipynb", notebook),
        ("LICENSE", ""), ("pyproject.toml", ""), ("README.md", ""), ("data/x", ""), ("tests/test_x.py", ""),
    ]:  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_it_holds_what_step_3_needs_and_no_more(checkout, make_record):
    write([make_record(), make_record(name="sgd", kind="ablation")], checkout / "notebooks" / "records")
    assert names(make_bundle(checkout)) == {
        "mnist_lab/__init__.py", "mnist_lab/cloud/scripts/worker.sh", "notebooks/03_three.ipynb",
        "notebooks/records/steps/3.jsonl", "LICENSE", "pyproject.toml",
    }  # fmt: skip


def test_the_same_files_are_the_same_bytes_wherever_and_whenever(checkout, tmp_path):
    first = make_bundle(checkout)
    shutil.copytree(checkout, tmp_path / "copy")
    for path in (tmp_path / "copy").rglob("*"):
        os.utime(path, (1, 1))
    assert make_bundle(tmp_path / "copy") == first
    assert pack({"a": b"1", "b": b"2"}) == pack({"b": b"2", "a": b"1"})


def test_other_code_is_another_bundle_and_other_results_are_not(checkout, make_record, gpu_environment):
    first = make_bundle(checkout)
    path = checkout / "notebooks" / "03_three.ipynb"
    notebook = json.loads(path.read_text())
    notebook["cells"][0] |= {
        "outputs": [{"output_type": "stream", "name": "stdout", "text": ["1"]}],
        "execution_count": 9,
    }
    notebook["metadata"]["mnist_lab"] = {"cells": "x"}
    path.write_text(json.dumps(notebook))
    write([make_record(environment=gpu_environment)], checkout / "notebooks" / "records")  # what fetch --publish does
    (checkout / "README.md").write_text("new results")
    assert make_bundle(checkout) == first
    notebook["cells"][0]["source"] = ["2"]
    path.write_text(json.dumps(notebook))
    assert make_bundle(checkout).sha256 != first.sha256


def test_what_cannot_be_packed_is_named(tmp_path, checkout):
    with pytest.raises(CloudError, match="not a checkout"):
        make_bundle(tmp_path)
    (checkout / "notebooks" / "03_three.ipynb").write_text("{")
    with pytest.raises(CloudError, match="not a notebook"):
        make_bundle(checkout)


def test_the_packed_checkout_is_complete_without_the_libraries_that_only_this_side_has(tmp_path):
    """The instance runs step 3 through the package's command line. (test_verbs carries it out to its end.)"""
    with tarfile.open(fileobj=io.BytesIO(make_bundle().content)) as tar:
        tar.extractall(tmp_path)
    program = (
        "import sys\n"
        "for name in ('boto3', 'botocore', 'sagemaker', 'optuna', 'dask', 'onnx', 'moto'): sys.modules[name] = None\n"
        "from mnist_lab import cli, runtime\n"
        "from mnist_lab.evidence.records import TRACKED, load\n"
        "from mnist_lab.publishing.notebooks import find_steps\n"
        "print(runtime.ROOT, len(load(TRACKED)), [step.number for step in find_steps()])\n"
        "sys.exit(cli.main(['run', '--step', '3', '-p', 'EPOHCS', '1']))"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", program], cwd="/", env=environment, capture_output=True, text=True)
    tracked = [one for one in load(ROOT / "notebooks" / "records" / "steps") if one.device_type == "cpu"]
    assert done.stdout.startswith(f"{tmp_path} {len(tracked)} [3]")
    assert (done.returncode, "did you mean EPOCHS" in done.stderr) == (1, True), done.stderr
    assert len(make_bundle().content) < 1_000_000


def test_mnist_is_packed_once_it_is_verified(mnist):
    folder = Path(os.environ.get("MNIST_LAB_DATA") or ROOT / "data")
    assert names(pack_mnist(folder)) == {f"MNIST/raw/{name}" for name in MNIST_SHA256}


def test_what_is_not_mnist_is_refused(tmp_path):
    with pytest.raises(DataNotFound, match="no MNIST"):
        pack_mnist(tmp_path)
    for name in MNIST_SHA256:
        path = tmp_path / "MNIST" / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    with pytest.raises(DataCorrupt, match="Delete it"):
        pack_mnist(tmp_path)
