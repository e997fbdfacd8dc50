import io
import json
import os
import subprocess
import sys
import tarfile

import pytest

from mnist_lab.cloud.bundle import make_bundle
from mnist_lab.cloud.errors import CloudError
from mnist_lab.evidence.records import load, write
from mnist_lab.runtime import ROOT


def names(bundle: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(bundle)) as tar:
        return set(tar.getnames())


@pytest.fixture
def checkout(tmp_path):
    """A small checkout: a package, two notebooks, a record."""
    root = tmp_path / "checkout"
    cell = {"cell_type": "code", "source": ["1"], "outputs": [], "execution_count": None, "metadata": {}}
    notebook = json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})
    for name, text in [
        ("mnist_lab/__init__.py", ""), ("mnist_lab/cloud/worker.sh", ""), ("mnist_lab/use/numbers.json", ""),
        ("mnist_lab/use/__pycache__/x.pyc", ""),
        ("notebooks/01_one.ipynb", notebook), ("notebooks/03_three.ipynb", notebook),
        ("LICENSE", ""), ("pyproject.toml", ""), ("README.md", ""), ("data/x", ""), ("tests/test_x.py", ""),
    ]:  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_it_holds_what_step_3_needs_and_no_more(checkout, make_record, gpu_environment):
    made = [make_record(), make_record(name="sgd", kind="ablation"), make_record(environment=gpu_environment)]
    write(made, checkout / "notebooks" / "records")
    assert names(make_bundle(checkout)) == {
        "mnist_lab/__init__.py", "mnist_lab/cloud/worker.sh", "mnist_lab/use/numbers.json", "notebooks/03_three.ipynb",
        "notebooks/records/steps/3.jsonl", "LICENSE", "pyproject.toml",
    }  # fmt: skip


def test_what_cannot_be_packed_is_named(tmp_path, checkout):
    with pytest.raises(CloudError, match="not a checkout"):
        make_bundle(tmp_path)
    (checkout / "notebooks" / "03_three.ipynb").unlink()
    with pytest.raises(CloudError, match="not a checkout"):
        make_bundle(checkout)


def test_the_packed_checkout_is_complete_without_the_libraries_that_only_this_side_has(tmp_path):
    """The instance runs step 3 through the package's command line. (test_verbs carries it out to its end.)"""
    with tarfile.open(fileobj=io.BytesIO(make_bundle())) as tar:
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
    assert len(make_bundle()) < 1_500_000
