"""Proves, on the instance and before it spends time, that PyTorch can compute on the GPU; prints what GPU it is."""

import subprocess
import sys

import torch

from mnist_lab.runtime import DeviceUnavailable, environment, pick_device


def main() -> int:
    """Print one line on the GPU and return 0, or say on stderr why it cannot be used and return 1."""
    try:
        name = environment(pick_device("cuda")).device  # a GPU that is picked has computed something
    except DeviceUnavailable as error:
        print(f"error: {error}", file=sys.stderr)
        try:
            subprocess.run(["nvidia-smi"], stdout=sys.stderr, timeout=30)
        except (OSError, subprocess.TimeoutExpired):
            print("nvidia-smi does not answer either", file=sys.stderr)
        return 1
    print(f"{name}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
