"""A run as this machine sees it: its state, its log, its files."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mnist_lab.cloud.account import Account
from mnist_lab.cloud.errors import CloudError, explain_failure
from mnist_lab.cloud.instance import AT_REST, MOVING, Instance
from mnist_lab.cloud.script import Job

FINAL = ("SUCCEEDED", "FAILED", "TIMED_OUT", "LOST")
PATIENCE = 20  # requests in a row that may fail, for example while the network here is down


@dataclass(frozen=True)
class RunStatus:
    """What is known of a run."""

    run_id: str
    state: str  # NEW, QUEUED, RUNNING, or one of FINAL; LOST: the instance ended before the run said how it ended
    reason: str = ""
    exit_code: int | None = None  # of the worker
    machine: str = ""  # GPU and versions
    minutes: float | None = None  # since the start script; the instance bills some minutes more
    instance: str = "none"

    @property
    def code(self) -> int:
        """The exit code of a command that waits for the run."""
        return 0 if self.state == "SUCCEEDED" else self.exit_code or 1


def read_status(account: Account, instance: Instance, job: Job) -> RunStatus:
    """Combine what S3 and the instance say. Raises CloudError."""
    found = instance.describe() or {"NotebookInstanceStatus": "none"}
    content = account.read(job.bucket, job.folder + "status.json")
    try:
        report = None if content is None else json.loads(content)
        if report is not None:
            kinds = {"state": str, "started": int, "updated": int}
            report |= {name: kind(report[name]) for name, kind in kinds.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise CloudError(
            f"the status of run {job.run_id} is damaged ({error}): mnist-lab sagemaker run --again"
        ) from error
    succeeded = report is not None and report["state"] == "SUCCEEDED"
    marked = succeeded and account.read(job.bucket, job.folder + "_SUCCESS") is not None
    return classify(job.run_id, report, marked, found, time.time())


def classify(run_id: str, report: dict | None, marked: bool, found: dict, now: float) -> RunStatus:
    """Judge a run by the ``report`` in its status file, its success marker, and AWS's description of the instance.

    The report can be out of date: a worker that was killed leaves RUNNING behind.
    """
    place = found["NotebookInstanceStatus"]
    ended = place in (*AT_REST, "Stopping", "Deleting", "none")
    if report is None:
        if place == "Failed":
            return RunStatus(run_id, "FAILED", explain_failure(found.get("FailureReason", "")), 1, instance=place)
        return RunStatus(run_id, "NEW" if ended else "QUEUED", instance=place)
    state, reason, code = report["state"], str(report.get("reason", "")), report.get("exit_code")
    if state == "SUCCEEDED" and not marked:
        state = "RUNNING"
    if state == "RUNNING":
        code = None
        if ended:
            state, reason = "LOST", "the instance ended before the run did: killed, out of memory, or stopped by hand"
    until = now if state == "RUNNING" else report["updated"]
    minutes = max(0.0, until - report["started"]) / 60
    return RunStatus(run_id, state, reason, code, str(report.get("machine", "")), minutes, place)


class Log:
    """The run's log in S3. Each reading continues where the last one ended."""

    def __init__(self, account: Account, job: Job):
        self.account, self.job, self.position = account, job, 0

    def news(self) -> str:
        """Return the whole lines that were added; the instance uploads the log every few seconds."""
        content = self.account.read(self.job.bucket, self.job.folder + "log.txt", self.position) or b""
        whole = content[: content.rfind(b"\n") + 1]
        self.position += len(whole)
        return whole.decode(errors="replace")


def follow(
    account: Account,
    instance: Instance,
    job: Job,
    say: Callable[[str], None],
    patience: int = PATIENCE,
    moving: float = MOVING,
) -> RunStatus:
    """Wait until the run is over and the instance is at rest, print the log meanwhile; return the last state.

    Stops the instance if the run takes too long, or if the instance does not stop within ``moving`` seconds after it.
    A request that fails is repeated, since the run does not depend on this command; CloudError after ``patience``
    failures in a row.
    """
    log, failures, shown = Log(account, job), 0, None
    deadline = time.monotonic() + job.max_seconds + job.grace_seconds + moving
    while True:
        try:
            status = read_status(account, instance, job)
            for line in log.news().splitlines():
                say(f"  | {line}")
            failures = 0
        except CloudError as error:
            failures += 1
            if failures == patience:
                raise CloudError(
                    f"{error}; the run goes on without this command, and its watchdog stops the instance: "
                    "mnist-lab sagemaker status shows it, and run attaches to it again"
                ) from error
            say(f"cannot read the run's state at the moment: {error}")
            time.sleep(account.settings.poll_seconds)
            continue
        if (status.state, status.instance) != shown:
            shown = (status.state, status.instance)
            say(f"run {status.state}, instance {status.instance}")
            if status.state in FINAL:
                deadline = min(deadline, time.monotonic() + moving)
        if status.instance in (*AT_REST, "none"):
            if status.state == "NEW":
                reason = "the instance ended and the run has not reported anything: mnist-lab sagemaker logs --hook"
                return RunStatus(job.run_id, "LOST", reason, instance=status.instance)
            if status.state in FINAL:
                return status
        if time.monotonic() > deadline:
            say("the time is up, and the instance has not stopped: stopping it from here")
            instance.request_stop()
            instance.wait((*AT_REST, "none"))
            deadline += MOVING
        time.sleep(account.settings.poll_seconds)


def fetch(account: Account, job: Job, folder: Path) -> list[Path]:
    """Download the run's files into ``folder``, laid out as in S3, and return them.

    The folder is replaced as a whole, or stays as it was. Raises CloudError if there is nothing to fetch, a file does
    not have the size that S3 lists, or its name leads elsewhere.
    """
    entries = list(account.objects(job.bucket, job.folder))
    if not entries:
        raise CloudError(f"run {job.run_id} has left nothing in s3://{job.bucket}/{job.folder} yet")
    partial = folder.with_name(f".{folder.name}.partial")
    names = [entry["Key"].removeprefix(job.folder) for entry in entries]
    try:
        shutil.rmtree(partial, ignore_errors=True)
        for name, entry in zip(names, entries, strict=True):
            if not {"", ".", ".."}.isdisjoint(name.split("/")) or not {"\\", ":"}.isdisjoint(name):
                raise CloudError(f"run {job.run_id} holds a file that cannot be stored here: {entry['Key']!r}")
            content = account.read(job.bucket, entry["Key"])
            if content is None or len(content) != entry["Size"]:
                raise CloudError(f"{entry['Key']} changed while it was fetched: fetch again")
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(content)
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    except OSError as error:
        raise CloudError(f"cannot write {error.filename or folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sorted(folder / name for name in names)
