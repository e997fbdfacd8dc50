"""Who trains the seeds of a study: processes of this machine, or a Dask cluster. Both are executors."""

import contextlib
import functools
import hashlib
import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from pathlib import Path

import mnist_lab
from mnist_lab.capacity import SPAWN, follow_parent
from mnist_lab.studies.study import StudyError

QUIET = {"OMP_NUM_THREADS": "1", "TQDM_DISABLE": "1"}  # a process is one thread, and shows no batches


class Processes(ProcessPoolExecutor):
    """Processes of this machine. They end with this one, however it ends, and Ctrl-C does not reach them."""

    def __init__(self, count: int):
        super().__init__(count, SPAWN, initializer=follow_parent)

    def submit(self, function: Callable, /, *arguments: object) -> Future:
        with inherited():  # a process starts when a task is submitted and the others are busy
            return super().submit(function, *arguments)

    def __exit__(self, kind: type | None, *exception: object) -> None:
        self.shutdown(wait=kind is None, cancel_futures=True)
        for process in multiprocessing.active_children() if kind else []:
            process.terminate()
            process.join()


@contextlib.contextmanager
def inherited() -> Iterator[None]:
    """Let processes that start now ignore Ctrl-C, which their parent obeys, and be of one thread and quiet."""
    before = {name: os.environ.get(name) for name in QUIET}
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(QUIET)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        signal.signal(signal.SIGINT, handler)


class Cluster(Executor):
    """The workers of a Dask scheduler, if they run the code that we run; raises StudyError if one does not.

    A worker with other code that joins later is taken out of the cluster. What a lost worker had, another does again.
    """

    def __init__(self, address: str, timeout: float = 10):
        try:
            from distributed import Client
        except ImportError:
            raise StudyError('a cluster needs Dask: in the checkout, pip install -e ".[cluster]"') from None
        try:
            self.client = Client(address, timeout=timeout)  # seconds
        except (OSError, ValueError) as error:
            raise StudyError(f"no Dask scheduler answers at {address}: {error}") from None
        unfit, self.guarded = guards(digest())
        reasons = self.client.run(unfit)
        if any(reasons.values()):
            self.client.close()
            raise StudyError("; ".join(f"worker {name} {reason}" for name, reason in reasons.items() if reason))
        if not reasons:
            print(f"no worker has joined {address} yet: the seeds wait for one", flush=True)
        self.executor = self.client.get_executor(pure=False)

    @property
    def workers(self) -> int:
        """Return how many workers there are now; at least 1."""
        return len(self.client.nthreads()) or 1

    def submit(self, function: Callable, /, *arguments: object) -> Future:
        return self.executor.submit(self.guarded, pickle.dumps((function, arguments)))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Give up what is not done, and leave the cluster; seeds under way there come to nothing."""
        self.executor.shutdown(wait=False)
        self.client.close()


def guards(code: str) -> tuple[Callable, Callable]:
    """Return two functions for Dask's workers: why one cannot take part, and the work, done only if it can.

    They go to a worker as they are here, which a function that could be imported there would not.
    """

    def unfit(dask_worker) -> str:
        import os

        os.environ.update(QUIET)
        try:
            from mnist_lab.studies.executors import digest
        except ImportError as error:
            return f"cannot import {error.name}: install the checkout there, with its extras train and cluster"
        if digest() != code:
            return "runs another version of mnist_lab: start it again with the code of this checkout"
        threads = dask_worker.state.nthreads
        return "" if threads == 1 else f"has {threads} threads: start it with --nthreads 1"

    def guarded(work: bytes):
        from distributed import Reschedule, get_worker

        worker = get_worker()
        reason = unfit(worker)
        if reason:
            worker.loop.add_callback(worker.close, reason=f"this worker {reason}")
            raise Reschedule
        function, arguments = pickle.loads(work)
        return function(*arguments)

    return unfit, guarded


@functools.cache  # the code that a process has loaded stays as it was
def digest() -> str:
    """Return a fingerprint of the code of this package."""
    package = Path(mnist_lab.__file__).parent
    found = hashlib.sha256()
    for path in sorted([*package.rglob("*.py"), *package.rglob("*.cpp")]):
        found.update(f"{path.relative_to(package).as_posix()}\n".encode() + path.read_bytes())
    return found.hexdigest()
