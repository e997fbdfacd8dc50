"""What step 3 needs, packed into archives that are the same bytes whenever they hold the same files."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mnist_lab.cloud.errors import CloudError
from mnist_lab.data import MNIST_SHA256, read_files
from mnist_lab.runtime import ROOT

STEP = 3


@dataclass(frozen=True)
class Archive:
    """A .tar.gz and its SHA-256."""

    content: bytes
    sha256: str


def make_bundle(root: Path = ROOT) -> Archive:
    """Pack the package, the notebook of step 3 without outputs, and the CPU records that it compares itself with.

    Times and owners of files do not count, nor do README, outputs and GPU records: publishing a result does not ask
    for a new run. Raises CloudError if ``root`` is not a checkout.
    """
    notebooks = sorted((root / "notebooks").glob(f"{STEP:02d}_*.ipynb"))
    package = [path for path in (root / "mnist_lab").rglob("*") if path.suffix in {".py", ".cpp", ".sh", ".txt"}]
    if len(notebooks) != 1 or not package:
        raise CloudError(f"{root} is not a checkout of mnist_lab with one notebook of step {STEP}: nothing to upload")
    records = [path for path in root.glob("notebooks/records/steps/*.jsonl") if not path.stem.endswith("-cuda")]
    files = {}
    for path in [*package, *records, root / "LICENSE", root / "pyproject.toml"]:
        if path.is_file() and "__pycache__" not in path.parts:
            files[path.relative_to(root).as_posix()] = path.read_bytes()
    files[notebooks[0].relative_to(root).as_posix()] = without_outputs(notebooks[0])
    return pack(files)


def without_outputs(path: Path) -> bytes:
    """Return a notebook's bytes without its outputs, so that new results do not look like new code."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell["outputs"], cell["execution_count"] = [], None
        notebook["metadata"].pop("mnist_lab", None)
    except (ValueError, KeyError, TypeError) as error:
        raise CloudError(f"{path} is not a notebook: {error}") from error
    return (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode()


def pack_mnist(folder: Path) -> Archive:
    """Verify and pack the four files of MNIST in ``folder``. Raises DataNotFound and DataCorrupt."""
    contents = read_files("MNIST", MNIST_SHA256, folder)
    return pack({f"MNIST/raw/{name}": bytes(content) for name, content in contents.items()})


def pack(files: Mapping[str, bytes]) -> Archive:
    """Return a .tar.gz of ``files`` (name -> content) that depends on names and contents only."""
    stream = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=6, filename="", mtime=0) as zipped,  # 9: 12 times slower
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name in sorted(files):
            entry = tarfile.TarInfo(name)  # owner root, time 0
            entry.size, entry.mode = len(files[name]), 0o644
            tar.addfile(entry, io.BytesIO(files[name]))
    content = stream.getvalue()
    return Archive(content, hashlib.sha256(content).hexdigest())
