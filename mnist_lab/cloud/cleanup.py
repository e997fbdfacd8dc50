"""``down``: leaves nothing behind that costs."""

import sys

from mnist_lab.cloud import policy
from mnist_lab.cloud.account import Account
from mnist_lab.cloud.errors import CloudError, Denied, NotThere
from mnist_lab.cloud.instance import Instance
from mnist_lab.cloud.script import read_back
from mnist_lab.cloud.session import Session


def down(session: Session) -> int:
    """Remove instance, volume, configuration, logs, and what is in S3 below the prefix."""
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
    """Delete what SageMaker logged of the instance, if one may."""
    try:
        group = {"logGroupName": policy.LOG_GROUP}
        found = account.call("logs", "describe_log_streams", **group, logStreamNamePrefix=f"{name}/")
        for stream in found["logStreams"]:
            account.call("logs", "delete_log_stream", **group, logStreamName=stream["logStreamName"])
    except (NotThere, Denied):
        pass
