import numpy as np
import pytest
import torch

from mnist_lab.analysis import probabilities
from mnist_lab.analysis.networks import AnalysisError
from mnist_lab.evidence.records import RecordError, write_list


def test_codes_keep_the_winner_and_nearly_everything_else(answers):
    found, labels = answers
    kept = probabilities.decode(probabilities.encode(found))
    assert np.array_equal(kept.argmax(-1), found.argmax(-1))
    assert kept.sum(-1) == pytest.approx(1)
    assert np.abs(kept - found).max() < 0.02
    assert probabilities.loss(kept[0], labels) == pytest.approx(probabilities.loss(found[0], labels), rel=2e-3)


def test_the_winner_of_a_close_race_is_kept():
    race = np.full((1, 10), 0.02 / 8)
    race[0, 3], race[0, 7] = 0.4899, 0.4901
    assert probabilities.decode(probabilities.encode(race)).argmax() == 7


def test_what_is_certain_stays_finite():
    sure = np.eye(10)
    kept = probabilities.decode(probabilities.encode(sure))
    assert np.isfinite(kept).all() and kept.max() < 1 and probabilities.loss(kept, np.arange(10)) < 1e-5


def test_a_file_comes_back_seed_by_seed_and_a_changed_one_is_refused(answers, training, tmp_path):
    found, labels = answers
    packed = probabilities.pack(training, [*map(torch.from_numpy, found)], labels, [0, 1, 2, 3], tmp_path)
    write_list(tmp_path / probabilities.INDEX, [packed])
    known = probabilities.read_index(tmp_path)["3", "test"]
    back = probabilities.unpack(known, tmp_path)
    assert np.array_equal(back.labels, labels)
    assert [int((one.argmax(-1) == labels).sum()) for one in back.probabilities] == known.correct
    assert back.probabilities == pytest.approx(found, abs=0.02)
    path = tmp_path / known.file
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(AnalysisError, match="is not the file"):
        probabilities.unpack(known, tmp_path)
    path.unlink()
    with pytest.raises(AnalysisError, match="cannot read"):
        probabilities.unpack(known, tmp_path)


def test_no_index_is_nothing_and_a_damaged_one_is_named(tmp_path):
    assert probabilities.read_index(tmp_path) == {}
    (tmp_path / probabilities.INDEX).write_text('[{"name": 3}]', encoding="utf-8")
    with pytest.raises(RecordError, match=r"probabilities\.json is damaged: 0\.name"):
        probabilities.read_index(tmp_path)
