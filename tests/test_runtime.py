import os
import resource
import subprocess
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mnist_lab import runtime


def test_cuda_without_a_gpu_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match=r"no CUDA GPU.*cpu"):
        runtime.pick_device("cuda")
    assert runtime.pick_device("auto").type == "cpu"


def test_unknown_device_is_an_error():
    with pytest.raises(ValueError, match="tpu"):
        runtime.pick_device("tpu")


def test_a_seed_repeats_draws():
    runtime.make_repeatable(7, threads=1)
    first = torch.rand(3)
    runtime.make_repeatable(7, threads=1)
    assert torch.equal(first, torch.rand(3))
    assert torch.get_num_threads() == 1
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cudnn.benchmark


def test_environment_names_what_a_result_depends_on():
    runtime.make_repeatable(0, threads=1)
    found = runtime.environment(torch.device("cpu"))
    assert found["device_type"] == "cpu" and found["device"]
    assert found["threads"] == 1
    assert found["packages"]["torch"] == version("torch")


@pytest.mark.parametrize(
    ("device", "capability", "precision"),
    [("cpu", None, None), ("cuda", (7, 5), None), ("cuda", (8, 0), torch.bfloat16), ("cuda", (9, 0), torch.bfloat16)],
)
def test_precision_is_mixed_from_ampere_on(device, capability, precision, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert runtime.pick_precision(torch.device(device)) == precision


def test_what_linux_states_is_read_by_its_name(tmp_path):
    path = tmp_path / "meminfo"
    path.write_text("MemFree:  1 kB\nMemAvailable:   2097152 kB\nmodel name\t: A CPU: fast\n")
    assert runtime.stated(path, "MemAvailable") == "2097152 kB"
    assert runtime.stated(path, "model name") == "A CPU: fast"
    assert runtime.stated(path, "Mem") is None
    assert runtime.stated(tmp_path / "missing", "MemFree") is None


@pytest.mark.skipif(not Path("/proc/meminfo").is_file(), reason="needs Linux")
def test_memory_is_in_gibibytes(monkeypatch):
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    assert 0.01 * total < runtime.available_memory() <= total
    with monkeypatch.context() as inherited:  # what the process that started this one held
        inherited.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=2**40))
        assert 0.05 < runtime.peak_memory() < total
    monkeypatch.setattr(runtime, "stated", lambda *ignored: None)
    assert runtime.available_memory() is None
    assert 0.05 < runtime.peak_memory() < total


def test_commit_names_changed_code(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    monkeypatch.setattr(runtime, "ROOT", tmp_path)
    assert runtime.commit() is None  # not in git
    (tmp_path / "mnist_lab").mkdir()
    code = tmp_path / "mnist_lab" / "models.py"
    code.write_text("a = 1\n")
    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "first")
    clean = runtime.commit()
    assert len(clean) == 40
    code.write_text("a = 2\n")
    assert runtime.commit() == clean + "+changes"


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
