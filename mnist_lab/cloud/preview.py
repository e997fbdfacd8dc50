"""The verbs that change nothing: ``doctor``, ``policy``, ``render``."""

import json
import sys
from dataclasses import asdict

from mnist_lab.cloud import doctor, policy
from mnist_lab.cloud.account import default_bucket
from mnist_lab.cloud.bundle import make_bundle
from mnist_lab.cloud.deployment import make_job
from mnist_lab.cloud.errors import CloudError
from mnist_lab.cloud.script import LARGEST, render
from mnist_lab.cloud.session import Session, parameters


def print_policy(session: Session) -> int:
    """Print an IAM policy; with credentials it is complete, without it holds placeholders for account and bucket."""
    settings, kind = session.settings, session.options.kind
    number, region = "ACCOUNT", settings.region or "REGION"
    try:
        account = session.account()
        number, region = account.number(), account.region
    except CloudError as error:
        if kind != "trust":
            print(f"account or region unknown, placeholders instead: {error}", file=sys.stderr)
    name = settings.role.rpartition("/")[2] or "ROLE"
    role = (
        settings.role
        if settings.role.startswith("arn:")
        else f"arn:{policy.partition(region)}:iam::{number}:role/{name}"
    )
    bucket = settings.bucket or default_bucket(region, number)
    made = policy.make(
        kind, account=number, region=region, bucket=bucket, prefix=settings.keys, name=settings.name, role=role
    )
    print(json.dumps(made, indent=2))
    return 0


def print_script(session: Session) -> int:
    """Print the script that an instance would run. No call is made."""
    settings = session.settings
    bucket, region = settings.bucket or "sagemaker-REGION-ACCOUNT", settings.region or "REGION"
    script = render(make_job(settings, region, bucket, make_bundle(), parameters(session.options)))
    session.answer({"script": script, "bytes": len(script)}, script)
    session.hint(f"{len(script):,} of {LARGEST:,} bytes")
    return 0


def run_doctor(session: Session) -> int:
    """Look at everything that a run needs, change nothing, and say what is missing."""
    findings = doctor.examine(session.settings)
    mark = {True: "ok  ", False: "NO  ", None: "?   "}
    text = "\n".join(f"{mark[finding.good]} {finding.subject}: {finding.text}" for finding in findings)
    session.answer({"findings": [asdict(finding) for finding in findings]}, text)
    return 1 if any(finding.good is False for finding in findings) else 0
