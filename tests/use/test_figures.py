import numpy as np
from drawings import as_file, draw, photograph

from mnist_lab import use
from mnist_lab.use.figures import as_read, conditions, on_the_way
from mnist_lab.use.handwriting import Counts, Handwriting, Reader


def test_a_picture_on_its_way(tmp_path):
    figure = on_the_way(as_file(photograph(draw("72"))), use.load(), "finding")
    above, below = figure.subfigs
    picture, light, ink = (axis.images[0].get_array() for axis in above.axes)
    assert picture.shape == light.shape == ink.shape and len(above.axes[2].patches) == 2
    assert np.ptp(light) > 0.3 and np.mean(ink == 1) > 0.7
    assert [axis.get_title()[0] for axis in below.axes] == ["7", "2"]
    figure.savefig(tmp_path / "figure.png")


def test_pages_and_what_is_read_in_them(tmp_path):
    page, empty = np.asarray(draw("72")), np.full((90, 60), 255, dtype=np.uint8)
    figure = as_read([page, empty], use.load(), "finding")
    first, second, seven, nothing = figure.axes
    assert first.images[0].get_array().shape == page.shape and second.images[0].get_array().shape == empty.shape
    assert seven.images[0].get_array().shape == (28, 28) and seven.get_title().startswith("7")
    assert not nothing.images and nothing.get_title() == "no digit found"
    figure.savefig(tmp_path / "figure.png")


def test_each_seed_is_a_dot_under_each_condition(tmp_path):
    def reader(seed, fitted):
        wrong = {"as drawn": 90, "inverted": 20, "fitted": fitted}
        counts = Counts(wrong=wrong, unsure=2, wrong_of_sure=1)
        return Reader(seed=seed, test_wrong=50, collections={"Some": counts, "Others": counts})

    pictures = {"Some": 100, "Others": 200}
    readers = [reader(0, 1), reader(1, 3)]
    found = Handwriting(recipe={}, sure_from=0.9, pictures=pictures, lost={}, readers=readers, commit=None)
    figure = conditions(found, "finding")
    (axis,) = figure.axes
    dots = {(line.get_label(), line.get_ydata()[0]): list(line.get_xdata()) for line in axis.lines}
    assert dots[("fitted", 0)] == [1, 3] and dots[("fitted", 1)] == [0.5, 1.5] and len(dots) == 6
    assert {"2.0 %", "90.0 %", "20.0 %"} <= {text.get_text() for text in axis.texts}
    figure.savefig(tmp_path / "figure.png")
