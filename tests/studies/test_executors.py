"""Tests of who trains: real processes, real signals, and a real Dask cluster on this machine."""

import contextlib
import multiprocessing
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import mnist_lab
from mnist_lab import experiment
from mnist_lab.evidence.records import load
from mnist_lab.studies.executors import Cluster, Processes, digest, guards
from mnist_lab.studies.study import Plan, StudyError, conduct, train_alone

CHECKOUT = Path(mnist_lab.__file__).parents[1]


@pytest.fixture(scope="module")
def plan(recipe, settings) -> Plan:
    return Plan("step", "3", "OneCycleLR", replace(recipe, epochs=2), settings, range(4), step=3)


@pytest.fixture(scope="module")
def losses(plan) -> list[float]:
    """What the seeds of ``plan`` give in this process, without any executor."""
    data = experiment.load_data(plan.settings)
    return [train_alone(plan, seed, data).history[-1].test.loss for seed in plan.seeds]


@contextlib.contextmanager
def once_a_seed_is_kept(store: Path, do):
    """Call ``do`` as soon as ``store`` holds a whole record, unless the block ends before."""
    ended = threading.Event()

    def wait():
        while not any(path.read_bytes().endswith(b"\n") for path in store.rglob("*.jsonl")):
            if ended.wait(0.02):
                return
        do()

    thread = threading.Thread(target=wait)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_numbers_do_not_depend_on_who_trains(plan, losses, tmp_path):
    with Processes(2) as executor:
        records = conduct([plan], [tmp_path], executor)
        (environment,) = executor.submit(os.getenv, "OMP_NUM_THREADS").result()
    assert [record.loss for record in records] == losses
    assert {record.environment.threads for record in records} == {1}
    assert environment == "1"
    assert not multiprocessing.active_children()


def test_a_process_that_is_killed_is_told_and_finished_seeds_are_kept(plan, losses, tmp_path):
    def kill():
        (process,) = multiprocessing.active_children()
        os.kill(process.pid, signal.SIGKILL)

    message = r"3 of 4 seeds did not finish[\s\S]*3, seed 1: .* most likely for want of memory: try a smaller --par"
    with once_a_seed_is_kept(tmp_path, kill), pytest.raises(StudyError, match=message), Processes(1) as executor:
        conduct([replace(plan, recipe=replace(plan.recipe, epochs=20))], [tmp_path], executor)
    assert [record.seed for record in load(tmp_path)] == [0]
    for _ in range(100):  # the pool's own thread may still be reading how the process ended
        if not multiprocessing.active_children():
            return
        time.sleep(0.05)
    pytest.fail(f"left behind: {multiprocessing.active_children()}")


STUDY = """
import pickle, signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell that runs the tests in the background ignores it
from mnist_lab.cli import terminable
from mnist_lab.options import Interrupted
from mnist_lab.studies.executors import Processes
from mnist_lab.studies.study import conduct

try:
    with terminable(), Processes(1) as executor:
        conduct([pickle.load(open(sys.argv[1], "rb"))], [Path(sys.argv[2])], executor)
except (KeyboardInterrupt, Interrupted) as stopped:
    print("stopped by", type(stopped).__name__)
"""


@pytest.mark.parametrize(
    ("number", "to_all", "said"),
    [
        (signal.SIGINT, True, "stopped by KeyboardInterrupt"),  # a terminal sends Ctrl-C to all processes
        (signal.SIGTERM, False, "stopped by Interrupted"),
        (signal.SIGKILL, False, ""),
    ],
)
def test_no_process_outlives_a_study_that_is_stopped(plan, tmp_path, number, to_all, said):
    (tmp_path / "plan").write_bytes(pickle.dumps(replace(plan, recipe=replace(plan.recipe, epochs=20))))
    command = [sys.executable, "-c", STUDY, tmp_path / "plan", tmp_path / "store"]
    study = subprocess.Popen(
        command, cwd=CHECKOUT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    stop = os.killpg if to_all else os.kill
    try:
        with once_a_seed_is_kept(tmp_path / "store", lambda: stop(study.pid, number)):
            output, errors = study.communicate(timeout=60)  # the pipes end with the last process that holds them
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(study.pid, signal.SIGKILL)
    assert said in output
    assert "Traceback" not in errors
    assert [record.seed for record in load(tmp_path / "store")] == [0]


@contextlib.contextmanager
def started(*arguments: object, package: Path = CHECKOUT, **named):
    """Run a part of Dask, with ``package`` first on its path, and end it."""
    environment = os.environ | {"PYTHONPATH": str(package)}
    command = [sys.executable, "-m", *map(str, arguments)]
    with subprocess.Popen(command, cwd=package, env=environment, stderr=subprocess.DEVNULL, **named) as process:
        try:
            yield process
        finally:
            process.kill()


def worker(address: str, **named):
    options = ("--nthreads", 1, "--no-nanny", "--no-dashboard")
    return started("distributed.cli.dask_worker", address, *options, **named)


@pytest.fixture(scope="module")
def scheduler():
    """The address of a Dask scheduler on this machine."""
    pytest.importorskip("distributed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with started("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard"):
        yield f"tcp://127.0.0.1:{port}"


def join(cluster: Cluster, workers: int) -> None:
    cluster.client.wait_for_workers(workers, timeout=60)


def test_a_cluster_trains_the_same_though_a_worker_is_killed(plan, losses, scheduler, tmp_path):
    with worker(scheduler) as first, worker(scheduler), Cluster(scheduler) as cluster:
        join(cluster, 2)
        with once_a_seed_is_kept(tmp_path, first.kill):
            records = conduct([plan], [tmp_path], cluster)
    assert [record.loss for record in records] == losses
    assert len(load(tmp_path)) == len(losses)


def test_workers_with_other_code_get_no_work(scheduler, tmp_path):
    shutil.copytree(Path(mnist_lab.__file__).parent, tmp_path / "mnist_lab")
    with (tmp_path / "mnist_lab" / "models.py").open("a") as file:
        file.write("# changed\n")
    with worker(scheduler) as ours, Cluster(scheduler) as cluster:
        join(cluster, 1)
        with worker(scheduler, package=tmp_path) as theirs:
            join(cluster, 2)
            with pytest.raises(StudyError, match=r"worker tcp://\S+ runs another version of mnist_lab"):
                Cluster(scheduler)
            done = [cluster.submit(os.getpid) for _ in range(4)]
            assert {future.result(timeout=60) for future in done} == {ours.pid}
            assert theirs.wait(timeout=60) is not None


def test_ctrl_c_takes_back_what_waits(scheduler):
    with worker(scheduler), pytest.raises(KeyboardInterrupt), Cluster(scheduler) as cluster:
        join(cluster, 1)
        waiting = [cluster.submit(time.sleep, 0.5), *(cluster.submit(time.sleep, 60) for _ in range(100))]
        waiting[0].result(timeout=60)
        raise KeyboardInterrupt
    with worker(scheduler), Cluster(scheduler) as cluster:
        assert cluster.submit(os.getpid).result(timeout=30)


def test_why_a_worker_cannot_take_part():
    unfit, _ = guards(digest())
    assert unfit(SimpleNamespace(state=SimpleNamespace(nthreads=1))) == ""
    assert unfit(SimpleNamespace(state=SimpleNamespace(nthreads=4))) == "has 4 threads: start it with --nthreads 1"


def test_a_scheduler_that_does_not_answer_is_told():
    pytest.importorskip("distributed")
    with pytest.raises(StudyError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9: "):
        Cluster("tcp://127.0.0.1:9", timeout=0.5)
