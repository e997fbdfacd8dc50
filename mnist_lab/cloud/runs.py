"""A run: what a machine is told, what it reports, what it leaves in S3, and whether that is a result."""

import hashlib
import re
import secrets
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from mnist_lab.cloud.account import Account
from mnist_lab.cloud.bundle import STEP
from mnist_lab.cloud.errors import CloudError, explain_failure
from mnist_lab.cloud.settings import usd_per_hour
from mnist_lab.evidence.records import Record, is_publishable, load
from mnist_lab.publishing.notebooks import find_steps
from mnist_lab.recipe import read_parameters
from mnist_lab.runtime import commit, write_whole

SCRIPTS = Path(__file__).parent / "scripts"
INCLUDE = re.compile(r"^#include (\S+)\n", re.MULTILINE)
COMMENT = re.compile(r"^ *# .*\n", re.MULTILINE)  # whole lines
STUDY = "runs/0-study"  # where a machine keeps the seeds of a study, below the checkout
FINAL = ("SUCCEEDED", "FAILED", "TIMED_OUT", "LOST")
STRICT = ConfigDict(extra="forbid", frozen=True)


class Run(BaseModel):
    """A run as its machine needs to know it, and its price; it is kept in S3 before any machine starts."""

    model_config = STRICT

    run_id: str  # its time in UTC, its door and a random end: no two are the same, and they sort by time
    bucket: str
    prefix: str
    region: str
    device: str
    bundle_sha256: str
    commit: str
    max_seconds: int
    grace_seconds: int
    poll_seconds: float
    kept: str  # a folder that is uploaded all along, and fetched again by a machine that takes over; empty: none
    command: tuple[str, ...]  # of mnist-lab
    usd_per_hour: float | None  # of its machine, when the run was made; None: not known

    @property
    def folder(self) -> str:
        """The key below which the run's files are, with a slash at its end."""
        return f"{self.prefix}/runs/{self.run_id}/"

    @property
    def bundle_key(self) -> str:
        """The key of the run's bundle, where machines may only read."""
        return f"{self.prefix}/src/{self.run_id}.tar.gz"

    @property
    def description_key(self) -> str:
        """The key of this description: beside the bundle, since a later start script may be made from it."""
        return f"{self.prefix}/src/{self.run_id}.json"

    @property
    def seconds(self) -> int:
        """After which nothing of the run may be left running."""
        return self.max_seconds + self.grace_seconds


def defaults() -> dict[str, object]:
    """Return the parameters of step 3 as its notebook has them."""
    return next(step for step in find_steps() if step.number == STEP).defaults()


def make_run(account: Account, bundle: bytes, parameters: Mapping[str, object], seeds: int | None = None) -> Run:
    """Describe a new run: of step 3's notebook, or of its recipe from so many ``seeds``.

    Raises ParameterError if the recipe does not accept ``parameters``.
    """
    settings = account.settings
    usual = {"DATA": "MNIST", "DEVICE": settings.device}
    wanted = {**usual, **parameters, "DEVICE": settings.device}
    read_parameters({**defaults(), **wanted})
    command = ["run", "--step", str(STEP)]
    if seeds:  # what is usual would make the study one of another recipe
        command = ["study", str(STEP), "--seeds", str(seeds), "--device", settings.device, "--out", STUDY]
        wanted = {name: value for name, value in wanted.items() if usual.get(name) != value}
    command += [word for name, value in wanted.items() for word in ("-p", name, str(value))]
    return Run(
        run_id=f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{settings.door}-{secrets.token_hex(3)}",
        bucket=account.bucket(),
        prefix=settings.keys,
        region=account.region,
        device=settings.device,
        bundle_sha256=hashlib.sha256(bundle).hexdigest(),
        commit=commit() or "",
        max_seconds=ceil(60 * settings.max_minutes),
        grace_seconds=ceil(60 * settings.grace_minutes),
        poll_seconds=settings.poll_seconds,
        kept=STUDY if seeds else "",
        command=tuple(command),
        usd_per_hour=usd_per_hour(settings, account.region),
    )


def render(run: Run, start: str, largest: int, door: str = "", first: str = "", scripts: Path = SCRIPTS) -> str:
    """Return the script ``start`` with what it includes: the run's settings, the ``door``'s part, its ``first`` line.

    Values are quoted for the shell, so that no value can be read as code. Comments are left out, since every byte
    counts. Raises CloudError if it is larger than ``largest`` bytes, or Linux would not run it.
    """
    files = {path.name: path.read_bytes().decode() for path in scripts.glob("*.sh")}
    files |= {"settings": "".join(assignment(name, value) for name, value in run), "first": first}
    files["door.sh"] = files.get(door, "")
    script = COMMENT.sub("", INCLUDE.sub(lambda match: files[match[1]], COMMENT.sub("", files[start])))
    if len(script) > largest:
        raise CloudError(
            f"the start script has {len(script):,} bytes, and AWS takes {largest:,}: pass fewer parameters"
        )
    if not re.fullmatch(r"#!/bin/bash\n[\t\n -~]*", script):
        raise CloudError(f"{scripts} must hold printable ASCII and Unix line ends only: see git config core.autocrlf")
    return script


def assignment(name: str, value: str | int | float | tuple[str, ...] | None) -> str:
    """Return ``name=value`` for the shell."""
    texts = value if isinstance(value, tuple) else (str(value),)
    if odd := [text for text in texts if not re.fullmatch(r"[ -~]*", text)]:
        raise CloudError(f"{name} holds {odd[0]!r}: only printable ASCII characters can be passed to a machine")
    quoted = " ".join(map(shlex.quote, texts))
    return f"{name}=({quoted})\n" if isinstance(value, tuple) else f"{name}={quoted}\n"


def save(account: Account, run: Run) -> None:
    """Keep the run in S3, so that every later command finds it."""
    account.upload(run.description_key, run.model_dump_json(indent=1).encode())


def find(account: Account, name: str = "") -> Run:
    """Return the run called ``name``, or the door's last one. CloudError if there is none, or it cannot be read."""
    top, end = f"{account.settings.keys}/src/", ".json"
    names = [entry["Key"].removeprefix(top) for entry in account.objects(top)]
    there = sorted(name.removesuffix(end) for name in names if name.endswith(end))
    chosen = name or (there or [""])[-1]
    if chosen not in there:
        place = f"s3://{account.bucket()}/{top}"
        raise CloudError(f"there is no run {name or 'yet'} in {place}: there are {', '.join(there) or 'none'}")
    try:
        return Run.model_validate_json(account.read(f"{top}{chosen}{end}") or b"")
    except ValidationError:
        other = "mnist-lab cloud down, or another --prefix"
        raise CloudError(f"run {chosen} was not described by this version of mnist-lab: {other}") from None


@dataclass(frozen=True)
class Machine:
    """What AWS says of the machine of a run."""

    word: str  # AWS's own for its state; "none" if there is no machine
    active: bool  # whether it starts, runs or is on its way to an end: it may cost money
    stopping: bool = False  # on its way to an end
    failure: str = ""  # AWS's reason, if it failed


NONE = Machine("none", active=False)


class Report(BaseModel):
    """What a machine tells of its run, in status.json."""

    model_config = STRICT

    state: str
    exit_code: int  # of the worker
    reason: str
    machine: str  # GPU and versions
    started: int  # seconds since 1970
    updated: int


@dataclass(frozen=True)
class RunStatus:
    """What is known of a run."""

    run_id: str
    state: str  # NEW, QUEUED, RUNNING, or one of FINAL; LOST: the machine ended before the run said how it ended
    machine: Machine
    reason: str = ""
    exit_code: int | None = None  # of the worker
    gpu: str = ""  # and versions
    minutes: float | None = None  # since the start script; the machine is billed for some minutes more

    @property
    def code(self) -> int:
        """The exit code of a command that waits for the run."""
        return 0 if self.state == "SUCCEEDED" else self.exit_code or 1


def read_status(account: Account, run: Run, machine: Machine) -> RunStatus:
    """Combine what S3 and AWS say. Raises CloudError."""
    content = account.read(run.folder + "status.json")
    try:
        report = None if content is None else Report.model_validate_json(content)
    except ValidationError:
        raise CloudError(f"the status of run {run.run_id} is damaged: start another one") from None
    return classify(run.run_id, report, machine, time.time())


def classify(run_id: str, report: Report | None, machine: Machine, now: float) -> RunStatus:
    """Judge a run by the ``report`` in its status file, and its machine.

    The report can be out of date: a worker that was killed leaves RUNNING behind.
    """
    ended = machine.stopping or not machine.active
    if report is None and machine.failure:
        return RunStatus(run_id, "FAILED", machine, explain_failure(machine.failure), 1)
    if report is None:
        return RunStatus(run_id, "NEW" if ended else "QUEUED", machine)
    state, reason, code = report.state, report.reason, report.exit_code
    if state == "RUNNING" and ended:
        state, code = "LOST", None
        reason = "the machine ended before the run did: killed, out of memory, or stopped by hand"
    seconds = (now if state == "RUNNING" else report.updated) - report.started
    return RunStatus(run_id, state, machine, reason, code, report.machine, max(0.0, seconds) / 60)


def read_log(account: Account, run: Run) -> list[str]:
    """Return the whole lines of the run's log, which its machine uploads every few seconds."""
    content = account.read(run.folder + "log.txt") or b""
    return content[: content.rfind(b"\n") + 1].decode(errors="replace").splitlines()


def fetch(account: Account, run: Run, folder: Path) -> None:
    """Download the run's files into ``folder``, laid out as in S3.

    Each file is there in full or as it was before. Raises CloudError if there is nothing to fetch, a file does not have
    the size that S3 lists, or its name leads elsewhere.
    """
    sizes = {entry["Key"].removeprefix(run.folder): entry["Size"] for entry in account.objects(run.folder)}
    if not sizes:
        raise CloudError(f"run {run.run_id} has left nothing in s3://{run.bucket}/{run.folder} yet")
    for name in sizes:
        if not {"", ".", ".."}.isdisjoint(name.split("/")) or not {"\\", ":"}.isdisjoint(name):
            raise CloudError(f"run {run.run_id} holds a file that cannot be stored here: {run.folder + name!r}")
    try:
        for name, size in sizes.items():
            content = account.read(run.folder + name)
            if content is None or len(content) != size:
                raise CloudError(f"{run.folder}{name} changed while it was fetched: fetch again")
            write_whole(folder / name, content)
    except OSError as error:
        raise CloudError(f"cannot write {error.filename or folder}: {error.strerror}") from error


def load_fetched(folder: Path) -> list[Record]:
    """Return the records of step 3 below ``folder``, its result last. Raises RecordError and CloudError."""
    found = [one for one in load(folder) if one.step == STEP]
    if not found or found[-1].kind != "step":
        raise CloudError(f"the run left no record of step {STEP} in {folder}")
    return found


def is_result(records: Sequence[Record]) -> bool:
    """Whether fetched records can be published: full runs on MNIST, on a GPU, by the notebook's recipe."""
    recipe, _ = read_parameters(defaults())
    full = [is_publishable(one) and one.settings.score_on == "test" and one.device_type == "cuda" for one in records]
    return all(full) and records[-1].recipe == asdict(recipe)
