"""What each verb of ``mnist-lab cloud`` does: a function each, which returns the exit code."""

import json
import sys
import time
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

from mnist_lab.cloud import policy as policies
from mnist_lab.cloud import runs
from mnist_lab.cloud.account import Account
from mnist_lab.cloud.bundle import make_bundle, pack_mnist
from mnist_lab.cloud.commands import BILL
from mnist_lab.cloud.doctor import examine
from mnist_lab.cloud.doors import Door, door_of
from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.notebook import NotebookInstance
from mnist_lab.cloud.results import load_fetched, refusals
from mnist_lab.cloud.runs import FINAL, NONE, Log, Run, RunStatus
from mnist_lab.cloud.settings import CloudSettings, read_settings
from mnist_lab.evidence.records import TRACKED, load, merge
from mnist_lab.evidence.results import summarise
from mnist_lab.evidence.tables import beside, results_table
from mnist_lab.options import QUICK, Interrupted, read_value
from mnist_lab.runtime import ROOT

PATIENCE = 20  # requests in a row that may fail, for example while the network here is down
GONE = 3  # looks in a row that find no machine: AWS's listings are some seconds behind
MOVING = 15 * 60  # seconds that AWS may take to start or end a machine


class Session:
    """One command: its settings, and where it prints and writes. Raises CloudError."""

    def __init__(self, options: Namespace, fetched: Path = ROOT / "runs" / "cloud", tracked: Path = TRACKED):
        self.options, self.fetched, self.tracked = options, fetched, tracked
        self.settings = read_settings(options)

    def connect(self) -> tuple[Account, Door]:
        """Return account and door."""
        account = Account(self.settings)
        return account, door_of(account, getattr(self.options, "spot", False), getattr(self.options, "local", False))

    def connect_to_run(self) -> tuple[Account, Door, Run]:
        """Return account, door, and the run that was named, or the last one. CloudError if there is none."""
        account, door = self.connect()
        found = runs.find(account, getattr(self.options, "run", None) or "")
        if found is None:
            raise CloudError("there is no run of this name, door, account and region: mnist-lab cloud run")
        return account, door, found

    def say(self, text: str) -> None:
        """Print progress: on stderr if stdout is for JSON."""
        print(text, file=sys.stderr if self.options.json else sys.stdout, flush=True)

    def answer(self, values: dict, text: str) -> int:
        """Print the result, as JSON or as text; return the exit code 0."""
        print(json.dumps(values, indent=1) if self.options.json else text, flush=True)
        return 0


def doctor(session: Session) -> int:
    """Check everything that a run needs, and say what is missing."""
    findings = list(examine(session.settings))
    mark = {True: "ok  ", False: "NO  ", None: "?   "}
    text = "\n".join(f"{mark[good]} {subject}: {found}" for subject, good, found in findings)
    session.answer({subject: {"good": good, "found": found} for subject, good, found in findings}, text)
    return 1 if any(good is False for _, good, _ in findings) else 0


def policy(session: Session) -> int:
    """Print an IAM policy for the account, region and bucket that the caller uses."""
    account = Account(session.settings)
    place = {"account": account.caller["Account"], "region": account.region, "bucket": account.bucket()}
    print(policies.make(session.options.kind, session.settings, **place))
    return 0


def run(session: Session) -> int:
    """Upload, start, wait, fetch, summarise. The exit code is the run's."""
    options, (account, door), bundle = session.options, session.connect(), make_bundle()
    parameters = {**(QUICK if options.quick else {}), **{name: read_value(v) for name, v in options.parameter}}
    new = runs.make_run(account, bundle, parameters, options.seeds)
    script = door.script(new)  # one that AWS would not take fails here, before anything is made
    found = None if options.again else earlier(account, door, new)
    try:
        if found is None:
            start(session, account, door, new, script, bundle.content)
        else:
            session.say(f"run {found[0].run_id} of this code and parameters is {found[1].state} (--again: a new one)")
        the_run, status = found or (new, None)
        if options.local:
            status = runs.read_status(account, the_run, NONE)
        if options.detach and (status is None or status.state not in FINAL):
            return session.answer(
                {"run_id": the_run.run_id}, f"run {the_run.run_id} is on its way: mnist-lab cloud status"
            )
        if status is None or status.state not in FINAL:
            status = follow(session, account, door, the_run)
    except (KeyboardInterrupt, Interrupted) as stopped:
        door.stop(found[0] if found else new)  # before printing: the terminal may be gone
        session.say("\nstopped from the keyboard or by a signal, and the machine with it: mnist-lab cloud status")
        return 130 if isinstance(stopped, KeyboardInterrupt) else 128 + stopped.args[0]
    return bring_home(session, account, the_run, status)


def start(session: Session, account: Account, door: Door, run: Run, script: str, bundle: bytes) -> None:
    """Put everything into S3 that the run's machine needs, and start it. The run is known before it can cost money."""
    door.check()
    account.make_bucket()
    session.say(f"run {run.run_id}: {len(bundle):,} bytes to s3://{run.bucket}/{run.bundle_key}")
    account.upload(run.bundle_key, bundle)
    if run.mnist_key:
        account.upload(run.mnist_key, pack_mnist(Path(session.settings.data).expanduser()).content)
    runs.save(account, run)
    session.say(f"starting {session.settings.machine_type}, which ends by itself within {run.seconds / 60:.0f} min")
    door.start(run, script)


def earlier(account: Account, door: Door, new: Run) -> tuple[Run, RunStatus] | None:
    """Return the door's last run and its state, if it is of the same code and parameters and has not failed."""
    found = runs.find(account) if account.has_bucket() else None
    if found is None or not found.is_like(new):
        return None
    status = runs.read_status(account, found, door.machine(found))
    return (found, status) if status.state in ("QUEUED", "RUNNING", "SUCCEEDED") else None


def follow(session: Session, account: Account, door: Door, run: Run, patience: int = PATIENCE, moving: float = MOVING):
    """Wait until the run is over and its machine is gone, and print the log meanwhile; return the last RunStatus.

    Stops the machine if the run takes too long, or if the machine does not end within ``moving`` seconds after it.
    A request that fails is repeated, since the run does not depend on this command; CloudError after ``patience``
    failures in a row.
    """
    log, failures, gone, shown, poll = Log(account, run), 0, 0, None, session.settings.poll_seconds
    deadline = time.monotonic() + run.seconds + moving
    while True:
        try:
            machine = door.machine(run)
            status = runs.read_status(account, run, machine)
            for line in log.news().splitlines():
                session.say(f"  | {line}")
            if machine.active and time.monotonic() > deadline:
                session.say("the time is up, and the machine has not ended: stopping it from here")
                door.stop(run)
                deadline += moving
            failures = 0
        except CloudError as error:
            failures += 1
            if failures == patience:
                goes_on = "the run goes on without this command, and its machine ends by itself"
                raise CloudError(f"{error}; {goes_on}: mnist-lab cloud status shows it, run attaches to it") from error
            session.say(f"AWS cannot be asked at the moment: {error}")
            time.sleep(poll)
            continue
        if (status.state, status.machine) != shown:
            shown = (status.state, status.machine)
            session.say(f"run {status.state}, machine {status.machine}")
            if status.state in FINAL:
                deadline = min(deadline, time.monotonic() + moving)
        gone = 0 if machine.active else gone + 1
        if gone and status.state in FINAL:
            return status
        if gone == GONE and status.state == "NEW":
            reason = "the machine ended and the run has not reported anything: mnist-lab cloud logs --machine"
            return RunStatus(run.run_id, "LOST", status.machine, reason)
        time.sleep(poll)


def bring_home(session: Session, account: Account, run: Run, status: RunStatus) -> int:
    """Fetch a run's files, publish its records if asked to, print the summary; return the run's exit code.

    Raises CloudError if its records were to be published and are not a full result on a GPU.
    """
    folder = session.fetched / run.run_id
    try:
        runs.fetch(account, run, folder)
    except CloudError as error:
        if status.state == "SUCCEEDED":
            raise
        session.say(f"nothing fetched: {error}")
    values = {**asdict(status), "folder": str(folder), "usd": cost(session.settings, status)}
    lines, reasons = describe(session.settings, status), ["it has not succeeded"]
    if status.state == "SUCCEEDED":
        records = load_fetched(folder)
        result, reasons = records[-1], ["it is a study"] if run.kept else refusals(records)
        values |= {"accuracy": result.accuracy, "data": result.data, "publishable": not reasons}
        scored = f"{result.scored_images:,} {result.settings.score_on} images of {result.data}"
        lines.append(f"accuracy: {result.accuracy:.2%} on {scored}")
        if run.kept:
            lines[-1] = results_table(summarise(records)).text()
        elif not reasons:
            lines.append(beside(result, load(session.tracked)))
            if session.options.publish:
                lines += [f"published: {path}" for path in merge(records, session.tracked)]
            else:
                lines.append("nothing tracked was changed; to publish it: mnist-lab cloud fetch --publish")
        else:
            lines.append(f"it cannot be published, since {', and '.join(reasons)}")
    session.answer(values, "\n".join(["", *lines, f"files: {folder}"]))
    if session.options.publish and reasons:
        raise CloudError(f"run {run.run_id} was not published, since {', and '.join(reasons)}")
    return status.code


def describe(settings: CloudSettings, status: RunStatus) -> list[str]:
    """Return what is known of a run, in lines."""
    lines = [f"run {status.run_id}: {status.state}{f', {status.reason}' if status.reason else ''}"]
    if status.gpu:
        lines.append(f"on {status.gpu}")
    if status.minutes is not None:
        usd = cost(settings, status)
        lines.append(
            f"time: {status.minutes:.1f} min{'' if usd is None else f', about {usd:.2f} USD'}, and some to start"
        )
    return lines


def cost(settings: CloudSettings, status: RunStatus) -> float | None:
    """Return about how many USD the run has cost; None without a price."""
    known = settings.usd_per_hour is not None and status.minutes is not None
    return round(settings.usd_per_hour * status.minutes / 60, 3) if known else None


def status(session: Session) -> int:
    """Print the states of machine and run, and the cost so far."""
    account, door, the_run = session.connect_to_run()
    machine = door.machine(the_run)
    found = runs.read_status(account, the_run, machine)
    lines = [f"machine: {machine.word}", *describe(session.settings, found), *([BILL] if machine.active else [])]
    return session.answer({**asdict(found), "usd": cost(session.settings, found)}, "\n".join(lines))


def logs(session: Session) -> int:
    """Print the run's log, or the machine's."""
    account, door, the_run = session.connect_to_run()
    if session.options.follow:
        found = follow(session, account, door, the_run)
        session.answer(asdict(found), "\n".join(describe(session.settings, found)))
        return found.code
    text = door.log(the_run) if session.options.machine else Log(account, the_run).news()
    return session.answer({"log": text}, text or f"run {the_run.run_id} has no log yet: see --machine")


def fetch(session: Session) -> int:
    """Fetch what the run has produced so far."""
    account, door, the_run = session.connect_to_run()
    found = runs.read_status(account, the_run, door.machine(the_run))
    code = bring_home(session, account, the_run, found)
    return code if found.state in FINAL else 0


def open(session: Session) -> int:
    """Start the notebook instance for work by hand and print the address of its Jupyter."""
    _, door, the_run = session.connect_to_run()
    if not isinstance(door, NotebookInstance):
        raise CloudError(f"--door {session.settings.door} has no Jupyter to open: that is for --door notebook")
    seconds = {f"{name}_seconds": round(60 * getattr(session.settings, f"{name}_minutes")) for name in ("max", "grace")}
    session.say(f"waiting for {door.name}; one that starts now stops after {sum(seconds.values()) / 60:.0f} min")
    address = door.open_jupyter(the_run.model_copy(update=seconds))
    return session.answer({"url": address}, f"{address}\nvalid for five minutes; {BILL}")


def stop(session: Session) -> int:
    """Stop the machine of the run that was named, or every machine of this name, and wait until it has stopped."""
    account, door = session.connect()
    door.stop(runs.find(account, session.options.run) if session.options.run else None)
    return session.answer({"stopped": True}, "stopped")


def down(session: Session) -> int:
    """Stop and delete machines, logs, and what is in S3 below the prefix: all that costs money."""
    options, settings, (account, door) = session.options, session.settings, session.connect()
    kept, name = options.keep_s3, f"every {settings.door} machine called {settings.name}"
    what = name if kept else f"{name}, and s3://{account.bucket()}/{settings.keys}/"
    if not options.yes:
        if not sys.stdin.isatty():
            raise CloudError(f"this would delete {what}: add --yes")
        if input(f"delete {what}? [y/N] ").strip().lower() not in ("y", "yes"):
            raise CloudError("nothing was deleted")
    door.delete()
    removed = 0 if kept else account.empty(f"{settings.keys}/")
    return session.answer({"objects_deleted": removed}, f"deleted {what}")


VERBS = {verb.__name__: verb for verb in (doctor, policy, run, status, logs, fetch, open, stop, down)}
