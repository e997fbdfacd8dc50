"""What step 3 needs, packed into an archive."""

import io
import tarfile
from pathlib import Path

from mnist_lab.cloud.errors import CloudError
from mnist_lab.runtime import ROOT

STEP = 3


def make_bundle(root: Path = ROOT) -> bytes:
    """Return a .tar.gz of the package, the notebook of step 3, and the CPU records that it compares itself with.

    Raises CloudError if ``root`` is not a checkout.
    """
    notebooks = sorted((root / "notebooks").glob(f"{STEP:02d}_*.ipynb"))
    package = [path for path in (root / "mnist_lab").rglob("*") if "__pycache__" not in path.parts]
    if len(notebooks) != 1 or not package:
        raise CloudError(f"{root} is not a checkout of mnist_lab with one notebook of step {STEP}: nothing to upload")
    records = [path for path in root.glob("notebooks/records/steps/*.jsonl") if not path.stem.endswith("-cuda")]
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz", compresslevel=6) as archive:  # 9: 12 times slower
        for path in [*package, *notebooks, *records, root / "LICENSE", root / "pyproject.toml"]:
            if path.is_file():
                archive.add(path, path.relative_to(root))
    return stream.getvalue()
