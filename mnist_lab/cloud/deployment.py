"""From a checkout to an instance that is ready to run it: bucket, bundle, script, instance, in this order."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import ceil
from pathlib import Path

from mnist_lab.cloud.account import Account
from mnist_lab.cloud.bundle import STEP, Archive, make_bundle, pack_mnist
from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.instance import AT_REST, Instance
from mnist_lab.cloud.runs import RunStatus, read_status
from mnist_lab.cloud.script import Job, read_back, render
from mnist_lab.cloud.settings import CloudSettings
from mnist_lab.publishing.notebooks import find_steps
from mnist_lab.recipe import read_parameters
from mnist_lab.runtime import commit


def defaults() -> dict[str, object]:
    """Return the parameters of step 3 as its notebook has them."""
    return next(step for step in find_steps() if step.number == STEP).defaults()


def make_job(
    settings: CloudSettings, region: str, bucket: str, bundle: Archive, parameters: Mapping[str, object]
) -> Job:
    """Describe a new run. Raises ParameterError if step 3 does not accept ``parameters``."""
    wanted = {"DATA": "MNIST", **parameters, "DEVICE": settings.device}
    read_parameters({**defaults(), **wanted})
    return Job(
        run_id=f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{bundle.id}",
        bucket=bucket,
        prefix=settings.keys,
        region=region,
        device=settings.device,
        bundle_key=f"{settings.keys}/src/{bundle.sha256}.tar.gz",
        bundle_sha256=bundle.sha256,
        mnist_key=f"{settings.keys}/src/MNIST.tar.gz" if settings.data and wanted["DATA"] == "MNIST" else "",
        commit=commit() or "",
        max_seconds=ceil(60 * settings.max_minutes),
        grace_seconds=ceil(60 * settings.grace_minutes),
        poll_seconds=settings.poll_seconds,
        arguments=tuple(word for name, value in wanted.items() for word in ("-p", name, str(value))),
    )


def current_job(instance: Instance) -> Job | None:
    """Return the run that the instance's script is for; None without one. CloudError if the script is not ours."""
    script = instance.script()
    job = read_back(script) if script is not None else None
    if script is not None and job is None:
        raise CloudError(
            f"the name {instance.name} is taken by a lifecycle configuration that this version of mnist-lab did not "
            f"make: mnist-lab sagemaker down --name {instance.name} if it is yours, else choose another --name"
        )
    return job


def up(
    account: Account,
    parameters: Mapping[str, object],
    again: bool,
    say: Callable[[str], None],
    bundle: Archive | None = None,
) -> tuple[Job, RunStatus]:
    """Put everything into place for a run of ``bundle`` (by default, of this checkout); return it with its state.

    An earlier run is kept while it is of the same code and parameters and has not failed; ``again`` asks for a new
    one. AWS starts a new instance at once, there is no other way; one that exists is not started. Raises CloudError,
    and ParameterError before any call.
    """
    bundle, settings, instance = bundle or make_bundle(), account.settings, Instance(account)
    new = make_job(settings, account.region, account.bucket_name(), bundle, parameters)
    render(new)  # a script that AWS would not take fails here, before anything is made
    role = account.role()
    found, current = instance.describe(), current_job(instance)
    job = new
    if current is not None and not again and same_result(new, current):
        state = read_status(account, instance, current).state
        if state in ("QUEUED", "RUNNING", "SUCCEEDED") or (state == "NEW" and same_limits(new, current)):
            job = current
    if found and found["NotebookInstanceStatus"] not in AT_REST and job is new:
        raise CloudError(
            f"the instance {instance.name} is {found['NotebookInstanceStatus']}, and its script is for another run"
            f"{f' ({current.run_id})' if current else ''}: wait until it has stopped, or mnist-lab sagemaker stop"
        )
    if job is new:
        account.make_bucket()
        say(f"bundle {bundle.id}, {len(bundle.content):,} bytes, to s3://{job.bucket}/{job.bundle_key}")
        account.upload(job.bucket, job.bundle_key, bundle.content)
        if job.mnist_key:
            account.upload(job.bucket, job.mnist_key, pack_mnist(Path(settings.data).expanduser()).content)
        instance.put_script(render(job))
    if found is None:
        say(f"instance {instance.name}, {settings.instance_type} in {account.region}: new, so it starts at once")
        instance.create(role)
    elif found["NotebookInstanceStatus"] in AT_REST:
        instance.adapt(found, role)
    return job, read_status(account, instance, job) if not account.dry_run else RunStatus(job.run_id, "NEW")


def same_limits(one: Job, other: Job) -> bool:
    """Whether two runs have the same time."""
    return all(getattr(one, name) == getattr(other, name) for name in ("max_seconds", "grace_seconds", "poll_seconds"))


def same_result(one: Job, other: Job) -> bool:
    """Whether two runs are of the same code with the same parameters, whatever their name and time."""
    own = ("run_id", "commit", "max_seconds", "grace_seconds", "poll_seconds")
    return replace(one, **{name: getattr(other, name) for name in own}) == other
