"""IAM policies with the least permissions that work, from ``policies/``: a part for all doors, and one for each."""

import json
from pathlib import Path
from string import Template

from mnist_lab.cloud.settings import CloudSettings

POLICIES = Path(__file__).parent / "policies"
LOG_GROUPS = {"notebook": "/aws/sagemaker/NotebookInstances", "job": "/aws/sagemaker/TrainingJobs", "ec2": "none"}


def make(kind: str, settings: CloudSettings, *, account: str, region: str, bucket: str) -> str:
    """Return the "trust", "execution" or "operator" policy for the door of ``settings`` as JSON."""
    aws, role = partition(region), settings.role or "ROLE"
    here = f"{region}:{account}"
    values = {
        "aws": aws, "region": region, "account": account, "prefix": settings.keys, "name": settings.name,
        "bucket": f"arn:{aws}:s3:::{bucket}",
        "sagemaker": f"arn:{aws}:sagemaker:{here}",
        "ec2": f"arn:{aws}:ec2:{here}",
        "logs": f"arn:{aws}:logs:{here}:log-group:{LOG_GROUPS[settings.door]}",
        "role": role if role.startswith("arn:") else f"arn:{aws}:iam::{account}:role/{role}",
        "role_name": role.rpartition("/")[2],
        "service": service(settings.door, region),
    }  # fmt: skip
    files = [POLICIES / f"{kind}.json", POLICIES / f"{kind}-{settings.door}.json"]
    parts = [
        json.loads(Template(file.read_text(encoding="utf-8")).substitute(values)) for file in files if file.is_file()
    ]
    return json.dumps({**parts[0], "Statement": [one for part in parts for one in part["Statement"]]}, indent=2)


def partition(region: str) -> str:
    """Return the part of AWS that a region belongs to, as ARNs name it: "aws", "aws-cn", "aws-us-gov" and others."""
    from botocore.session import get_session

    known = get_session()
    regions = {
        one: part for part in known.get_available_partitions() for one in known.get_available_regions("s3", part)
    }
    return regions.get(region, "aws")


def service(door: str, region: str) -> str:
    """Return who takes on the role of a machine behind ``door``."""
    china = ".cn" if partition(region) == "aws-cn" else ""
    return f"ec2.amazonaws.com{china}" if door == "ec2" else "sagemaker.amazonaws.com"
