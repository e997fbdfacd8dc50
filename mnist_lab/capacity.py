"""Processes that train: how many this machine has room for, how they start, and that they end with their parent."""

import math
import multiprocessing
import os
import threading
from pathlib import Path

from mnist_lab.runtime import stated

SPAWN = multiprocessing.get_context("spawn")  # a fork would inherit the locks of PyTorch's threads
PROCESS_MEMORY = 1.5  # GiB to have free for each process that trains


def usable_processes(threads: int = 1) -> int:
    """Return how many processes of so many threads there are cores and free memory for; at least 1."""
    import joblib  # it heeds affinity, and the quotas of containers

    return max(1, min(joblib.cpu_count() // threads, int(min(free_memory() / PROCESS_MEMORY, 1024))))


def free_memory(system: Path = Path("/")) -> float:
    """Return how much memory new processes may take, in GiB; infinity where the ``system`` does not say.

    The control groups (cgroup v2) that this process is in may leave it less than the machine has, as in a container.
    """
    available = stated(system / "proc/meminfo", "MemAvailable")
    free = [int(available.split()[0]) * 1024] if available else []  # "123 kB"
    top = system / "sys/fs/cgroup"
    own = next((top / word[4:] for word in words(system / "proc/self/cgroup") if word.startswith("0::/")), top)
    for group in [own, *own.parents]:
        limit, used, kinds = (words(group / f"memory.{name}") for name in ("max", "current", "stat"))
        if limit and used and limit != ["max"]:
            cache = int(kinds[kinds.index("inactive_file") + 1]) if "inactive_file" in kinds else 0  # given up at need
            free.append(int(limit[0]) - int(used[0]) + cache)
    return min(free, default=math.inf) / 2**30


def words(path: Path) -> list[str]:
    """Return the words of a file of the system; none if it is not there."""
    return path.read_text(encoding="utf-8").split() if path.is_file() else []


def follow_parent() -> None:
    """End this process as soon as its parent has gone: nobody would be there to take its results."""

    def follow() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
