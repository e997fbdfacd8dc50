import os

import joblib

from mnist_lab import capacity
from mnist_lab.capacity import free_memory, usable_processes


def test_memory_is_what_the_machine_and_its_control_groups_leave(tmp_path):
    assert 1 <= usable_processes() <= os.cpu_count()
    assert free_memory(tmp_path) == float("inf")
    job = tmp_path / "sys/fs/cgroup/slice/job"
    for folder in (job, tmp_path / "proc/self"):
        folder.mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal: 16777216 kB\nMemAvailable: 8388608 kB\n")
    assert free_memory(tmp_path) == 8
    (tmp_path / "proc/self/cgroup").write_text("0::/slice/job\n")
    (job / "memory.max").write_text("max\n")
    (job / "memory.current").write_text("0\n")
    assert free_memory(tmp_path) == 8
    (job.parent / "memory.max").write_text(f"{6 * 2**30}\n")
    (job.parent / "memory.current").write_text(f"{4 * 2**30}\n")
    assert free_memory(tmp_path) == 2
    (job.parent / "memory.stat").write_text(f"anon 5\ninactive_file {2**30}\n")
    assert free_memory(tmp_path) == 3


def test_processes_have_cores_and_memory(monkeypatch):
    monkeypatch.setattr(joblib, "cpu_count", lambda: 8)
    monkeypatch.setattr(capacity, "free_memory", lambda: 5.0)
    assert [usable_processes(threads) for threads in (1, 2, 4, 16)] == [3, 3, 2, 1]
    monkeypatch.setattr(capacity, "free_memory", lambda: 0.5)
    assert usable_processes() == 1
