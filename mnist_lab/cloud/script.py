"""The lifecycle script: the shell files of ``scripts/`` with one run's settings in them."""

import base64
import binascii
import re
import shlex
from dataclasses import dataclass, fields
from pathlib import Path

from mnist_lab.cloud.errors import CloudError

SCRIPTS = Path(__file__).parent / "scripts"
LARGEST = 12_288  # bytes: AWS takes 16,384 characters of base64
INCLUDE = re.compile(r"^#include (\S+)\n", re.MULTILINE)
COMMENT = re.compile(r"^ *# (?!shellcheck).*\n", re.MULTILINE)  # whole lines


@dataclass(frozen=True)
class Job:
    """One run as the instance needs to know it. It is stored in the script: :func:`read_back` reads it there."""

    run_id: str
    bucket: str
    prefix: str
    region: str
    device: str
    bundle_key: str
    bundle_sha256: str
    mnist_key: str  # empty: the instance downloads MNIST
    commit: str
    max_seconds: int
    grace_seconds: int
    poll_seconds: float
    arguments: tuple[str, ...]  # of mnist-lab run --step 3

    @property
    def folder(self) -> str:
        """The key below which the run's files are, with a slash at its end."""
        return f"{self.prefix}/runs/{self.run_id}/"


def render(job: Job, scripts: Path = SCRIPTS) -> str:
    """Return the script that an instance runs at its start.

    Values are quoted for the shell, so that no value can be read as code. Comments are left out, since every byte
    counts. Raises CloudError if AWS would not take the script.
    """
    files = {path.name: path.read_bytes().decode() for path in scripts.glob("*.sh")}
    files["settings"] = "".join(assignment(item.name, getattr(job, item.name)) for item in fields(Job))
    script = INCLUDE.sub(lambda match: files[match[1]], COMMENT.sub("", files["on_start.sh"]))
    script = COMMENT.sub("", script)
    check(script)
    return script


def assignment(name: str, value: str | int | float | tuple[str, ...]) -> str:
    """Return ``name=value`` for the shell."""
    texts = value if isinstance(value, tuple) else (str(value),)
    for text in texts:
        if not re.fullmatch(r"[ -~]*", text):
            raise CloudError(f"{name} holds {text!r}: only printable ASCII characters can be passed to an instance")
    quoted = " ".join(map(shlex.quote, texts))
    return f"{name}=({quoted})\n" if isinstance(value, tuple) else f"{name}={quoted}\n"


def check(script: str) -> None:
    """Raise CloudError unless AWS takes ``script``, and Linux runs it."""
    size = len(script.encode())
    if size > LARGEST:
        raise CloudError(
            f"the lifecycle script has {size:,} bytes, and SageMaker takes {LARGEST:,}: pass fewer parameters"
        )
    if not script.startswith("#!/bin/bash\n") or not re.fullmatch(r"[\t\n -~]*", script):
        raise CloudError(
            "the lifecycle script must begin with #!/bin/bash and hold printable ASCII and Unix line ends only: "
            f"check {SCRIPTS} (git config core.autocrlf)"
        )


def encode(script: str) -> str:
    """Return what the API takes."""
    check(script)
    return base64.b64encode(script.encode()).decode()


def decode(content: str) -> str:
    """Return the script in what the API gives. Raises CloudError if it holds none."""
    try:
        return base64.b64decode(content, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise CloudError(f"the lifecycle configuration holds no script: {error}") from error


def read_back(script: str) -> Job | None:
    """Return the job that :func:`render` put into ``script``; None if it is not a script of this version."""
    values = {}
    for item in fields(Job):
        found = re.search(rf"^{item.name}=(.*)$", script, re.MULTILINE)
        if not found:
            return None
        try:
            words = shlex.split(found[1][1:-1] if item.name == "arguments" else found[1])
            values[item.name] = tuple(words) if item.name == "arguments" else item.type("".join(words))
        except ValueError:
            return None
    return Job(**values)
