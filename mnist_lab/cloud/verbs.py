"""What each verb of ``mnist-lab sagemaker`` does."""

from dataclasses import asdict, replace
from math import ceil

from mnist_lab import publish
from mnist_lab.cloud import gpu_results, policy
from mnist_lab.cloud.account import Account
from mnist_lab.cloud.deployment import current_job, up
from mnist_lab.cloud.errors import CloudError, NotThere
from mnist_lab.cloud.instance import AT_REST, Instance
from mnist_lab.cloud.runs import FINAL, Log, RunStatus, fetch, follow, read_status
from mnist_lab.cloud.script import Job, render
from mnist_lab.cloud.session import BILL, Session, parameters
from mnist_lab.cloud.settings import CloudSettings
from mnist_lab.gpu_comparison import beside
from mnist_lab.records import load_records
from mnist_lab.runner import RUNS, Interrupted

FETCHED = RUNS / "sagemaker"  # git-ignored: a run's files as they came


def run(session: Session) -> int:
    """Bring everything into place, start, wait, fetch, summarise. The exit code is the run's."""
    account = session.account()
    instance = Instance(account)
    try:
        job, status = up(account, parameters(session.options), session.options.again, session.say)
        if status.state == "SUCCEEDED":
            session.say(
                f"run {job.run_id} has succeeded already with this code and these parameters (--again repeats it)"
            )
        elif instance.status() in AT_REST:
            session.say(
                f"starting {instance.name}; the run may take {job.max_seconds / 60:.0f} min, then it stops itself"
            )
            instance.start()
        if account.dry_run or (session.options.detach and status.state != "SUCCEEDED"):
            session.done(asdict(status), f"run {job.run_id}: see mnist-lab sagemaker status, then run again to fetch")
            return 0
        if status.state != "SUCCEEDED":
            status = follow(account, instance, job, session.say)
    except (KeyboardInterrupt, Interrupted) as stopped:
        instance.request_stop()  # before a word: the terminal may be gone
        session.say(f"\nstopped from the keyboard or by a signal: stopping {instance.name} too, or its watchdog will")
        session.say("stop requested: mnist-lab sagemaker status shows it")
        return 130 if isinstance(stopped, KeyboardInterrupt) else 128 + stopped.args[0]
    return bring_home(session, account, job, status)


def bring_home(session: Session, account: Account, job: Job, status: RunStatus) -> int:
    """Fetch a run's files, keep its records if they count, and print the summary; return the run's exit code."""
    folder = FETCHED / job.run_id
    try:
        fetch(account, job, folder)
    except CloudError as error:
        if status.state == "SUCCEEDED":
            raise
        session.say(f"nothing fetched: {error}")
    values = {**asdict(status), "folder": str(folder), "usd": cost(session.settings, status)}
    lines = [f"run {job.run_id}: {status.state}{f', {status.reason}' if status.reason else ''}"]
    if status.machine:
        lines.append(f"machine: {status.machine}")
    if status.minutes is not None:
        lines.append(f"time: {status.minutes:.1f} min{cost_text(values['usd'])}; starting and stopping takes some more")
    if status.state == "SUCCEEDED":
        records = gpu_results.load_fetched(folder)
        result = records[-1]
        reasons = gpu_results.refusals(records)
        values |= {"accuracy": result.accuracy, "data": result.data, "kept": not reasons}
        scored = f"{result.scored_images:,} {result.settings['score_on']} images of {result.data}"
        lines.append(f"accuracy: {result.accuracy:.2%} on {scored}")
        if reasons:
            lines.append(f"not shown beside the study, since {', and '.join(reasons)}")
        else:
            publish.publish_gpu_run(records)
            lines.append(beside(result, load_records(publish.RECORDS)))
            lines.append(f"records: {publish.RECORDS / publish.GPU}; README.md shows the run beside the study")
    lines.append(f"files: {folder}")
    session.answer(values, "\n" + "\n".join(lines))
    return status.code


def cost(settings: CloudSettings, status: RunStatus) -> float | None:
    """Return about how many USD the run has cost; None without a price."""
    if settings.usd_per_hour is None or status.minutes is None:
        return None
    return round(settings.usd_per_hour * status.minutes / 60, 3)


def cost_text(usd: float | None) -> str:
    """Return a cost as the end of a sentence; nothing without one."""
    return "" if usd is None else f", about {usd:.2f} USD"


def bring_up(session: Session) -> int:
    """Bring everything into place without starting an instance that is there."""
    job, status = up(session.account(), parameters(session.options), session.options.again, session.say)
    session.done(asdict(status), f"run {job.run_id} is in place ({status.state}): mnist-lab sagemaker run")
    return 0


def known_job(instance: Instance) -> Job:
    """Return the run that the instance is for; CloudError if there is none."""
    job = current_job(instance)
    if job is None:
        raise CloudError(f"there is no run of {instance.name} in this account and region: mnist-lab sagemaker run")
    return job


def show_status(session: Session) -> int:
    """Print the states of instance and run, and the cost so far."""
    account = session.account()
    instance = Instance(account)
    job = current_job(instance)
    status = read_status(account, instance, job) if job else RunStatus("none", "NEW", instance=instance.status())
    values = {**asdict(status), "usd": cost(session.settings, status)}
    run = f"run {status.run_id}: {status.state} {status.reason}" if job else "no run yet: mnist-lab sagemaker run"
    lines = [f"instance {instance.name}: {status.instance}", run]
    if status.minutes is not None:
        lines.append(f"{status.minutes:.1f} min{cost_text(values['usd'])}")
    if status.instance not in (*AT_REST, "none"):
        lines.append(BILL)
    session.answer(values, "\n".join(line.rstrip() for line in lines))
    return 0


def show_logs(session: Session) -> int:
    """Print the run's log, or the start script's."""
    account = session.account()
    instance = Instance(account)
    if session.options.hook:
        stream = f"{instance.name}/LifecycleConfigOnStart"
        try:
            events = account.call(
                "logs", "get_log_events", logGroupName=policy.LOG_GROUP, logStreamName=stream, startFromHead=True
            )["events"]
        except NotThere:
            raise CloudError(
                f"there is no log {stream} in {policy.LOG_GROUP}: no start yet, or no permission"
            ) from None
        text = "\n".join(event["message"] for event in events)
        session.answer({"log": text}, text)
        return 0
    job = known_job(instance)
    if session.options.follow and read_status(account, instance, job).state not in FINAL:
        status = follow(account, instance, job, session.say)
        session.answer(asdict(status), f"run {job.run_id}: {status.state} {status.reason}".rstrip())
        return status.code
    text = Log(account, job).news()
    session.answer({"run_id": job.run_id, "log": text}, text or f"run {job.run_id} has no log yet: see --hook")
    return 0


def fetch_run(session: Session) -> int:
    """Fetch what the run has left so far."""
    account = session.account()
    instance = Instance(account)
    job = known_job(instance)
    status = read_status(account, instance, job)
    if account.dry_run:
        session.done({}, "")
        return 0
    code = bring_home(session, account, job, status)
    return code if status.state in FINAL else 0


def open_notebook(session: Session) -> int:
    """Start the instance for work by hand and print the address of its Jupyter."""
    account = session.account()
    instance = Instance(account)
    job = known_job(instance)
    status = instance.status()
    if status == "none":
        raise CloudError(f"there is no instance {instance.name}: mnist-lab sagemaker run makes it")
    if status in AT_REST:
        if read_status(account, instance, job).state in ("NEW", "LOST"):
            session.say(f"this start carries out run {job.run_id} first, and stops when it is over")
        caps = {name: ceil(60 * getattr(session.settings, f"{name}_minutes")) for name in ("max", "grace")}
        job = replace(job, max_seconds=caps["max"], grace_seconds=caps["grace"])
        instance.put_script(render(job))
        instance.start()
    minutes = (job.max_seconds + job.grace_seconds) / 60  # of the start that counts, which may be an earlier one
    session.say(f"waiting for {instance.name}; its watchdog stops it {minutes:.0f} min after its start")
    instance.wait(("InService",))
    address = instance.url()
    session.done({"url": address}, f"{address}\nvalid for five minutes; {BILL}")
    return 0


def stop(session: Session) -> int:
    """Stop the instance, and wait until it is."""
    instance = Instance(session.account())
    instance.request_stop()
    status = instance.wait((*AT_REST, "none"))
    session.done({"instance": status}, f"instance {instance.name}: {status}")
    return 0
