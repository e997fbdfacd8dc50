from dataclasses import replace

import pytest

from mnist_lab import benchmark
from mnist_lab.benchmark import epochs_to_target, load_benchmark, save_benchmark


@pytest.fixture
def quick(monkeypatch):
    """As little of everything as there can be."""
    monkeypatch.setattr(benchmark, "WORKERS", (0,))
    monkeypatch.setattr(benchmark, "BASELINE_BATCH", 50)


def test_every_way_is_timed_on_the_same_network_and_against_the_first(recipe, settings, quick):
    ways = benchmark.compare_ways(recipe, replace(settings, threads=2), rounds=1, sample=100)
    assert [(way.batch_size, way.threads) for way in ways] == [(32, 2), (32, 1), (32, 2), (32, 2), (50, 2)]
    assert ways[0].ratio == 1.0 and ways[0].name == "whole batches in memory"
    for way in ways:
        assert way.seconds_per_epoch == pytest.approx(way.ratio * ways[0].seconds_per_epoch)  # with one round
    assert [way.model for way in ways] == ["CompactNet"] * 4 + [benchmark.BASELINE]


def test_shares_of_the_time_add_up_and_convolutions_are_seen(recipe, settings):
    shares = benchmark.time_shares(recipe, settings, sample=200)
    assert sum(shares.values()) == pytest.approx(1)
    assert all(share > 0 for share in shares.values()) and "convolution, backward" in shares


@pytest.mark.parametrize(
    ("accuracies", "epoch"),
    [([0.99, 0.994, 0.995], 2), ([0.995, 0.993, 0.994], 3), ([0.994, 0.995], 1), ([0.995, 0.99], None)],
)
def test_the_target_is_reached_when_no_later_epoch_falls_below_it(accuracies, epoch):
    assert epochs_to_target(accuracies) == epoch


def test_a_run_in_a_process_tells_its_memory(recipe, settings):
    history, seconds, memory = benchmark.train_in_process(replace(recipe, epochs=1), settings)
    assert [epoch.number for epoch in history] == [1]
    assert 0 < history[0].seconds < seconds
    assert 0.2 < memory < 2


def test_the_rate_of_a_matrix_product_is_that_of_the_fastest(monkeypatch):
    clock = iter([0.0, 2.0, 10.0, 10.5, 20.0, 21.0])
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(clock))
    assert benchmark.matrix_rate(size=16, repeats=3) == 16**3 / 0.5


def test_a_benchmark_survives_its_file(speed, tmp_path):
    path = tmp_path / "new" / "cpu.json"
    save_benchmark(speed, path)
    assert load_benchmark(path) == speed
    assert [file.name for file in path.parent.iterdir()] == ["cpu.json"]


@pytest.mark.parametrize("damage", [lambda text: text[:100], lambda text: "{}", lambda text: "[1]"])
def test_a_damaged_file_is_named(speed, tmp_path, damage):
    path = tmp_path / "cpu.json"
    save_benchmark(speed, path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(ValueError, match=r"cpu\.json is not a benchmark"):
        load_benchmark(path)
