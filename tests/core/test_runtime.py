import os
import platform
import subprocess
import sys
import warnings
from importlib.metadata import version

import pytest
import torch

from mnist_lab import runtime


@pytest.fixture(autouse=True)
def asked_anew():
    """Let no test see what another one found of the GPU."""
    runtime.gpu_problem.cache_clear()
    yield
    runtime.gpu_problem.cache_clear()


def test_cuda_without_a_gpu_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(runtime.DeviceUnavailable, match=r"no CUDA GPU.*cpu"):
        runtime.pick_device("cuda")
    assert runtime.pick_device("auto").type == "cpu"


def test_a_gpu_that_cannot_compute_is_passed_over_and_the_reason_is_told_once(monkeypatch, capsys):
    def fail(*size, **options):
        raise RuntimeError("CUDA error: no kernel image is available\nmore")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", fail)
    assert runtime.pick_device("auto").type == runtime.pick_device("auto").type == "cpu"
    said = "no GPU is used: the GPU cannot compute (CUDA error: no kernel image is available)"
    assert capsys.readouterr().out.splitlines() == [said]
    with pytest.raises(runtime.DeviceUnavailable, match="no kernel image"):
        runtime.pick_device("cuda")


def test_a_gpu_that_computes_wrong_numbers_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    wrong = torch.full((1, 1, 64, 64), 2.0)
    monkeypatch.setattr(torch, "ones", lambda *size, device: wrong)
    with pytest.raises(runtime.DeviceUnavailable, match="wrong numbers"):
        runtime.pick_device("cuda")


def test_a_gpu_needs_cudnn_as_well(monkeypatch):
    def fail(*arguments):
        raise RuntimeError("cuDNN error: CUDNN_STATUS_NOT_INITIALIZED")

    ones = torch.ones(1, 1, 64, 64)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", lambda *size, device: ones)
    assert runtime.gpu_problem() is None
    runtime.gpu_problem.cache_clear()
    monkeypatch.setattr(runtime.F, "conv2d", fail)
    with pytest.raises(runtime.DeviceUnavailable, match="cuDNN error"):
        runtime.pick_device("cuda")


def test_what_pytorch_warns_of_is_the_reason_why_no_gpu_is_used(monkeypatch, capsys):
    def old_driver():
        warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old", stacklevel=2)
        return False

    monkeypatch.setattr(torch.cuda, "is_available", old_driver)
    assert runtime.pick_device("auto").type == "cpu"
    reason = "PyTorch sees no CUDA GPU here (CUDA initialization: The NVIDIA driver on your system is too old)"
    assert capsys.readouterr().out.splitlines() == [f"no GPU is used: {reason}"]
    with pytest.raises(runtime.DeviceUnavailable, match="too old"):
        runtime.pick_device("cuda")


def test_apples_gpu_is_passed_over_and_named(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert runtime.pick_device("auto").type == runtime.pick_device("auto").type == "cpu"
    reason = "PyTorch sees no CUDA GPU here, and Apple's GPU (MPS) is not supported"
    assert capsys.readouterr().out.splitlines() == [f"no GPU is used: {reason}"]
    with pytest.raises(runtime.DeviceUnavailable, match=r"Apple's GPU \(MPS\) is not supported"):
        runtime.pick_device("cuda")


def test_the_cpu_needs_no_gpu_to_be_asked(monkeypatch):
    monkeypatch.setattr(runtime, "gpu_problem", None)
    assert runtime.pick_device("cpu").type == "cpu"


def test_a_seed_repeats_draws():
    torch.set_float32_matmul_precision("medium")  # as an environment variable may ask
    runtime.make_repeatable(7, threads=1)
    first = torch.rand(3)
    runtime.make_repeatable(7, threads=1)
    assert torch.equal(first, torch.rand(3))
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cudnn.benchmark
    assert torch.get_float32_matmul_precision() == "highest"


def test_environment_names_what_a_result_depends_on():
    runtime.make_repeatable(0, threads=1)
    found = runtime.environment(torch.device("cpu"))
    assert found.device_type == "cpu" and found.device
    assert found.threads == 1
    assert found.packages["torch"] == version("torch")


def test_what_linux_states_is_read_by_its_name(tmp_path):
    path = tmp_path / "meminfo"
    path.write_text("MemFree:  1 kB\nMemAvailable:   2097152 kB\nmodel name\t: A CPU: fast\n")
    assert runtime.stated(path, "MemAvailable") == "2097152 kB"
    assert runtime.stated(path, "model name") == "A CPU: fast"
    assert runtime.stated(path, "Mem") is None
    assert runtime.stated(tmp_path / "missing", "MemFree") is None


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A git repository with a package in it, as the root."""

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr(runtime, "ROOT", tmp_path)
    monkeypatch.delenv("MNIST_LAB_COMMIT", raising=False)
    (tmp_path / "mnist_lab").mkdir()
    (tmp_path / "mnist_lab" / "models.py").write_text("a = 1\n")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "first")
    return tmp_path


def test_commit_names_changed_code(checkout):
    clean = runtime.commit()
    assert len(clean) == 40
    (checkout / "mnist_lab" / "models.py").write_text("a = 2\n")
    assert runtime.commit() == clean + "+changes"


def test_a_persons_git_does_not_change_what_is_said_of_the_code(checkout, monkeypatch, tmp_path_factory):
    clean, home = runtime.commit(), tmp_path_factory.mktemp("home")
    (home / ".gitconfig").write_text("[status]\n\tshowUntrackedFiles = no\n", encoding="utf-8")
    monkeypatch.setenv("HOME", str(home))
    (checkout / "mnist_lab" / "models.py").chmod(0o755)  # as on a disk without such bits
    assert runtime.commit() == clean
    if hasattr(os, "getuid") and os.getuid() == 0:  # a clone that belongs to somebody else
        for path in (checkout, checkout / ".git"):
            os.chown(path, 12345, 12345)
        assert runtime.commit() == clean
    (checkout / "mnist_lab" / "new.py").touch()
    assert runtime.commit() == clean + "+changes"


def test_a_repository_around_the_checkout_or_in_the_environment_is_not_ours(checkout, monkeypatch, tmp_path_factory):
    ours = runtime.commit()
    monkeypatch.setenv("GIT_DIR", str(tmp_path_factory.mktemp("other")))
    assert runtime.commit() == ours
    (checkout / "copy").mkdir()
    monkeypatch.setattr(runtime, "ROOT", checkout / "copy")
    assert runtime.commit() is None


def test_the_checkout_is_found_from_an_installed_package(tmp_path):
    root = tmp_path / "a lab of é"
    (root / "notebooks" / "records").mkdir(parents=True)
    elsewhere = tmp_path / "lib" / "mnist_lab"
    assert runtime.find_root(root / "mnist_lab", tmp_path, "") == root
    assert runtime.find_root(elsewhere, root / "notebooks" / "evidence", "") == root
    assert runtime.find_root(elsewhere, tmp_path, root.as_uri()) == root  # as pip notes what it installed
    assert runtime.find_root(elsewhere, tmp_path, "https://example.org/lab") == tmp_path


def test_run_folder_is_named_by_the_batch(tmp_path, monkeypatch):
    monkeypatch.setenv("MNIST_LAB_RUNS", str(tmp_path / "a" / "b"))
    assert runtime.run_folder() == tmp_path / "a" / "b"
    assert runtime.run_folder().is_dir()


def test_a_copy_outside_git_is_told_its_commit(monkeypatch):
    def no_git(*arguments):
        raise FileNotFoundError("git")

    monkeypatch.setattr(runtime, "git", no_git)
    monkeypatch.delenv("MNIST_LAB_COMMIT", raising=False)
    assert runtime.commit() is None
    monkeypatch.setenv("MNIST_LAB_COMMIT", "abc+changes")
    assert runtime.commit() == "abc+changes"


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file"
    runtime.write_whole(path, b"first")
    runtime.write_whole(path, b"second")
    assert path.read_bytes() == b"second"
    with pytest.raises(TypeError):
        runtime.write_whole(path, "text")
    assert path.read_bytes() == b"second"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


FREED = """
import os, resource, torch
from mnist_lab import runtime

def page_faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if KEEP:
    runtime.make_repeatable(0, threads=1)
for _ in range(3):
    [torch.zeros(2_000_000) for _ in range(8)]  # 64 MB
before, larger = page_faults(), range(3_000_000, 7_000_000, 500_000)  # each is more than glibc keeps by itself
for size in larger:
    torch.zeros(size)
print((page_faults() - before) * os.sysconf("SC_PAGE_SIZE") / (4 * sum(larger)))  # about 1 if none is used again
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other systems have another allocator")
def test_the_memory_of_freed_tensors_is_kept():
    def share_that_is_new(keep: bool) -> float:  # in a process of its own: what other tests have freed is in the way
        code = FREED.replace("KEEP", str(keep))
        foreign = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")  # settings of an allocator, or another one
        plain = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=plain)
        return float(done.stdout)

    assert share_that_is_new(keep=True) < 0.1
    assert share_that_is_new(keep=False) > 0.5
