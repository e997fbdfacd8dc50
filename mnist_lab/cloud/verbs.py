"""What each verb of ``mnist-lab cloud`` does: a function each, which returns the exit code."""

import functools
import time
from argparse import Namespace
from pathlib import Path

from mnist_lab.cloud import policy as policies
from mnist_lab.cloud import runs
from mnist_lab.cloud.account import Account
from mnist_lab.cloud.bundle import make_bundle
from mnist_lab.cloud.commands import BILL
from mnist_lab.cloud.doctor import examine
from mnist_lab.cloud.doors import DOORS, Door
from mnist_lab.cloud.errors import OUTPUT, CloudError
from mnist_lab.cloud.notebook import NotebookInstance
from mnist_lab.cloud.runs import FINAL, Run, RunStatus, read_log
from mnist_lab.cloud.settings import read_settings
from mnist_lab.evidence.records import TRACKED, load, merge
from mnist_lab.evidence.results import summarise
from mnist_lab.evidence.tables import beside, results_table
from mnist_lab.options import QUICK, Interrupted, read_value
from mnist_lab.runtime import ROOT

PATIENCE = 20  # requests in a row that may fail, for example while the network here is down
GONE = 3  # looks in a row that find no machine: AWS's listings are some seconds behind
MOVING = 15 * 60  # seconds that AWS may take to start or end a machine
say = functools.partial(print, flush=True)


class Session:
    """One command: its options and settings, its door, and where it writes. Raises CloudError."""

    def __init__(self, options: Namespace, fetched: Path = ROOT / "runs" / "cloud", tracked: Path = TRACKED):
        self.options, self.fetched, self.tracked = options, fetched, tracked
        self.settings = read_settings(options)

    @functools.cached_property
    def door(self) -> Door:
        """The door that the settings name."""
        return DOORS[self.settings.door](Account(self.settings))

    def find_run(self) -> Run:
        """Return the run that was named, or the last one. CloudError if there is none."""
        return runs.find(self.door.account, self.options.run)

    def read_status(self, run: Run) -> RunStatus:
        """Return what is known of a run."""
        return runs.read_status(self.door.account, run, self.door.machine(run))


def doctor(session: Session) -> int:
    """Check everything that a run needs, and say what is missing."""
    findings = list(examine(session.door))
    for subject, good, found in findings:
        say(f"{'ok' if good else 'NO'}  {subject}: {found}")
    return 0 if all(good for _, good, _ in findings) else 1


def policy(session: Session) -> int:
    """Print an IAM policy for the account, region and bucket that the caller uses."""
    say(policies.make(session.options.kind, session.door.account))
    return 0


def run(session: Session) -> int:
    """Upload, start, wait, fetch, summarise. The exit code is the run's."""
    options, door, bundle = session.options, session.door, make_bundle()
    parameters = {**(QUICK if options.quick else {}), **{name: read_value(v) for name, v in options.parameter}}
    new = runs.make_run(door.account, bundle, parameters, options.seeds)
    try:
        start(door, new, bundle)
        if options.detach:
            say(f"run {new.run_id} is on its way: mnist-lab cloud status")
            return 0
        status = follow(session, new)
    except (KeyboardInterrupt, Interrupted) as stopped:
        door.stop(new)  # before printing: the terminal may be gone
        say("\nstopped from the keyboard or by a signal, and the machine with it: mnist-lab cloud status")
        return 130 if isinstance(stopped, KeyboardInterrupt) else 128 + stopped.args[0]
    return bring_home(session, new, status)


def start(door: Door, run: Run, bundle: bytes) -> None:
    """Put everything into S3 that the run's machine needs, and start it. The run is known before it can cost money."""
    script, account = door.script(run), door.account  # a script that AWS would not take fails before anything is made
    door.check()
    account.make_bucket()
    say(f"run {run.run_id}: {len(bundle):,} bytes to s3://{run.bucket}/{run.bundle_key}")
    account.upload(run.bundle_key, bundle)
    runs.save(account, run)
    say(f"starting {account.settings.machine_type}, which ends by itself within {run.seconds / 60:.0f} min")
    door.start(run, script)


def follow(session: Session, run: Run, patience: int = PATIENCE, moving: float = MOVING) -> RunStatus:
    """Wait until the run is over and its machine is gone, and print the log meanwhile; return the last RunStatus.

    Stops the machine if the run takes too long, or if the machine does not end within ``moving`` seconds after it.
    A request that fails is repeated, since the run does not depend on this command; CloudError after ``patience``
    failures in a row.
    """
    door, poll, failures, gone, shown, told = session.door, session.settings.poll_seconds, 0, 0, None, 0
    deadline = time.monotonic() + run.seconds + moving
    while True:
        try:
            status, lines = session.read_status(run), read_log(door.account, run)
            for line in lines[told:]:
                say(f"  | {line}")
            told = len(lines)
            if status.machine.active and time.monotonic() > deadline:
                say("the time is up, and the machine has not ended: stopping it from here")
                door.stop(run)
                deadline += moving
            failures = 0
        except CloudError as error:
            failures += 1
            if failures == patience:
                goes_on = "the run goes on without this command, and its machine ends by itself"
                raise CloudError(f"{error}; {goes_on}: mnist-lab cloud status, or logs --follow") from error
            say(f"AWS cannot be asked at the moment: {error}")
            time.sleep(poll)
            continue
        if (status.state, status.machine.word) != shown:
            shown = (status.state, status.machine.word)
            say(f"run {status.state}, machine {status.machine.word}")
            if status.state in FINAL:
                deadline = min(deadline, time.monotonic() + moving)
        gone = 0 if status.machine.active else gone + 1
        if gone and status.state in FINAL:
            return status
        if gone == GONE and status.state == "NEW":
            reason = f"the machine ended and the run has not reported anything: {OUTPUT}"
            return RunStatus(run.run_id, "LOST", status.machine, reason)
        time.sleep(poll)


def bring_home(session: Session, run: Run, status: RunStatus) -> int:
    """Fetch a run's files, publish its records if asked to, print the summary; return the run's exit code.

    Raises CloudError if its records were to be published and are not a full result on a GPU.
    """
    folder = session.fetched / run.run_id
    lines, result, files = describe(run, status), False, f"files: {folder}"
    try:
        runs.fetch(session.door.account, run, folder)
    except CloudError as error:
        if status.state == "SUCCEEDED":
            raise
        files = f"nothing fetched: {error}"
    if status.state == "SUCCEEDED":
        records = runs.load_fetched(folder)
        lines.append(results_table(summarise(records)).text())
        result = not run.kept and runs.is_result(records)
        if result:
            lines.append(beside(records[-1], load(session.tracked)))
            if session.options.publish:
                lines += [f"published: {path}" for path in merge(records, session.tracked)]
            else:
                lines.append("nothing tracked was changed; to publish it: mnist-lab cloud fetch --publish")
    say("", *lines, files, sep="\n")
    if session.options.publish and not result:
        raise CloudError(f"run {run.run_id} is no full run of step 3's notebook on a GPU: it was not published")
    return status.code


def describe(run: Run, status: RunStatus) -> list[str]:
    """Return what is known of a run, in lines."""
    lines = [f"run {status.run_id}: {status.state}{f', {status.reason}' if status.reason else ''}"]
    if status.gpu:
        lines.append(f"on {status.gpu}")
    if status.minutes is not None:
        cost = "" if run.usd_per_hour is None else f", about {run.usd_per_hour * status.minutes / 60:.2f} USD"
        lines.append(f"time: {status.minutes:.1f} min{cost}, and some to start")
    return lines


def status(session: Session) -> int:
    """Print the states of machine and run, and the cost so far."""
    the_run = session.find_run()
    found = session.read_status(the_run)
    say(f"machine: {found.machine.word}", *describe(the_run, found), sep="\n")
    if found.machine.active:
        say(BILL)
    return 0


def logs(session: Session) -> int:
    """Print the run's log."""
    the_run = session.find_run()
    if not session.options.follow:
        say(*(read_log(session.door.account, the_run) or [f"run {the_run.run_id} has no log yet"]), sep="\n")
        return 0
    found = follow(session, the_run)
    say(*describe(the_run, found), sep="\n")
    return found.code


def fetch(session: Session) -> int:
    """Fetch what the run has produced so far."""
    the_run = session.find_run()
    found = session.read_status(the_run)
    code = bring_home(session, the_run, found)
    return code if found.state in FINAL else 0


def open(session: Session) -> int:
    """Start the notebook instance for work by hand and print the address of its Jupyter."""
    the_run, door = session.find_run(), session.door
    if not isinstance(door, NotebookInstance):
        raise CloudError(f"--door {session.settings.door} has no Jupyter to open: that is for --door notebook")
    seconds = {f"{name}_seconds": round(60 * getattr(session.settings, f"{name}_minutes")) for name in ("max", "grace")}
    say(f"waiting for {door.name}; one that starts now stops after {sum(seconds.values()) / 60:.0f} min")
    say(f"{door.open_jupyter(the_run.model_copy(update=seconds))}\nvalid for five minutes; {BILL}")
    return 0


def stop(session: Session) -> int:
    """Stop the machine of the run that was named, or every machine of this name, and wait until it has stopped."""
    session.door.stop(session.find_run() if session.options.run else None)
    say("stopped")
    return 0


def down(session: Session) -> int:
    """Stop and delete machines, logs, and what is in S3 below the prefix: all that costs money."""
    settings, account = session.settings, session.door.account
    machines = f"every {settings.door} machine called {settings.name}"
    what = f"{machines}, and s3://{account.bucket()}/{settings.keys}/"
    if not session.options.yes:
        raise CloudError(f"this would delete {what}: add --yes")
    session.door.delete()
    account.empty(f"{settings.keys}/")
    say(f"deleted {what}")
    return 0


VERBS = {verb.__name__: verb for verb in (doctor, policy, run, status, logs, fetch, open, stop, down)}
