import gzip
import hashlib
import struct
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.datasets

from mnist_lab import data, download, experiment, writers
from mnist_lab.data import DataCorrupt, DataNotFound, Split
from mnist_lab.writers import FOLDS, Writers, WritersUnknown, deal, held_out, load_writers

NAME = "qmnist-train-labels-idx2-int"


def written(rows: np.ndarray) -> bytes:
    """Return rows of eight numbers (N, 8) in the IDX format of QMNIST's label files."""
    return struct.pack(">HBB2I", 0, 12, 2, *rows.shape) + rows.astype(">i4").tobytes()


@pytest.fixture
def rows() -> np.ndarray:
    """What a file says of 120 images: 20 writers of 6 images each, half of them of each series."""
    rows = np.zeros((120, 8), dtype=np.int64)
    rows[:, 0] = np.arange(120) % 10
    rows[:, 2] = np.arange(120) % 20 + 1000
    rows[:, 1] = np.where(rows[:, 2] < 1010, 0, 4)
    return rows


@pytest.fixture
def folder(tmp_path, rows, monkeypatch) -> Path:
    """A folder with that file, which the module takes for the real one."""
    (tmp_path / "QMNIST" / "raw").mkdir(parents=True)
    (tmp_path / "QMNIST" / "raw" / NAME).write_bytes(written(rows))
    monkeypatch.setattr(writers, "QMNIST_SHA256", {NAME: hashlib.sha256(written(rows)).hexdigest()})
    monkeypatch.setenv("MNIST_LAB_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def train(rows) -> Split:
    return Split(torch.arange(120, dtype=torch.uint8).repeat(784, 1).T.view(120, 1, 28, 28), torch.tensor(rows[:, 0]))


@pytest.mark.parametrize("place", ["", "raw", "QMNIST/raw", "unpacked"])
@pytest.mark.parametrize("zipped", [False, True])
def test_the_file_is_read_as_people_have_it(folder, rows, place, zipped):
    content = (folder / "QMNIST" / "raw" / NAME).read_bytes()
    own = folder / "own"
    (own / place).mkdir(parents=True)
    (own / place / (f"{NAME}.gz" if zipped else NAME)).write_bytes(gzip.compress(content) if zipped else content)
    known = load_writers("train", own)
    for column, found in enumerate((known.labels, known.series, known.writers)):
        assert found.dtype == np.int64 and found.tolist() == rows[:, column].tolist()


def test_a_missing_file_is_an_instruction(folder, train):
    (folder / "QMNIST" / "raw" / NAME).unlink()
    for load in (lambda: load_writers("train", folder), lambda: held_out(train, 0)):
        with pytest.raises(DataNotFound, match=rf'no QMNIST in.*https://\S+/{NAME}\.gz.*SCORE_ON "test" do not'):
            load()


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b""])
def test_a_damaged_file_is_named(folder, train, damage):
    path = folder / "QMNIST" / "raw" / NAME
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataCorrupt, match=rf"{NAME} is damaged.*Delete it"):
        held_out(train, 0)


@pytest.fixture
def publish(folder, tmp_path_factory, serve, monkeypatch):
    """Serves a file's content on this machine, as torchvision's addresses do; returns the checkout to download to."""

    def start(content: bytes) -> Path:
        archive = tmp_path_factory.mktemp("mirror") / f"{NAME}.gz"
        archive.write_bytes(gzip.compress(content))
        address = serve(archive.parent)
        images = (f"{address}images.gz", "0" * 32)  # there is no such file
        labels = (f"{address}{NAME}.gz", hashlib.md5(archive.read_bytes()).hexdigest())
        monkeypatch.setattr(torchvision.datasets.QMNIST, "resources", {"train": [images, labels]})
        monkeypatch.delenv("MNIST_LAB_DATA")
        monkeypatch.setattr(data, "ROOT", tmp_path_factory.mktemp("checkout"))
        return data.ROOT

    return start


def test_first_use_downloads_the_labels_alone(publish, rows, monkeypatch):
    root = publish(written(rows))
    assert len(load_writers("train").labels) == 120
    assert [path.name for path in root.rglob("*") if path.is_file()] == [NAME]
    monkeypatch.setattr(download, "fetch", None)  # the second use needs no network
    assert len(load_writers("train").labels) == 120


def test_a_download_of_something_else_is_refused(publish):
    root = publish(b"something else")
    with pytest.raises(DataNotFound, match=r"could not be downloaded.*damaged.*who wrote the digits"):
        load_writers("train")
    assert [path for path in root.rglob("*") if path.is_file()] == []


def test_writers_are_dealt_as_by_hand():
    """Images by writer, the most first: 7, 5, 4, 4, 3, 3 | 2, 2 to the two folds of 3, 1 to the fold of 4."""
    counts = {10: 3, 11: 7, 12: 4, 13: 3, 14: 4, 15: 5, 16: 2, 17: 1, 18: 2}
    expected = {11: 0, 15: 1, 12: 2, 14: 3, 10: 4, 13: 5, 16: 4, 18: 5, 17: 2}
    ids = np.repeat(list(counts), list(counts.values()))
    known = Writers(ids, np.zeros_like(ids), ids)
    assert dict(zip(ids.tolist(), deal(known).tolist(), strict=True)) == expected
    both = Writers(np.r_[ids, ids], np.repeat([0, 4], len(ids)), np.r_[ids, ids + 100])
    assert deal(both).tolist() == 2 * deal(known).tolist()  # each series by itself
    order = np.random.default_rng(0).permutation(len(ids))
    shuffled = Writers(ids[order], np.zeros_like(ids), ids[order])
    assert deal(shuffled).tolist() == deal(known)[order].tolist()


def test_a_fold_is_cut_off(folder, train, rows):
    seen, persons = [], []
    for fold in range(FOLDS):
        rest, held = held_out(train, fold)
        assert sorted([*rest.indices.tolist(), *held.indices.tolist()]) == list(range(120))
        for split in (rest, held):
            assert torch.equal(split.images, train.images[split.indices])
            assert torch.equal(split.labels, train.labels[split.indices])
        assert not set(rows[rest.indices, 2]) & set(rows[held.indices, 2])
        assert set(rows[held.indices, 1]) == {0, 4}
        seen += held.indices.tolist()
        persons += set(rows[held.indices, 2].tolist())
    assert sorted(seen) == list(range(120)) and len(persons) == len(set(persons)) == 20


def test_other_images_have_no_writers(folder, train, digits):
    swapped = replace(train, labels=train.labels.flip(0))
    for images in (swapped, train.first(119), digits.train):
        with pytest.raises(WritersUnknown, match=rf"these {len(images):,} images.*SCORE_ON"):
            held_out(images, 0)


def test_the_digits_sample_cannot_be_chosen_on_writers(writers, settings):
    with pytest.raises(WritersUnknown, match="digits sample"):
        experiment.load_data(replace(settings, score_on="held-out"))


def test_writers_are_those_of_the_paper(writers):
    people = {
        (part, series): len(np.unique(known.writers[known.series == series]))
        for part, known in writers.items()
        for series in (0, 4)
    }
    assert people == {("train", 0): 289, ("train", 4): 250, ("test", 0): 48, ("test", 4): 249}
    assert not set(writers["train"].writers) & set(writers["test"].writers)
    counts = Counter(writers["train"].writers.tolist()).values()
    assert (min(counts), max(counts), np.median(list(counts))) == (19, 131, 116)


def test_the_labels_are_mnists(writers, mnist):
    for part, known in writers.items():
        assert known.labels.tolist() == getattr(mnist, part).labels.tolist()


def test_folds_of_mnist_are_balanced_and_never_change(writers):
    known = writers["train"]
    fold = deal(known)
    assert np.bincount(fold) == pytest.approx([10_000] * FOLDS, rel=0.01)
    for series in (0, 4):
        own = known.series == series
        assert np.bincount(fold[own]) == pytest.approx([own.sum() / FOLDS] * FOLDS, rel=0.01)
    assert len(set(zip(known.writers.tolist(), fold.tolist(), strict=True))) == 539
    # Results on these folds are only comparable while they are these folds.
    assert hashlib.sha256(fold.astype(np.uint8).tobytes()).hexdigest()[:12] == "2b5b06b661a8"


def test_a_seed_is_scored_on_its_fold(writers, mnist, settings):
    fold = deal(writers["train"])
    settings = replace(settings, data="MNIST", score_on="held-out", train_limit=None)
    loaded = experiment.load_data(replace(settings, seed=2 + 3 * FOLDS))
    assert loaded.test.indices.tolist() == np.flatnonzero(fold == 2).tolist()
    assert loaded.train.indices.tolist() == np.flatnonzero(fold != 2).tolist()
    assert torch.equal(loaded.test.images, mnist.train.images[loaded.test.indices])
    limited = experiment.load_data(replace(settings, seed=2, train_limit=300))
    assert limited.train.indices.tolist() == np.flatnonzero(fold != 2)[:300].tolist()
