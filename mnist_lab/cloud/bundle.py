"""What step 3 needs, as archives that are the same bytes whenever they hold the same files."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mnist_lab.cloud.errors import CloudError
from mnist_lab.data import MNIST_SHA256, DataCorrupt, missing_files, raw_folder, verify_files
from mnist_lab.runtime import ROOT

STEP = 3
LARGEST = 20_000_000  # bytes; a bundle is some 100 kB


@dataclass(frozen=True)
class Archive:
    """A .tar.gz and what it is called by."""

    content: bytes
    sha256: str

    @property
    def id(self) -> str:
        return self.sha256[:12]


def make_bundle(root: Path = ROOT) -> Archive:
    """Pack the package, step 3's notebook without outputs, and the records that it compares itself with.

    The order, times and owners of files do not count, so neither does where or when it is packed; nor do README and
    outputs, so that publishing a result asks for no new run. Raises CloudError if ``root`` is no checkout.
    """
    notebooks = sorted((root / "notebooks").glob(f"{STEP:02d}_*.ipynb"))
    package = [path for path in (root / "mnist_lab").rglob("*") if path.suffix in {".py", ".sh", ".txt"}]
    if len(notebooks) != 1 or not package:
        raise CloudError(f"{root} is no checkout of mnist_lab with one notebook of step {STEP}: nothing to upload")
    rest = [root / name for name in ("LICENSE", "pyproject.toml")]
    records = [*(root / "notebooks" / "records").glob("*.json")]
    files = {}
    for path in [*package, *records, *rest]:
        if path.is_file() and "__pycache__" not in path.parts:
            files[path.relative_to(root).as_posix()] = path.read_bytes()
    files[notebooks[0].relative_to(root).as_posix()] = without_outputs(notebooks[0])
    archive = pack(files)
    if len(archive.content) > LARGEST:
        raise CloudError(
            f"the bundle of {root} has {len(archive.content):,} bytes: what lies in its notebooks/records?"
        )
    return archive


def without_outputs(path: Path) -> bytes:
    """Return a notebook's bytes with its outputs removed, so that publishing results does not make new code of it."""
    try:
        notebook = json.loads(path.read_text())
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                cell["outputs"], cell["execution_count"] = [], None
        notebook["metadata"].pop("mnist_lab", None)
    except (ValueError, KeyError, TypeError) as error:
        raise CloudError(f"{path} is no notebook: {error}") from error
    return (json.dumps(notebook, indent=1, ensure_ascii=False) + "\n").encode()


def pack_mnist(folder: Path) -> Archive:
    """Pack the four raw files of MNIST in ``folder``, once they are verified. Raises CloudError."""
    try:
        missing = missing_files(folder)
        if missing:
            raise CloudError(f"no MNIST in {folder}: {', '.join(missing)} missing from {raw_folder(folder)}")
        verify_files(folder)
    except DataCorrupt as error:
        raise CloudError(str(error)) from error
    names = {f"MNIST/raw/{name}": (raw_folder(folder) / name).read_bytes() for name in MNIST_SHA256}
    return pack(names)


def pack(files: Mapping[str, bytes]) -> Archive:
    """Return a .tar.gz of ``files`` (name -> content) in which nothing but names and contents counts."""
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
