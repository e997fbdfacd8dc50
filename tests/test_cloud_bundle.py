import io
import json
import os
import shutil
import tarfile

import pytest

from mnist_lab.cloud import bundle
from mnist_lab.cloud.bundle import make_bundle, pack, pack_mnist
from mnist_lab.cloud.errors import CloudError
from mnist_lab.data import MNIST_SHA256
from mnist_lab.runtime import ROOT


def names(archive) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(archive.content)) as tar:
        return set(tar.getnames())


@pytest.fixture
def checkout(tmp_path):
    for name in ("mnist_lab", "notebooks"):
        shutil.copytree(ROOT / name, tmp_path / "copy" / name)
    for name in ("LICENSE", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path / "copy")
    return tmp_path / "copy"


def test_it_holds_what_step_3_needs_and_no_more():
    found = names(make_bundle())
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "mnist_lab").rglob("*.py")} <= found
    assert {"mnist_lab/cli.py", "mnist_lab/cloud/gpu.py", "mnist_lab/cloud/scripts/requirements.txt"} <= found
    assert {"notebooks/03_augmentation_onecycle.ipynb", "notebooks/records/step-2-seed-0.json"} <= found
    assert not any("__pycache__" in name or name.startswith(("tests", "data", "notebooks/01", ".")) for name in found)


def test_the_same_files_are_the_same_bytes_wherever_and_whenever(checkout):
    first = make_bundle()
    for path in checkout.rglob("*"):
        os.utime(path, (1, 1))
    (checkout / "mnist_lab" / "__pycache__").mkdir(exist_ok=True)
    (checkout / "mnist_lab" / "__pycache__" / "x.py").write_text("1")
    assert make_bundle(checkout) == first
    assert len(first.content) < 300_000


def test_other_code_is_another_bundle_and_other_outputs_are_not(checkout):
    first = make_bundle(checkout)
    path = checkout / "notebooks" / "03_augmentation_onecycle.ipynb"
    notebook = json.loads(path.read_text())
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], 99
    notebook["metadata"]["mnist_lab"] = {}
    path.write_text(json.dumps(notebook))
    assert make_bundle(checkout) == first
    notebook["cells"][0]["source"] = ["changed"]
    path.write_text(json.dumps(notebook))
    assert make_bundle(checkout).sha256 != first.sha256


def test_a_folder_that_is_no_checkout_is_named(tmp_path, checkout):
    with pytest.raises(CloudError, match="no checkout"):
        make_bundle(tmp_path)
    (checkout / "notebooks" / "03_augmentation_onecycle.ipynb").write_text("{")
    with pytest.raises(CloudError, match="no notebook"):
        make_bundle(checkout)


def test_a_bundle_that_grew_is_refused(monkeypatch):
    monkeypatch.setattr(bundle, "LARGEST", 1000)
    with pytest.raises(CloudError, match="bytes"):
        make_bundle()


def test_mnist_is_packed_once_it_is_verified(tmp_path, mnist):
    folder = os.environ.get("MNIST_LAB_DATA") or ROOT / "data"
    assert names(pack_mnist(type(tmp_path)(folder))) == {f"MNIST/raw/{name}" for name in MNIST_SHA256}


def test_what_is_not_mnist_is_refused(tmp_path):
    with pytest.raises(CloudError, match="no MNIST"):
        pack_mnist(tmp_path)
    for name in MNIST_SHA256:
        path = tmp_path / "MNIST" / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    with pytest.raises(CloudError, match="damaged"):
        pack_mnist(tmp_path)


def test_packing_ignores_the_order_of_files():
    assert pack({"a": b"1", "b": b"2"}) == pack({"b": b"2", "a": b"1"})
    assert pack({"a": b"1"}).id == pack({"a": b"1"}).sha256[:12]
