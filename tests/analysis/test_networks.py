from dataclasses import replace

import pytest
import torch

from mnist_lab.analysis import networks
from mnist_lab.analysis.networks import AnalysisError, Training
from mnist_lab.experiment import load_data, train
from mnist_lab.recipe import Recipe
from mnist_lab.speed.compiled import compiled
from mnist_lab.studies.weights import KeptError


def test_a_network_comes_back_as_it_was_trained(training, store):
    data = load_data(training.settings)
    run = train(training.recipe, data, training.settings, lambda epoch: None, prepare=compiled)
    assert torch.allclose(networks.probabilities(training, store, data.test), run.probabilities, atol=1e-6)


def test_a_network_is_trained_once(training, store):
    path = store / training.place
    before = path.stat().st_mtime_ns
    networks.keep(training, store)
    assert path.stat().st_mtime_ns == before


def test_a_network_of_code_that_trained_otherwise_is_not_used(training, store, monkeypatch):
    monkeypatch.setattr(Recipe, "distort", lambda self: None)
    with pytest.raises(KeptError, match="trained otherwise"):
        networks.keep(training, store)


def test_another_recipe_or_other_images_have_another_place(training):
    others = [
        Training("3", replace(training.recipe, epochs=3), training.settings),
        Training("3", training.recipe, replace(training.settings, train_limit=None)),
        Training("3", training.recipe, replace(training.settings, seed=1)),
        Training("4", training.recipe, training.settings),
    ]
    assert len({one.place for one in [training, *others]}) == 5
    published = networks.published_third_steps()["A3"]
    assert published.momentum == 0.9  # its default
    places = {Training("A3", one, training.settings).place for one in (published, replace(published, momentum=0.8))}
    assert len(places) == 2
    threads = Training("3", training.recipe, replace(training.settings, threads=2))
    assert threads.place == training.place


def test_what_is_missing_or_damaged_is_told(training, store, tmp_path):
    with pytest.raises(AnalysisError, match="is missing"):
        networks.load(training, tmp_path)
    path = tmp_path / training.place
    path.parent.mkdir()
    path.write_bytes(b"not weights")
    with pytest.raises(KeptError, match="cannot be read"):
        networks.load(training, tmp_path)
    content = (store / training.place).read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(KeptError, match="delete it"):
        networks.load(training, tmp_path)


def test_the_published_third_steps_are_recipes():
    assert set(networks.published_third_steps()) == {"A3", "B3", "C3", "D3", "E3"}
