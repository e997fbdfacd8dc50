import pytest
import torch

from mnist_lab.cloud import gpu


def test_no_gpu_is_exit_code_1_and_a_sentence(monkeypatch, capfd):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main() == 1
    out, err = capfd.readouterr()
    assert out == "" and "PyTorch sees no CUDA GPU" in err


def test_a_gpu_that_pytorch_was_not_built_for_is_found_out(monkeypatch, capfd):
    """It is seen, and fails at its first operation."""

    def fail(*arguments, **more):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    monkeypatch.setattr(gpu, "pick_device", lambda name: torch.device("cpu"))
    monkeypatch.setattr(torch, "ones", fail)
    assert gpu.main() == 1
    assert "no kernel image" in capfd.readouterr().err


def test_a_gpu_that_computes_wrong_numbers_is_found_out(monkeypatch):
    monkeypatch.setattr(gpu, "pick_device", lambda name: torch.device("cpu"))
    monkeypatch.setattr(torch, "ones", torch.zeros)
    with pytest.raises(RuntimeError, match="wrong numbers"):
        gpu.describe_gpu()


def test_a_gpu_that_computes_is_named(monkeypatch, capfd):
    monkeypatch.setattr(gpu, "pick_device", lambda name: torch.device("cpu"))
    assert gpu.main() == 0
    assert f"PyTorch {torch.__version__}" in capfd.readouterr().out
