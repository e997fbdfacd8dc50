import gzip
import hashlib
import os
import re
import socket
import struct
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import torch
import torchvision.datasets

from mnist_lab import data, download, options
from mnist_lab.data import DataCorrupt, DataNotFound
from mnist_lab.runtime import ROOT


def idx(values: torch.Tensor) -> bytes:
    """Return a uint8 tensor in the IDX format of MNIST's files."""
    head = struct.pack(">HBB", 0, 8, values.dim()) + struct.pack(f">{values.dim()}I", *values.shape)
    return head + values.numpy().tobytes()


@pytest.fixture
def raw_files(monkeypatch) -> dict[str, bytes]:
    """Small files in MNIST's format, which the module takes for the real ones."""
    files = {}
    for part, count in (("train", 40), ("t10k", 20)):
        images = torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8)
        files[f"{part}-images-idx3-ubyte"] = idx(images)
        files[f"{part}-labels-idx1-ubyte"] = idx(torch.arange(count, dtype=torch.uint8) % 10)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    monkeypatch.setattr(data, "MNIST_SHA256", digests)
    monkeypatch.delenv("MNIST_LAB_DATA", raising=False)
    return files


@pytest.fixture
def folder(tmp_path, raw_files) -> Path:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in raw_files.items():
        (raw / name).write_bytes(content)
    return tmp_path


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_given_folder_is_read_and_not_written(folder):
    before = listing(folder)
    loaded = data.load_mnist(folder)
    assert loaded.name == "MNIST"
    assert loaded.train.images.shape == (40, 1, 28, 28) and loaded.train.images.dtype == torch.uint8
    assert loaded.test.labels.tolist() == [i % 10 for i in range(20)]
    assert listing(folder) == before


def test_the_environment_names_the_folder(folder, monkeypatch):
    monkeypatch.setenv("MNIST_LAB_DATA", str(folder))
    assert len(data.load("MNIST").train) == 40


def test_a_missing_file_in_a_given_folder_is_named(folder):
    (folder / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataNotFound, match=r"t10k-labels-idx1-ubyte.*MNIST_LAB_DATA"):
        data.load_mnist(folder)
    assert not (folder / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").exists()


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:20] + bytes([b[20] ^ 1]) + b[21:], lambda b: b""])
@pytest.mark.parametrize("name", data.MNIST_SHA256)
def test_a_damaged_file_is_named(folder, name, damage):
    path = folder / "MNIST" / "raw" / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataCorrupt, match=rf"{name} is damaged.*Delete it"):
        data.load_mnist(folder)


def test_an_unreadable_file_is_named(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(DataCorrupt, match=r"train-images\S* cannot be read: Permission denied"):
        data.load_mnist(folder)


@pytest.mark.parametrize("place", ["", "MNIST", "MNIST/raw"])
def test_a_folder_one_may_not_look_into_is_named(folder, monkeypatch, place):
    close(folder / place, monkeypatch)
    with pytest.raises(DataCorrupt, match=rf"cannot look into {re.escape(str(folder / place))}\S*: Permission denied"):
        data.load_mnist(folder)


def test_a_closed_folder_beside_the_files_is_no_matter(folder, monkeypatch):
    (folder / "lost+found").mkdir()
    close(folder / "lost+found", monkeypatch)
    assert len(data.load_mnist(folder).train) == 40
    with pytest.raises(DataNotFound, match="no QMNIST in"):
        data.read_files("QMNIST", {"labels": ""}, folder)


def close(closed: Path, monkeypatch) -> None:
    """Let nobody list a folder or what is in it; mode 0 would not keep out root."""
    listdir = os.listdir

    def refuse(path):
        if closed in (Path(path), *Path(path).parents):
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refuse)


def test_where_data_lie_is_one_rule_for_all(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))  # of Windows
    monkeypatch.setenv("MNIST_LAB_DATA", "")
    assert data.data_folder() == ROOT / "data"
    monkeypatch.setenv("MNIST_LAB_DATA", "~/mine")
    assert data.data_folder() == tmp_path / "mine" and data.data_folder(tmp_path) == tmp_path
    monkeypatch.chdir(tmp_path)
    assert data.data_folder("tests") == ROOT / "tests"  # in the checkout, from a folder of a run
    (tmp_path / "tests").mkdir()
    assert data.data_folder("tests") == tmp_path / "tests"


@pytest.mark.parametrize("place", ["", "raw", "MNIST/raw", "unpacked", "unpacked/raw", "mnist/MNIST/raw"])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("dotted", [False, True])
def test_the_files_are_found_as_people_have_them(tmp_path, raw_files, place, zipped, dotted):
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    for name, content in raw_files.items():
        name = name.replace("-idx", ".idx") if dotted else name
        path = tmp_path / place / (f"{name}.gz" if zipped else name)
        path.write_bytes(gzip.compress(content) if zipped else content)
    before = listing(tmp_path)
    assert len(data.load_mnist(tmp_path).train) == 40
    assert listing(tmp_path) == before


def test_a_damaged_file_is_passed_over_where_a_good_one_lies_beside_it(folder, raw_files):
    raw, name = folder / "MNIST" / "raw", "t10k-labels-idx1-ubyte"
    (raw / f"{name}.gz").write_bytes(gzip.compress(raw_files[name]))
    (raw / name).write_bytes(b"cut off")
    assert len(data.load_mnist(folder).test) == 20


@pytest.mark.parametrize(
    "content",
    [b"", b"not gzip", gzip.compress(b"something else"), gzip.compress(b"cut off")[:-9]],
    ids=["empty", "not gzip", "another file", "cut off"],  # archives hold the time at which they were made
)
def test_a_damaged_archive_is_named(folder, content):
    path = folder / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    path.unlink()
    path.with_name(f"{path.name}.gz").write_bytes(content)
    with pytest.raises(DataCorrupt, match=r"train-labels-idx1-ubyte.gz (is damaged|cannot be read).*Delete it"):
        data.load_mnist(folder)


def test_archives_in_the_checkout_are_used_before_any_download(tmp_path, raw_files, monkeypatch):
    monkeypatch.setattr(data, "ROOT", tmp_path)
    monkeypatch.setattr(download, "fetch", None)
    (tmp_path / "data").mkdir()
    for name, content in raw_files.items():
        (tmp_path / "data" / f"{name}.gz").write_bytes(gzip.compress(content))
    assert len(data.load_mnist().train) == 40


def test_to_score_on_held_out_writers_they_have_to_be_known(folder, monkeypatch):
    monkeypatch.setenv("MNIST_LAB_DATA", str(folder))
    assert options.find_data(folder, {"SCORE_ON": "test"}) == {}
    with pytest.raises(DataNotFound, match="no QMNIST in"):
        options.find_data(folder, {"SCORE_ON": "held-out"})


def test_what_was_found_instead_is_told(tmp_path, raw_files):
    for name in ("mnist.npz", "mnist_train.csv"):
        (tmp_path / name).write_bytes(b"arrays")
    with pytest.raises(DataNotFound, match=r"found there: mnist.npz, mnist_train.csv \(other forms.*IDX files"):
        data.load_mnist(tmp_path)
    with pytest.raises(DataNotFound, match="empty or does not exist"):
        data.load_mnist(tmp_path / "nowhere")


def test_a_relative_folder_is_also_found_from_the_checkout(folder, monkeypatch, tmp_path_factory):
    monkeypatch.setattr(data, "ROOT", folder.parent)
    monkeypatch.chdir(tmp_path_factory.mktemp("notebooks"))
    assert len(data.load_mnist(folder.name).train) == 40


@pytest.mark.parametrize("given", ["empty", "~nobody-here/empty"])
def test_a_message_names_the_whole_path(tmp_path, monkeypatch, given):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MNIST_LAB_DATA", given)
    with pytest.raises(DataNotFound, match=rf"no MNIST in /.*{given}: "):
        data.load_mnist()
    with pytest.raises(DataNotFound, match=rf"no MNIST in /.*{given}: "):
        options.find_data(None, {})


@pytest.fixture
def mirror(tmp_path, raw_files, serve, monkeypatch) -> None:
    """Serve MNIST's archives on this machine, in place of torchvision's mirrors."""
    served = tmp_path / "mirror"
    served.mkdir()
    resources = []
    for name, content in raw_files.items():
        archive = gzip.compress(content)
        (served / f"{name}.gz").write_bytes(archive)
        resources.append((f"{name}.gz", hashlib.md5(archive).hexdigest()))

    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [serve(served)])
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", resources)


def test_first_use_downloads_into_the_checkout(tmp_path, mirror, raw_files, monkeypatch):
    monkeypatch.setattr(data, "ROOT", tmp_path)
    assert len(data.load_mnist().test) == 20
    assert listing(tmp_path / "data") == {f"MNIST/raw/{name}": content for name, content in raw_files.items()}
    monkeypatch.setattr(download, "fetch", None)  # the second use needs no network
    assert len(data.load_mnist().train) == 40


def test_a_download_that_breaks_leaves_nothing_behind(tmp_path, mirror, serve, monkeypatch):
    class Breaks(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"some bytes, and then silence")

        do_HEAD = do_GET

        def log_message(self, *arguments):
            pass

    monkeypatch.setattr(data, "ROOT", tmp_path)
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [serve(Breaks)])
    with pytest.raises(DataNotFound, match=r"could not be downloaded.*MNIST_LAB_DATA"):
        data.load_mnist()
    assert listing(tmp_path / "data") == {}


def test_a_download_of_something_else_is_refused(tmp_path, mirror, monkeypatch):
    monkeypatch.setattr(data, "ROOT", tmp_path)
    monkeypatch.setattr(data, "MNIST_SHA256", dict.fromkeys(data.MNIST_SHA256, "0" * 64))
    with pytest.raises(DataNotFound, match="damaged"):
        data.load_mnist()
    assert listing(tmp_path / "data") == {}


def test_a_silent_server_is_given_up(tmp_path, raw_files, monkeypatch):
    monkeypatch.setattr(data, "ROOT", tmp_path)
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and never answers
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [address])
        with pytest.raises(DataNotFound, match=r"could not be downloaded.*(timed out|Error downloading)"):
            data.load_mnist()
    assert socket.getdefaulttimeout() is None


def test_no_network_is_an_instruction(tmp_path, raw_files, monkeypatch):
    monkeypatch.setattr(data, "ROOT", tmp_path)
    monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", ["http://127.0.0.1:9/"])  # nobody listens
    with pytest.raises(DataNotFound, match=r"Connect to the internet.*MNIST_LAB_DATA"):
        data.load_mnist()


def test_digits_sample_says_that_it_is_not_mnist(digits):
    assert digits.name == "digits sample, not MNIST"
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert digits.train.images.shape[1:] == (1, 28, 28)
    assert digits.train.images.max() == 255
    assert digits.train.images[:, :, :4].max() == 0  # the frame, as in MNIST


def test_digits_sample_keeps_the_proportions_and_never_changes(digits):
    train, test = torch.bincount(digits.train.labels), torch.bincount(digits.test.labels)
    assert (test - (train + test) * 360 / 1797).abs().max() <= 1
    # Results on these images are only comparable while they are these images.
    assert hashlib.sha256(digits.test.labels.numpy().tobytes()).hexdigest()[:12] == "e61005ab3ef6"


def test_the_wrong_test_labels_are_those_of_the_study():
    indices = data.WRONG_TEST_LABELS
    assert len(set(indices)) == 15 and list(indices) == sorted(indices)
    assert min(indices) >= 0 and max(indices) < 10_000


def test_the_wrong_test_labels_point_at_the_images_meant(mnist):
    given = [int(mnist.test.labels[index]) for index in data.WRONG_TEST_LABELS]
    assert given == [8, 0, 9, 4, 2, 5, 6, 6, 5, 5, 0, 1, 4, 6, 5]  # as in cleanlab's file
