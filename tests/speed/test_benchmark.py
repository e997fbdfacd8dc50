from dataclasses import replace
from pathlib import Path

import pytest

from mnist_lab.runtime import ROOT
from mnist_lab.speed import benchmark, ways
from mnist_lab.speed.benchmark import BenchmarkError, load_benchmark, save_benchmark
from mnist_lab.speed.tables import HEADERS, as_text, board_rows, together_rows, ways_rows


def test_a_small_sample_is_measured_from_end_to_end(recipe, settings, monkeypatch, tmp_path):
    monkeypatch.setattr(ways, "BASELINE_BATCH", 50)
    found = benchmark.measure(recipe, replace(settings, threads=2), seeds=[0], rounds=1, sample=100)
    save_benchmark(found, tmp_path / "cpu.json")
    assert load_benchmark(tmp_path / "cpu.json") == found
    assert len(board_rows(found)) == 2 and len(together_rows(found)) in (3, 6)
    assert {(one.processes, one.threads) for one in found.throughputs} == {(1, 1), (1, 2), (2, 1)}
    assert found.floor > 0 and found.costs and found.throughputs[-1].ratio > 0
    assert [(one.where, one.threads) for one in found.board] == [("one core", 1), ("two cores", 2)]
    assert all(one.epochs == one.seconds == [None] for one in found.board)  # two epochs of so few images
    assert found.peak_memory > 0.1 if Path("/proc/self/status").exists() else found.peak_memory is None
    assert "as published" in as_text(found)


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
    assert "E3 as published, with the better number of workers, takes 6.0 times as long as the first way." in text
    assert text.splitlines()[0].split() == " ".join(HEADERS).split()
    for part in (
        "3.0 s",
        "5.0 times",
        "0.80 GiB",
        "a processor",
    ):
        assert part in text
    assert "at its peak: not measured" in as_text(measured.model_copy(update={"peak_memory": None}))


def test_a_target_that_a_seed_misses_has_no_mean(measured):
    one, two = board_rows(measured)  # no GPU was measured, so there is no row for one
    assert one == ("one core", "1", "2", "5.5", "61.0")
    assert two == ("two cores", "2", "2", "1 of 2 do not reach it", "1 of 2 do not reach it")
