"""Where a run happens, and how it is made repeatable."""

import contextlib
import ctypes
import functools
import json
import os
import platform
import subprocess
import warnings
from dataclasses import dataclass
from importlib.metadata import distributions, version
from pathlib import Path
from urllib.request import url2pathname

import torch
from torch.nn import functional as F

from mnist_lab import LabError


def find_root(package: Path, working: Path, origin: str) -> Path:
    """Return the checkout, with notebooks/, images/, data/ and runs/: around the ``package``, else above ``working``,
    the working directory, else where ``origin``, a URL, points to; without one, the working directory itself."""
    if (package.parent / "notebooks").is_dir():
        return package.parent
    places = [working, *working.parents, Path(url2pathname(origin.removeprefix("file:")))]
    return next((place for place in places if (place / "notebooks" / "records").is_dir()), working)


NOTED = next((found.read_text("direct_url.json") for found in distributions(name="mnist-lab")), None)  # by pip
ROOT = find_root(Path(__file__).resolve().parent, Path.cwd(), json.loads(NOTED or "{}").get("url", ""))

RECORDED_PACKAGES = ("torch", "torchvision", "albumentations", "numpy")


class DeviceUnavailable(LabError):
    """The device that was asked for is not there."""


@dataclass(frozen=True)
class Environment:
    """What a result depends on besides its parameters."""

    device: str  # the processor's or the GPU's name
    device_type: str  # "cpu" or "cuda"
    precision: str  # of the forward and backward pass, as in "float32"
    threads: int  # of the CPU
    python: str
    platform: str
    packages: dict[str, str]  # versions
    commit: str | None  # of the package, with "+changes" if it differed from the commit


def pick_device(name: str = "auto") -> torch.device:
    """Return the device called ``name``: "cpu", "cuda", or "auto" (CUDA where a GPU computes).

    Raises DeviceUnavailable for "cuda" where no GPU computes: a run that asked for a GPU never continues silently on
    the CPU.
    """
    if name == "cpu":
        return torch.device("cpu")
    problem = gpu_problem()
    if problem is None:
        return torch.device("cuda")
    if name == "cuda":
        raise DeviceUnavailable(f'device "cuda" was asked for, but {problem}: use "cpu" or "auto", or see nvidia-smi')
    return torch.device("cpu")


@functools.cache
def gpu_problem() -> str | None:
    """Say why no GPU can compute here, None if one can; and print it where there is one that "auto" passes over.

    Only a computation, by cuBLAS and by cuDNN, shows that a GPU is one that this PyTorch was built for.
    """
    with warnings.catch_warnings(record=True) as told:  # of a driver or card that is too old: here that is the reason
        warnings.simplefilter("always")
        there, problem = torch.cuda.is_available(), None
        if there:
            try:
                ones = torch.ones(1, 1, 64, 64, device="cuda")
                sums = (ones @ ones).sum().item(), F.conv2d(ones, ones[..., :3, :3]).sum().item()
                problem = None if sums == (64**3, 9 * 62**2) else "the GPU computes wrong numbers"
            except RuntimeError as error:
                problem = f"the GPU cannot compute ({str(error).splitlines()[0]})"
    apple = torch.backends.mps.is_available()
    if not there:
        problem = " ".join(["PyTorch sees no CUDA GPU here", *(f"({one.message})" for one in told)])
        problem += ", and Apple's GPU (MPS) is not supported" if apple else ""
    if problem and (there or told or apple):
        print(f"no GPU is used: {problem}", flush=True)
    return problem


def make_repeatable(seed: int, threads: int) -> None:
    """Seed PyTorch, fix the number of CPU threads, and allow deterministic algorithms only.

    The thread count is part of the experiment: sums split over another number of threads differ in the last digits.
    Denormal numbers, slow on a CPU and worthless here, are flushed to zero. The memory of freed tensors is kept, since
    glibc would map it for the next ones page by page.
    """
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # a tenth of the time, and nothing here reads any
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False  # 10 bits, where a CPU has 23
    torch.set_float32_matmul_precision("highest")  # and products of matrices, where the environment asks for that
    torch.set_flush_denormal(True)
    with contextlib.suppress(OSError, TypeError, AttributeError):  # only glibc has it
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 1 << 25), mallopt(-1, 1 << 30)  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD, bytes
    torch.set_num_threads(threads)
    torch.manual_seed(seed)


def environment(device: torch.device, precision: torch.dtype = torch.float32) -> Environment:
    """Describe this machine, its software, and the device that a run uses."""
    return Environment(
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else processor(),
        device_type=device.type,
        precision=str(precision).removeprefix("torch."),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        platform=f"{platform.system()} {platform.machine()}",
        packages={name: version(name) for name in RECORDED_PACKAGES},
        commit=commit(),
    )


def run_folder() -> Path:
    """Return the folder that a notebook writes records and figures to, and make it if need be.

    A run of the steps names its own in MNIST_LAB_RUNS; a notebook run by hand uses ``runs/by-hand``.
    """
    folder = Path(os.environ.get("MNIST_LAB_RUNS", ROOT / "runs" / "by-hand"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_whole(path: Path, content: bytes) -> None:
    """Write a file in full beside ``path``, and then put it in its place; a power cut leaves the old or the new one.

    Raises OSError, with nothing left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.new")
    try:
        with new.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def processor() -> str:
    """Name the CPU, as /proc/cpuinfo does where there is one."""
    return stated(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine()


def stated(path: Path, name: str) -> str | None:
    """Return what follows the first ``name`` and a colon in a file of Linux's /proc; None if it is not there."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    parts = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in parts if key.strip() == name), None)


def commit() -> str | None:
    """Return the checkout's commit, with "+changes" if the package differs from it.

    Outside git it is what MNIST_LAB_COMMIT says, or None: a copy on another machine is told where it comes from.
    Notebooks do not count: publishing rewrites their outputs, and what they decide is in the record itself.
    """
    try:
        head, top = git("rev-parse", "HEAD", "--show-toplevel").splitlines()
        changed = git("status", "--porcelain", "--untracked-files=all", "--", "mnist_lab")
    except (OSError, subprocess.CalledProcessError):
        head = top = changed = ""
    if not top or Path(top).resolve() != ROOT:  # a repository around this one knows nothing of it
        return os.environ.get("MNIST_LAB_COMMIT")
    return head + ("+changes" if changed else "")


def git(*arguments: str) -> str:
    """Run git in the checkout, whatever the environment says and whoever owns it, and return what it printed."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    settings = ("-c", f"safe.directory={ROOT.as_posix()}", "-c", "core.fileMode=false")
    done = subprocess.run(["git", *settings, *arguments], cwd=ROOT, env=variables, capture_output=True, check=True)
    return os.fsdecode(done.stdout).strip()
