import pytest
import torch

from mnist_lab import runtime
from mnist_lab.cloud import gpu


@pytest.fixture(autouse=True)
def asked_anew():
    """Let no test see what another one found of the GPU."""
    runtime.gpu_problem.cache_clear()
    yield
    runtime.gpu_problem.cache_clear()


def test_no_gpu_is_exit_code_1_and_a_sentence(monkeypatch, capfd):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main() == 1
    out, err = capfd.readouterr()
    assert out == "" and "PyTorch sees no CUDA GPU" in err


def test_a_gpu_that_pytorch_was_not_built_for_is_found_out(monkeypatch, capfd):
    """It is seen, and fails at its first operation."""

    def fail(*arguments, **more):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", fail)
    assert gpu.main() == 1
    assert "no kernel image" in capfd.readouterr().err


def test_a_gpu_that_computes_is_named(monkeypatch, capfd):
    monkeypatch.setattr(gpu, "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    assert gpu.main() == 0
    assert capfd.readouterr().out.startswith(f"Tesla T4, PyTorch {torch.__version__}")
