"""A docker for the SageMaker SDK's local mode: bash carries out the container's entry point, below a machine's root."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml


def up(file: str, root: str) -> int:
    """Carry out the one service of a compose file; its volumes are copied to where it knows them."""
    (service,) = yaml.safe_load(Path(file).read_text())["services"].values()
    for volume in service["volumes"]:
        source, target = volume.split(":")[:2]
        if Path(source).is_dir():
            shutil.copytree(source, f"{root}{target}", dirs_exist_ok=True)
    for path in Path(f"{root}/opt/ml/input/data/sm_drivers").rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            path.write_text(path.read_text().replace("/opt/ml", f"{root}/opt/ml"))
    entry = [word.replace("/opt/ml", f"{root}/opt/ml") for word in service["entrypoint"]]
    more = dict(variable.split("=", 1) for variable in service["environment"])
    return subprocess.run(entry, cwd="/", env={**os.environ, **more, "PATH": f"{root}/bin:/usr/bin:/bin"}).returncode


if __name__ == "__main__":
    if sys.argv[1:3] == ["compose", "version"]:
        print("Docker Compose version v2.24.0")
    elif "up" in sys.argv:
        sys.exit(up(sys.argv[sys.argv.index("-f") + 1], os.environ["MNIST_LAB_ROOT"]))
    elif sys.argv[1] == "images":
        print("here")
