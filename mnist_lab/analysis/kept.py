"""What analyses leave behind: results that need not be computed twice, and the folder of what is tracked."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from mnist_lab.analysis.networks import AnalysisError
from mnist_lab.evidence.records import TRACKED
from mnist_lab.runtime import write_whole

FOLDER = "analysis"  # in the folder of tracked records, and in runs/


def once(path: Path, function: Callable[..., object], *arguments: object) -> object:
    """Return what ``function`` made of ``arguments``, plain values, and keep it as JSON in ``path``.

    If the file is there, it is read instead: its name has to tell everything that the result depends on.
    """
    if not path.is_file():
        write_whole(path, json.dumps(function(*arguments)).encode())
    return json.loads(path.read_text(encoding="utf-8"))


def read_checked(path: Path, sha256: str, named_by: str) -> bytes:
    """Return the content of a file. Raises AnalysisError if it is not the one that the file ``named_by`` names."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AnalysisError(f"cannot read {path}: {error.strerror}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise AnalysisError(f"{path} is not the file that {named_by} names: make both anew")
    return content


def tracked(root: Path = TRACKED) -> Path:
    """Return the folder of what is tracked of the analyses."""
    return root / FOLDER
