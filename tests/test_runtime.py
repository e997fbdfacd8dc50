import subprocess
from importlib.metadata import version

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
