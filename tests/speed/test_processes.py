import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from mnist_lab.recipe import ParameterError
from mnist_lab.runtime import ROOT
from mnist_lab.speed import processes as training
from mnist_lab.speed.processes import BenchmarkError, epochs_to_target, processes, train_alone


@pytest.mark.parametrize(
    ("accuracies", "epoch"),
    [([0.99, 0.994, 0.995], 2), ([0.995, 0.993, 0.994], 3), ([0.994, 0.995], 1), ([0.995, 0.99], None)],
)
def test_the_target_is_reached_when_no_later_epoch_falls_below_it(accuracies, epoch):
    assert epochs_to_target(accuracies) == epoch


def test_a_process_tells_when_its_epochs_ended_or_why_there_are_none(recipe, settings):
    accuracies, times, _ = train_alone(recipe, settings)
    assert len(accuracies) == 2 and 0 < times[0] < times[1]
    with processes(1) as pool:
        fail = pool.submit(train_alone, replace(recipe, schedule="one-cycle", warmup=1e-3), settings)
        with pytest.raises(ParameterError, match="WARMUP"):
            fail.result()


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


def test_speed_is_counted_in_images(recipe, settings, monkeypatch):
    seconds = iter((100.0, 100.0, 100.5, 101.5, 102.5))  # the start, before each epoch, after the last
    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=seconds.__next__))
    found = training.train_for_a_while(recipe, settings, "PyTorch's layers", seconds=1.0)
    assert found == 2 * 288 / 2.5  # an epoch of 300 images is 9 batches of 32


def test_no_process_outlives_a_benchmark_that_was_killed():
    code = (
        "import os, time\nfrom mnist_lab.speed.processes import processes\nwith processes(1) as pool:\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n    pool.submit(time.sleep, 300).result()\n"
    )
    command = [sys.executable, "-c", code]
    benchmark = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert int(benchmark.stdout.readline()) != benchmark.pid
        benchmark.kill()
        benchmark.communicate(timeout=60)  # the pipe ends with the last process that holds it
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(benchmark.pid, signal.SIGKILL)
