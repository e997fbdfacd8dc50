from dataclasses import replace

import numpy as np

from mnist_lab.analysis import calibration, handwriting, networks
from mnist_lab.experiment import load_data
from mnist_lab.use.handwriting import Prepared


def test_confidence_is_measured_on_held_out_images(training):
    probabilities = np.full((2000, 10), 0.02)
    probabilities[np.arange(2000), np.arange(2000) % 10] = np.linspace(0.5, 0.8, 2000)
    labels = np.arange(2000) % 10
    labels[:10] = 9  # the least probable ones are wrong, but for the one that is a 9
    of = [replace(training, settings=replace(training.settings, score_on="held-out", seed=seed)) for seed in range(6)]
    found = handwriting.measure_confidence(probabilities, labels, of)
    assert (found.images, found.networks, found.scored_on) == (2000, 6, "held-out")
    assert (found.unsure, found.wrong_of_sure, found.wrong_of_unsure) == (8, 1, 8)
    assert found.sure_from == probabilities[8].max()
    assert calibration.measured(found) == calibration.apply_threshold(probabilities[None], labels, found.sure_from)


def test_every_network_reads_every_collection(training, store):
    test = load_data(training.settings).test
    images, labels = test.images[:50, 0].numpy().astype(np.float32) / 255, test.labels[:50].numpy()
    seen, lost = {"as drawn": 1 - images, "inverted": images, "fitted": images}, np.arange(50) < 5
    found = handwriting.measure([training], store, test, {"Some": Prepared(seen, labels, lost)}, 0.0)
    wrong = (networks.probabilities(training, store, test).argmax(1) != test.labels).numpy()
    (reader,) = found.readers
    assert (reader.seed, reader.test_wrong) == (training.seed, int(wrong.sum()))
    some = reader.collections["Some"]
    assert some.wrong["inverted"] == int(wrong[:50].sum()) < some.wrong["as drawn"]
    assert some.wrong["fitted"] == int((wrong[:50] | lost).sum())
    assert some.unsure == 5 and found.lost == {"Some": 5}
