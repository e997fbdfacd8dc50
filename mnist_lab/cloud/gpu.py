"""Proves, on the instance and before it spends time, that PyTorch can compute on the GPU; prints what GPU it is."""

import subprocess
import sys

import torch

from mnist_lab import LabError
from mnist_lab.runtime import pick_device


def describe_gpu() -> str:
    """Compute on the GPU and return its name and the versions.

    Raises DeviceUnavailable where there is no GPU, and RuntimeError for one that this PyTorch was not built for:
    ``is_available`` is true for such a GPU, and its first operation fails.
    """
    device = pick_device("cuda")
    ones = torch.ones(64, 64, device=device)
    if (ones @ ones).sum().item() != 64**3:
        raise RuntimeError(f"{device} computes wrong numbers")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    return f"{name}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}"


def main() -> int:
    """Print one line on the GPU and return 0, or say on stderr why it cannot be used and return 1."""
    try:
        print(describe_gpu())
    except (LabError, RuntimeError) as error:  # RuntimeError is torch's own for CUDA too
        print(f"error: {error}", file=sys.stderr)
        try:
            subprocess.run(["nvidia-smi"], stdout=sys.stderr, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            print("nvidia-smi does not answer either", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
