import os
import signal
import time
from dataclasses import replace

import pytest
import torch

from mnist_lab.fields.trace import facts
from mnist_lab.models import MODELS, count_parameters, leaves
from mnist_lab.recipe import ParameterError
from mnist_lab.runtime import ROOT
from mnist_lab.speed import benchmark
from mnist_lab.speed.benchmark import BenchmarkError, epochs_to_target, load_benchmark, processes, save_benchmark
from mnist_lab.speed.tables import HEADERS, as_text, ways_rows
from mnist_lab.studies.others.series_e import E3


def test_every_way_is_timed_against_the_first(recipe, settings, monkeypatch):
    monkeypatch.setattr(benchmark, "BASELINE_BATCH", 50)
    ways = benchmark.compare_ways(recipe, replace(settings, threads=2), rounds=1, sample=100, workers=(0,))
    assert [(way.batch_size, way.threads) for way in ways] == [(32, 2), (32, 1), (32, 2), (32, 2), (50, 2)]
    assert ways[0].ratio == 1.0 and ways[0].name == "whole batches in memory"
    for way in ways:
        assert way.seconds_per_epoch == pytest.approx(way.ratio * ways[0].seconds_per_epoch)  # with one round
    assert [way.model for way in ways] == ["CompactNet"] * 4 + ["E3"]


def test_the_baseline_is_the_published_network():
    ours, theirs = benchmark.baseline_network(), E3()
    assert list(map(repr, leaves(ours))) == list(map(repr, leaves(theirs)))
    assert count_parameters(ours) == count_parameters(theirs) == 7236


@pytest.mark.parametrize("make", [*MODELS.values(), E3])
def test_multiply_accumulates_are_those_of_the_facts(make):
    assert benchmark.multiply_accumulates(make()) == facts(make()).multiply_accumulates


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


def test_a_process_trains_and_tells_its_memory_or_why_it_cannot(recipe, settings):
    with processes(1) as pool:
        train = pool.submit(benchmark.train_alone, replace(recipe, epochs=1), settings)
        fail = pool.submit(benchmark.train_alone, replace(recipe, schedule="one-cycle", warmup=1e-3), settings)
        history, seconds, memory = train.result()
        with pytest.raises(ParameterError, match="WARMUP"):
            fail.result()
    assert [epoch.number for epoch in history] == [1]
    assert 0 < history[0].seconds < seconds
    assert 0.2 < memory < 2


def test_a_process_that_is_killed_is_told(recipe, settings):
    with pytest.raises(BenchmarkError, match="was killed, perhaps because memory ran out"), processes(1) as pool:
        pool.submit(os.kill, pool.submit(os.getpid).result(), signal.SIGTERM).result()


def test_processes_end_at_once_if_something_stops_the_wait_for_them():
    start = time.perf_counter()
    with pytest.raises(KeyboardInterrupt), processes(1) as pool:
        pool.submit(os.getpid).result()
        pool.submit(time.sleep, 60)
        raise KeyboardInterrupt
    assert time.perf_counter() - start < 30


def test_speed_is_counted_in_images(recipe, settings):
    start = time.perf_counter()
    found = benchmark.train_for_a_while(recipe, settings, seconds=0.2)
    assert found * (time.perf_counter() - start) > 288  # 9 batches of 32: at least one epoch of 300 images


def test_a_matrix_product_is_no_slower_than_in_plain_python():
    assert benchmark.matrix_rate(size=64, repeats=3) > 1e7
    assert torch.get_num_threads() == 1


def test_a_benchmark_survives_its_file(measured, tmp_path):
    path = tmp_path / "new" / "cpu.json"
    save_benchmark(measured, path)
    assert load_benchmark(path) == measured
    assert [file.name for file in path.parent.iterdir()] == ["cpu.json"]


@pytest.mark.parametrize("damage", [lambda text: text[:100], lambda text: "{}", lambda text: text.replace("ways", "w")])
def test_a_damaged_file_is_named(measured, tmp_path, damage):
    path = tmp_path / "cpu.json"
    save_benchmark(measured, path)
    path.write_text(damage(path.read_text()))
    with pytest.raises(BenchmarkError, match=r"cpu\.json is not a benchmark"):
        load_benchmark(path)


def test_tracked_benchmarks_can_be_read():
    for path in (ROOT / "notebooks" / "records" / "benchmarks").glob("*.json"):
        assert load_benchmark(path).environment.device_type == path.stem


def test_a_benchmark_is_told_in_a_table_and_in_words(measured):
    assert ways_rows(measured)[2] == ("image by image", "CompactNet", "125", "2", "40.0", "4.00")
    text = as_text(measured)
    assert text.splitlines()[0].split() == " ".join(HEADERS).split()
    for part in ("3.0 s", "5.0 times", "1.90 times", "99.4 % from epoch 5 on, after 61 s", "0.80 GiB", "a processor"):
        assert part in text
    never = measured.model_copy(update={"epochs_to_target": None, "seconds_to_target": None, "peak_memory": None})
    assert "does not stay at 99.4 %" in as_text(never) and "not measured" in as_text(never)
