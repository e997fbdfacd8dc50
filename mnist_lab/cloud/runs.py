"""A run as seen from here: its state, its log, its files."""

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mnist_lab.cloud.account import Account
from mnist_lab.cloud.errors import CloudError, explain_failure
from mnist_lab.cloud.instance import AT_REST, MOVING, Instance
from mnist_lab.cloud.script import Job

FINAL = ("SUCCEEDED", "FAILED", "TIMED_OUT", "LOST")
PATIENCE = 20  # looks in a row that may fail, while the network here is gone, say


@dataclass(frozen=True)
class RunStatus:
    """What is known of a run."""

    run_id: str
    state: str  # NEW, QUEUED, RUNNING, or one of FINAL; LOST: the instance is gone and the run said nothing more
    reason: str = ""
    exit_code: int | None = None  # of the worker
    machine: str = ""  # GPU and versions
    minutes: float | None = None  # from the start script on; the instance bills some minutes more
    instance: str = "none"

    @property
    def code(self) -> int:
        """The exit code of a command that stands for the run."""
        return 0 if self.state == "SUCCEEDED" else self.exit_code or 1


def read_status(account: Account, instance: Instance, job: Job) -> RunStatus:
    """Put together what S3 and the instance say. Raises CloudError."""
    found = instance.describe() or {"NotebookInstanceStatus": "none"}
    content = account.read(job.bucket, job.folder + "status.json")
    try:
        told = None if content is None else json.loads(content)
        if told is not None:
            read = {"state": str, "started": int, "updated": int}
            told |= {name: kind(told[name]) for name, kind in read.items()}
    except (ValueError, KeyError, TypeError) as error:
        raise CloudError(
            f"the status of run {job.run_id} is damaged ({error}): mnist-lab sagemaker run --again"
        ) from error
    marked = (
        told is not None
        and told["state"] == "SUCCEEDED"
        and account.read(job.bucket, job.folder + "_SUCCESS") is not None
    )
    return classify(job.run_id, told, marked, found, time.time())


def classify(run_id: str, told: dict | None, marked: bool, found: dict, now: float) -> RunStatus:
    """Judge a run by its status file, its success marker, and AWS's description of the instance.

    What the file says last need not be true: a killed worker leaves RUNNING behind.
    """
    place = found["NotebookInstanceStatus"]
    ended = place in (*AT_REST, "Stopping", "Deleting", "none")
    if told is None:
        if place == "Failed":
            return RunStatus(run_id, "FAILED", explain_failure(found.get("FailureReason", "")), 1, instance=place)
        return RunStatus(run_id, "NEW" if ended else "QUEUED", instance=place)
    state, reason, code = told["state"], str(told.get("reason", "")), told.get("exit_code")
    if state == "SUCCEEDED" and not marked:
        state = "RUNNING"
    if state == "RUNNING":
        code = None
        if ended:
            state, reason = "LOST", "the instance ended before the run did: killed, out of memory, or stopped by hand"
    until = now if state == "RUNNING" else told["updated"]
    minutes = max(0.0, until - told["started"]) / 60
    return RunStatus(run_id, state, reason, code, str(told.get("machine", "")), minutes, place)


class Log:
    """The run's log in S3, read on from where the last reading ended."""

    def __init__(self, account: Account, job: Job):
        self.account, self.job, self.position = account, job, 0

    def news(self) -> str:
        """Return what was added in whole lines; the instance uploads the log every few seconds."""
        content = self.account.read(self.job.bucket, self.job.folder + "log.txt", self.position) or b""
        whole = content[: content.rfind(b"\n") + 1]
        self.position += len(whole)
        return whole.decode(errors="replace")


def follow(account: Account, instance: Instance, job: Job, say: Callable[[str], None]) -> RunStatus:
    """Wait until the run is over and the instance at rest, passing on its log; return its last state.

    Stops the instance if the run is not over in its time, or the instance does not stop after it. A glance that fails
    is repeated: the run does not depend on who looks. Raises CloudError if every glance fails.
    """
    log, failures = Log(account, job), 0
    deadline = time.monotonic() + job.max_seconds + job.grace_seconds + MOVING
    shown = None
    while True:
        try:
            status = read_status(account, instance, job)
            for line in log.news().splitlines():
                say(f"  | {line}")
            failures = 0
        except CloudError as error:
            failures += 1
            if failures == PATIENCE:
                raise CloudError(
                    f"{error}; the run goes on without this command, and its watchdog stops the instance: "
                    "mnist-lab sagemaker status shows it, and run attaches to it again"
                ) from error
            say(f"cannot look at the moment: {error}")
            time.sleep(account.settings.poll_seconds)
            continue
        if (status.state, status.instance) != shown:
            shown = (status.state, status.instance)
            say(f"run {status.state}, instance {status.instance}")
            if status.state in FINAL:
                deadline = min(deadline, time.monotonic() + MOVING)
        if status.instance in (*AT_REST, "none"):
            if status.state == "NEW":
                reason = "the instance ended without a word from the run: mnist-lab sagemaker logs --hook"
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
    """Download the run's files into ``folder`` and return them; it appears whole, or stays as it was.

    Raises CloudError if there is nothing, or a file has not the size that S3 lists.
    """
    found = {}
    for entry in account.objects(job.bucket, job.folder):
        name = PurePosixPath(entry["Key"]).name
        if name in found or name.startswith("."):
            raise CloudError(f"run {job.run_id} holds two files {name} in s3://{job.bucket}/{job.folder}")
        found[name] = entry
    if not found:
        raise CloudError(f"run {job.run_id} has left nothing in s3://{job.bucket}/{job.folder} yet")
    partial = folder.with_name(f".{folder.name}.partial")
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        for name, entry in found.items():
            content = account.read(job.bucket, entry["Key"])
            if content is None or len(content) != entry["Size"]:
                raise CloudError(f"{entry['Key']} changed while it was fetched: fetch again")
            (partial / name).write_bytes(content)
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
    except OSError as error:
        raise CloudError(f"cannot write {error.filename or folder}: {error.strerror}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sorted(folder.iterdir())
