import os
import signal
from dataclasses import replace
from types import SimpleNamespace

import pytest

from mnist_lab import benchmark
from mnist_lab.benchmark import epochs_to_target, load_benchmark, save_benchmark
from mnist_lab.training import Diverged


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


def killed(recipe, settings, pipe):
    os.kill(os.getpid(), signal.SIGKILL)


def failing(recipe, settings, pipe):
    pipe.send(Diverged("the loss is nan"))


@pytest.mark.parametrize(
    ("work", "error", "message"),
    [(killed, RuntimeError, "training process was killed, perhaps for want"), (failing, Diverged, "the loss is nan")],
)
def test_a_run_that_fails_in_its_process_fails_here(recipe, settings, monkeypatch, work, error, message):
    monkeypatch.setattr(benchmark, "train_alone", work)
    with pytest.raises(error, match=message):
        benchmark.train_in_process(recipe, settings)


def test_a_process_sends_why_it_fails(recipe, settings, monkeypatch):
    sent = []
    pipe = SimpleNamespace(send=sent.append)
    benchmark.train_alone(replace(recipe, batch_size=301), settings, pipe)
    monkeypatch.setattr(benchmark, "train_together", lambda *ignored, **named: [Diverged("the loss is nan")])
    benchmark.train_alone(recipe, settings, pipe)
    assert [type(message) for message in sent] == [ValueError, Diverged]
    assert "batch size 301 does not fit 300" in str(sent[0])


def test_speed_is_counted_in_images_of_whole_batches(recipe, settings, monkeypatch):
    clock = iter([0.0, 1.0, 3.0, 3.0])  # the start, before the only pass, after it, and the end
    monkeypatch.setattr(benchmark.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(benchmark, "train_one_epoch", lambda update, batches: None)
    assert benchmark.train_for_a_while(recipe, settings, seconds=2) == 288 / 3  # 9 batches of 32 in 300 images


def test_throughput_is_the_median_of_ratios(recipe, settings, monkeypatch):
    speeds = iter([200.0, 100.0, 190.0, 100.0, 90.0, 100.0])
    monkeypatch.setattr(benchmark, "images_per_second", lambda recipe, settings, processes: next(speeds))
    assert benchmark.throughput(recipe, settings, 2) == 1.9


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
