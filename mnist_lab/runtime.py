"""Where a run happens, and how it is made repeatable."""

import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]  # the checkout: notebooks/, images/, data/ and runs/ live here

RECORDED_PACKAGES = ("torch", "torchvision", "albumentations", "numpy")


def pick_device(name: str = "auto") -> torch.device:
    """Return the device called ``name``: "cpu", "cuda", or "auto" (CUDA where there is one).

    Raises ValueError for another name, and RuntimeError for "cuda" on a machine without CUDA:
    a run that asked for a GPU never continues silently on the CPU.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f'unknown device {name!r}: use "auto", "cpu" or "cuda"')
    if name == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            'device "cuda" was asked for, but PyTorch sees no CUDA GPU here: '
            'use device "cpu" or "auto", or check the driver with nvidia-smi'
        )
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def pick_precision(device: torch.device) -> torch.dtype | None:
    """Return the type for mixed precision: bfloat16 where a GPU computes in it (Ampere and later), else None.

    A T4 has no bfloat16, and float16 would need its losses scaled, for no gain at this size: it stays at float32.
    """
    fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.bfloat16 if fast else None


def make_repeatable(seed: int, threads: int) -> None:
    """Seed PyTorch, fix the number of CPU threads, and allow deterministic algorithms only.

    The thread count is part of the experiment: sums split over another number of threads differ in
    the last digits. Denormal numbers, slow on a CPU and worthless here, are flushed to zero.
    """
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a tenth of the time, and nothing here reads any
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False  # or a GPU rounds convolutions to 10 bits, and a CPU does not
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    torch.manual_seed(seed)


def environment(device: torch.device) -> dict[str, object]:
    """Describe what a result depends on besides its parameters: device, threads, versions, commit."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        "device_type": device.type,
        "precision": str(pick_precision(device) or torch.float32).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: version(name) for name in RECORDED_PACKAGES},
        "commit": commit(),
    }


def available_memory() -> float | None:
    """Return how much memory new processes may take, in GiB; None where the system does not say."""
    found = stated(Path("/proc/meminfo"), "MemAvailable")
    return None if found is None else int(found.split()[0]) / 2**20  # "123 kB"


def peak_memory() -> float:
    """Return how much memory this process held at its peak, in GiB.

    Linux counts the memory of the process that started this one into ``getrusage`` (ru_maxrss outlives exec), so
    there it is read from /proc. Elsewhere ``getrusage`` is all there is.
    """
    import resource  # not on Windows, where notebooks run too

    found = stated(Path("/proc/self/status"), "VmHWM")
    if found is not None:
        return int(found.split()[0]) / 2**20  # "123 kB"
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)


def run_folder() -> Path:
    """Return the folder that a notebook writes records and figures to, and make it if need be.

    A run of the steps names its own in MNIST_LAB_RUNS; a notebook run by hand uses ``runs/by-hand``.
    """
    folder = Path(os.environ.get("MNIST_LAB_RUNS", ROOT / "runs" / "by-hand"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def processor() -> str:
    """Name the CPU, as /proc/cpuinfo does where there is one."""
    return stated(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine()


def stated(path: Path, name: str) -> str | None:
    """Return what follows the first ``name`` and a colon in a file of Linux's /proc; None if it is not there."""
    if path.is_file():
        for line in path.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == name:
                return value.strip()
    return None


def commit() -> str | None:
    """Return the checkout's commit, with "+changes" if the package differs from it.

    Outside git it is what MNIST_LAB_COMMIT says, or None: a copy on another machine is told where it comes from.
    Notebooks do not count: publishing rewrites their outputs, and what they decide is in the record itself.
    """
    try:
        head = git("rev-parse", "HEAD")
        changed = git("status", "--porcelain", "--", "mnist_lab")
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("MNIST_LAB_COMMIT")
    return head + ("+changes" if changed else "")


def git(*arguments: str) -> str:
    """Run git in the checkout and return what it printed."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()
