"""What each verb of ``mnist-lab sagemaker`` does: a function each, which returns the exit code."""

import sys
from dataclasses import asdict, replace
from math import ceil

from mnist_lab.cloud import gpu_results, policy
from mnist_lab.cloud.account import Account, default_bucket
from mnist_lab.cloud.bundle import make_bundle
from mnist_lab.cloud.deployment import current_job, make_job
from mnist_lab.cloud.deployment import up as put_into_place
from mnist_lab.cloud.doctor import examine
from mnist_lab.cloud.errors import CloudError, Denied, NotThere
from mnist_lab.cloud.instance import AT_REST, Instance
from mnist_lab.cloud.runs import FINAL, Log, RunStatus, follow, read_status
from mnist_lab.cloud.runs import fetch as download
from mnist_lab.cloud.script import LARGEST, Job, read_back, render
from mnist_lab.cloud.session import Session
from mnist_lab.cloud.settings import BILL, CloudSettings
from mnist_lab.evidence.records import load, merge
from mnist_lab.evidence.tables import beside
from mnist_lab.options import Interrupted


def doctor(session: Session) -> int:
    """Check everything that a run needs, and say what is missing."""
    findings = examine(session.settings)
    mark = {True: "ok  ", False: "NO  ", None: "?   "}
    text = "\n".join(f"{mark[finding.good]} {finding.subject}: {finding.text}" for finding in findings)
    session.answer({"findings": [asdict(finding) for finding in findings]}, text)
    return 1 if any(finding.good is False for finding in findings) else 0


def print_policy(session: Session) -> int:
    """Print an IAM policy; without credentials it holds placeholders for account and bucket."""
    settings, kind = session.settings, session.options.kind
    number, region = "ACCOUNT", settings.region or "REGION"
    try:
        account = session.account()
        number, region = account.number(), account.region
    except CloudError as error:
        if kind != "trust":
            print(f"account or region unknown, placeholders instead: {error}", file=sys.stderr)
    place = {"account": number, "region": region, "bucket": settings.bucket or default_bucket(region, number)}
    print(policy.make(kind, **place, prefix=settings.keys, name=settings.name, role=settings.role or "ROLE"))
    return 0


def print_script(session: Session) -> int:
    """Print the script that an instance would run. No call is made."""
    settings = session.settings
    bucket, region = settings.bucket or "sagemaker-REGION-ACCOUNT", settings.region or "REGION"
    script = render(make_job(settings, region, bucket, make_bundle(), session.parameters()))
    session.answer({"script": script, "bytes": len(script)}, script)
    print(f"{len(script):,} of {LARGEST:,} bytes", file=sys.stderr)
    return 0


def up(session: Session) -> int:
    """Put everything into place, without starting an instance that exists."""
    job, status = put_into_place(session.account(), session.parameters(), session.options.again, session.say)
    session.done(asdict(status), f"run {job.run_id} is in place ({status.state}): mnist-lab sagemaker run")
    return 0


def run(session: Session) -> int:
    """Put everything into place, start, wait, fetch, summarise. The exit code is the run's."""
    account = session.account()
    instance = Instance(account)
    try:
        job, status = put_into_place(account, session.parameters(), session.options.again, session.say)
        if status.state == "SUCCEEDED":
            session.say(f"run {job.run_id} of this code and parameters has succeeded already (--again repeats it)")
        elif instance.status() in AT_REST:
            minutes = job.max_seconds / 60
            session.say(f"starting {instance.name}; the run may take {minutes:.0f} min, then the instance stops itself")
            instance.start()
        if account.dry_run or (session.options.detach and status.state != "SUCCEEDED"):
            session.done(asdict(status), f"run {job.run_id}: see mnist-lab sagemaker status, then run again to fetch")
            return 0
        if status.state != "SUCCEEDED":
            status = follow(account, instance, job, session.say)
    except (KeyboardInterrupt, Interrupted) as stopped:
        instance.request_stop()  # before printing: the terminal may be gone
        session.say(f"\nstopped from the keyboard or by a signal: stopping {instance.name} too, or its watchdog will")
        session.say("stop requested: mnist-lab sagemaker status shows it")
        return 130 if isinstance(stopped, KeyboardInterrupt) else 128 + stopped.args[0]
    return bring_home(session, account, job, status)


def bring_home(session: Session, account: Account, job: Job, status: RunStatus) -> int:
    """Fetch a run's files, publish its records if asked to, print the summary; return the run's exit code.

    Raises CloudError if its records were to be published and are not a full result on a GPU.
    """
    folder = session.fetched / job.run_id
    try:
        download(account, job, folder)
    except CloudError as error:
        if status.state == "SUCCEEDED":
            raise
        session.say(f"nothing fetched: {error}")
    values = {**asdict(status), "folder": str(folder), "usd": cost(session.settings, status)}
    lines = [f"run {job.run_id}: {status.state}{f', {status.reason}' if status.reason else ''}"]
    if status.machine:
        lines.append(f"machine: {status.machine}")
    if status.minutes is not None:
        lines.append(f"time: {time_text(status, values['usd'])}; starting and stopping takes some more")
    reasons = ["it has not succeeded"]
    if status.state == "SUCCEEDED":
        records = gpu_results.load_fetched(folder)
        result, reasons = records[-1], gpu_results.refusals(records)
        values |= {"accuracy": result.accuracy, "data": result.data, "publishable": not reasons}
        scored = f"{result.scored_images:,} {result.settings.score_on} images of {result.data}"
        lines.append(f"accuracy: {result.accuracy:.2%} on {scored}")
        if reasons:
            lines.append(f"it cannot be published, since {', and '.join(reasons)}")
        else:
            lines.append(beside(result, load(session.tracked)))
            if session.options.publish:
                lines += [f"published: {path}" for path in merge(records, session.tracked)]
            else:
                lines.append("nothing tracked was changed; to publish it: mnist-lab sagemaker fetch --publish")
    lines.append(f"files: {folder}")
    session.answer(values, "\n" + "\n".join(lines))
    if session.options.publish and reasons:
        raise CloudError(f"run {job.run_id} was not published, since {', and '.join(reasons)}")
    return status.code


def cost(settings: CloudSettings, status: RunStatus) -> float | None:
    """Return about how many USD the run has cost; None without a price."""
    if settings.usd_per_hour is None or status.minutes is None:
        return None
    return round(settings.usd_per_hour * status.minutes / 60, 3)


def time_text(status: RunStatus, usd: float | None) -> str:
    """Return how long the run took, and what that cost if it is known."""
    return f"{status.minutes:.1f} min" + ("" if usd is None else f", about {usd:.2f} USD")


def known_job(instance: Instance) -> Job:
    """Return the run that the instance is for; CloudError if there is none."""
    job = current_job(instance)
    if job is None:
        raise CloudError(f"there is no run of {instance.name} in this account and region: mnist-lab sagemaker run")
    return job


def status(session: Session) -> int:
    """Print the states of instance and run, and the cost so far."""
    account = session.account()
    instance = Instance(account)
    job = current_job(instance)
    found = read_status(account, instance, job) if job else RunStatus("none", "NEW", instance=instance.status())
    values = {**asdict(found), "usd": cost(session.settings, found)}
    about = f"run {found.run_id}: {found.state} {found.reason}" if job else "no run yet: mnist-lab sagemaker run"
    lines = [f"instance {instance.name}: {found.instance}", about.rstrip()]
    if found.minutes is not None:
        lines.append(time_text(found, values["usd"]))
    if found.instance not in (*AT_REST, "none"):
        lines.append(BILL)
    session.answer(values, "\n".join(lines))
    return 0


def logs(session: Session) -> int:
    """Print the run's log, or the start script's."""
    account = session.account()
    instance = Instance(account)
    if session.options.hook:
        where = {"logGroupName": policy.LOG_GROUP, "logStreamName": f"{instance.name}/LifecycleConfigOnStart"}
        try:
            events = account.call("logs", "get_log_events", **where, startFromHead=True)["events"]
        except NotThere:
            raise CloudError(
                f"there is no log {where['logStreamName']} in {policy.LOG_GROUP}: the instance has not started yet, or "
                "the role is not allowed to write logs"
            ) from None
        text = "\n".join(event["message"] for event in events)
        session.answer({"log": text}, text)
        return 0
    job = known_job(instance)
    if session.options.follow and read_status(account, instance, job).state not in FINAL:
        found = follow(account, instance, job, session.say)
        session.answer(asdict(found), f"run {job.run_id}: {found.state} {found.reason}".rstrip())
        return found.code
    text = Log(account, job).news()
    session.answer({"run_id": job.run_id, "log": text}, text or f"run {job.run_id} has no log yet: see --hook")
    return 0


def fetch(session: Session) -> int:
    """Fetch what the run has produced so far."""
    account = session.account()
    instance = Instance(account)
    job = known_job(instance)
    found = read_status(account, instance, job)
    if account.dry_run:
        session.done({}, "")
        return 0
    code = bring_home(session, account, job, found)
    return code if found.state in FINAL else 0


def open_notebook(session: Session) -> int:
    """Start the instance for work by hand and print the address of its Jupyter."""
    account = session.account()
    instance = Instance(account)
    job = known_job(instance)
    state = instance.status()
    if state == "none":
        raise CloudError(f"there is no instance {instance.name}: mnist-lab sagemaker run makes it")
    if state in AT_REST:
        if read_status(account, instance, job).state in ("NEW", "LOST"):
            session.say(f"this start carries out run {job.run_id} first, and stops when it is over")
        limits = session.settings.max_minutes, session.settings.grace_minutes
        job = replace(job, max_seconds=ceil(60 * limits[0]), grace_seconds=ceil(60 * limits[1]))
        instance.put_script(render(job))
        instance.start()
    minutes = (job.max_seconds + job.grace_seconds) / 60  # those of the start under way, if it was started before
    session.say(f"waiting for {instance.name}; its watchdog stops it {minutes:.0f} min after its start")
    instance.wait(("InService",))
    address = instance.url()
    session.done({"url": address}, f"{address}\nvalid for five minutes; {BILL}")
    return 0


def stop(session: Session) -> int:
    """Stop the instance, and wait until it has stopped."""
    instance = Instance(session.account())
    instance.request_stop()
    state = instance.wait((*AT_REST, "none"))
    session.done({"instance": state}, f"instance {instance.name}: {state}")
    return 0


def down(session: Session) -> int:
    """Delete instance, volume, configuration, logs, and what is in S3 below the prefix: all that costs money."""
    account, options = session.account(), session.options
    instance = Instance(account)
    script = instance.script()
    job = read_back(script) if script else None  # None also for a script of another version
    bucket, prefix = (job.bucket, job.prefix) if job else (account.bucket_name(), session.settings.keys)
    what = f"instance {instance.name} with its volume" + ("" if options.keep_s3 else f", and s3://{bucket}/{prefix}/")
    if not (options.yes or options.dry_run):
        if not sys.stdin.isatty():
            raise CloudError(f"this would delete {what}: add --yes")
        if input(f"delete {what}? [y/N] ").strip().lower() not in ("y", "yes"):
            raise CloudError("nothing was deleted")
    instance.delete()
    removed = 0
    if not options.keep_s3:
        for part in ("src", "runs"):
            for entry in list(account.objects(bucket, f"{prefix}/{part}/")):
                account.call("s3", "delete_object", Bucket=bucket, Key=entry["Key"])
                removed += 1
        account.remove_bucket(bucket)
    delete_logs(account, instance.name)
    session.done({"instance": instance.status(), "objects_deleted": removed}, f"deleted {what}")
    return 0


def delete_logs(account: Account, name: str) -> None:
    """Delete what SageMaker logged of the instance, if that is allowed."""
    group, prefix = {"logGroupName": policy.LOG_GROUP}, f"{name}/"
    try:
        listed = account.pages("logs", "describe_log_streams", "logStreams", **group, logStreamNamePrefix=prefix)
        for stream in list(listed):
            account.call("logs", "delete_log_stream", **group, logStreamName=stream["logStreamName"])
    except (NotThere, Denied):
        pass
