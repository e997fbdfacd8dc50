"""Data that are missing: what to do, and downloads from where torchvision has its data sets, verified."""

import contextlib
import http.client
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path

from mnist_lab.data import DataCorrupt, DataNotFound, read_verified

TIMEOUT = 15  # seconds of silence before a download is given up


def download(root: Path, kind: str, sha256: Mapping[str, str]) -> None:
    """Download the files of torchvision's data set ``kind`` that ``sha256`` names and verifies, into ``root``.

    They are fetched into a folder beside their place, verified, and only then moved there: a download that breaks in
    the middle leaves nothing behind. Raises DataNotFound if it breaks.
    """
    raw = Path(kind, "raw")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=root) as staging, socket_timeout(TIMEOUT):
            fetch(kind, sha256, Path(staging))
            for name, digest in sha256.items():
                read_verified([Path(staging) / raw / name], digest)
            (root / raw).mkdir(parents=True, exist_ok=True)
            for name in sha256:
                (Path(staging) / raw / name).replace(root / raw / name)
    except (DataCorrupt, RuntimeError, OSError, http.client.HTTPException) as error:
        reason = " ".join(str(error).split())
        raise DataNotFound(
            f"{kind} is not in {root} and could not be downloaded ({reason}). Connect to the internet and run again, "
            "or point MNIST_LAB_DATA (or --data) at a folder that holds its files"
        ) from error


def explain_missing(root: Path, kind: str, missing: list[str]) -> str:
    """Say what is missing in ``root``, what is there, and what to do."""
    there = sorted(path.name for path in root.glob("*"))[:8] if root.is_dir() else []
    said = f"no {kind} in {root}: {', '.join(missing)} missing; "
    said += f"found there: {', '.join(there)}" if there else "the folder is empty or does not exist"
    if any(name.endswith((".npz", ".csv", ".parquet")) for name in there):
        said += " (other forms of MNIST, which lack the bytes that are verified here)"
    return f"{said}. Point MNIST_LAB_DATA (or --data) at the IDX files, gzipped or not, or unset it to download them"


def fetch(kind: str, names: Iterable[str], folder: Path) -> None:
    """Download files into ``<kind>/raw/`` of ``folder``, unzipped, with torchvision and its progress bar."""
    from torchvision.datasets import MNIST
    from torchvision.datasets.utils import download_and_extract_archive

    if kind == "MNIST":
        MNIST(folder, download=True)
    else:  # of QMNIST, the labels alone: torchvision would take the images, too
        for url, md5 in map(address, names):
            download_and_extract_archive(url, folder / kind / "raw", md5=md5)


def address(name: str) -> tuple[str, str]:
    """Return the URL and the MD5 that torchvision has of a gzipped file of QMNIST."""
    from torchvision.datasets import QMNIST

    return next((url, md5) for url, md5 in chain(*QMNIST.resources.values()) if url.endswith(f"/{name}.gz"))


@contextlib.contextmanager
def socket_timeout(seconds: float) -> Iterator[None]:
    """Give every new connection a time limit; torchvision sets none, and would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
