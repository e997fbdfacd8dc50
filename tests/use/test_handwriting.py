import numpy as np
import pytest
from drawings import draw

from mnist_lab import use
from mnist_lab.data import DataCorrupt, DataNotFound
from mnist_lab.runtime import ROOT
from mnist_lab.use import collections, handwriting
from mnist_lab.use.handwriting import CONDITIONS, Counts, Handwriting, Reader
from mnist_lab.use.reading import load_confidence


@pytest.fixture
def drawn():
    """Seven digits, each on a page of its own; one page holds two digits, one none."""
    pages = [(np.asarray(draw(digit, 60, margin=1.5)), int(digit)) for digit in "0123457"]
    pages += [(np.asarray(draw("12", 60)), 1), (np.full((40, 40), 255, dtype=np.uint8), 3)]
    return pages


def test_only_fitted_drawings_are_read(drawn):
    prepared = handwriting.prepare(iter(drawn))
    assert prepared.lost.tolist() == [False] * 7 + [True] * 2
    assert {name: images.shape for name, images in prepared.images.items()} == dict.fromkeys(CONDITIONS, (9, 28, 28))
    assert np.allclose(prepared.images["as drawn"], 1 - prepared.images["inverted"], atol=1e-6)
    found = handwriting.count(use.load().probabilities, prepared, 0.9)
    assert found.wrong["fitted"] == 2 < found.wrong["inverted"] < found.wrong["as drawn"]
    assert found.unsure >= 2 and found.wrong_of_sure == 0


def test_the_tracked_record_is_of_the_published_recipe_and_its_threshold():
    found, sure = handwriting.load_handwriting(ROOT / handwriting.RECORD), load_confidence()
    assert found.recipe == use.load().header.recipe and found.sure_from == sure.sure_from


def test_rows_are_means_over_seeds():
    def reader(seed, fitted):
        counts = Counts(wrong={"as drawn": 9, "inverted": 5, "fitted": fitted}, unsure=2, wrong_of_sure=1)
        return Reader(seed=seed, test_wrong=50, collections={"Others": counts})

    made = {"recipe": {}, "sure_from": 0.9, "pictures": {"Others": 10}, "lost": {"Others": 0}, "commit": None}
    found = Handwriting(**made, readers=[reader(0, 1), reader(1, 3)])
    plain, row = handwriting.rows(found)
    assert plain[:2] + plain[4:5] == ("MNIST's test images as they are", "10,000", "99.50 (99.50 – 99.50)")
    assert row[4] == "80.00 (70.00 – 90.00)" and row[6] == "12.50 (12.50 – 12.50)"
    alone = handwriting.rows(Handwriting(**made, readers=[reader(0, 1)]))
    assert alone[1] == ("Others", "10", "10.00", "50.00", "90.00", "20.00", "12.50")
    assert Handwriting.model_validate_json(found.model_dump_json()) == found


def test_other_peoples_digits_are_verified(tmp_path, monkeypatch):
    monkeypatch.setenv("MNIST_LAB_DATA", str(tmp_path))
    with pytest.raises(DataNotFound, match=r"semeion.data is not in .*archive.ics.uci.edu"):
        next(collections.semeion())
    (tmp_path / "optdigits").mkdir()
    (tmp_path / "optdigits" / "optdigits-orig.windep").write_text("0" * 32, encoding="ascii")
    with pytest.raises(DataCorrupt, match="damaged"):
        next(collections.optdigits())


@pytest.mark.parametrize(
    ("read", "count", "side"), [(collections.semeion, 1593, 16), (collections.optdigits, 1797, 32)]
)
def test_other_peoples_digits_are_whole(read, count, side):
    try:
        found = list(read())
    except DataNotFound as error:
        pytest.skip(str(error))
    labels = np.bincount([label for _, label in found])
    assert len(found) == count and len(labels) == 10 and labels.min() > 150
    page = found[0][0]
    assert page.shape == (side + 2 * collections.MARGIN,) * 2 and set(np.unique(page)) == {0, 255}
    assert page[:2].min() == 255 and found[0][1] == 0


def test_mnist_is_drawn_large(mnist):
    drawn = collections.drawn_large(mnist.test)
    for index in range(5):
        page, label = next(drawn)
        assert label == int(mnist.test.labels[index]) and min(page.shape) >= 4 * 28 and page.max() == 255
        assert np.abs(handwriting.fitted(page) - mnist.test.images[index, 0].numpy() / 255).mean() < 0.05
